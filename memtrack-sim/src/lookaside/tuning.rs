//! Which lookaside lists there are, and how deep each should be.
//!
//! The kernel links its lists through their own memory, each to the next, and walks them once in a while. A list whose
//! memory is gone, which a driver forgot to delete, then takes its neighbours down. On the desk that would be the test
//! process, so each list's link forms a ring with a link of the kernel's own, its post, and with no other list. The
//! lists are known by their posts: a list's memory is touched when it is passed to a function, and when it is tuned.
//!
//! One mutex guards it all. Nothing panics while it is held.

use core::sync::atomic::Ordering;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{List, MINIMUM_DEPTH, figure};
use crate::{
    pool::Tenancy,
    types::{LIST_ENTRY, PLIST_ENTRY, ULONG, USHORT},
};

/// A list with fewer allocations in a period was hardly used.
const FEW: ULONG = 25;
/// How much of its depth such a list loses.
const IDLE_STEP: USHORT = 10;
/// Where of a thousand allocations fewer miss, the list is deep enough.
const FEW_MISSES: u64 = 5;
/// What each growth is at least, and at most.
const LEAST_GROWTH: u64 = 5;
const MOST_GROWTH: u64 = 30;

/// The lists of one machine that are tuned, by their addresses.
pub(crate) struct Tuned(BTreeMap<usize, Registered>);

struct Registered {
    list: List,
    post: Post,
    /// The block of pool that the list lies in, if it does.
    home: Option<Tenancy>,
}

// SAFETY: what is behind the pointers is touched only under the lock, or by whoever the list is passed to.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

/// The kernel's link in a list's ring.
struct Post(PLIST_ENTRY);

impl Post {
    fn beside(link: PLIST_ENTRY) -> Self {
        Self(Box::into_raw(Box::new(LIST_ENTRY { Flink: link, Blink: link })))
    }

    /// Whether the post's links are those of a ring with `link`.
    fn is_beside(&self, link: PLIST_ENTRY) -> bool {
        // SAFETY: the post is there as long as this is.
        let LIST_ENTRY { Flink, Blink } = unsafe { *self.0 };
        (Flink, Blink) == (link, link)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        // SAFETY: `beside` made a box of it, and only this drop takes it back.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// The lists of the machine that is running: the default one, or the one that was booted.
static RUNNING: Mutex<Tuned> = Mutex::new(Tuned::new());

fn running() -> MutexGuard<'static, Tuned> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts `lists` in the place of those of the running machine, and returns these.
pub(crate) fn replace(lists: Tuned) -> Tuned {
    core::mem::replace(&mut *running(), lists)
}

/// Links a list, from now on tuned. One that stood at this address before has vanished.
///
/// # Safety
///
/// The list's memory stays where it is as long as the list is registered. Where it lies in a block of pool, it may go
/// with the block.
pub(super) unsafe fn register(list: List) {
    let link = list.link();
    let post = Post::beside(link);
    // SAFETY: the caller's promise.
    unsafe { link.write(LIST_ENTRY { Flink: post.0, Blink: post.0 }) };
    let home = Tenancy::of(list.fields.cast());
    running().0.insert(list.address(), Registered { list, post, home });
}

/// Takes a list out of its ring, and returns whether it was in one. Its links then lead nowhere, so that a second time
/// they do not fit. One that is linked to itself stays as it is: it is in no ring of the kernel's.
///
/// # Safety
///
/// The list's memory is there.
pub(super) unsafe fn unlink(list: List) -> bool {
    let link = list.link();
    // SAFETY: the caller's promise. The links are compared and not followed.
    let LIST_ENTRY { Flink, Blink } = unsafe { *link };
    let mut lists = running();
    if (Flink, Blink) == (link, link) {
        lists.0.remove(&list.address());
        return true;
    }
    let linked = lists.0.get(&list.address()).is_some_and(|registered| {
        let post = &registered.post;
        (Flink, Blink) == (post.0, post.0) && post.is_beside(link)
    });
    if linked {
        lists.0.remove(&list.address());
        // SAFETY: as above.
        unsafe { link.write(LIST_ENTRY::default()) };
    }
    linked
}

/// Lets a period end: each list gets the depth that the period's misses ask for.
pub(crate) fn pass_period() {
    let mut lists = running();
    lists.0.retain(|_, registered| registered.is_there());
    for registered in lists.0.values() {
        // SAFETY: whoever initialized the list promised that it is there until it is deleted, and the lock is held.
        unsafe { tune(registered.list) };
    }
}

impl Tuned {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }
}

impl Registered {
    /// Whether the list is still linked, and its block not freed. The list itself is not looked at.
    fn is_there(&self) -> bool {
        self.post.is_beside(self.list.link()) && self.home.is_none_or(Tenancy::lasts)
    }
}

/// # Safety
///
/// The list's memory is there, and the lock is held.
unsafe fn tune(list: List) {
    // SAFETY: the caller's promise. The fields of the last period are written here only.
    unsafe {
        let fields = list.fields;
        // Acquire pairs with the Release in `count`: who counts a miss has counted the allocation before.
        let misses = figure(&raw mut (*fields).__bindgen_anon_2.AllocateMisses).load(Ordering::Acquire);
        let total = figure(&raw mut (*fields).TotalAllocates).load(Ordering::Acquire);
        let missed = misses.wrapping_sub((*fields).__bindgen_anon_6.LastAllocateMisses);
        let allocated = total.wrapping_sub((*fields).LastTotalAllocates);
        (*fields).__bindgen_anon_6.LastAllocateMisses = misses;
        (*fields).LastTotalAllocates = total;
        // Relaxed: only this function writes the depth, and under the lock.
        let depth = list.depth();
        let before = depth.load(Ordering::Relaxed);
        depth.store(next_depth(before, (*fields).MaximumDepth, allocated, missed), Ordering::Relaxed);
    }
}

/// The depth that follows on a period of so many allocations, of which so many found no free entry.
fn next_depth(depth: USHORT, maximum: USHORT, allocated: ULONG, missed: ULONG) -> USHORT {
    if allocated < FEW {
        return depth.saturating_sub(IDLE_STEP).max(MINIMUM_DEPTH);
    }
    let per_mille = u64::from(missed) * 1000 / u64::from(allocated);
    if per_mille < FEW_MISSES {
        return depth.saturating_sub(1).max(MINIMUM_DEPTH);
    }
    let room = u64::from(maximum.saturating_sub(depth));
    let growth = (per_mille * room / 2000 + LEAST_GROWTH).min(MOST_GROWTH);
    maximum.min(depth.saturating_add(growth as USHORT))
}
