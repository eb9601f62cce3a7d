//! What the books know of lookaside lists, and of the entries that they hand out.

use crate::act::Act;
use crate::block::{Live, State};
use crate::books::{Books, entry_at, is_entry};
use crate::lists::{List, ListId, ListRef, Made};
use crate::lookaside::Counters;
use crate::shortage::Shortage;
use crate::site::Key;
use crate::stats::{ListStats, SiteStats};

impl Books<'_> {
    /// The lookaside list at `address`, if tracked code made one there.
    pub(crate) fn list(&mut self, address: usize) -> Option<(ListRef, List)> {
        let list = self.locked.lists.find(address)?;
        Some((list, self.list_at(list)?))
    }

    /// The list, unless the books were closed since it was found.
    pub(crate) fn list_at(&mut self, list: ListRef) -> Option<List> {
        self.locked.lists.at(list).copied()
    }

    /// Writes a new list down.
    pub(crate) fn made(&mut self, made: &Made, counters: Counters) -> Result<(), Shortage> {
        self.locked.lists.add(made, counters).map_err(Shortage::Lists)?;
        self.lists_changed();
        Ok(())
    }

    /// Notes for all calls where lists live now.
    fn lists_changed(&mut self) {
        let lists = &self.locked.lists;
        self.book.set_lists(lists.numbers().count(), lists.span());
    }

    /// Notes a tracked allocation, or a free, before it is made: the list counts it in the meantime.
    pub(crate) fn counts(&mut self, list: ListRef, allocates: bool) {
        let Some(List { tracked_allocates, tracked_frees, .. }) = self.locked.lists.at(list) else { return };
        let counter = if allocates { tracked_allocates } else { tracked_frees };
        *counter = counter.wrapping_add(1);
    }

    /// Notes what a list has counted.
    pub(crate) fn counted(&mut self, list: ListRef, counters: Counters) {
        if let Some(list) = self.locked.lists.at(list) {
            list.counters = counters;
        }
    }

    pub(crate) fn deleted(&mut self, list: ListRef, by: Act) {
        self.locked.lists.delete(list, by);
        self.lists_changed();
    }

    /// A list that lives in the block of pool, which is no more: it goes with the block.
    pub(crate) fn list_goes_with(&mut self, start: usize, bytes: usize, by: Act) -> Option<List> {
        let list = self.locked.lists.within(start, bytes)?;
        if let Some(reference) = self.locked.lists.find(list.address) {
            self.deleted(reference, by);
        }
        Some(list)
    }

    /// A list by its place among all of them.
    pub(crate) fn nth_list(&mut self, place: usize) -> Option<ListStats> {
        self.locked.lists.nth(place)
    }

    /// The so-many-th site of a list's that has entries outstanding.
    pub(crate) fn nth_leak(&mut self, list: ListRef, place: usize) -> Option<SiteStats> {
        let list = self.locked.lists.at(list).map(|_| list.id)?;
        self.locked.sites.read_all();
        let mut sites = self.locked.sites.of_list(list).filter(|site| site.figures.curr_blocks > 0);
        sites.nth(place).copied()
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
        let Some(number) = self.locked.lists.at(list).map(|list| list.number) else { return Ok(None) };
        let is_block = self.block(entry).is_some() || self.entry(entry).is_some();
        let place = entry_at(entry, number);
        self.allocated(key, place, place, live.tagged(is_block))
    }

    /// A live entry at `entry`, and its list.
    pub(crate) fn entry(&mut self, entry: usize) -> Option<(Key, Live, List)> {
        self.locked.lists.numbers().find_map(|number| {
            let (key, live) = self.block(entry_at(entry, number))?;
            Some((key, live, *self.locked.lists.of(key.list?)))
        })
    }

    /// Whether `entry` is out, of this list.
    pub(crate) fn is_out(&mut self, list: ListRef, entry: usize) -> bool {
        let Some(number) = self.list_at(list).map(|list| list.number) else { return false };
        self.block(entry_at(entry, number)).is_some_and(|(key, _)| key.list == Some(list.id))
    }

    /// Whether a block of pool at this address is an entry that a list has handed out. Where the driver's own functions make
    /// entries, they may be what frees it now: then code that is not annotated has given it to the list before.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_entry_out(&mut self, address: usize) -> bool {
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

    /// Entries at this address were freed by code that is not annotated: they are out no longer.
    #[cold]
    #[inline(never)]
    pub(crate) fn entries_vanish(&mut self, entry: usize) {
        for number in self.locked.lists.numbers() {
            self.vanish(entry_at(entry, number));
        }
    }

    /// Entries at this address go with the block that is freed.
    #[cold]
    #[inline(never)]
    fn entries_go(&mut self, entry: usize) {
        for number in self.locked.lists.numbers() {
            let Some(spot) = self.book.ledger.spot(entry_at(entry, number)) else { continue };
            if spot.entry().is_freed {
                spot.put_back();
            } else {
                let state = State(spot.entry().state);
                spot.remove();
                self.leaves(state);
            }
        }
    }

    /// Counts an entry that a list has handed out.
    pub(crate) fn entry_counts(&mut self, list: ListId, key: &Key, site: crate::site::SiteRef, live: Live) {
        self.book.set_entries(self.book.entries() + 1);
        self.locked.lists.of(list).figures.allocated(live.bytes() as u64);
        site.site().allocated(live.bytes(), self.inside());
        if live.is_counted_elsewhere(Some(list)) {
            site.site().elsewhere().allocated(live.bytes() as u64);
        } else {
            self.book.count_in_pool(self.inside(), key.pool, live.bytes());
        }
    }

    /// Counts an entry that is out no longer.
    #[cold]
    #[inline(never)]
    pub(crate) fn entry_leaves(&mut self, list: ListId, key: &Key, site: crate::site::SiteRef, live: Live) {
        self.book.set_entries(self.book.entries().saturating_sub(1));
        self.locked.lists.of(list).figures.freed(live.bytes() as u64);
        site.site().freed(live.bytes(), self.inside());
        if live.is_counted_elsewhere(Some(list)) {
            site.site().elsewhere().freed(live.bytes() as u64);
        } else {
            self.book.freed_in_pool(self.inside(), key.pool, live.bytes());
        }
    }
}
