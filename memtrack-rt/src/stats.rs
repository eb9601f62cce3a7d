//! Figures as plain values: for reports, for tests, for a driver's own output.
//!
//! The words are those of heap profilers: `curr` is outstanding now, `max` the most that ever was at once,
//! `total` all that ever was allocated.

use crate::pool::{Function, Pool, Tag};

/// What was allocated in one place: a pool, a site. Sizes are the bytes that the driver asked for, without
/// anything that memtrack or the kernel adds.
///
/// When no call is under way, all is exact but for the two maxima, and these are as long as one call at a time was under
/// way. Where processors allocate at the same time, a maximum may be lower than the truth: by 31 blocks for each of at most
/// 17 processors that do, and by what is freed while figures are added up. It is never higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Blocks outstanding now.
    pub curr_blocks: u64,
    /// Bytes outstanding now.
    pub curr_bytes: u64,
    /// The most blocks that were ever outstanding at once.
    pub max_blocks: u64,
    /// The most bytes that were ever outstanding at once.
    pub max_bytes: u64,
    /// Blocks ever allocated.
    pub total_blocks: u64,
    /// Bytes ever allocated.
    pub total_bytes: u64,
}

impl Figures {
    pub(crate) const ZERO: Self =
        Self { curr_blocks: 0, curr_bytes: 0, max_blocks: 0, max_bytes: 0, total_blocks: 0, total_bytes: 0 };

    /// No machine lives to see one of these wrap; and a figure that wraps comes back right.
    pub(crate) fn allocated(&mut self, bytes: u64) {
        self.curr_blocks = self.curr_blocks.wrapping_add(1);
        self.curr_bytes = self.curr_bytes.wrapping_add(bytes);
        self.max_blocks = self.max_blocks.max(self.curr_blocks);
        self.max_bytes = self.max_bytes.max(self.curr_bytes);
        self.total_blocks = self.total_blocks.wrapping_add(1);
        self.total_bytes = self.total_bytes.wrapping_add(bytes);
    }

    pub(crate) fn freed(&mut self, bytes: u64) {
        self.curr_blocks = self.curr_blocks.wrapping_sub(1);
        self.curr_bytes = self.curr_bytes.wrapping_sub(bytes);
    }
}

/// Everything that a tracker counted, by pool, and what it saw beside the blocks in its ledger.
///
/// All figures of one value were read at one moment: they add up, however many threads allocate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Blocks and bytes of nonpaged pool.
    pub nonpaged: Figures,
    /// Blocks and bytes of paged pool.
    pub paged: Figures,
    /// Frees of blocks that the ledger never saw: from code that is not annotated, or from the system.
    /// Nothing is wrong with them by themselves. A free of an unrecorded block counts here too.
    pub foreign_frees: u64,
    /// Blocks whose address the kernel handed out again while the ledger still held them: freed by code that
    /// is not annotated. They are outstanding no longer.
    pub vanished_blocks: u64,
    /// Blocks that were handed out but not recorded, because the ledger could not grow or the call's arguments
    /// could not be read as numbers. They are in no other figure.
    pub unrecorded_blocks: u64,
    /// Requests that the kernel refused.
    pub failures: u64,
    /// Violations that were reported: overruns, double frees and whatever else `docs/detection.md` names.
    pub violations: u64,
    /// Freed blocks whose memory is in quarantine now. The driver has no part in them: they are in no other figure.
    pub held_blocks: u64,
    /// Bytes of pool that they take, their guards included.
    pub held_bytes: u64,
}

impl Stats {
    pub(crate) const ZERO: Self = Self {
        nonpaged: Figures::ZERO,
        paged: Figures::ZERO,
        foreign_frees: 0,
        vanished_blocks: 0,
        unrecorded_blocks: 0,
        failures: 0,
        violations: 0,
        held_blocks: 0,
        held_bytes: 0,
    };

    /// Blocks outstanding now, in both pools.
    #[must_use]
    pub const fn curr_blocks(&self) -> u64 {
        self.nonpaged.curr_blocks.saturating_add(self.paged.curr_blocks)
    }

    /// Bytes outstanding now, in both pools.
    #[must_use]
    pub const fn curr_bytes(&self) -> u64 {
        self.nonpaged.curr_bytes.saturating_add(self.paged.curr_bytes)
    }

    /// The figures of one pool; all zero for [`Pool::Unknown`], in which nothing is recorded.
    #[must_use]
    pub const fn pool(&self, pool: Pool) -> Figures {
        match pool {
            Pool::NonPaged => self.nonpaged,
            Pool::Paged => self.paged,
            Pool::Unknown => Figures::ZERO,
        }
    }
}

/// One lookaside list that tracked code initialised. The counters are the list's own, as of the last tracked call on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListStats {
    /// The source file of the call that initialised it.
    pub file: &'static str,
    /// The line of that call, from 1.
    pub line: u32,
    /// The column of that call, in characters from 1.
    pub column: u32,
    /// The kernel function that was called.
    pub function: Function,
    /// The tag of its entries.
    pub tag: Tag,
    /// The pool of its entries.
    pub pool: Pool,
    /// The size of an entry in bytes, as the driver asked for it.
    pub bytes: u64,
    /// Whether it was deleted.
    pub is_deleted: bool,
    /// How many freed entries it keeps at most.
    pub depth: u64,
    /// How many it keeps now.
    pub cached: u64,
    /// Allocations that a kept entry served.
    pub hits: u64,
    /// Allocations that needed a new entry.
    pub misses: u64,
    /// Frees to it.
    pub frees: u64,
    /// Frees of entries that it did not keep.
    pub free_misses: u64,
    /// Its entries as blocks: outstanding now, at most, ever.
    pub figures: Figures,
}

/// One site: a line of source that allocates by one function, under one tag, from one pool.
///
/// A line that is run with several tags or pools is several sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteStats {
    /// The source file, as the compiler was given it.
    pub file: &'static str,
    /// The line of the call, from 1.
    pub line: u32,
    /// The column of the call, in characters from 1.
    pub column: u32,
    /// The kernel function that was called.
    pub function: Function,
    /// The tag of its blocks; [`Tag::NONE`] for functions that take none.
    pub tag: Tag,
    /// The pool of its blocks.
    pub pool: Pool,
    /// Its blocks and bytes.
    pub figures: Figures,
    /// Requests from here that the kernel refused.
    pub failures: u64,
    /// Blocks from here whose address came again, see [`Stats::vanished_blocks`].
    pub vanished_blocks: u64,
    /// Blocks from here that were not recorded, see [`Stats::unrecorded_blocks`].
    pub unrecorded_blocks: u64,
}
