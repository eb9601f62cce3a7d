//! The lookaside lists that a driver has initialised, as the books know them.

use core::ptr::NonNull;

use crate::act::Act;
use crate::guard::Layout;
use crate::lookaside::Counters;
use crate::pool::{Pool, Tag};
use crate::slab::{Chunks, Slab};
use crate::stats::{Figures, ListStats};

/// A list, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    /// Where it lives.
    pub(crate) address: usize,
    /// Tells its entries from those of others at the same addresses: from 1 to [`NUMBERS`].
    pub(crate) number: usize,
    /// What initialised it.
    pub(crate) made: Act,
    /// What deleted it, once that has happened.
    pub(crate) deleted: Option<Act>,
    pub(crate) tag: Tag,
    pub(crate) pool: Pool,
    /// The size of an entry that the driver asked for.
    pub(crate) bytes: usize,
    /// How entries lie in what the list hands out.
    pub(crate) layout: Layout,
    /// Whether the driver's own functions make the entries.
    pub(crate) has_callbacks: bool,
    /// The size and the tag that the list itself has.
    pub(crate) size_and_tag: (u32, u32),
    /// Its own counters, as of the last call.
    pub(crate) counters: Counters,
    /// Allocations and frees that were tracked: the list counts others, too.
    pub(crate) tracked_allocates: u32,
    pub(crate) tracked_frees: u32,
    /// Entries outstanding, and how many there were.
    pub(crate) figures: Figures,
    next: Option<ListRef>,
}

/// What makes one list another than the next.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    pub(crate) address: usize,
    pub(crate) by: Act,
    pub(crate) tag: Tag,
    pub(crate) pool: Pool,
    pub(crate) bytes: usize,
    pub(crate) layout: Layout,
    pub(crate) has_callbacks: bool,
    pub(crate) size_and_tag: (u32, u32),
}

/// A list of the table that made it. A call on a list may last longer than the books do: it is followed only as long as they
/// have not been closed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListRef {
    pub(crate) id: ListId,
    closings: usize,
}

/// A list of the same books, as sites know it, which last no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListId(NonNull<List>);

/// Whether a counter is behind another: its call is under way, or two of the kernel's own have counted as one.
fn behind(counter: u32, other: u32) -> bool {
    counter.wrapping_sub(other) > u32::MAX / 2
}

/// All lists, the newest first. A driver has few: they are looked through one by one.
pub(crate) struct Lists {
    lists: Slab<List>,
    first: Option<ListRef>,
    /// How many are not deleted.
    live: usize,
    /// How often the lists were all forgotten.
    closings: usize,
    /// How many lists there were.
    made: usize,
    /// No list lives below the inverse of the first of these, nor from the second on.
    span: [usize; 2],
}

/// How many lists in a row have numbers of their own: entries of one may be made of entries of another.
pub(crate) const NUMBERS: usize = 7;

impl Lists {
    pub(crate) const EMPTY: Self =
        Self { lists: Slab::EMPTY, first: None, live: 0, closings: 0, made: 0, span: [0; 2] };

    /// The list at `address`: the one that lives there, or else the last one that did.
    pub(crate) fn find(&mut self, address: usize) -> Option<ListRef> {
        self.search(|list| list.address == address && list.deleted.is_none())
            .or_else(|| self.search(|list| list.address == address))
    }

    /// A live list in the memory from `start` on.
    pub(crate) fn within(&mut self, start: usize, bytes: usize) -> Option<List> {
        let [lowest, highest] = self.span;
        if self.live == 0 || start >= highest || start.wrapping_add(bytes) <= !lowest {
            return None;
        }
        let inside =
            self.search(|list| list.deleted.is_none() && list.address.wrapping_sub(start) < bytes)?;
        self.at(inside).copied()
    }

    fn search(&mut self, is_it: impl Fn(&List) -> bool) -> Option<ListRef> {
        let mut next = self.first;
        while let Some(list) = next {
            let known = self.at(list)?;
            if is_it(known) {
                return Some(list);
            }
            next = known.next;
        }
        None
    }

    /// Writes a new list down. `Err` says how many bytes of memory to bring first. One that was deleted, with nothing
    /// outstanding, makes room for the next from the same line.
    pub(crate) fn add(&mut self, made: &Made, counters: Counters) -> Result<(), usize> {
        let Made { address, by, tag, pool, bytes, layout, has_callbacks, size_and_tag } = *made;
        let same = |list: &List| {
            list.deleted.is_some()
                && list.figures.curr_blocks == 0
                && (list.made.location == by.location && list.made.function == by.function)
                && (list.tag == tag && list.pool == pool)
        };
        let fresh = List {
            address,
            number: 1 + self.made % NUMBERS,
            made: by,
            deleted: None,
            tag,
            pool,
            bytes,
            layout,
            has_callbacks,
            size_and_tag,
            counters,
            tracked_allocates: 0,
            tracked_frees: 0,
            figures: Figures::ZERO,
            next: self.first,
        };
        let old = self.search(same);
        match old.and_then(|old| self.at(old)) {
            Some(old) => *old = List { next: old.next, ..fresh },
            None => {
                let list = self.lists.insert(fresh).ok_or_else(|| self.lists.wants())?;
                self.first = Some(ListRef { id: ListId(list), closings: self.closings });
            }
        }
        let [lowest, highest] = self.span;
        self.span = [lowest.max(!address), highest.max(address.wrapping_add(1))];
        self.made = self.made.wrapping_add(1);
        self.live += 1;
        Ok(())
    }

    /// Marks a list as deleted.
    pub(crate) fn delete(&mut self, list: ListRef, by: Act) {
        if self.at(list).is_some_and(|list| list.deleted.replace(by).is_none()) {
            self.live -= 1;
        }
    }

    /// The list, unless all were forgotten since it was found.
    pub(crate) fn at(&mut self, list: ListRef) -> Option<&mut List> {
        // SAFETY: a `ListRef` is only made by `add`, and lists stay until `detach`, after which it does not fit any more.
        // `&mut self` makes this the only way to it.
        (list.closings == self.closings).then(|| unsafe { &mut *list.id.0.as_ptr() })
    }

    /// The list of a site.
    pub(crate) fn of(&mut self, id: ListId) -> &mut List {
        // SAFETY: `Books` closes sites and lists together, and makes a site of a list only after `at` has found it. `&mut self`
        // makes this the only way to it.
        unsafe { &mut *id.0.as_ptr() }
    }

    /// The list at that place, the newest being 0.
    pub(crate) fn nth(&mut self, place: usize) -> Option<ListStats> {
        let mut next = self.first;
        for _ in 0..place {
            next = self.at(next?)?.next;
        }
        Some(self.at(next?)?.stats())
    }

    /// No list lives below the inverse of the first of these, nor from the second on.
    pub(crate) fn span(&self) -> [usize; 2] {
        if self.live > 0 { self.span } else { [0; 2] }
    }

    /// The numbers that lists have.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        1..=self.made.min(NUMBERS)
    }

    /// Takes memory in, unless another processor brought some in the meantime: then it is returned.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes and `bytes` long, as [`add`](Self::add) asked.
    pub(crate) unsafe fn adopt(&mut self, memory: NonNull<u8>, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: handed on.
        unsafe { self.lists.adopt(memory, bytes) }
    }

    /// No list of this table is one of the other's, which was closed.
    pub(crate) fn go_on(&mut self, other: &Self) {
        self.closings = other.closings.wrapping_add(1);
    }

    /// Forgets every list, and hands over what they were: still to be read, and then to be given back.
    pub(crate) fn detach(&mut self) -> Detached {
        self.live = 0;
        self.made = 0;
        self.span = [0; 2];
        self.closings = self.closings.wrapping_add(1);
        Detached { first: self.first.take(), memory: self.lists.detach() }
    }
}

/// Lists that no table holds any more.
pub(crate) struct Detached {
    first: Option<ListRef>,
    memory: Chunks,
}

impl Detached {
    /// Those that nobody has deleted.
    pub(crate) fn undeleted(&self) -> impl Iterator<Item = ListStats> {
        let mut next = self.first;
        core::iter::from_fn(move || {
            loop {
                // SAFETY: nobody writes to the lists any more, and their memory is given back with `self`.
                let list = unsafe { next?.id.0.as_ref() };
                next = list.next;
                if list.deleted.is_none() {
                    return Some(list.stats());
                }
            }
        })
    }

    /// The memory that the lists lived in.
    pub(crate) fn into_memory(self) -> Chunks {
        self.memory
    }
}

impl List {
    /// Whether the list still is one, as of `now`: one that is deleted, by whomever, keeps nothing.
    pub(crate) fn is_in_use(&self, now: &Counters) -> bool {
        now.cached > 0 || self.figures.curr_blocks > 0 && self.is_all_given_here(now)
    }

    /// Whether nobody but tracked calls has taken entries from the list, as it counts itself.
    pub(crate) fn is_all_taken_here(&self, now: &Counters) -> bool {
        now.total_allocates == self.tracked_allocates || behind(now.total_allocates, self.tracked_allocates)
    }

    /// Whether nobody but tracked calls has given entries back.
    pub(crate) fn is_all_given_here(&self, now: &Counters) -> bool {
        now.total_frees == self.tracked_frees || behind(now.total_frees, self.tracked_frees)
    }

    fn stats(&self) -> ListStats {
        let Act { location, function } = self.made;
        let Counters { depth, cached, total_allocates, allocate_misses, total_frees, free_misses } =
            self.counters;
        ListStats {
            file: location.file(),
            line: location.line(),
            column: location.column(),
            function,
            tag: self.tag,
            pool: self.pool,
            bytes: self.bytes as u64,
            is_deleted: self.deleted.is_some(),
            depth: depth.into(),
            cached: cached.into(),
            hits: total_allocates.wrapping_sub(allocate_misses).into(),
            misses: allocate_misses.into(),
            frees: total_frees.into(),
            free_misses: free_misses.into(),
            figures: self.figures,
        }
    }
}
