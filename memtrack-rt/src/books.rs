//! The books of one driver: sites, ledger and pools, which change together or not at all.
//!
//! Everything here happens under the tracker's lock, and nothing here calls the kernel.

use core::ptr::NonNull;

use crate::ledger::{Block, Inserted, Ledger};
use crate::pool::Pool;
use crate::site::{Detached, Key, Sites};
use crate::slab::Chunks;
use crate::stats::{SiteStats, Stats};

/// A table that needs memory, and how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    Sites(usize),
    Entries(usize),
    /// Only a wish: the ledger goes on without, slower.
    Buckets(usize),
}

impl Shortage {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Sites(bytes) | Self::Entries(bytes) | Self::Buckets(bytes) => bytes,
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
}

pub(crate) struct Books {
    sites: Sites,
    ledger: Ledger,
    stats: Stats,
}

impl Books {
    pub(crate) const EMPTY: Self = Self { sites: Sites::EMPTY, ledger: Ledger::EMPTY, stats: Stats::ZERO };

    /// Writes an allocation down. `Err` asks for memory and has changed nothing that counts; `Ok` may come
    /// with a wish for more buckets.
    pub(crate) fn allocated(
        &mut self,
        key: &Key,
        address: usize,
        bytes: usize,
    ) -> Result<Option<Shortage>, Shortage> {
        let site = self.sites.intern(key).map_err(Shortage::Sites)?;
        match self.ledger.insert(address, Block { site, bytes }) {
            Inserted::NeedsMemory(bytes) => return Err(Shortage::Entries(bytes)),
            Inserted::Done { replaced: Some(vanished) } => self.vanishes(vanished),
            Inserted::Done { replaced: None } => {}
        }
        self.sites.at(site).figures.allocated(bytes as u64);
        if let Some(pool) = self.stats.pool_mut(key.pool) {
            pool.allocated(bytes as u64);
        }
        Ok(self.ledger.wants_buckets().map(Shortage::Buckets))
    }

    /// Strikes the block at `address` out. A block that the ledger does not hold is counted as foreign.
    pub(crate) fn freed(&mut self, address: usize) {
        match self.ledger.remove(address) {
            Some(block) => self.leaves(block),
            None => self.stats.foreign_frees += 1,
        }
    }

    fn vanishes(&mut self, block: Block) {
        self.leaves(block);
        self.sites.at(block.site).vanished_blocks += 1;
        self.stats.vanished_blocks += 1;
    }

    fn leaves(&mut self, block: Block) {
        let bytes = block.bytes as u64;
        let site = self.sites.at(block.site);
        site.figures.freed(bytes);
        let pool = site.pool;
        if let Some(pool) = self.stats.pool_mut(pool) {
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
        Exhaustion { stats: self.stats, holder: holders.max_by_key(|site| site.figures.curr_bytes).copied() }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Takes memory in for what was short of it. Returns it if another processor was faster.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes, `shortage.bytes()` long, and zeroed.
    pub(crate) unsafe fn adopt(&mut self, shortage: Shortage, memory: NonNull<u8>) -> Option<NonNull<u8>> {
        match shortage {
            // SAFETY: handed on.
            Shortage::Sites(bytes) => unsafe { self.sites.adopt(memory, bytes) },
            // SAFETY: handed on.
            Shortage::Entries(bytes) => unsafe { self.ledger.adopt_entries(memory, bytes) },
            // SAFETY: handed on.
            Shortage::Buckets(bytes) => unsafe { self.ledger.adopt_buckets(memory, bytes) },
        }
    }

    /// Closes the books: what was in them is the caller's, and they are as new.
    pub(crate) fn close(&mut self) -> Closed {
        let stats = core::mem::replace(&mut self.stats, Stats::ZERO);
        Closed { stats, sites: self.sites.detach(), ledger_memory: self.ledger.detach() }
    }
}
