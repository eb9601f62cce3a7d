//! How a book is closed while calls go on: the other one is opened, those who are in the old one leave, and then it is
//! nobody's.

use core::hint;
use core::sync::atomic::Ordering;

use crate::books::{Books, Closed};
use crate::doors::Doors;
use crate::platform::{DISPATCH_LEVEL, Irql, Platform};
use crate::tracker::Tracker;
use crate::violation::Caught;

/// How long a call that cannot wait for ever looks whether others have left.
const PATIENCE: u32 = 1 << 16;

/// The one closing of a book that is under way.
pub(crate) struct Closing<'t, P: Platform> {
    tracker: &'t Tracker<P>,
    irql: Irql,
    /// The book to close.
    old: usize,
}

impl<P: Platform> Tracker<P> {
    /// Empties the quarantines, and closes the book before anything else can be held; `None` where that may not be waited
    /// for.
    pub(crate) fn close(&self, caught: Caught) -> Option<Closing<'_, P>> {
        let closing = Closing::begin(self)?;
        loop {
            let closed = self.with(|books| {
                books.may_close(closing.irql)?;
                closing.open_the_other(books);
                Ok(())
            });
            match closed {
                Ok(()) => break,
                Err(Some(block)) => self.let_one_go(&block, caught),
                Err(None) => hint::spin_loop(),
            }
        }
        Some(closing)
    }

    /// Waits until everybody has left who is inside now; false where `patience` ends before.
    pub(crate) fn others_leave(&self, patience: Option<u32>) -> bool {
        let mut left = patience.unwrap_or(1);
        for column in Doors::columns() {
            while !self.doors().is_empty(column) {
                hint::spin_loop();
                left -= u32::from(patience.is_some());
                if left == 0 {
                    return false;
                }
            }
        }
        true
    }

    /// The same, for as long as may be expected of a call that has other things to do.
    pub(crate) fn others_leave_soon(&self) -> bool {
        self.others_leave(Some(PATIENCE))
    }
}

impl<'t, P: Platform> Closing<'t, P> {
    /// Begins, when nobody else does; `None` where that, or a call that this one has interrupted, cannot be waited for.
    pub(crate) fn begin(tracker: &'t Tracker<P>) -> Option<Self> {
        let irql = tracker.platform().irql();
        // Acquire pairs with the Release in `drop`: the other one has left its book as new.
        while tracker.closing().swap(true, Ordering::Acquire) {
            if irql >= DISPATCH_LEVEL {
                return None;
            }
            hint::spin_loop();
        }
        // Only a closing changes which book is open. Relaxed: see there.
        let closing = Self { tracker, irql, old: tracker.open().load(Ordering::Relaxed) };
        // Who is on this processor, and interrupted, would never leave.
        (irql < DISPATCH_LEVEL || tracker.others_leave_soon()).then_some(closing)
    }

    /// Opens the other book: calls that begin from now on go there.
    pub(crate) fn open_the_other(&self, books: &Books<'_>) {
        self.tracker.with_closed(1 - self.old, |next| books.go_on_in(next));
        // SeqCst pairs with `Doors`: who comes in after the doors were seen empty sees the other book. As a Release it pairs
        // with the load of who comes in: the other book is as new.
        self.tracker.open().store(1 - self.old, Ordering::SeqCst);
    }

    /// What was in the book that was closed, when everybody has left.
    pub(crate) fn closed(&self) -> Closed {
        self.tracker.others_leave(None);
        let mut closed = self.tracker.take_closed(self.old);
        if self.irql < DISPATCH_LEVEL {
            // What still counts was on its way in: its free gives it back.
            (closed.stats.held_blocks, closed.stats.held_bytes) = (0, 0);
        }
        closed
    }
}

/// For a report that does not return, too.
impl<P: Platform> Drop for Closing<'_, P> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `begin`.
        self.tracker.closing().store(false, Ordering::Release);
    }
}
