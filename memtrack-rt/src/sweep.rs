//! A check: all live blocks and the quarantines, looked at now.

use crate::books::{Books, Suspect};
use crate::guard::Wounds;
use crate::ledger::Cursor;
use crate::platform::{DISPATCH_LEVEL, Platform};
use crate::pool::Pool;
use crate::tracker::Tracker;
use crate::violation::{Case, Caught, Next, Violation};

const CHECK: Caught = Caught::By("check");

impl<P: Platform> Tracker<P> {
    /// Looks at the guards of all live blocks and at what the quarantines hold, and returns how many blocks are
    /// broken. Each is reported once, however often it is found.
    ///
    /// A block that is allocated or freed in the meantime may be looked at or not. Another check at the same time
    /// leaves out what this one is looking at.
    ///
    /// IRQL <= DISPATCH_LEVEL; at DISPATCH_LEVEL it looks at nonpaged pool only.
    pub fn check(&self) -> usize {
        let irql = self.platform().irql();
        if irql > DISPATCH_LEVEL {
            return 0;
        }
        let mut broken = 0;
        let walk = Walk::begin(self);
        let mut cursor = Cursor::default();
        while let Some(suspect) = self.with(|books| books.next_suspect(&mut cursor, irql)) {
            broken += usize::from(self.look(&suspect));
        }
        drop(walk);
        self.keep_bounds(CHECK);
        broken
    }

    /// Whether the block is broken.
    fn look(&self, suspect: &Suspect) -> bool {
        let body = suspect.live.body(suspect.address);
        let there = self.is_there(suspect.address, suspect.live);
        if let Some((_, freed)) = &suspect.freed {
            // SAFETY: the block is held and pinned: it is there until it is let go of, and may be touched here.
            let damage = if there { unsafe { body.inspect_poison() } } else { None };
            if let (Some(damage), true) = (damage, self.lets_see(suspect, damage.is_some())) {
                self.written_after_free(&suspect.key, freed, damage, CHECK);
            }
            return damage.is_some();
        }
        let (wounds, first) = match suspect.key.pool {
            _ if !there => (Wounds::NONE, self.lets_see(suspect, false)),
            Pool::Paged => {
                // SAFETY: the block is live and pinned: whoever frees it leaves it where it is. It may be touched here.
                let wounds = unsafe { body.wounds() };
                (wounds, self.lets_see(suspect, wounds.any()))
            }
            _ => self.with(|books| {
                if !books.is_live(suspect) {
                    return (Wounds::NONE, false);
                }
                // SAFETY: the block is live, and stays so for as long as the lock is held; it is nonpaged.
                let wounds = unsafe { body.wounds() };
                (wounds, wounds.any() && books.report(suspect.address))
            }),
        };
        if first {
            self.tell(suspect, &wounds);
        }
        wounds.any()
    }

    /// Lets go of a pinned block; true for who is first to find it broken.
    fn lets_see(&self, suspect: &Suspect, broken: bool) -> bool {
        self.with(|books: &mut Books| {
            let first = broken && books.report(suspect.address);
            books.unpin(suspect.address);
            first
        })
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, suspect: &Suspect, wounds: &Wounds) {
        for violation in Violation::of(wounds) {
            self.violated(&Case {
                violation,
                address: suspect.address,
                bytes: suspect.live.bytes(),
                site: Some(suspect.key),
                freed: None,
                caught: CHECK,
                next: Next::Goes,
            });
        }
    }
}

/// A walk through the ledger, which ends even if a report does not return.
struct Walk<'t, P: Platform>(&'t Tracker<P>);

impl<'t, P: Platform> Walk<'t, P> {
    fn begin(tracker: &'t Tracker<P>) -> Self {
        tracker.with(|books| books.walk(true));
        Self(tracker)
    }
}

impl<P: Platform> Drop for Walk<'_, P> {
    fn drop(&mut self) {
        self.0.with(|books| books.walk(false));
    }
}
