//! The book of one driver: sites, ledger and figures, as far as calls read and write them without a lock.
//!
//! Who is [`Inside`] may read it, and write to what belongs to the door. What only happens under the lock stands in
//! `books.rs`.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::block::{Live, State};
use crate::books::entry_at;
use crate::doors::{COLUMNS, Doors, Inside};
use crate::kind::{Kind, Kinds};
use crate::ledger::{Inserted, Ledger, Removed};
use crate::platform::{DISPATCH_LEVEL, Irql};
use crate::pool::Pool;
use crate::site::Key;
use crate::stats::Figures;
use crate::taking::may_touch;
use crate::tally::{Apart, Column, Others, Tally};

/// What was counted in a pool.
struct PoolTally {
    tally: Tally,
    others: Others,
}

impl PoolTally {
    const ZERO: Self =
        Self { tally: Tally::ZERO, others: [const { Apart(Column::ZERO) }; crate::doors::DOORS - 1] };
}

/// What else was counted behind one door.
#[repr(align(128))]
struct Traffic {
    foreign_frees: AtomicUsize,
}

impl Traffic {
    const ZERO: Self = Self { foreign_frees: AtomicUsize::new(0) };
}

/// Once in so many blocks behind each door, somebody asks whether the ledger should grow.
const LEISURE: u64 = 64;

pub(crate) struct Book {
    pub(crate) kinds: Kinds,
    pub(crate) ledger: Ledger,
    pools: [PoolTally; 2],
    traffic: [Traffic; COLUMNS],
    /// The largest block that was ever recorded, in bytes.
    largest: AtomicUsize,
    /// Entries of lists that are out, and how many numbers lists have. Written under the lock.
    entries: AtomicUsize,
    numbers: AtomicUsize,
    /// No list lives below the inverse of the first of these, nor from the second on. Written under the lock.
    lists: [AtomicUsize; 2],
}

/// What came of striking a block out.
pub(crate) enum Struck<'b> {
    /// It was live, and of this kind.
    Live(&'b Kind, Live),
    /// The ledger has nothing there.
    Nothing,
    /// That takes the lock.
    Special,
}

impl Book {
    pub(crate) const EMPTY: Self = Self {
        kinds: Kinds::EMPTY,
        ledger: Ledger::EMPTY,
        pools: [PoolTally::ZERO; 2],
        traffic: [const { Traffic::ZERO }; COLUMNS],
        largest: AtomicUsize::new(0),
        entries: AtomicUsize::new(0),
        numbers: AtomicUsize::new(0),
        lists: [const { AtomicUsize::new(0) }; 2],
    };

    /// Writes an allocation down: the kernel's block begins at `base`, the driver's at `address`. `None` if that takes the
    /// lock; otherwise whether it is time to ask if the ledger should grow.
    #[inline]
    pub(crate) fn allocated(
        &self,
        inside: &Inside<'_>,
        key: &Key,
        base: usize,
        address: usize,
        live: Live,
    ) -> Option<bool> {
        let kind = self.kinds.find(key, live.into())?;
        if self.has_entries() && (key.list.is_some() || self.is_entry_out(base)) {
            return None;
        }
        if kind.site().site().lacks_column(inside) || self.ledger.is_moving() {
            return None;
        }
        if base != address && self.ledger.get(base).is_some() {
            return None;
        }
        match self.ledger.insert(address, State::of(live, kind.number()).0) {
            Inserted::Done => {}
            _ => return None,
        }
        Some(self.count(inside, kind, live) % LEISURE == 0)
    }

    /// Counts a block of pool, and returns how many there were behind this door.
    #[inline(always)]
    pub(crate) fn count(&self, inside: &Inside<'_>, kind: &Kind, live: Live) -> u64 {
        let (bytes, site) = (live.bytes(), kind.site().site());
        let Some(pool) = self.pool(kind.key().pool) else {
            site.allocated(bytes, inside);
            return 0;
        };
        let others = Some(&pool.others);
        let (in_site, in_pool) = (site.add(bytes, inside), pool.tally.add(bytes as u64, others, inside));
        let is_alone = inside.is_alone();
        site.reached(in_site, is_alone);
        pool.tally.reached(in_pool, others, is_alone);
        // Relaxed (both): a figure for itself.
        if bytes > self.largest.load(Ordering::Relaxed) {
            self.largest.fetch_max(bytes, Ordering::Relaxed);
        }
        in_pool.blocks
    }

    /// Counts a block of pool that is no site's.
    pub(crate) fn count_in_pool(&self, inside: &Inside<'_>, pool: Pool, bytes: usize) {
        if let Some(pool) = self.pool(pool) {
            pool.tally.allocated(bytes as u64, Some(&pool.others), inside);
        }
    }

    /// Strikes the block that the driver frees out. Where there are quarantines, that takes the lock.
    #[inline(always)]
    pub(crate) fn freed(&self, inside: &Inside<'_>, address: usize, irql: Irql) -> Struck<'_> {
        if self.has_entries() && self.is_entry_out(address)
            || irql >= DISPATCH_LEVEL && !self.may_go(address, irql)
        {
            return Struck::Special;
        }
        let state = match self.ledger.remove(address) {
            Removed::Live(state) => State(state),
            Removed::Special => return Struck::Special,
            Removed::Nothing => return Struck::Nothing,
        };
        let Some(kind) = self.kinds.get(state.kind()) else { return Struck::Nothing };
        let live = state.live(kind.features());
        kind.site().site().freed(live.bytes(), inside);
        self.freed_in_pool(inside, kind.key().pool, live.bytes());
        Struck::Live(kind, live)
    }

    /// Whether a block may be touched and freed at this IRQL, as far as it is there.
    #[inline(never)]
    fn may_go(&self, address: usize, irql: Irql) -> bool {
        let entry = self.ledger.get(address);
        let kind = entry.and_then(|entry| self.kinds.get(State(entry.state).kind()));
        kind.is_none_or(|kind| may_touch(kind.key().pool, irql))
    }

    #[inline]
    pub(crate) fn freed_in_pool(&self, inside: &Inside<'_>, pool: Pool, bytes: usize) {
        if let Some(pool) = self.pool(pool) {
            pool.tally.freed(bytes as u64, Some(&pool.others), inside);
        }
    }

    #[inline]
    fn pool(&self, pool: Pool) -> Option<&PoolTally> {
        let [nonpaged, paged] = &self.pools;
        match pool {
            Pool::NonPaged => Some(nonpaged),
            Pool::Paged => Some(paged),
            Pool::Unknown => None,
        }
    }

    /// What was counted in a pool.
    pub(crate) fn figures(&self, pool: Pool) -> Figures {
        self.pool(pool).map_or(Figures::ZERO, |pool| pool.tally.figures(Some(&pool.others)))
    }

    /// Folds the figures of the pools, as [`Tally::fold`] says.
    pub(crate) fn fold(&self, doors: &Doors) {
        self.pools.iter().for_each(|pool| pool.tally.fold(Some(&pool.others), doors));
    }

    #[inline]
    pub(crate) fn foreign_free(&self, inside: &Inside<'_>) {
        if let Some(traffic) = self.traffic.get(inside.column()) {
            add(&traffic.foreign_frees, inside);
        }
    }

    pub(crate) fn foreign_frees(&self) -> u64 {
        // Relaxed: figures for themselves.
        self.traffic.iter().map(|traffic| traffic.foreign_frees.load(Ordering::Relaxed) as u64).sum()
    }

    pub(crate) fn largest(&self) -> usize {
        // Relaxed: a figure for itself.
        self.largest.load(Ordering::Relaxed)
    }

    #[inline]
    fn has_entries(&self) -> bool {
        self.entries() > 0
    }

    #[inline]
    pub(crate) fn entries(&self) -> usize {
        // Relaxed (all of entries, numbers and lists): whoever has what a list handed out was given it after it was noted.
        self.entries.load(Ordering::Relaxed)
    }

    /// Notes how many entries of lists are out.
    pub(crate) fn set_entries(&self, entries: usize) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// Notes how many numbers lists have, and between which addresses they live.
    pub(crate) fn set_lists(&self, numbers: usize, span: [usize; 2]) {
        self.numbers.store(numbers, Ordering::Relaxed);
        for (known, now) in self.lists.iter().zip(span) {
            known.store(now, Ordering::Relaxed);
        }
    }

    /// Whether an entry of a list is out at this address of a block of pool's.
    #[cold]
    #[inline(never)]
    fn is_entry_out(&self, address: usize) -> bool {
        let numbers = self.numbers.load(Ordering::Relaxed);
        (1..=numbers).any(|number| self.ledger.get(entry_at(address, number)).is_some())
    }

    /// Whether a list may live in this block.
    #[inline]
    pub(crate) fn may_have_list(&self, address: usize, bytes: usize) -> bool {
        let [lowest, highest] = &self.lists;
        address < highest.load(Ordering::Relaxed)
            && address.wrapping_add(bytes) > !lowest.load(Ordering::Relaxed)
    }

    /// Begins anew, but for what [`Kinds::detach`] does. Only when nobody is inside.
    pub(crate) fn clear(&self) {
        self.ledger.clear();
        for pool in &self.pools {
            pool.tally.clear();
            pool.others.iter().for_each(|column| column.0.clear());
        }
        for traffic in &self.traffic {
            // Relaxed (all): nobody is inside.
            traffic.foreign_frees.store(0, Ordering::Relaxed);
        }
        self.largest.store(0, Ordering::Relaxed);
        self.set_entries(0);
        self.set_lists(0, [0; 2]);
    }
}

/// Adds one to a figure of a column.
#[inline]
fn add(figure: &AtomicUsize, inside: &Inside<'_>) -> usize {
    // Relaxed (all): a figure for itself; but for the stairs', nobody else writes to it.
    if inside.is_shared() {
        return figure.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    }
    let next = figure.load(Ordering::Relaxed).wrapping_add(1);
    figure.store(next, Ordering::Relaxed);
    next
}
