//! How held blocks go back to their kernel: looked at once more, and freed by the driver's own call.

use core::mem::{self, size_of};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::act::Act;
use crate::arguments::Arguments;
use crate::block::{Live, Ticket};
use crate::books::Books;
use crate::guard::{Damage, Wounds};
use crate::holding::Leaving;
use crate::platform::{Irql, Platform};
use crate::pool::{Pool, Tag};
use crate::quarantine::Freed;
use crate::site::Key;
use crate::taking::{Taking, may_touch};
use crate::tracker::Tracker;
use crate::violation::{Case, Caught, Next, Violation};

/// So many blocks leave for one that is freed, at most: where other processors free blocks all the time, no call gives theirs
/// back for ever. What is left goes with the next free.
const AT_ONCE: usize = 16;

impl<P: Platform> Tracker<P> {
    /// Gives back what the quarantines hold beyond their bounds now, as far as this IRQL allows; and what is freed meanwhile, but
    /// not for ever.
    pub(crate) fn keep_bounds(&self, caught: Caught) {
        self.keep_each(|pool| self.with(|books| books.quarantine(pool).length()) * 4, caught);
    }

    /// The same for a free, which has other things to do.
    pub(crate) fn keep_bounds_soon(&self, caught: Caught) {
        self.keep_each(|_| AT_ONCE, caught);
    }

    /// One thread does so at a time in each pool, for all. A kernel function of the driver's own may free other blocks
    /// when it is called to give one back: those wait for the thread that is at it, and do not do so in each other's
    /// frames.
    fn keep_each(&self, most: impl Fn(Pool) -> usize, caught: Caught) {
        let irql = self.platform().irql();
        for pool in [Pool::NonPaged, Pool::Paged].into_iter().filter(|pool| may_touch(*pool, irql)) {
            let mut most = most(pool);
            while let Some(parting) = Parting::begin(self.parting(pool)) {
                most -= self.let_go(|books| books.leaving(pool), most, caught);
                if !parting.end() || most == 0 {
                    break;
                }
            }
        }
    }

    /// Holds a block that was freed and is as it should be, and gives the one back that leaves for it; false if the books were
    /// closed since it was taken.
    pub(crate) fn holds_on(&self, settling: &Settling<'_>, irql: Irql, caught: Caught) -> bool {
        let Settling { taking, ticket, live, poisoned } = *settling;
        let pool = taking.key.pool;
        let parting = if may_touch(pool, irql) { Parting::begin(self.parting(pool)) } else { None };
        let other = if matches!(pool, Pool::Paged) { Pool::NonPaged } else { Pool::Paged };
        let (kept, leaving, overdue) = self.with(|books| {
            let kept = books.settle(taking, ticket, live, poisoned);
            let leaving = if parting.is_some() { books.leaving(pool) } else { None };
            (kept, leaving, books.is_beyond(other))
        });
        if let Some(block) = leaving {
            self.let_one_go(&block, caught);
            if block.is_followed {
                self.let_go(|books| books.leaving(pool), AT_ONCE, caught);
            }
        }
        if parting.is_some_and(Parting::end) || overdue {
            self.keep_bounds_soon(caught);
        }
        kept
    }

    /// Gives back what the quarantines hold now, as far as this IRQL allows; true if that was anything.
    pub(crate) fn empty(&self, caught: Caught) -> bool {
        let irql = self.platform().irql();
        let length = |books: &mut Books<'_>, pool| books.quarantine(pool).length();
        let most = self.with(|books| length(books, Pool::NonPaged) + length(books, Pool::Paged));
        self.let_go(|books| books.leaving_all(irql), most, caught) > 0
    }

    /// Gives back so many blocks at most, and returns how many.
    fn let_go(&self, next: impl Fn(&mut Books<'_>) -> Option<Leaving>, most: usize, caught: Caught) -> usize {
        for gone in 0..most {
            let Some(block) = self.with(&next) else { return gone };
            self.let_one_go(&block, caught);
            if !block.is_followed {
                return gone + 1;
            }
        }
        most
    }

    /// Gives a block back that is not in the books any more, after a look at what was written to it.
    pub(crate) fn let_one_go(&self, block: &Leaving, caught: Caught) {
        let find = self.look_back(block);
        if !matches!(find, Find::Nothing) && !self.is_still_held(block, caught) {
            return;
        }
        // It goes, even if the report does not return.
        let _going = Going(block);
        match find {
            Find::Nothing => {}
            Find::Written(damage) => self.written_after_free(&block.key, &block.freed, damage, caught),
            Find::Wounded(wounds) => self.wounded(block, &wounds, caught),
        }
    }

    /// What was done to a block while it was held; or before, where it could not be touched when it was freed.
    fn look_back(&self, leaving: &Leaving) -> Find {
        let Freed { address, live, .. } = leaving.freed;
        let body = live.body(address);
        if live.is_reported() {
            return Find::Nothing;
        }
        if !leaving.poisoned {
            // SAFETY: the block is held: it is there, and nobody's but ours. It leaves where it may be touched.
            let wounds = unsafe { body.wounds() };
            return if wounds.any() { Find::Wounded(wounds) } else { Find::Nothing };
        }
        // SAFETY: as above.
        unsafe { body.inspect_poison() }.map_or(Find::Nothing, Find::Written)
    }

    /// Says that a block's guards were broken before it was freed.
    #[cold]
    #[inline(never)]
    fn wounded(&self, leaving: &Leaving, wounds: &Wounds, caught: Caught) {
        let Freed { address, live, location, function, .. } = leaving.freed;
        for violation in Violation::of(wounds) {
            self.violated(&Case {
                violation,
                address,
                bytes: live.bytes(),
                site: Some(leaving.key),
                list: None,
                freed: Some(Act { location, function }),
                caught,
                next: Next::Goes,
            });
        }
    }

    /// Whether a held block that was written to is still there: code that is not annotated may have freed it again.
    #[cold]
    #[inline(never)]
    fn is_still_held(&self, leaving: &Leaving, caught: Caught) -> bool {
        let Freed { address, live, location, function, .. } = leaving.freed;
        let there = self.is_there(address, live);
        if !there {
            self.violated(&Case {
                violation: Violation::DoubleFree,
                address,
                bytes: live.bytes(),
                site: Some(leaving.key),
                list: None,
                freed: Some(Act { location, function }),
                caught,
                next: Next::Goes,
            });
        }
        there
    }

    /// Says that a freed block was written to.
    #[cold]
    #[inline(never)]
    pub(crate) fn written_after_free(&self, key: &Key, freed: &Freed, damage: Damage, caught: Caught) {
        self.violated(&Case {
            violation: Violation::WriteAfterFree(damage),
            address: freed.address,
            bytes: freed.live.bytes(),
            site: Some(*key),
            list: None,
            freed: Some(Act { location: freed.location, function: freed.function }),
            caught,
            next: Next::Goes,
        });
    }
}

/// What a look at a block that leaves shows.
enum Find {
    Nothing,
    /// It was written to after its free.
    Written(Damage),
    /// Its guards are broken.
    Wounded(Wounds),
}

/// A block that was freed and is to be held.
#[derive(Clone, Copy)]
pub(crate) struct Settling<'t> {
    pub(crate) taking: &'t Taking,
    pub(crate) ticket: Ticket,
    pub(crate) live: Live,
    pub(crate) poisoned: bool,
}

/// The one thread that keeps the bounds of a pool. What is noted of it: nobody is at it, somebody is, or somebody is and
/// another one has come by.
struct Parting<'t>(&'t AtomicU8);

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const BUSY_AND_ASKED: u8 = 2;

impl<'t> Parting<'t> {
    /// `None` while another one is at it, who then goes on for this one, too.
    fn begin(state: &'t AtomicU8) -> Option<Self> {
        // Relaxed (all in this impl): what the state orders is under the tracker's lock. Each change is one step from
        // what was there, so that a request is never lost: either this sees `IDLE`, or `end` sees `BUSY_AND_ASKED`.
        let next = |state| Some(if state == IDLE { BUSY } else { BUSY_AND_ASKED });
        let before = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        (before == Ok(IDLE)).then(|| Self(state))
    }

    /// True if another one has come by, so that there may be more to do.
    fn end(self) -> bool {
        let asked = self.0.swap(IDLE, Ordering::Relaxed) == BUSY_AND_ASKED;
        mem::forget(self);
        asked
    }
}

/// For a report that does not return.
impl Drop for Parting<'_> {
    fn drop(&mut self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

/// A block that goes when this does.
struct Going<'l>(&'l Leaving);

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.0.freed.go(self.0.key.tag);
    }
}

impl Freed {
    /// Has the kernel free the block, under the tag that it was allocated with if the driver named any; 0 asks for no
    /// check.
    fn go(&self, allocated: Tag) {
        let tag = if self.tag.0 != 0 && self.live.is_tagged() { allocated } else { Tag(0) };
        if let Some(give_back) = self.give_back {
            // SAFETY: the block came from that kernel, is still there, and is in nobody's hands any more; the tag is its
            // own, or what the driver gave.
            unsafe { give_back(self.live.body(self.address).base(), tag.0) };
        }
    }
}

/// Makes a driver's call of a free once more, for a block that was held since.
///
/// # Safety
///
/// As for [`GiveBack`](crate::quarantine::GiveBack); and `K` is a closure that holds nothing, of which there was one.
pub(crate) unsafe fn give_back<A: Arguments, R, K: Fn(A) -> R>(address: usize, tag: u32) {
    if size_of::<K>() != 0 {
        return;
    }
    // SAFETY: a closure without captures is a value without bytes, which can be had anywhere once there was one.
    let kernel = unsafe { NonNull::<K>::dangling().as_ref() };
    if let Some(arguments) = A::of_free(address, tag) {
        mem::forget(kernel(arguments));
    }
}
