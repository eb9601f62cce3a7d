//! The doors to the books: how a call gets at them without a lock.
//!
//! Through each door goes one call at a time, so that what belongs to a door (its column of every figure) is changed by
//! plain stores. Nobody waits: who finds a door closed takes another one, and where all of them are, the stairs, on which
//! there may be many and figures are added to atomically. So a thread that is interrupted behind a door, for as long
//! as it may be, stands in nobody's way: not in that of the interrupt's own calls, on the same processor, either.
//!
//! All processors begin at the first door, and move to one of their own when they find it closed. As long as none has,
//! whatever the number of threads, every figure stands in one place.
//!
//! The doors are also how memory is known to be out of use: what was taken off the books before [`is_empty`](Doors::is_empty)
//! was true of every door once is seen by nobody any more.

use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// How many doors there are.
#[cfg(not(loom))]
pub(crate) const DOORS: usize = 16;
#[cfg(loom)]
pub(crate) const DOORS: usize = 2;

/// Which column is the stairs'.
pub(crate) const STAIRS: usize = DOORS;
/// Columns of figures: one of each door's, and the stairs'.
pub(crate) const COLUMNS: usize = DOORS + 1;

/// One word that is written by every call, so it has its cache lines to itself: processors fetch them in pairs.
#[repr(align(128))]
struct Door(AtomicU32);

pub(crate) struct Doors {
    doors: [Door; DOORS],
    /// How many are on the stairs.
    stairs: AtomicUsize,
    /// A bit for each processor that has found the first door closed, and one while figures are folded.
    moved: AtomicU64,
}

impl Doors {
    pub(crate) const fn new() -> Self {
        Self {
            doors: [const { Door(AtomicU32::new(0)) }; DOORS],
            stairs: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
        }
    }

    /// Goes in, on the processor of that number, which is asked for where it matters. What is read of the books from here on is
    /// there until the result is dropped.
    #[inline]
    pub(crate) fn enter(&self, processor: impl FnOnce() -> usize) -> Inside<'_> {
        // Relaxed (also below): a hint; any door will do.
        let moved = self.moved.load(Ordering::Relaxed);
        if moved == 0 {
            if let Some(inside) = self.open(0) {
                return inside;
            }
        }
        self.enter_as(processor(), moved)
    }

    #[inline(never)]
    fn enter_as(&self, processor: usize, moved: u64) -> Inside<'_> {
        let has_moved = moved & bit(processor) != 0;
        match self.open(if has_moved { own(processor) } else { 0 }) {
            Some(inside) if has_moved => self.note(processor, inside),
            Some(inside) => inside,
            None => self.elsewhere(processor),
        }
    }

    #[inline]
    fn open(&self, column: usize) -> Option<Inside<'_>> {
        let door = &self.doors.get(column)?.0;
        // SeqCst pairs with that of `is_empty`: either that one sees this call inside, or this call, from here on, sees what
        // had been written before. As an Acquire it pairs with the Release in `drop`: the column's figures are those that
        // the last one through this door has left.
        door.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).ok()?;
        Some(Inside { doors: self, column })
    }

    #[cold]
    #[inline(never)]
    fn elsewhere(&self, processor: usize) -> Inside<'_> {
        for next in 0..DOORS {
            if let Some(inside) = self.open(own(processor.wrapping_add(next))) {
                return self.note(processor, inside);
            }
        }
        // SeqCst: as in `open`.
        self.stairs.fetch_add(1, Ordering::SeqCst);
        self.note(processor, Inside { doors: self, column: STAIRS })
    }

    /// Notes that this processor has moved, before anything is counted behind its new door.
    #[inline]
    fn note<'d>(&'d self, processor: usize, inside: Inside<'d>) -> Inside<'d> {
        // SeqCst (both) pairs with that of `gather`: either that one sees this call inside, or this call sees that everybody was
        // sent back.
        if self.moved.load(Ordering::SeqCst) & bit(processor) == 0 {
            self.moved.fetch_or(bit(processor), Ordering::SeqCst);
        }
        inside
    }

    /// Whether no call has gone through any other door than the first since figures were folded last.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        // Acquire pairs with `note`, by way of a column's Release: who has seen figures behind another door sees the note.
        self.moved.load(Ordering::Acquire) == 0
    }

    /// Sends everybody back to the first door, unless somebody is behind another one. True if figures are to be folded, for as
    /// long as it [`is_calm`](Self::is_calm), and then [`settle`](Self::settle)d. Only under the lock.
    pub(crate) fn gather(&self) -> bool {
        if self.is_alone() {
            return false;
        }
        // SeqCst (both): see `note`.
        let moved = self.moved.swap(FOLDING, Ordering::SeqCst);
        let is_calm = Self::columns().skip(1).all(|column| self.is_empty(column));
        if !is_calm {
            self.moved.fetch_or(moved, Ordering::SeqCst);
        }
        is_calm
    }

    /// Whether what is counted in all columns but the first stands still since [`gather`](Self::gather).
    pub(crate) fn is_calm(&self) -> bool {
        // Acquire: as in `is_alone`.
        self.moved.load(Ordering::Acquire) == FOLDING
    }

    /// Figures are folded: from here on the first column knows them all, unless somebody has moved meanwhile.
    pub(crate) fn settle(&self) {
        // Release pairs with the Acquire in `is_alone`: who is alone finds what was folded.
        _ = self.moved.compare_exchange(FOLDING, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// How many columns there are that may be empty: to be asked one by one.
    pub(crate) fn columns() -> core::ops::Range<usize> {
        0..COLUMNS
    }

    /// Whether nobody is inside through this door, or on the stairs.
    pub(crate) fn is_empty(&self, column: usize) -> bool {
        // SeqCst (both): see `open`. As Acquire they pair with the Release in `drop`: what those who left have done is done.
        match self.doors.get(column) {
            Some(door) => door.0.load(Ordering::SeqCst) == 0,
            None => self.stairs.load(Ordering::SeqCst) == 0,
        }
    }
}

/// A call that is inside.
pub(crate) struct Inside<'d> {
    doors: &'d Doors,
    column: usize,
}

impl Inside<'_> {
    /// Whose figures it changes.
    #[inline]
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// Whether others may be inside with it, on the stairs.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.column == STAIRS
    }

    /// Whether every call comes through this one's door.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.column == 0 && self.doors.is_alone()
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release (both): pairs with `open` and `is_empty`.
        match self.doors.doors.get(self.column) {
            Some(door) => door.0.store(0, Ordering::Release),
            None => _ = self.doors.stairs.fetch_sub(1, Ordering::Release),
        }
    }
}

/// The bit that no processor has.
const FOLDING: u64 = 1 << 63;

fn bit(processor: usize) -> u64 {
    1 << (processor & 63).min(62)
}

/// The door of a processor that has moved.
fn own(processor: usize) -> usize {
    1 + processor % (DOORS - 1)
}
