//! Sites as they stood at one moment, so that the figures of a report add up while others allocate.

use core::mem::size_of;
use core::ptr::NonNull;
use core::slice;

use crate::platform::Platform;
use crate::stats::{SiteStats, Stats};

/// A copy of all sites, in memory of the platform's.
pub(crate) struct Snapshot<'p, P: Platform> {
    platform: &'p P,
    memory: NonNull<SiteStats>,
    room: usize,
    filled: usize,
    pub(crate) stats: Stats,
}

impl<'p, P: Platform> Snapshot<'p, P> {
    /// Room for so many sites; `None` where the machine has no memory for it.
    pub(crate) fn with_room(platform: &'p P, sites: usize) -> Option<Self> {
        let room = sites.max(1);
        let memory = platform.allocate(room.checked_mul(size_of::<SiteStats>())?)?.cast();
        Some(Self { platform, memory, room, filled: 0, stats: Stats::default() })
    }

    /// Copies the sites that there are now; false, and nothing copied, if they are too many for the room.
    pub(crate) fn fill<'s>(
        &mut self,
        stats: Stats,
        count: usize,
        sites: impl Iterator<Item = &'s SiteStats>,
    ) -> bool {
        if count > self.room {
            return false;
        }
        self.stats = stats;
        self.filled = 0;
        for site in sites.take(self.room) {
            // SAFETY: `filled` is below `room`, which the memory is long enough for.
            unsafe { self.memory.add(self.filled).write(*site) };
            self.filled += 1;
        }
        true
    }

    pub(crate) fn sites(&self) -> impl Iterator<Item = &SiteStats> + Clone {
        // SAFETY: `filled` sites were written from `memory` on, and `&self` keeps them as they are.
        unsafe { slice::from_raw_parts(self.memory.as_ptr(), self.filled) }.iter()
    }
}

impl<P: Platform> Drop for Snapshot<'_, P> {
    fn drop(&mut self) {
        // SAFETY: the memory came from this platform, and no borrow of the sites outlives the snapshot.
        unsafe { self.platform.free(self.memory.cast()) };
    }
}

/// The sites in another order: the most bytes outstanding first, then the most blocks, then the earliest.
///
/// It looks through all of them for each next one: no memory, no recursion, and a driver has few sites.
pub(crate) fn largest_first<'s, I>(sites: I) -> impl Iterator<Item = &'s SiteStats>
where
    I: Iterator<Item = &'s SiteStats> + Clone,
{
    let mut last = None;
    core::iter::from_fn(move || {
        let ranked = sites.clone().enumerate().map(|(place, site)| (rank(site, place), site));
        let (rank, site) =
            ranked.filter(|(rank, _)| last.is_none_or(|last| *rank < last)).max_by_key(|(rank, _)| *rank)?;
        last = Some(rank);
        Some(site)
    })
}

/// No two sites rank alike.
fn rank(site: &SiteStats, place: usize) -> (u64, u64, core::cmp::Reverse<usize>) {
    (site.figures.curr_bytes, site.figures.curr_blocks, core::cmp::Reverse(place))
}
