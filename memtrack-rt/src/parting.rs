//! How held blocks go back to their kernel: looked at once more, and freed by the driver's own call.

use core::hint;
use core::mem::{self, size_of};
use core::ptr::NonNull;

use crate::arguments::Arguments;
use crate::books::{Books, Closed, Leaving};
use crate::guard::Damage;
use crate::platform::{Irql, Platform};
use crate::pool::Tag;
use crate::quarantine::Freed;
use crate::site::Key;
use crate::tracker::Tracker;
use crate::violation::{Act, Case, Caught, Next, Violation};

impl<P: Platform> Tracker<P> {
    /// Gives back what the quarantines hold beyond their bounds.
    pub(crate) fn keep_bounds(&self, caught: Caught) {
        self.let_go(Books::leaving, caught);
    }

    /// Gives back what the quarantines hold, as far as this IRQL allows; true if that was anything.
    pub(crate) fn empty(&self, caught: Caught) -> bool {
        self.let_go(Books::leaving_all, caught)
    }

    fn let_go(&self, next: fn(&mut Books, Irql) -> Option<Leaving>, caught: Caught) -> bool {
        let irql = self.platform().irql();
        let mut leaving = self.with(|books| next(books, irql));
        let any = leaving.is_some();
        while let Some(block) = leaving {
            leaving = self.let_one_go(&block, caught, |books| next(books, irql));
        }
        any
    }

    /// Empties the quarantines, and closes the books before anything else can be held.
    pub(crate) fn close(&self, caught: Caught) -> Closed {
        let irql = self.platform().irql();
        let mut closed = self.with(|books| books.close_if_empty(irql));
        loop {
            match closed {
                Ok(closed) => return closed,
                Err(Some(block)) => {
                    closed = self.let_one_go(&block, caught, |books| books.close_if_empty(irql));
                }
                Err(None) => {
                    hint::spin_loop();
                    closed = self.with(|books| books.close_if_empty(irql));
                }
            }
        }
    }

    /// Gives a block back, after a look at what was written to it, and does what comes `next` under the same lock.
    fn let_one_go<R>(&self, block: &Leaving, caught: Caught, next: impl FnOnce(&mut Books) -> R) -> R {
        if let Some(damage) = self.look_back(block) {
            if !self.is_still_held(block, caught) {
                return self.with(next);
            }
            self.written_after_free(&block.key, &block.freed, damage, caught);
        }
        let next = self.with(|books| {
            books.left(block);
            next(books)
        });
        // From here on the address may be somebody else's.
        block.freed.go(block.key.tag);
        next
    }

    /// What was written to a block while it was held.
    fn look_back(&self, leaving: &Leaving) -> Option<Damage> {
        let Freed { address, live, .. } = leaving.freed;
        if !leaving.poisoned || live.is_reported() {
            return None;
        }
        // SAFETY: the block is held: it is there, and nobody's but ours. It leaves where it may be touched.
        unsafe { live.body(address).inspect_poison() }
    }

    /// Whether a held block that was written to is still there: code that is not annotated may have freed it again.
    #[cold]
    #[inline(never)]
    fn is_still_held(&self, leaving: &Leaving, caught: Caught) -> bool {
        let Freed { address, live, location, function, .. } = leaving.freed;
        let there = self.is_there(address, live);
        if !there {
            self.with(|books| books.left(leaving));
            self.violated(&Case {
                violation: Violation::DoubleFree,
                address,
                bytes: live.bytes(),
                site: Some(leaving.key),
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
            freed: Some(Act { location: freed.location, function: freed.function }),
            caught,
            next: Next::Goes,
        });
    }
}

impl Freed {
    /// Has the kernel free the block, under the tag that it was allocated with if the driver named any.
    fn go(&self, allocated: Tag) {
        let tag = if self.tag.0 != 0 && self.live.is_tagged() { allocated } else { self.tag };
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
