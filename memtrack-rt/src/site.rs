//! Sites: where blocks come from. Each is interned once and stays until the books are closed.

use core::panic::Location;
use core::ptr::{self, NonNull};

use crate::lists::ListId;
use crate::pool::{Function, Pool, Tag};
use crate::slab::{Chunks, Slab};
use crate::stats::{Figures, SiteStats};

/// What makes one site another than the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) location: &'static Location<'static>,
    pub(crate) function: Function,
    pub(crate) tag: Tag,
    pub(crate) pool: Pool,
    /// The list that its blocks are entries of.
    pub(crate) list: Option<ListId>,
}

impl Key {
    fn bucket(&self) -> usize {
        const GOLDEN: u32 = 0x9E37_79B9;
        let mixed = self.location.line() ^ self.location.column().rotate_left(16) ^ self.tag.0;
        (mixed.wrapping_mul(GOLDEN) >> (u32::BITS - BUCKETS.ilog2())) as usize
    }

    /// The site before anything was counted there.
    pub(crate) fn untouched(&self) -> SiteStats {
        let Self { location, function, tag, pool, .. } = *self;
        SiteStats {
            file: location.file(),
            line: location.line(),
            column: location.column(),
            function,
            tag,
            pool,
            figures: Figures::ZERO,
            failures: 0,
            vanished_blocks: 0,
            unrecorded_blocks: 0,
        }
    }
}

/// A site and what was counted there.
#[derive(Clone, Copy)]
struct Site {
    /// Where it was first seen. The compiler may keep one location in several places.
    location: &'static Location<'static>,
    list: Option<ListId>,
    stats: SiteStats,
    in_bucket: Option<SiteRef>,
    in_order: Option<SiteRef>,
}

impl Site {
    fn is(&self, key: &Key) -> bool {
        let SiteStats { file, line, column, function, tag, pool, .. } = self.stats;
        let location = key.location;
        function == key.function
            && tag == key.tag
            && pool == key.pool
            && self.list == key.list
            && (ptr::eq(self.location, location)
                || line == location.line() && column == location.column() && file == location.file())
    }
}

/// A site of the table that made it. It may be followed until that table is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteRef(NonNull<Site>);

const BUCKETS: usize = 64;

pub(crate) struct Sites {
    sites: Slab<Site>,
    buckets: [Option<SiteRef>; BUCKETS],
    first: Option<SiteRef>,
    last: Option<SiteRef>,
    count: usize,
}

impl Sites {
    pub(crate) const EMPTY: Self =
        Self { sites: Slab::EMPTY, buckets: [None; BUCKETS], first: None, last: None, count: 0 };

    /// The site of `key`, made at its first call. `Err` says how many bytes of memory to bring first.
    pub(crate) fn intern(&mut self, key: &Key) -> Result<SiteRef, usize> {
        let bucket = key.bucket();
        let mut next = self.buckets[bucket];
        while let Some(site) = next {
            let known = self.site(site);
            if known.is(key) {
                return Ok(site);
            }
            next = known.in_bucket;
        }
        let site = Site {
            location: key.location,
            list: key.list,
            stats: key.untouched(),
            in_bucket: self.buckets[bucket],
            in_order: None,
        };
        let site = SiteRef(self.sites.insert(site).ok_or_else(|| self.sites.wants())?);
        self.buckets[bucket] = Some(site);
        match self.last.replace(site) {
            Some(last) => self.site(last).in_order = Some(site),
            None => self.first = Some(site),
        }
        self.count += 1;
        Ok(site)
    }

    /// What makes a site.
    pub(crate) fn key(&mut self, site: SiteRef) -> Key {
        let site = self.site(site);
        let SiteStats { function, tag, pool, .. } = site.stats;
        Key { location: site.location, function, tag, pool, list: site.list }
    }

    /// The list that its blocks are entries of.
    pub(crate) fn list(&mut self, site: SiteRef) -> Option<ListId> {
        self.site(site).list
    }

    /// What was counted at a site.
    pub(crate) fn at(&mut self, site: SiteRef) -> &mut SiteStats {
        &mut self.site(site).stats
    }

    fn site(&mut self, site: SiteRef) -> &mut Site {
        // SAFETY: a `SiteRef` is only made by `intern`, and sites stay until `detach`, which the ledger's blocks
        // do not outlive: `Books` empties both together. `&mut self` makes this the only way to it.
        unsafe { &mut *site.0.as_ptr() }
    }

    /// Takes memory in, unless another processor brought some in the meantime: then it is returned.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes and `bytes` long, as [`intern`](Self::intern) asked.
    pub(crate) unsafe fn adopt(&mut self, memory: NonNull<u8>, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: handed on.
        unsafe { self.sites.adopt(memory, bytes) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All sites in the order of their first call.
    pub(crate) fn iter(&self) -> InOrder<'_> {
        InOrder { next: self.first, _sites: core::marker::PhantomData }
    }

    /// The sites of a list's entries.
    pub(crate) fn of_list(&self, list: ListId) -> impl Iterator<Item = &SiteStats> {
        let mut next = self.first;
        core::iter::from_fn(move || {
            loop {
                // SAFETY: as for `InOrder`: the sites are borrowed for as long as this iterator lives.
                let site = unsafe { next?.0.as_ref() };
                next = site.in_order;
                if site.list == Some(list) {
                    return Some(&site.stats);
                }
            }
        })
    }

    /// Forgets every site and hands over what they were: still to be read, and then to be given back.
    pub(crate) fn detach(&mut self) -> Detached {
        self.buckets.fill(None);
        self.last = None;
        self.count = 0;
        Detached { first: self.first.take(), memory: self.sites.detach() }
    }
}

/// Sites in the order of their first call.
#[derive(Clone)]
pub(crate) struct InOrder<'a> {
    next: Option<SiteRef>,
    _sites: core::marker::PhantomData<&'a Site>,
}

impl<'a> Iterator for InOrder<'a> {
    type Item = &'a SiteStats;

    fn next(&mut self) -> Option<&'a SiteStats> {
        let site = self.next?;
        // SAFETY: the sites are borrowed for as long as this iterator lives, so none is written or gone.
        let site = unsafe { site.0.as_ref() };
        self.next = site.in_order;
        Some(&site.stats)
    }
}

/// Sites that no table holds any more.
pub(crate) struct Detached {
    first: Option<SiteRef>,
    memory: Chunks,
}

impl Detached {
    pub(crate) fn iter(&self) -> InOrder<'_> {
        InOrder { next: self.first, _sites: core::marker::PhantomData }
    }

    /// The memory that the sites lived in.
    pub(crate) fn into_memory(self) -> Chunks {
        self.memory
    }
}
