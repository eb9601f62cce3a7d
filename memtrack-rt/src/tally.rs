//! Tallies: what was allocated in one place, a site or a pool, counted without a lock.
//!
//! A tally has a column for each door, which who is behind that door changes by plain stores, and one for the stairs. What
//! was allocated and what was freed only ever grow, in each of them: so a reader that adds up the frees first, and what was
//! allocated then, never sees less than nothing.
//!
//! # The most at one time
//!
//! As long as all calls come through the first door, one after the other, its column has seen every step, and the most
//! that there was at one time is exact: `peak` is what the first column's own balance came to, and `rest` that of the
//! others, which stands still. Once a call finds the first door closed, the columns are added up at every
//! [`STRIDE`]th allocation in each, and whenever somebody reads. When there was the most, no column had seen more than
//! `STRIDE - 1` allocations since columns were added up last; so the figure is lower than the truth by so many blocks for each
//! column at most, and by what was freed while they were added up. It is never higher.

use crate::doors::{COLUMNS, DOORS, Doors, Inside, STAIRS};
use crate::stats::Figures;
use crate::sync::{AtomicU64, Ordering};

/// Every so many allocations in a column, columns are added up.
const STRIDE: u64 = 32;

/// Blocks and bytes, of which only sums have a meaning: they may wrap.
#[derive(Default)]
struct Amount {
    blocks: AtomicU64,
    bytes: AtomicU64,
}

impl Amount {
    const ZERO: Self = Self { blocks: AtomicU64::new(0), bytes: AtomicU64::new(0) };

    /// Adds a block, in a column of one's own or one that is `shared`. Returns the sums.
    #[inline]
    fn add(&self, bytes: u64, shared: bool) -> Sum {
        if shared {
            // Release (both) pairs with the Acquire in `sum`.
            let blocks = self.blocks.fetch_add(1, Ordering::Release);
            let before = self.bytes.fetch_add(bytes, Ordering::Release);
            return Sum { blocks, bytes: before }.plus(Sum { blocks: 1, bytes });
        }
        // Relaxed: nobody else writes here; the door orders it.
        let sum = self.own().plus(Sum { blocks: 1, bytes });
        // Release (both) pairs with the Acquire in `sum`: who sees the free of a block sees its allocation.
        self.blocks.store(sum.blocks, Ordering::Release);
        self.bytes.store(sum.bytes, Ordering::Release);
        sum
    }

    #[inline]
    fn own(&self) -> Sum {
        // Relaxed (both): nobody else writes here.
        Sum { blocks: self.blocks.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    fn sum(&self) -> Sum {
        // Acquire (both) pairs with the Release in `add`.
        Sum { blocks: self.blocks.load(Ordering::Acquire), bytes: self.bytes.load(Ordering::Acquire) }
    }

    fn set(&self, sum: Sum) {
        // Relaxed (both): the caller has them to itself.
        self.blocks.store(sum.blocks, Ordering::Relaxed);
        self.bytes.store(sum.bytes, Ordering::Relaxed);
    }

    /// At least this balance, by who alone writes here but for [`Tally::fold`]: what is no less is not written, or it would be
    /// what it was before a `fold` that comes between.
    #[inline]
    fn reach(&self, balance: Sum) {
        let own = self.own();
        // Release (both) pairs with the Acquire in `sum`: who sees the most sees the blocks that it is of.
        if (balance.blocks as i64) > own.blocks as i64 {
            self.blocks.store(balance.blocks, Ordering::Release);
        }
        if (balance.bytes as i64) > own.bytes as i64 {
            self.bytes.store(balance.bytes, Ordering::Release);
        }
    }

    /// At least this.
    fn raise(&self, sum: Sum) {
        // Release (both): as in `reach`.
        self.blocks.fetch_max(sum.blocks, Ordering::Release);
        self.bytes.fetch_max(sum.bytes, Ordering::Release);
    }
}

/// The same as plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

impl Sum {
    pub(crate) const ZERO: Self = Self { blocks: 0, bytes: 0 };

    #[inline]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { blocks: self.blocks.wrapping_add(other.blocks), bytes: self.bytes.wrapping_add(other.bytes) }
    }

    #[inline]
    pub(crate) fn minus(self, other: Self) -> Self {
        Self { blocks: self.blocks.wrapping_sub(other.blocks), bytes: self.bytes.wrapping_sub(other.bytes) }
    }

    fn max(self, other: Self) -> Self {
        Self { blocks: self.blocks.max(other.blocks), bytes: self.bytes.max(other.bytes) }
    }

    /// The larger of each, as balances.
    fn highest(self, other: Self) -> Self {
        Self {
            blocks: (self.blocks as i64).max(other.blocks as i64) as u64,
            bytes: (self.bytes as i64).max(other.bytes as i64) as u64,
        }
    }
}

/// What was counted behind one door.
pub(crate) struct Column {
    allocated: Amount,
    freed: Amount,
}

impl Column {
    pub(crate) const ZERO: Self = Self { allocated: Amount::ZERO, freed: Amount::ZERO };

    /// Counts a block, in a column of one's own.
    pub(crate) fn allocated(&self, bytes: u64) {
        self.allocated.add(bytes, false);
    }

    /// Counts a block that is gone, in a column of one's own.
    pub(crate) fn freed(&self, bytes: u64) {
        self.freed.add(bytes, false);
    }

    /// What was allocated ever, and what of it is outstanding.
    pub(crate) fn sums(&self) -> (Sum, Sum) {
        let freed = self.freed.sum();
        let allocated = self.allocated.sum();
        (allocated, allocated.minus(freed))
    }

    pub(crate) fn clear(&self) {
        self.allocated.set(Sum::ZERO);
        self.freed.set(Sum::ZERO);
    }
}

/// A column of a door's own, which has its cache lines to itself: processors fetch them in pairs.
#[repr(align(128))]
pub(crate) struct Apart(pub(crate) Column);

/// Columns of all doors but the first.
pub(crate) type Others = [Apart; DOORS - 1];

pub(crate) struct Tally {
    /// The first door's.
    first: Column,
    /// The highest balance of the first column's.
    peak: Amount,
    /// The balance of all other columns when they were added up last.
    rest: Amount,
    /// The most that there was at one time, as far as columns were added up.
    most: Amount,
    stairs: Column,
}

impl Tally {
    pub(crate) const ZERO: Self = Self {
        first: Column::ZERO,
        peak: Amount::ZERO,
        rest: Amount::ZERO,
        most: Amount::ZERO,
        stairs: Column::ZERO,
    };

    /// The column of a call, and whether others may write to it: the stairs', where there are no others yet.
    #[inline]
    fn column<'t>(&'t self, others: Option<&'t Others>, inside: &Inside<'_>) -> (&'t Column, bool) {
        match inside.column() {
            0 => (&self.first, false),
            STAIRS => (&self.stairs, true),
            column => match others.and_then(|others| others.get(column - 1)) {
                Some(column) => (&column.0, false),
                None => (&self.stairs, true),
            },
        }
    }

    /// Counts a block.
    pub(crate) fn allocated(&self, bytes: u64, others: Option<&Others>, inside: &Inside<'_>) {
        let allocated = self.add(bytes, others, inside);
        self.reached(allocated, others, inside.is_alone());
    }

    /// Counts a block, and returns what was allocated in this column ever: for [`reached`](Self::reached), which is to follow.
    #[inline(always)]
    pub(crate) fn add(&self, bytes: u64, others: Option<&Others>, inside: &Inside<'_>) -> Sum {
        let (column, shared) = self.column(others, inside);
        column.allocated.add(bytes, shared)
    }

    /// Notes the most that there was. Whether the call is alone is to be asked after [`add`](Self::add): a block that another
    /// call has freed by then is not one of the most.
    #[inline(always)]
    pub(crate) fn reached(&self, allocated: Sum, others: Option<&Others>, is_alone: bool) {
        if is_alone {
            self.peak.reach(allocated.minus(self.first.freed.own()));
        } else if allocated.blocks % STRIDE == 0 {
            self.add_up(others);
        }
    }

    /// Counts a block that is gone.
    #[inline]
    pub(crate) fn freed(&self, bytes: u64, others: Option<&Others>, inside: &Inside<'_>) {
        let (column, shared) = self.column(others, inside);
        column.freed.add(bytes, shared);
    }

    fn but_first<'t>(&'t self, others: Option<&'t Others>) -> impl Iterator<Item = &'t Column> + Clone {
        others.into_iter().flatten().map(|column| &column.0).chain([&self.stairs])
    }

    fn sums(&self, others: Option<&Others>) -> (Sum, Sum) {
        sums(self.but_first(others).chain([&self.first]))
    }

    /// Notes what there is now: the frees are read last, so that it is no more than there was when they were.
    #[cold]
    #[inline(never)]
    fn add_up(&self, others: Option<&Others>) {
        let columns = || self.but_first(others).chain([&self.first]);
        let allocated = columns().fold(Sum::ZERO, |sum, column| sum.plus(column.allocated.sum()));
        let freed = columns().fold(Sum::ZERO, |sum, column| sum.plus(column.freed.sum()));
        self.most.raise(positive(allocated.minus(freed)));
    }

    /// The most that there was at one time, as far as it is known. Only under the lock.
    fn most(&self) -> Sum {
        self.most.sum().max(positive(self.peak.sum().plus(self.rest.sum())))
    }

    /// What there is, and was. Blocks that come and go meanwhile are in it or not.
    pub(crate) fn figures(&self, others: Option<&Others>) -> Figures {
        // The most before the total, so that it is never more.
        let most = self.most();
        let (total, outstanding) = self.sums(others);
        let most = most.max(outstanding);
        Figures {
            curr_blocks: outstanding.blocks,
            curr_bytes: outstanding.bytes,
            max_blocks: most.blocks,
            max_bytes: most.bytes,
            total_blocks: total.blocks,
            total_bytes: total.bytes,
        }
    }

    /// Notes the most that there was at one time, so that the first column knows it when [`Doors::settle`] comes. Only under
    /// the lock, after [`Doors::gather`].
    pub(crate) fn fold(&self, others: Option<&Others>, doors: &Doors) {
        self.add_up(others);
        let most = self.most();
        self.most.raise(most);
        let (_, rest) = sums(self.but_first(others));
        // Otherwise somebody may count there, and nobody is alone until all was folded again.
        if doors.is_calm() {
            self.rest.set(rest);
            self.peak.set(most.minus(rest));
        }
    }

    /// Begins anew. Only when nobody is inside.
    pub(crate) fn clear(&self) {
        self.first.clear();
        self.stairs.clear();
        [&self.peak, &self.rest, &self.most].into_iter().for_each(|amount| amount.set(Sum::ZERO));
    }
}

/// What was allocated ever in these columns, and what of it is outstanding.
fn sums<'t>(columns: impl Iterator<Item = &'t Column> + Clone) -> (Sum, Sum) {
    let freed = columns.clone().fold(Sum::ZERO, |sum, column| sum.plus(column.freed.sum()));
    let allocated = columns.fold(Sum::ZERO, |sum, column| sum.plus(column.allocated.sum()));
    (allocated, allocated.minus(freed))
}

/// A balance, or zero where a call that is under way has left one below.
fn positive(sum: Sum) -> Sum {
    sum.highest(Sum::ZERO)
}

const _: () = assert!(COLUMNS == STAIRS + 1);
