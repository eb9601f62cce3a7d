//! Sites: where blocks come from. Each is made once, at its first call, and stays until the books are closed.

use core::cell::UnsafeCell;
use core::panic::Location;
use core::ptr::{self, NonNull};

use crate::doors::{Doors, Inside};
use crate::lists::ListId;
use crate::pool::{Function, Pool, Tag};
use crate::slab::{Chunks, Slab};
use crate::stats::{Figures, SiteStats};
use crate::sync::{AtomicPtr, Ordering};
use crate::tally::{Column, Others, Sum, Tally};

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
pub(crate) struct Site {
    /// Where it was first seen. The compiler may keep one location in several places.
    location: &'static Location<'static>,
    list: Option<ListId>,
    in_bucket: Option<SiteRef>,
    in_order: Option<SiteRef>,
    /// The columns of all doors but the first, once anybody has come through one; null before.
    others: AtomicPtr<Others>,
    /// What was counted when somebody read it last, and what is only counted under the lock.
    stats: UnsafeCell<SiteStats>,
    /// Entries of a list whose memory is a block that is counted itself.
    elsewhere: Column,
    /// Which every call writes to: apart from what every call reads.
    _apart: [u64; 16],
    tally: Tally,
}

impl Site {
    fn is(&self, key: &Key) -> bool {
        // SAFETY: what names the site does not change.
        let SiteStats { file, line, column, function, tag, pool, .. } = unsafe { &*self.stats.get() };
        let location = key.location;
        *function == key.function
            && *tag == key.tag
            && *pool == key.pool
            && self.list == key.list
            && (ptr::eq(self.location, location)
                || *line == location.line() && *column == location.column() && *file == location.file())
    }

    fn others(&self) -> Option<&Others> {
        // Acquire pairs with the Release in `adopt_others`.
        // SAFETY: such memory stays as long as the site.
        unsafe { self.others.load(Ordering::Acquire).as_ref() }
    }

    /// Whether this call has no column to count in.
    #[inline]
    pub(crate) fn lacks_column(&self, inside: &Inside<'_>) -> bool {
        inside.column() > 0 && self.others().is_none()
    }

    pub(crate) fn allocated(&self, bytes: usize, inside: &Inside<'_>) {
        self.tally.allocated(bytes as u64, self.others(), inside);
    }

    /// Counts a block, as [`Tally::add`] does; [`reached`](Self::reached) is to follow.
    #[inline(always)]
    pub(crate) fn add(&self, bytes: usize, inside: &Inside<'_>) -> Sum {
        self.tally.add(bytes as u64, self.others(), inside)
    }

    /// Notes the most that there was, as [`Tally::reached`] does.
    #[inline(always)]
    pub(crate) fn reached(&self, allocated: Sum, is_alone: bool) {
        self.tally.reached(allocated, self.others(), is_alone);
    }

    #[inline]
    pub(crate) fn freed(&self, bytes: usize, inside: &Inside<'_>) {
        self.tally.freed(bytes as u64, self.others(), inside);
    }

    /// Entries that are counted as blocks, too. Only under the lock.
    pub(crate) fn elsewhere(&self) -> &Column {
        &self.elsewhere
    }
}

/// A site of the table that made it. It may be followed until that table is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteRef(NonNull<Site>);

impl SiteRef {
    #[inline]
    pub(crate) fn site(&self) -> &Site {
        // SAFETY: a `SiteRef` is only made by `Sites::intern`, and sites stay until `detach`, when nobody is inside any more.
        unsafe { self.0.as_ref() }
    }
}

const BUCKETS: usize = 64;

/// All sites. Only under the lock; what a call needs of one, its [`kind`](crate::kind) leads to.
pub(crate) struct Sites {
    sites: Slab<Site>,
    buckets: [Option<SiteRef>; BUCKETS],
    first: Option<SiteRef>,
    last: Option<SiteRef>,
    count: usize,
    columns: Chunks,
}

impl Sites {
    pub(crate) const EMPTY: Self = Self {
        sites: Slab::EMPTY,
        buckets: [None; BUCKETS],
        first: None,
        last: None,
        count: 0,
        columns: Chunks::EMPTY,
    };

    /// The site of `key`, made at its first call. `Err` says how many bytes of memory to bring first.
    pub(crate) fn intern(&mut self, key: &Key) -> Result<SiteRef, usize> {
        let bucket = key.bucket();
        let mut next = self.buckets[bucket];
        while let Some(site) = next {
            if site.site().is(key) {
                return Ok(site);
            }
            next = site.site().in_bucket;
        }
        let site = Site {
            location: key.location,
            list: key.list,
            in_bucket: self.buckets[bucket],
            in_order: None,
            others: AtomicPtr::new(ptr::null_mut()),
            stats: UnsafeCell::new(key.untouched()),
            elsewhere: Column::ZERO,
            _apart: [0; 16],
            tally: Tally::ZERO,
        };
        let site = SiteRef(self.sites.insert(site).ok_or_else(|| self.sites.wants())?);
        self.buckets[bucket] = Some(site);
        match self.last.replace(site) {
            // SAFETY: only the sites' order is written, which is only read under the lock, which is held.
            Some(last) => unsafe { (*last.0.as_ptr()).in_order = Some(site) },
            None => self.first = Some(site),
        }
        self.count += 1;
        Ok(site)
    }

    /// What is only counted under the lock.
    pub(crate) fn at(&mut self, site: SiteRef) -> &mut SiteStats {
        // SAFETY: figures of a site are read and written under the lock alone, and `&mut self` is the only way to them.
        unsafe { &mut *site.0.as_ref().stats.get() }
    }

    /// Reads what was counted at a site.
    pub(crate) fn read(&mut self, site: SiteRef) -> SiteStats {
        let known = site.site();
        let figures = known.tally.figures(known.others());
        let stats = self.at(site);
        stats.figures = figures;
        *stats
    }

    /// Folds the figures of every site, as [`Tally::fold`] says.
    pub(crate) fn fold(&self, doors: &Doors) {
        let mut next = self.first;
        while let Some(site) = next {
            let site = site.site();
            site.tally.fold(site.others(), doors);
            next = site.in_order;
        }
    }

    /// Reads what was counted at every site, for [`iter`](Self::iter).
    pub(crate) fn read_all(&mut self) {
        let mut next = self.first;
        while let Some(site) = next {
            self.read(site);
            next = site.site().in_order;
        }
    }

    /// The site at that place, in the order of their first call.
    pub(crate) fn nth(&mut self, place: usize) -> Option<SiteStats> {
        let mut next = self.first?;
        for _ in 0..place {
            next = next.site().in_order?;
        }
        Some(self.read(next))
    }

    /// What all sites of a pool together had ever, and have outstanding, as they were read last. Entries that are blocks, too,
    /// are counted once.
    pub(crate) fn sums(&self, pool: Pool) -> (Sum, Sum) {
        let (mut total, mut outstanding) = (Sum::ZERO, Sum::ZERO);
        let mut next = self.first;
        while let Some(site) = next {
            let site = site.site();
            // SAFETY: figures of a site are written under the lock alone, which is held, and not here.
            let SiteStats { pool: own, figures, .. } = unsafe { &*site.stats.get() };
            if *own == pool {
                let (ever, now) = site.elsewhere.sums();
                let Figures { curr_blocks, curr_bytes, total_blocks, total_bytes, .. } = *figures;
                total = total.plus(Sum { blocks: total_blocks, bytes: total_bytes }).minus(ever);
                outstanding = outstanding.plus(Sum { blocks: curr_blocks, bytes: curr_bytes }).minus(now);
            }
            next = site.in_order;
        }
        (total, outstanding)
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

    /// How much memory the columns of a site take.
    pub(crate) const COLUMNS: usize = Chunks::room_for::<Others>();

    /// Takes memory for the columns of a site in, unless it has some.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes, zeroed, and [`COLUMNS`](Self::COLUMNS) long.
    pub(crate) unsafe fn adopt_columns(&mut self, site: SiteRef, memory: NonNull<u8>) -> Option<NonNull<u8>> {
        if site.site().others().is_some() {
            return Some(memory);
        }
        // SAFETY: handed on; zeros are columns in which nothing was counted.
        let others = unsafe { self.columns.adopt_aligned::<Others>(memory) };
        // Release pairs with the Acquire in `others`.
        site.site().others.store(others.as_ptr(), Ordering::Release);
        None
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All sites in the order of their first call, as they were read last.
    pub(crate) fn iter(&self) -> InOrder<'_> {
        InOrder { next: self.first, _sites: core::marker::PhantomData }
    }

    /// The sites of a list's entries, as they were read last.
    pub(crate) fn of_list(&self, list: ListId) -> impl Iterator<Item = &SiteStats> {
        let mut next = self.first;
        core::iter::from_fn(move || {
            loop {
                // SAFETY: as for `InOrder`: the sites are borrowed for as long as this iterator lives.
                let site = unsafe { next?.0.as_ref() };
                next = site.in_order;
                if site.list == Some(list) {
                    // SAFETY: as above.
                    return Some(unsafe { &*site.stats.get() });
                }
            }
        })
    }

    /// Forgets every site and hands over what they were: still to be read, and then to be given back.
    pub(crate) fn detach(&mut self) -> Detached {
        self.buckets.fill(None);
        self.last = None;
        self.count = 0;
        Detached { first: self.first.take(), memory: [self.sites.detach(), self.columns.detach()] }
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
        // SAFETY: the sites are borrowed for as long as this iterator lives, so none is gone, and what is only read and
        // written under the lock is not written.
        let site = unsafe { site.0.as_ref() };
        self.next = site.in_order;
        // SAFETY: as above.
        Some(unsafe { &*site.stats.get() })
    }
}

/// Sites that no table holds any more.
pub(crate) struct Detached {
    first: Option<SiteRef>,
    memory: [Chunks; 2],
}

impl Detached {
    pub(crate) fn iter(&self) -> InOrder<'_> {
        InOrder { next: self.first, _sites: core::marker::PhantomData }
    }

    /// The memory that the sites lived in.
    pub(crate) fn into_memory(self) -> [Chunks; 2] {
        self.memory
    }
}
