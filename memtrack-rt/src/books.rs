//! The books as they are under the tracker's lock: what is rare, and what changes together or not at all.
//!
//! Calls go on beside it without the lock, see [`Book`]; so what is looked at here may be gone, unless it is pinned, held, or
//! only changed under the lock. Nothing here calls the kernel or touches a driver's memory.

use core::mem::size_of;
use core::ptr::NonNull;

use crate::block::{Features, Live, State};
use crate::book::Book;
use crate::doors::{Doors, Inside};
use crate::holding::Leaving;
use crate::kind::{Kind, Store};
use crate::ledger::{Bucket, Cursor, Inserted};
use crate::lists::{self, Lists, NUMBERS};
use crate::platform::{DISPATCH_LEVEL, Irql};
use crate::pool::Pool;
use crate::quarantine::{Freed, Quarantine, Stage};
use crate::settings::{self, Settings};
use crate::shortage::Shortage;
use crate::site::{Detached, Key, Sites};
use crate::slab::{CHUNK_HEAD, Chunks};
use crate::stats::{Figures, SiteStats, Stats};
use crate::taking::{Release, Taken, Taking};
use crate::tally::Sum;

/// What there is to say when the kernel refuses an allocation.
pub(crate) struct Exhaustion {
    pub(crate) stats: Stats,
    /// The site with the most bytes outstanding in the pool that refused, if any has some.
    pub(crate) holder: Option<SiteStats>,
}

/// What is left of books that were closed.
pub(crate) struct Closed {
    pub(crate) stats: Stats,
    pub(crate) sites: Detached,
    pub(crate) lists: lists::Detached,
    pub(crate) memory: [Chunks; 3],
    pub(crate) single: [Option<NonNull<u8>>; 4],
}

/// What of a book is only read and written under the lock.
pub(crate) struct Locked {
    pub(crate) sites: Sites,
    pub(crate) lists: Lists,
    pub(crate) nonpaged: Quarantine,
    pub(crate) paged: Quarantine,
    kinds: Store,
    /// Memory of the ledger's current table and of the one before it, as the platform gave it.
    table: Option<NonNull<u8>>,
    older_table: Option<NonNull<u8>>,
    /// Memory of tables that somebody may still be reading.
    retired: Chunks,
    /// How many books were opened before.
    epoch: usize,
    /// What is counted here alone: vanished and unrecorded blocks, refusals, violations.
    pub(crate) stats: Stats,
}

impl Locked {
    pub(crate) const EMPTY: Self = Self {
        sites: Sites::EMPTY,
        lists: Lists::EMPTY,
        nonpaged: Quarantine::EMPTY,
        paged: Quarantine::EMPTY,
        kinds: Store::EMPTY,
        table: None,
        older_table: None,
        retired: Chunks::EMPTY,
        epoch: 0,
        stats: Stats::ZERO,
    };
}

/// What outlives a closing of the books. Only under the lock.
pub(crate) struct Common {
    /// The bounds of the quarantines, nonpaged and paged, if anybody has chosen some.
    pub(crate) chosen: Option<[settings::Quarantine; 2]>,
    /// Checks that are under way.
    pub(crate) walks: usize,
}

impl Common {
    pub(crate) fn bounds(&self) -> [settings::Quarantine; 2] {
        const UNLESS_CHOSEN: Settings = Settings::new();
        self.chosen.unwrap_or([UNLESS_CHOSEN.nonpaged, UNLESS_CHOSEN.paged])
    }
}

/// Buckets of the old table that are moved by one call that writes a block down.
const MOVED_AT_ONCE: usize = 8;

/// Memory of so many buckets of the ledger's.
pub(crate) fn table_bytes(length: usize) -> Option<usize> {
    length.checked_mul(size_of::<Bucket>())?.checked_add(CHUNK_HEAD + align_of::<Bucket>())
}

pub(crate) struct Books<'b> {
    pub(crate) book: &'b Book,
    pub(crate) doors: &'b Doors,
    /// The number of this processor.
    pub(crate) processor: usize,
    /// Whose figures this changes, once it changes some. What is only read needs no door: it changes under the lock.
    pub(crate) inside: Option<Inside<'b>>,
    pub(crate) locked: &'b mut Locked,
    pub(crate) common: &'b mut Common,
}

impl<'b> Books<'b> {
    pub(crate) fn inside(&mut self) -> &Inside<'b> {
        let (doors, processor) = (self.doors, self.processor);
        self.inside.get_or_insert_with(|| doors.enter(|| processor))
    }

    /// What the ledger's state says of a live block, or of the kind of one that was freed.
    pub(crate) fn describe(&self, state: State) -> Option<(Key, Live)> {
        let kind = self.book.kinds.get(state.kind())?;
        Some((*kind.key(), state.live(kind.features())))
    }

    /// The kind of a block, made if there was none.
    fn kind(&mut self, key: &Key, features: Features) -> Result<&'_ Kind, Shortage> {
        if let Some(kind) = self.book.kinds.find(key, features) {
            return Ok(kind);
        }
        let site = self.locked.sites.intern(key).map_err(Shortage::Sites)?;
        let kinds = &self.book.kinds;
        kinds.add(&mut self.locked.kinds, key, features, site).map_err(Shortage::Kinds)
    }

    /// Writes an allocation down: the kernel's block begins at `base`, the driver's at `address`. `Err` asks for memory and has
    /// counted nothing; `Ok` may come with a wish for some.
    pub(crate) fn allocated(
        &mut self,
        key: &Key,
        base: usize,
        address: usize,
        live: Live,
    ) -> Result<Option<Shortage>, Shortage> {
        let kind = self.kind(key, live.into())?;
        let (number, site) = (kind.number(), *kind.site());
        if self.book.entries() > 0 && key.list.is_none() {
            // What the pool gives out is no list's any more.
            self.entries_vanish(base);
        }
        self.lend_a_hand(MOVED_AT_ONCE);
        let state = State::of(live, number).0;
        loop {
            match self.book.ledger.insert(address, state) {
                Inserted::Done => break,
                Inserted::Occupied if base == address && self.is_moved(address) => {
                    // No kernel gives out what lies behind a guard of ours: a tracked function of the driver's own has
                    // returned what another tracked call gave it.
                    return Ok(None);
                }
                Inserted::Occupied => self.vanish(address),
                Inserted::Full => {
                    self.lend_a_hand(usize::MAX);
                    return Err(Shortage::Buckets(self.book.ledger.next_length()));
                }
                Inserted::NoAddress => {
                    self.unrecorded(key, None);
                    return Ok(None);
                }
            }
        }
        if base != address {
            self.vanish(base);
        }
        if let Some(list) = key.list {
            self.entry_counts(list, key, site, live);
        } else if let Some(kind) = self.book.kinds.get(number) {
            self.book.count(self.inside(), kind, live);
        }
        let columns =
            site.site().lacks_column(self.inside()).then_some(Shortage::Columns(site, self.locked.epoch));
        Ok(self.wants_buckets().or(columns))
    }

    /// Whether a live block at this address begins behind a guard.
    fn is_moved(&self, address: usize) -> bool {
        self.block(address).is_some_and(|(_, live)| live.body(0).layout.front() > 0)
    }

    /// Moves blocks to the ledger's next table, where there is one.
    fn lend_a_hand(&mut self, buckets: usize) {
        if self.book.ledger.migrate(buckets) {
            if let Some(memory) = self.locked.older_table.take() {
                // SAFETY: the memory is the platform's, and its head is not the table's.
                unsafe { self.locked.retired.adopt(memory) };
            }
        }
    }

    /// A wish for a larger table, where the ledger is three quarters full; or half, where it has no more than 64 KB: fewer
    /// blocks then stand elsewhere than in the bucket of their hash.
    pub(crate) fn wants_buckets(&self) -> Option<Shortage> {
        const SMALL: usize = 3584;
        let room = self.book.ledger.room();
        let spare = if room <= SMALL { room / 2 } else { room / 4 };
        let is_due = !self.book.ledger.is_moving() && self.blocks() > room - spare;
        is_due.then(|| Shortage::Buckets(self.book.ledger.next_length()))
    }

    /// Strikes the block that the driver frees out, or writes down that it was freed, and fills `taking` if it was
    /// live. With `may_remember` false it asks for no memory, and the block is neither held nor remembered; with
    /// `may_wait` false it does not mind who reads the block.
    pub(crate) fn take(
        &mut self,
        release: &Release,
        may_remember: bool,
        may_wait: bool,
        taking: &mut Taking,
    ) -> Taken {
        let address = release.address;
        if self.book.entries() > 0 && self.is_entry_out(address) {
            return Taken::Entry;
        }
        let Some(spot) = self.book.ledger.spot(address) else { return Taken::Stranger };
        let entry = spot.entry();
        let state = State(entry.state);
        let Some((key, live)) = self.describe(state) else {
            spot.put_back();
            return Taken::Stranger;
        };
        taking.key = key;
        if entry.is_freed {
            spot.put_back();
            taking.held = Some(state.ticket());
            taking.before = self.quarantine(key.pool).at(state.ticket()).copied();
            return Taken::Again;
        }
        taking.live = live.pinned(entry.is_pinned);
        let [nonpaged, paged] = self.common.bounds();
        let (quarantine, bounds) = match key.pool {
            Pool::Paged => (&mut self.locked.paged, paged),
            _ => (&mut self.locked.nonpaged, nonpaged),
        };
        match release.stage(taking, bounds, may_remember, may_wait) {
            None => {
                spot.put_back();
                return Taken::InUse;
            }
            Some(Stage::Gone) => spot.remove(),
            Some(stage) => {
                if let Some(bytes) = quarantine.wants() {
                    spot.put_back();
                    return Taken::NeedsMemory(Shortage::Quarantine(key.pool, bytes));
                }
                let Release { location, function, tag, give_back, .. } = *release;
                let live = taking.live;
                let ticket =
                    quarantine.enter(Freed { address, live, location, function, tag, give_back, stage });
                spot.put(State::freed(ticket, state.kind()).0, true, false);
                taking.held = (stage == Stage::Entering).then_some(ticket);
            }
        }
        taking.overdue = self.is_overdue();
        taking.has_list = self.book.may_have_list(address, live.bytes());
        self.leaves(state);
        Taken::Live
    }

    /// The live block of pool that begins at `address`.
    pub(crate) fn block(&self, address: usize) -> Option<(Key, Live)> {
        let entry = self.book.ledger.get(address).filter(|entry| !entry.is_freed)?;
        let (key, live) = self.describe(State(entry.state))?;
        Some((key, live.pinned(entry.is_pinned)))
    }

    pub(crate) fn violation(&mut self) {
        self.locked.stats.violations += 1;
    }

    /// The live block that has `address` inside of it, among those that start at `starts`.
    pub(crate) fn around(
        &self,
        address: usize,
        mut starts: impl Iterator<Item = usize>,
    ) -> Option<(Key, usize, Live)> {
        starts.find_map(|start| {
            let (key, live) = self.block(start)?;
            holds(start, live, address).then_some((key, start, live))
        })
    }

    /// The same among the next `count` blocks of the ledger.
    pub(crate) fn next_around(
        &self,
        address: usize,
        cursor: &mut Cursor,
        count: usize,
    ) -> Option<(Key, usize, Live)> {
        (0..count).find_map(|_| {
            let entry = self.book.ledger.next(cursor).filter(|entry| !entry.is_freed)?;
            let (key, live) = self.describe(State(entry.state))?;
            holds(entry.address, live, address).then_some((key, entry.address, live))
        })
    }

    /// Blocks in the ledger.
    pub(crate) fn blocks(&self) -> usize {
        let live = |pool| self.book.figures(pool).curr_blocks as usize;
        let freed = self.locked.nonpaged.length() + self.locked.paged.length();
        live(Pool::NonPaged) + live(Pool::Paged) + self.book.entries() + freed
    }

    /// The largest block that was ever recorded, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.book.largest()
    }

    /// The kernel has given the address of a block out again, if there is one.
    pub(crate) fn vanish(&mut self, address: usize) {
        let Some(spot) = self.book.ledger.spot(address) else { return };
        let entry = spot.entry();
        spot.remove();
        let state = State(entry.state);
        let Some(kind) = self.book.kinds.get(state.kind()) else { return };
        if entry.is_freed {
            let pool = kind.key().pool;
            let stage = self.quarantine(pool).at(state.ticket()).map(|freed| freed.stage);
            self.quarantine(pool).remove(state.ticket());
            if stage.is_none_or(|stage| stage == Stage::Remembered) {
                return;
            }
        } else {
            self.leaves(state);
        }
        self.locked.sites.at(*kind.site()).vanished_blocks += 1;
        self.locked.stats.vanished_blocks += 1;
    }

    /// A live block of this state is outstanding no longer.
    pub(crate) fn leaves(&mut self, state: State) {
        let Some(kind) = self.book.kinds.get(state.kind()) else { return };
        let live = state.live(kind.features());
        match kind.key().list {
            Some(list) => self.entry_leaves(list, kind.key(), *kind.site(), live),
            None => {
                kind.site().site().freed(live.bytes(), self.inside());
                self.book.freed_in_pool(self.inside(), kind.key().pool, live.bytes());
            }
        }
    }

    /// Counts a block that was handed out but cannot be recorded. Where its address is known, no other block can
    /// live there any more.
    pub(crate) fn unrecorded(&mut self, key: &Key, address: Option<usize>) {
        if let Some(address) = address {
            self.vanish(address);
        }
        self.locked.stats.unrecorded_blocks += 1;
        if let Ok(site) = self.locked.sites.intern(key) {
            self.locked.sites.at(site).unrecorded_blocks += 1;
        }
    }

    /// Counts a refusal, and returns which one it is at its site.
    pub(crate) fn refused(&mut self, key: &Key) -> Result<u64, Shortage> {
        let site = self.locked.sites.intern(key).map_err(Shortage::Sites)?;
        self.locked.stats.failures += 1;
        let site = self.locked.sites.at(site);
        site.failures += 1;
        Ok(site.failures)
    }

    /// Counts a refusal at a site for which there is no memory, and returns which one it is at all.
    pub(crate) fn refused_nowhere(&mut self) -> u64 {
        self.locked.stats.failures += 1;
        self.locked.stats.failures
    }

    /// How things stand in `pool`, which has refused.
    pub(crate) fn exhaustion(&mut self, pool: Pool) -> Exhaustion {
        let stats = self.stats();
        let holders =
            self.locked.sites.iter().filter(|site| site.pool == pool && site.figures.curr_blocks > 0);
        Exhaustion { stats, holder: holders.max_by_key(|site| site.figures.curr_bytes).copied() }
    }

    /// Reads every site, and sums up. The figures of the sites, as they were read, are [`sites`](Self::sites).
    pub(crate) fn stats(&mut self) -> Stats {
        if self.doors.gather() {
            self.book.fold(self.doors);
            self.locked.sites.fold(self.doors);
            self.doors.settle();
        }
        let [nonpaged, paged] = self.figures();
        let held = [self.locked.nonpaged.held(), self.locked.paged.held()];
        Stats {
            nonpaged,
            paged,
            foreign_frees: self.book.foreign_frees(),
            held_blocks: held[0].0 + held[1].0,
            held_bytes: held[0].1 + held[1].1,
            ..self.locked.stats
        }
    }

    /// What there is in each pool: the sum of its sites, so that reports add up, and the most that there was at one time.
    fn figures(&mut self) -> [Figures; 2] {
        // The most is read first: a block is counted at its site, and then in its pool.
        let most = [Pool::NonPaged, Pool::Paged].map(|pool| (pool, self.book.figures(pool)));
        self.locked.sites.read_all();
        most.map(|(pool, Figures { max_blocks, max_bytes, .. })| {
            let (total, Sum { blocks, bytes }) = self.locked.sites.sums(pool);
            Figures {
                curr_blocks: blocks,
                curr_bytes: bytes,
                max_blocks: max_blocks.max(blocks),
                max_bytes: max_bytes.max(bytes),
                total_blocks: total.blocks,
                total_bytes: total.bytes,
            }
        })
    }

    pub(crate) fn sites(&mut self) -> &mut Sites {
        &mut self.locked.sites
    }

    /// Takes memory in for what was short of it. Returns what is not needed: the memory, if another processor was
    /// faster, or what it stands in for.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes, `shortage.bytes()` long, and zeroed.
    pub(crate) unsafe fn adopt(&mut self, shortage: Shortage, memory: NonNull<u8>) -> Option<NonNull<u8>> {
        let locked = &mut *self.locked;
        match shortage {
            // SAFETY: handed on.
            Shortage::Sites(bytes) => unsafe { locked.sites.adopt(memory, bytes) },
            Shortage::Columns(_, epoch) if epoch != locked.epoch => Some(memory),
            // SAFETY: handed on.
            Shortage::Columns(site, _) => unsafe { locked.sites.adopt_columns(site, memory) },
            // SAFETY: handed on.
            Shortage::Kinds(needs) => unsafe { self.book.kinds.adopt(&mut locked.kinds, needs, memory) },
            // SAFETY: handed on.
            Shortage::Lists(bytes) => unsafe { locked.lists.adopt(memory, bytes) },
            // SAFETY: handed on.
            Shortage::Buckets(length) => unsafe { self.adopt_table(memory, length) },
            // SAFETY: handed on.
            Shortage::Quarantine(pool, bytes) => unsafe { self.quarantine(pool).adopt(memory, bytes) },
        }
    }

    /// # Safety
    ///
    /// As for [`adopt`](Self::adopt): zeros are empty buckets.
    unsafe fn adopt_table(&mut self, memory: NonNull<u8>, length: usize) -> Option<NonNull<u8>> {
        // SAFETY: the memory is longer than a head and what it takes to align buckets.
        let room = unsafe { memory.add(CHUNK_HEAD) };
        let gap = room.addr().get().wrapping_neg() & (align_of::<Bucket>() - 1);
        // SAFETY: as above.
        let buckets = unsafe { room.add(gap) }.cast::<Bucket>();
        // SAFETY: the memory is the caller's, so long, and holds empty buckets. It is kept until nobody can be reading it.
        if !unsafe { self.book.ledger.adopt(buckets.as_ptr(), length) } {
            return Some(memory);
        }
        self.locked.older_table = self.locked.table.replace(memory);
        None
    }

    /// Memory that is out of use as soon as everybody who is inside now has left.
    pub(crate) fn retired(&mut self) -> Chunks {
        self.locked.retired.detach()
    }

    /// Keeps such memory for later.
    pub(crate) fn retire(&mut self, memory: Chunks) {
        for memory in memory {
            // SAFETY: it is a chunk, which nobody else has.
            unsafe { self.locked.retired.adopt(memory) };
        }
    }

    /// Whether the books may be closed: `Err` names a block that must leave first, or none where a check must end.
    pub(crate) fn may_close(&mut self, irql: Irql) -> Result<(), Option<Leaving>> {
        match self.leaving_all(irql) {
            Some(leaving) => Err(Some(leaving)),
            // At DISPATCH_LEVEL the check may never come to its end, which is on this processor.
            None if irql < DISPATCH_LEVEL && self.common.walks > 0 => Err(None),
            None => Ok(()),
        }
    }

    /// No ticket and no list of the next book's is one of this one's.
    pub(crate) fn go_on_in(&self, next: &mut Locked) {
        next.epoch = self.locked.epoch.wrapping_add(1);
        next.lists.go_on(&self.locked.lists);
        next.nonpaged.go_on(&self.locked.nonpaged);
        next.paged.go_on(&self.locked.paged);
    }

    /// Closes a book in which nobody else is any more: what was in it is the caller's, and it is as new.
    pub(crate) fn close(&mut self) -> Closed {
        let stats = self.stats();
        let [kinds, arrays] = self.book.kinds.detach(&mut self.locked.kinds);
        self.book.clear();
        let locked = &mut *self.locked;
        locked.stats = Stats::ZERO;
        Closed {
            stats,
            sites: locked.sites.detach(),
            lists: locked.lists.detach(),
            memory: [kinds, arrays, locked.retired.detach()],
            single: [
                locked.table.take(),
                locked.older_table.take(),
                locked.nonpaged.detach(),
                locked.paged.detach(),
            ],
        }
    }
}

/// Whether a block of pool has this address inside of it.
fn holds(start: usize, live: Live, address: usize) -> bool {
    !is_entry(start) && address.wrapping_sub(start) < live.bytes()
}

/// Where an entry of a lookaside list stands in the ledger. A block of pool may begin at the same address: the one that the
/// list was given by a function of the driver's.
pub(crate) const fn entry_at(address: usize, number: usize) -> usize {
    address & !NUMBERS | number
}

pub(crate) const fn is_entry(address: usize) -> bool {
    address & NUMBERS != 0
}
