//! The books of one driver: sites, ledger, quarantines and figures, which change together or not at all.
//!
//! Everything here happens under the tracker's lock, and nothing here calls the kernel or touches a driver's memory.

use core::panic::Location;
use core::ptr::NonNull;

use crate::act::Act;
use crate::block::{Live, Standing, State, Ticket};
use crate::guard::Body;
use crate::ledger::{Block, Cursor, Inserted, Ledger};
use crate::lists::{self, List, ListId, ListRef, Lists, Made, NUMBERS};
use crate::lookaside::Counters;
use crate::platform::{DISPATCH_LEVEL, Irql};
use crate::pool::{Function, Pool, Tag};
use crate::quarantine::{Freed, GiveBack, Quarantine, Stage};
use crate::settings;
use crate::site::{Detached, Key, SiteRef, Sites};
use crate::slab::Chunks;
use crate::stats::{ListStats, SiteStats, Stats};

/// A table that needs memory, and how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    Sites(usize),
    Lists(usize),
    Entries(usize),
    /// Only a wish: the ledger goes on without, slower.
    Buckets(usize),
    Quarantine(Pool, usize),
}

impl Shortage {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Sites(bytes)
            | Self::Lists(bytes)
            | Self::Entries(bytes)
            | Self::Buckets(bytes)
            | Self::Quarantine(_, bytes) => bytes,
        }
    }
}

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
    pub(crate) ledger_memory: [Chunks; 2],
    pub(crate) lists: lists::Detached,
    pub(crate) rings: [Option<NonNull<u8>>; 2],
}

/// A free that the driver asks for.
#[derive(Clone, Copy)]
pub(crate) struct Release {
    pub(crate) address: usize,
    pub(crate) location: &'static Location<'static>,
    pub(crate) function: Function,
    pub(crate) tag: Tag,
    /// How to free the block later, where that is possible.
    pub(crate) give_back: Option<GiveBack>,
    pub(crate) irql: Irql,
}

/// What the books knew of a block that the driver frees.
pub(crate) enum Taken {
    /// Nothing.
    Stranger,
    /// It was freed already.
    Again,
    /// Somebody reads it, and it cannot be held until they are done: try again.
    InUse,
    /// There must be memory first. Nothing has changed.
    NeedsMemory(Shortage),
    /// It was live, and is no longer.
    Live,
    /// It is an entry of a lookaside list, which is freed as a block of pool. Nothing has changed.
    Entry,
}

/// A block that the driver has just freed. The hot path fills it in place: as part of a result it would be copied in
/// pieces of another size than it was written in, which stalls the processor.
pub(crate) struct Taking {
    pub(crate) key: Key,
    pub(crate) live: Live,
    /// The record under which it is held.
    pub(crate) held: Option<Ticket>,
    /// A quarantine is beyond its bounds.
    pub(crate) overdue: bool,
    /// How it was freed before.
    pub(crate) before: Option<Freed>,
    /// A lookaside list lives in it.
    pub(crate) has_list: bool,
}

impl Release {
    /// What is known of the block before anything is.
    pub(crate) fn taking(&self) -> Taking {
        let Self { location, function, tag, .. } = *self;
        let key = Key { location, function, tag, pool: Pool::Unknown, list: None };
        Taking { key, live: Live::NOTHING, held: None, overdue: false, before: None, has_list: false }
    }
}

/// A block on its way out of a quarantine.
#[derive(Clone, Copy)]
pub(crate) struct Leaving {
    pub(crate) key: Key,
    pub(crate) freed: Freed,
    /// Whether it was filled with poison.
    pub(crate) poisoned: bool,
    ticket: Ticket,
}

/// A block to be looked at. It is pinned until that is done, but for a live one of nonpaged pool, which is looked at
/// under the lock.
#[derive(Clone, Copy)]
pub(crate) struct Suspect {
    pub(crate) address: usize,
    pub(crate) key: Key,
    pub(crate) live: Live,
    /// Its record, where it was freed.
    pub(crate) freed: Option<(Ticket, Freed)>,
}

impl Suspect {
    pub(crate) fn body(&self) -> Body {
        self.live.body(self.address)
    }
}

/// How a walk through the ledger goes on.
pub(crate) enum Step {
    /// Here is something to be looked at.
    Suspect(Suspect),
    /// There is more to walk.
    On,
    End,
}

/// What a look at a block shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    Intact,
    /// It is broken, and nobody has said so.
    New,
    /// It is broken, and that was said.
    Known,
}

impl Finding {
    pub(crate) fn is_broken(self) -> bool {
        self != Self::Intact
    }
}

pub(crate) struct Books {
    sites: Sites,
    lists: Lists,
    /// Entries of lists that are out.
    entries: usize,
    ledger: Ledger,
    nonpaged: Quarantine,
    paged: Quarantine,
    bounds: [settings::Quarantine; 2],
    largest: usize,
    stats: Stats,
}

impl Books {
    pub(crate) const EMPTY: Self = Self {
        sites: Sites::EMPTY,
        lists: Lists::EMPTY,
        entries: 0,
        ledger: Ledger::EMPTY,
        nonpaged: Quarantine::EMPTY,
        paged: Quarantine::EMPTY,
        bounds: [settings::Settings::new().nonpaged, settings::Settings::new().paged],
        largest: 0,
        stats: Stats::ZERO,
    };

    pub(crate) fn set_bounds(&mut self, nonpaged: settings::Quarantine, paged: settings::Quarantine) {
        self.bounds = [nonpaged, paged];
    }

    /// Writes an allocation down: the kernel's block begins at `base`, the driver's at `address`. `Err` asks for memory and has changed nothing that counts; `Ok` may come
    /// with a wish for more buckets.
    pub(crate) fn allocated(
        &mut self,
        key: &Key,
        base: usize,
        address: usize,
        live: Live,
    ) -> Result<Option<Shortage>, Shortage> {
        let site = self.sites.intern(key).map_err(Shortage::Sites)?;
        if self.entries > 0 && key.list.is_none() {
            // What the pool gives out is no list's any more.
            self.entries_vanish(base);
        }
        match self.ledger.insert(address, Block { site, state: live.into() }) {
            Inserted::NeedsMemory(bytes) => return Err(Shortage::Entries(bytes)),
            Inserted::Done { replaced: Some(known) } if base == address && known.is_moved() => {
                // No kernel gives out what lies behind a guard of ours: a tracked function of the driver's own has
                // returned what another tracked call gave it.
                if let Some(block) = self.ledger.find(address) {
                    *block = known;
                }
                return Ok(None);
            }
            Inserted::Done { replaced: Some(vanished) } => self.vanishes(vanished),
            Inserted::Done { replaced: None } => {}
        }
        if base != address {
            if let Some(vanished) = self.ledger.remove(base) {
                self.vanishes(vanished);
            }
        }
        let bytes = live.bytes();
        self.sites.at(site).figures.allocated(bytes as u64);
        match key.list {
            Some(list) => {
                self.entries += 1;
                self.lists.of(list).figures.allocated(bytes as u64);
            }
            None => self.largest = self.largest.max(bytes),
        }
        if let Some(pool) = self.stats.pool_mut(key.pool).filter(|_| !live.is_counted_elsewhere(key.list)) {
            pool.allocated(bytes as u64);
        }
        Ok(self.ledger.wants_buckets().map(Shortage::Buckets))
    }

    /// Strikes the block that the driver frees out, or writes down that it was freed, and fills `taking` if it was
    /// live. With `may_remember` false it asks for no memory, and the block is neither held nor remembered; with
    /// `may_wait` false it does not mind who reads the block.
    #[inline]
    pub(crate) fn take(
        &mut self,
        release: &Release,
        may_remember: bool,
        may_wait: bool,
        taking: &mut Taking,
    ) -> Taken {
        let address = release.address;
        if self.entries > 0 && self.is_entry_out(address) {
            return Taken::Entry;
        }
        let Some(mut spot) = self.ledger.spot(address) else { return Taken::Stranger };
        let site = spot.block().site;
        taking.key = self.sites.key(site);
        let live = match spot.block().state.standing() {
            Standing::Live(live) => live,
            Standing::Freed(pool, ticket) => {
                taking.held = Some(ticket);
                taking.before = self.quarantine(pool).at(ticket).copied();
                return Taken::Again;
            }
        };
        taking.live = live;
        let [nonpaged, paged] = self.bounds;
        let (quarantine, bounds) = match taking.key.pool {
            Pool::Paged => (&mut self.paged, paged),
            _ => (&mut self.nonpaged, nonpaged),
        };
        match stage(release, taking, bounds, may_remember, may_wait) {
            None => return Taken::InUse,
            Some(Stage::Gone) => spot.remove(),
            Some(stage) => {
                if let Some(bytes) = quarantine.wants() {
                    return Taken::NeedsMemory(Shortage::Quarantine(taking.key.pool, bytes));
                }
                let Release { location, function, tag, give_back, .. } = *release;
                let ticket =
                    quarantine.enter(Freed { address, live, location, function, tag, give_back, stage });
                spot.block().state = State::freed(taking.key.pool, ticket);
                taking.held = (stage == Stage::Entering).then_some(ticket);
            }
        }
        taking.overdue = self.is_overdue();
        taking.has_list = self.lists.has_some() && self.has_list_within(address, live.bytes());
        self.leaves(site, live);
        Taken::Live
    }

    /// Whether a block of pool at this address is an entry that a list has handed out. Where the driver's own functions make
    /// entries, they may be what frees it now: then code that is not annotated has given it to the list before.
    #[cold]
    #[inline(never)]
    fn is_entry_out(&mut self, address: usize) -> bool {
        if is_entry(address) {
            return false;
        }
        match self.entry(address) {
            // Where the list is deleted, its owner has to free what is still out.
            Some((_, _, list)) if list.has_callbacks || list.deleted.is_some() => {
                self.entries_go(address);
                false
            }
            entry => entry.is_some(),
        }
    }

    /// The block of this record is ready to be held; false if the books were closed since it was taken.
    pub(crate) fn settle(&mut self, taking: &mut Taking, ticket: Ticket, live: Live, poisoned: bool) -> bool {
        let Some(freed) = self.quarantine(taking.key.pool).at(ticket) else { return false };
        // Who pinned it in the meantime unpins it.
        freed.live = live.pinned(freed.live.is_pinned());
        freed.stage = Stage::Held { poisoned };
        taking.overdue = self.is_overdue();
        true
    }

    /// Whether a quarantine is beyond its bounds.
    pub(crate) fn is_overdue(&self) -> bool {
        let [nonpaged, paged] = self.bounds;
        self.nonpaged.is_beyond(nonpaged) || self.paged.is_beyond(paged)
    }

    /// The next block that has to leave so that the quarantine of `pool` keeps its bounds, if one has to and may.
    pub(crate) fn leaving(&mut self, pool: Pool) -> Option<Leaving> {
        let [nonpaged, paged] = self.bounds;
        self.leaving_beyond(pool, if matches!(pool, Pool::Paged) { paged } else { nonpaged })
    }

    /// The next block to leave quarantines that are to be empty, as far as this IRQL allows.
    pub(crate) fn leaving_all(&mut self, irql: Irql) -> Option<Leaving> {
        let pools = [Pool::NonPaged, Pool::Paged].into_iter().filter(|pool| may_touch(*pool, irql));
        let mut leaving = None;
        for pool in pools {
            leaving = leaving.or_else(|| self.leaving_beyond(pool, settings::Quarantine::OFF));
        }
        leaving
    }

    fn leaving_beyond(&mut self, pool: Pool, bounds: settings::Quarantine) -> Option<Leaving> {
        while let Some(ticket) = self.quarantine(pool).surplus(bounds) {
            let quarantine = self.quarantine(pool);
            let freed = quarantine.at(ticket).copied()?;
            if let Stage::Held { poisoned } = freed.stage {
                quarantine.leaves(ticket);
                if let Some(block) = self.ledger.find(freed.address).copied() {
                    return Some(Leaving { key: self.sites.key(block.site), freed, poisoned, ticket });
                }
            }
            self.dismiss(pool, ticket);
        }
        None
    }

    /// The block's memory is about to be the kernel's again.
    pub(crate) fn left(&mut self, leaving: &Leaving) {
        self.dismiss(leaving.key.pool, leaving.ticket);
    }

    /// Forgets a record, and the block in the ledger if it is still that one.
    pub(crate) fn dismiss(&mut self, pool: Pool, ticket: Ticket) {
        let Some(address) = self.quarantine(pool).at(ticket).map(|freed| freed.address) else { return };
        self.quarantine(pool).remove(ticket);
        let standing = self.ledger.find(address).map(|block| block.state.standing());
        if standing == Some(Standing::Freed(pool, ticket)) {
            self.ledger.remove(address);
        }
    }

    /// The block that was taken was not the one that was written down: that one had been freed by code that is not
    /// annotated, and this one is somebody else's.
    pub(crate) fn was_anothers(&mut self, key: &Key, held: Option<Ticket>) {
        if let Some(ticket) = held {
            self.dismiss(key.pool, ticket);
        }
        self.stats.foreign_frees += 1;
        self.stats.vanished_blocks += 1;
        if let Ok(site) = self.sites.intern(key) {
            self.sites.at(site).vanished_blocks += 1;
        }
    }

    /// The lookaside list at `address`, if tracked code made one there.
    pub(crate) fn list(&mut self, address: usize) -> Option<(ListRef, List)> {
        let list = self.lists.find(address)?;
        Some((list, self.list_at(list)?))
    }

    /// The list, unless the books were closed since it was found.
    pub(crate) fn list_at(&mut self, list: ListRef) -> Option<List> {
        self.lists.at(list).copied()
    }

    /// Writes a new list down.
    pub(crate) fn made(&mut self, made: &Made, counters: Counters) -> Result<(), Shortage> {
        self.lists.add(made, counters).map_err(Shortage::Lists)
    }

    /// Notes a tracked allocation, or a free, before it is made: the list counts it in the meantime.
    pub(crate) fn counts(&mut self, list: ListRef, allocates: bool) {
        let Some(List { tracked_allocates, tracked_frees, .. }) = self.lists.at(list) else { return };
        let counter = if allocates { tracked_allocates } else { tracked_frees };
        *counter = counter.wrapping_add(1);
    }

    /// Notes what a list has counted.
    pub(crate) fn counted(&mut self, list: ListRef, counters: Counters) {
        if let Some(list) = self.lists.at(list) {
            list.counters = counters;
        }
    }

    pub(crate) fn deleted(&mut self, list: ListRef, by: Act) {
        self.lists.delete(list, by);
    }

    /// A list that lives in the block of pool, which is no more: it goes with the block.
    pub(crate) fn list_goes_with(&mut self, start: usize, bytes: usize, by: Act) -> Option<List> {
        let list = self.lists.within(start, bytes)?;
        if let Some(reference) = self.lists.find(list.address) {
            self.lists.delete(reference, by);
        }
        Some(list)
    }

    #[cold]
    #[inline(never)]
    fn has_list_within(&mut self, start: usize, bytes: usize) -> bool {
        self.lists.within(start, bytes).is_some()
    }

    /// A list by its place among all of them.
    pub(crate) fn nth_list(&mut self, place: usize) -> Option<ListStats> {
        self.lists.nth(place)
    }

    /// The so-many-th site of a list's that has entries outstanding.
    pub(crate) fn nth_leak(&mut self, list: ListRef, place: usize) -> Option<SiteStats> {
        let list = self.lists.at(list).map(|_| list.id)?;
        self.sites.of_list(list).filter(|site| site.figures.curr_blocks > 0).nth(place).copied()
    }

    /// Writes an entry of a list down.
    #[inline(never)]
    pub(crate) fn entered(
        &mut self,
        list: ListRef,
        key: &Key,
        entry: usize,
        live: Live,
    ) -> Result<Option<Shortage>, Shortage> {
        // The books may have been closed while the list was asked: then it is no list of theirs.
        let Some(number) = self.lists.at(list).map(|list| list.number) else { return Ok(None) };
        let is_block = self.block(entry).is_some() || self.entry(entry).is_some();
        let place = entry_at(entry, number);
        self.allocated(key, place, place, live.tagged(is_block))
    }

    /// A live entry at `entry`, and its list.
    pub(crate) fn entry(&mut self, entry: usize) -> Option<(Key, Live, List)> {
        self.lists.numbers().find_map(|number| {
            let (key, live) = self.block(entry_at(entry, number))?;
            Some((key, live, *self.lists.of(key.list?)))
        })
    }

    /// Whether `entry` is out, of this list.
    pub(crate) fn is_out(&mut self, list: ListRef, entry: usize) -> bool {
        let Some(number) = self.list_at(list).map(|list| list.number) else { return false };
        self.block(entry_at(entry, number)).is_some_and(|(key, _)| key.list == Some(list.id))
    }

    /// Entries at this address were freed by code that is not annotated: they are out no longer.
    #[cold]
    #[inline(never)]
    pub(crate) fn entries_vanish(&mut self, entry: usize) {
        for number in self.lists.numbers() {
            if let Some(block) = self.ledger.remove(entry_at(entry, number)) {
                self.vanishes(block);
            }
        }
    }

    /// Entries at this address go with the block that is freed.
    #[cold]
    #[inline(never)]
    fn entries_go(&mut self, entry: usize) {
        for number in self.lists.numbers() {
            if let Some((_, live)) = self.block(entry_at(entry, number)) {
                if let Some(block) = self.ledger.remove(entry_at(entry, number)) {
                    self.leaves(block.site, live);
                }
            }
        }
    }

    /// The live block of pool that begins at `address`.
    pub(crate) fn block(&mut self, address: usize) -> Option<(Key, Live)> {
        let block = self.ledger.find(address).copied()?;
        match block.state.standing() {
            Standing::Live(live) => Some((self.sites.key(block.site), live)),
            Standing::Freed(..) => None,
        }
    }

    pub(crate) fn foreign_free(&mut self) {
        self.stats.foreign_frees += 1;
    }

    pub(crate) fn violation(&mut self) {
        self.stats.violations += 1;
    }

    /// The live block that has `address` inside of it, among those that start at `starts`.
    pub(crate) fn around(
        &mut self,
        address: usize,
        mut starts: impl Iterator<Item = usize>,
    ) -> Option<(Key, usize, Live)> {
        starts.find_map(|start| {
            let block = self.ledger.find(start).copied()?;
            self.holds(block, start, address)
        })
    }

    /// The same among the next `count` blocks of the ledger.
    pub(crate) fn next_around(
        &mut self,
        address: usize,
        cursor: &mut Cursor,
        count: usize,
    ) -> Option<(Key, usize, Live)> {
        (0..count).find_map(|_| {
            let (start, block) = self.ledger.next(cursor)?;
            self.holds(block, start, address)
        })
    }

    fn holds(&mut self, block: Block, start: usize, address: usize) -> Option<(Key, usize, Live)> {
        match block.state.standing() {
            Standing::Live(live) if !is_entry(start) && address.wrapping_sub(start) < live.bytes() => {
                Some((self.sites.key(block.site), start, live))
            }
            _ => None,
        }
    }

    /// Blocks in the ledger.
    pub(crate) fn blocks(&self) -> usize {
        self.ledger.blocks()
    }

    /// The largest block that was ever recorded, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// The next block after `cursor` that has something to be looked at, pinned; but no more than a few steps at once.
    pub(crate) fn next_suspect(&mut self, cursor: &mut Cursor, irql: Irql) -> Step {
        const AT_ONCE: usize = 32;
        for _ in 0..AT_ONCE {
            let Some((address, block)) = self.ledger.next(cursor) else { return Step::End };
            let key = self.sites.key(block.site);
            // What a list has handed out is looked at when it comes back: nobody tells meanwhile whether it has.
            if !may_touch(key.pool, irql) || is_entry(address) {
                continue;
            }
            match block.state.standing() {
                Standing::Live(live) if live.is_guarded() && live.is_open() && !live.is_pinned() => {
                    if matches!(key.pool, Pool::Paged) {
                        self.mark(address, |live| live.pinned(true));
                    }
                    return Step::Suspect(Suspect { address, key, live, freed: None });
                }
                Standing::Freed(pool, ticket) => {
                    let freed = self.quarantine(pool).at(ticket).copied();
                    let held = freed.filter(|freed| {
                        matches!(freed.stage, Stage::Held { poisoned: true }) && !freed.live.is_pinned()
                    });
                    if let Some(freed) = held {
                        let live = freed.live;
                        self.mark(address, |live| live.pinned(true));
                        let freed = Some((ticket, freed));
                        return Step::Suspect(Suspect { address, key, live, freed });
                    }
                }
                Standing::Live(_) => {}
            }
        }
        Step::On
    }

    /// Whether a block is still what it was when it was chosen to be looked at: the driver's, or this very record.
    pub(crate) fn stands(&mut self, suspect: &Suspect) -> bool {
        let standing = self.ledger.find(suspect.address).map(|block| block.state.standing());
        match (standing, &suspect.freed) {
            (Some(Standing::Live(live)), None) => live.same_block(suspect.live),
            (Some(Standing::Freed(_, ticket)), Some((known, _))) => ticket == *known,
            _ => false,
        }
    }

    /// Notes what was found of a block that was looked at. What was freed meanwhile is its free's to speak of.
    pub(crate) fn find(&mut self, suspect: &Suspect, broken: bool) -> Finding {
        if !broken || !self.stands(suspect) {
            return Finding::Intact;
        }
        let known = self.live_at(suspect.address).is_some_and(Live::is_reported);
        self.mark(suspect.address, |live| live.reported(true));
        if known { Finding::Known } else { Finding::New }
    }

    /// The same, and lets go of the block, which was pinned.
    pub(crate) fn let_go(&mut self, suspect: &Suspect, broken: bool) -> Finding {
        let finding = self.find(suspect, broken);
        self.mark(suspect.address, |live| live.pinned(false));
        finding
    }

    fn live_at(&mut self, address: usize) -> Option<Live> {
        match self.ledger.find(address)?.state.standing() {
            Standing::Live(live) => Some(live),
            Standing::Freed(pool, ticket) => self.quarantine(pool).at(ticket).map(|freed| freed.live),
        }
    }

    fn mark(&mut self, address: usize, mark: impl Fn(Live) -> Live) {
        let Some(block) = self.ledger.find(address) else { return };
        match block.state.standing() {
            Standing::Live(live) => block.state = mark(live).into(),
            Standing::Freed(pool, ticket) => {
                if let Some(freed) = self.quarantine(pool).at(ticket) {
                    freed.live = mark(freed.live);
                }
            }
        }
    }

    /// Counts one more walk through the ledger, or one less.
    pub(crate) fn walk(&mut self, begins: bool) {
        self.ledger.walk(begins);
    }

    /// The kernel has given the address of a block out again.
    fn vanishes(&mut self, block: Block) {
        match block.state.standing() {
            Standing::Live(live) => self.leaves(block.site, live),
            Standing::Freed(pool, ticket) => {
                let stage = self.quarantine(pool).at(ticket).map(|freed| freed.stage);
                self.quarantine(pool).remove(ticket);
                if stage.is_none_or(|stage| stage == Stage::Remembered) {
                    return;
                }
            }
        }
        self.sites.at(block.site).vanished_blocks += 1;
        self.stats.vanished_blocks += 1;
    }

    fn leaves(&mut self, site: SiteRef, live: Live) {
        let bytes = live.bytes() as u64;
        let list = self.sites.list(site);
        let site = self.sites.at(site);
        site.figures.freed(bytes);
        let pool = site.pool;
        if list.is_some() {
            return self.entry_leaves(list, pool, live);
        }
        if let Some(pool) = self.stats.pool_mut(pool) {
            pool.freed(bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn entry_leaves(&mut self, list: Option<ListId>, pool: Pool, live: Live) {
        let bytes = live.bytes() as u64;
        self.entries = self.entries.wrapping_sub(1);
        if let Some(list) = list {
            self.lists.of(list).figures.freed(bytes);
        }
        if let Some(pool) = self.stats.pool_mut(pool).filter(|_| !live.is_counted_elsewhere(list)) {
            pool.freed(bytes);
        }
    }

    /// Counts a block that was handed out but cannot be recorded. Where its address is known, no other block can
    /// live there any more.
    pub(crate) fn unrecorded(&mut self, key: &Key, address: Option<usize>) {
        if let Some(vanished) = address.and_then(|address| self.ledger.remove(address)) {
            self.vanishes(vanished);
        }
        self.stats.unrecorded_blocks += 1;
        if let Ok(site) = self.sites.intern(key) {
            self.sites.at(site).unrecorded_blocks += 1;
        }
    }

    /// Counts a refusal, and returns which one it is at its site.
    pub(crate) fn refused(&mut self, key: &Key) -> Result<u64, Shortage> {
        let site = self.sites.intern(key).map_err(Shortage::Sites)?;
        self.stats.failures += 1;
        let site = self.sites.at(site);
        site.failures += 1;
        Ok(site.failures)
    }

    /// Counts a refusal at a site for which there is no memory, and returns which one it is at all.
    pub(crate) fn refused_nowhere(&mut self) -> u64 {
        self.stats.failures += 1;
        self.stats.failures
    }

    /// How things stand in `pool`, which has refused.
    pub(crate) fn exhaustion(&self, pool: Pool) -> Exhaustion {
        let holders = self.sites.iter().filter(|site| site.pool == pool && site.figures.curr_blocks > 0);
        Exhaustion {
            stats: self.stats(),
            holder: holders.max_by_key(|site| site.figures.curr_bytes).copied(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let (nonpaged, paged) = (self.nonpaged.held(), self.paged.held());
        Stats { held_blocks: nonpaged.0 + paged.0, held_bytes: nonpaged.1 + paged.1, ..self.stats }
    }

    pub(crate) fn sites(&self) -> &Sites {
        &self.sites
    }

    fn quarantine(&mut self, pool: Pool) -> &mut Quarantine {
        if matches!(pool, Pool::Paged) { &mut self.paged } else { &mut self.nonpaged }
    }

    /// Takes memory in for what was short of it. Returns what is not needed: the memory, if another processor was
    /// faster, or what it stands in for.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes, `shortage.bytes()` long, and zeroed.
    pub(crate) unsafe fn adopt(&mut self, shortage: Shortage, memory: NonNull<u8>) -> Option<NonNull<u8>> {
        match shortage {
            // SAFETY: handed on.
            Shortage::Sites(bytes) => unsafe { self.sites.adopt(memory, bytes) },
            // SAFETY: handed on.
            Shortage::Lists(bytes) => unsafe { self.lists.adopt(memory, bytes) },
            // SAFETY: handed on.
            Shortage::Entries(bytes) => unsafe { self.ledger.adopt_entries(memory, bytes) },
            // SAFETY: handed on.
            Shortage::Buckets(bytes) => unsafe { self.ledger.adopt_buckets(memory, bytes) },
            // SAFETY: handed on.
            Shortage::Quarantine(pool, bytes) => unsafe { self.quarantine(pool).adopt(memory, bytes) },
        }
    }

    /// Closes the books, unless there is a block that must leave first, or a check under way that must end first.
    pub(crate) fn close_if_empty(&mut self, irql: Irql) -> Result<Closed, Option<Leaving>> {
        match self.leaving_all(irql) {
            Some(leaving) => Err(Some(leaving)),
            // At DISPATCH_LEVEL the check may never come to its end, which is on this processor.
            None if irql < DISPATCH_LEVEL && self.ledger.is_walked() => Err(None),
            None => {
                let mut closed = self.close();
                if irql < DISPATCH_LEVEL {
                    // What still counts is on its way in: its free gives it back.
                    (closed.stats.held_blocks, closed.stats.held_bytes) = (0, 0);
                }
                Ok(closed)
            }
        }
    }

    /// Closes the books: what was in them is the caller's, and they are as new. The bounds stay.
    pub(crate) fn close(&mut self) -> Closed {
        let stats = self.stats();
        self.stats = Stats::ZERO;
        self.largest = 0;
        self.entries = 0;
        Closed {
            stats,
            sites: self.sites.detach(),
            ledger_memory: self.ledger.detach(),
            lists: self.lists.detach(),
            rings: [self.nonpaged.detach(), self.paged.detach()],
        }
    }
}

/// Where an entry of a lookaside list stands in the ledger. A block of pool may begin at the same address: the one that the
/// list was given by a function of the driver's.
pub(crate) const fn entry_at(address: usize, number: usize) -> usize {
    address & !NUMBERS | number
}

pub(crate) const fn is_entry(address: usize) -> bool {
    address & NUMBERS != 0
}

/// Whether memory of this pool may be touched, allocated and freed at this IRQL: paged memory below DISPATCH_LEVEL.
pub(crate) fn may_touch(pool: Pool, irql: Irql) -> bool {
    irql < DISPATCH_LEVEL || !matches!(pool, Pool::Paged)
}

/// What becomes of a live block that is freed; `None` while it is pinned, cannot be held, and the caller may wait.
#[inline]
fn stage(
    release: &Release,
    taking: &Taking,
    bounds: settings::Quarantine,
    may_remember: bool,
    may_wait: bool,
) -> Option<Stage> {
    let live = taking.live;
    let body = live.body(release.address);
    let fits = bounds.blocks > 0
        && bounds.bytes > 0
        && body.layout.total(body.bytes).is_some_and(|bytes| bytes <= bounds.bytes);
    // Where it may not be touched, or not yet go, it is held whatever the bounds say.
    let must = live.is_pinned() || !may_touch(taking.key.pool, release.irql);
    let can = release.give_back.is_some() && live.is_open() && may_remember;
    if can && (fits || must) {
        Some(Stage::Entering)
    } else if live.is_pinned() && may_touch(taking.key.pool, release.irql) && may_wait {
        None
    } else if bounds.blocks > 0 && may_remember {
        Some(Stage::Remembered)
    } else {
        Some(Stage::Gone)
    }
}
