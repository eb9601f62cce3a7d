//! A check: all live blocks and the quarantines, looked at now.

use crate::guard::Wounds;
use crate::ledger::Cursor;
use crate::platform::{DISPATCH_LEVEL, Platform};
use crate::pool::Pool;
use crate::quarantine::Freed;
use crate::suspect::{Finding, Step, Suspect};
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
        loop {
            match self.with(|books| books.next_suspect(&mut cursor, irql)) {
                Step::Suspect(suspect) => broken += usize::from(self.look(&suspect)),
                Step::On => {}
                Step::End => break,
            }
        }
        drop(walk);
        self.keep_bounds(CHECK);
        broken
    }

    /// Whether the block is broken.
    fn look(&self, suspect: &Suspect) -> bool {
        let is_held = suspect.freed.is_some();
        let there = self.is_there(suspect.address, suspect.live)
            && (is_held || self.is_within_reach(&suspect.body()));
        match &suspect.freed {
            Some((_, freed)) => self.look_at_held(suspect, freed, there),
            None if suspect.key.pool == Pool::Paged => self.look_at_paged(suspect, there),
            None => there && self.look_at_nonpaged(suspect),
        }
    }

    #[inline(never)]
    fn look_at_held(&self, suspect: &Suspect, freed: &Freed, there: bool) -> bool {
        // SAFETY: the block is held and pinned: it is there until it is let go of, and may be touched here.
        let damage = there.then(|| unsafe { suspect.body().inspect_poison() }).flatten();
        let finding = self.with(|books| books.let_go(suspect, damage.is_some()));
        if let (Some(damage), Finding::New) = (damage, finding) {
            self.written_after_free(&suspect.key, freed, damage, CHECK);
        }
        finding.is_broken()
    }

    #[inline(never)]
    fn look_at_paged(&self, suspect: &Suspect, there: bool) -> bool {
        // SAFETY: the block is live and pinned: whoever frees it leaves it where it is. It may be touched here.
        let wounds = if there { unsafe { suspect.body().wounds() } } else { Wounds::NONE };
        let wounds = self.if_still_there(suspect, wounds);
        let finding = self.with(|books| books.let_go(suspect, wounds.any()));
        self.tell(suspect, finding, &wounds)
    }

    #[inline(never)]
    fn look_at_nonpaged(&self, suspect: &Suspect) -> bool {
        let wounds = self.with(|books| {
            // SAFETY: the block is live, and stays so until this is done; it is nonpaged.
            books.with_live(suspect, || unsafe { suspect.body().wounds() })
        });
        let wounds = wounds.unwrap_or(Wounds::NONE);
        let wounds = self.if_still_there(suspect, wounds);
        let finding = self.with(|books| books.find(suspect, wounds.any()));
        self.tell(suspect, finding, &wounds)
    }

    /// Wounds, if they are the block's: code that is not annotated may have freed it while it was looked at.
    fn if_still_there(&self, suspect: &Suspect, wounds: Wounds) -> Wounds {
        if wounds.any() && !self.is_there(suspect.address, suspect.live) { Wounds::NONE } else { wounds }
    }

    /// Says what is wrong with a live block, if nobody has; true if anything is.
    fn tell(&self, suspect: &Suspect, finding: Finding, wounds: &Wounds) -> bool {
        for violation in Violation::of(wounds).filter(|_| finding == Finding::New) {
            self.violated(&Case {
                violation,
                address: suspect.address,
                bytes: suspect.live.bytes(),
                site: Some(suspect.key),
                list: None,
                freed: None,
                caught: CHECK,
                next: Next::Goes,
            });
        }
        finding.is_broken()
    }
}

/// A walk through the ledger, which ends even if a report does not return.
struct Walk<'t, P: Platform>(&'t Tracker<P>);

impl<'t, P: Platform> Walk<'t, P> {
    fn begin(tracker: &'t Tracker<P>) -> Self {
        tracker.with(|books| books.common.walks = books.common.walks.saturating_add(1));
        Self(tracker)
    }
}

impl<P: Platform> Drop for Walk<'_, P> {
    fn drop(&mut self) {
        self.0.with(|books| books.common.walks = books.common.walks.saturating_sub(1));
    }
}
