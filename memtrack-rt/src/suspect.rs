//! Blocks that a check looks at, as the books choose them.

use crate::block::{Live, State, Ticket};
use crate::books::{Books, is_entry};
use crate::guard::Body;
use crate::ledger::Cursor;
use crate::platform::Irql;
use crate::pool::Pool;
use crate::quarantine::{Freed, Stage};
use crate::site::Key;
use crate::taking::may_touch;

/// A block to be looked at. It is pinned until that is done, but for a live one of nonpaged pool, which is looked at
/// under the lock.
#[derive(Clone, Copy)]
pub(crate) struct Suspect {
    pub(crate) address: usize,
    pub(crate) key: Key,
    pub(crate) live: Live,
    /// Its record, where it was freed.
    pub(crate) freed: Option<(Ticket, Freed)>,
}

impl Suspect {
    pub(crate) fn body(&self) -> Body {
        self.live.body(self.address)
    }
}

/// How a walk through the ledger goes on.
pub(crate) enum Step {
    /// Here is something to be looked at.
    Suspect(Suspect),
    /// There is more to walk.
    On,
    End,
}

/// What a look at a block shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    Intact,
    /// It is broken, and nobody has said so.
    New,
    /// It is broken, and that was said.
    Known,
}

impl Finding {
    pub(crate) fn is_broken(self) -> bool {
        self != Self::Intact
    }

    fn of(broken: bool, known: bool) -> Self {
        match (broken, known) {
            (false, _) => Self::Intact,
            (true, false) => Self::New,
            (true, true) => Self::Known,
        }
    }
}

/// Whether there are guards to be looked at.
fn is_guarded(live: Live) -> bool {
    live.is_guarded() && live.is_open()
}

impl Books<'_> {
    /// The next block after `cursor` that has something to be looked at; but no more than a few steps at once.
    #[inline(never)]
    pub(crate) fn next_suspect(&mut self, cursor: &mut Cursor, irql: Irql) -> Step {
        const AT_ONCE: usize = 32;
        for _ in 0..AT_ONCE {
            let Some(entry) = self.book.ledger.next(cursor) else { return Step::End };
            let address = entry.address;
            let Some((key, live)) = self.describe(State(entry.state)) else { continue };
            // What a list has handed out is looked at when it comes back: nobody tells meanwhile whether it has.
            if !may_touch(key.pool, irql) || is_entry(address) {
                continue;
            }
            let suspect = if entry.is_freed {
                self.held(address, key, State(entry.state).ticket())
            } else if !is_guarded(live) || entry.is_pinned {
                None
            } else if matches!(key.pool, Pool::Paged) {
                self.pinned(address)
            } else {
                Some(Suspect { address, key, live, freed: None })
            };
            if let Some(suspect) = suspect {
                return Step::Suspect(suspect);
            }
        }
        Step::On
    }

    fn held(&mut self, address: usize, key: Key, ticket: Ticket) -> Option<Suspect> {
        let freed = self.quarantine(key.pool).at(ticket)?;
        if !matches!(freed.stage, Stage::Held { poisoned: true }) || freed.live.is_pinned() {
            return None;
        }
        let before = *freed;
        freed.live = freed.live.pinned(true);
        Some(Suspect { address, key, live: before.live, freed: Some((ticket, before)) })
    }

    fn pinned(&mut self, address: usize) -> Option<Suspect> {
        let state = self.book.ledger.pin(address)?;
        // What it is now, not what it was before.
        let (key, live) = self.describe(State(state))?;
        if is_guarded(live) && matches!(key.pool, Pool::Paged) {
            return Some(Suspect { address, key, live, freed: None });
        }
        self.book.ledger.unpin(address, state);
        None
    }

    /// Does something with a live block of nonpaged pool that cannot go meanwhile, if it is still the one that was chosen.
    pub(crate) fn with_live<R>(&mut self, suspect: &Suspect, look: impl FnOnce() -> R) -> Option<R> {
        let state = self.book.ledger.pin(suspect.address)?;
        let is_same = self.describe(State(state)).is_some_and(|(_, live)| live.same_block(suspect.live));
        let result = is_same.then(look);
        self.book.ledger.unpin(suspect.address, state);
        result
    }

    /// Notes what was found of a live block of nonpaged pool. What was freed meanwhile is its free's to speak of.
    pub(crate) fn find(&mut self, suspect: &Suspect, broken: bool) -> Finding {
        let Some(state) = self.book.ledger.pin(suspect.address) else { return Finding::Intact };
        let finding = self.note(suspect, State(state), broken);
        finding.unwrap_or_else(|| {
            self.book.ledger.unpin(suspect.address, state);
            Finding::Intact
        })
    }

    /// Notes what was found of a pinned block, and lets go of it.
    pub(crate) fn let_go(&mut self, suspect: &Suspect, broken: bool) -> Finding {
        if let Some((ticket, _)) = suspect.freed {
            return self.let_go_of_held(suspect, ticket, broken);
        }
        match self.book.ledger.get(suspect.address) {
            Some(entry) if !entry.is_freed => {
                self.note(suspect, State(entry.state), broken).unwrap_or(Finding::Intact)
            }
            // It was freed, and waits for this to end.
            Some(entry) => {
                let ticket = State(entry.state).ticket();
                if let Some(freed) = self.quarantine(suspect.key.pool).at(ticket) {
                    freed.live = freed.live.pinned(false);
                }
                Finding::Intact
            }
            None => Finding::Intact,
        }
    }

    fn let_go_of_held(&mut self, suspect: &Suspect, ticket: Ticket, broken: bool) -> Finding {
        let Some(freed) = self.quarantine(suspect.key.pool).at(ticket) else { return Finding::Intact };
        let known = freed.live.is_reported();
        freed.live = freed.live.reported(known || broken).pinned(false);
        Finding::of(broken, known)
    }

    /// Unpins a live block, with what was found of it; `None` if it is another one.
    fn note(&mut self, suspect: &Suspect, state: State, broken: bool) -> Option<Finding> {
        let (_, live) = self.describe(state).filter(|(_, live)| live.same_block(suspect.live))?;
        let known = live.is_reported();
        let now = State::of(live.reported(known || broken), state.kind());
        self.book.ledger.unpin(suspect.address, now.0);
        Some(Finding::of(broken, known))
    }
}
