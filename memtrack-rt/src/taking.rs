//! A free that the driver asks for, and what is known of its block.

use core::panic::Location;

use crate::block::{Live, Ticket};
use crate::platform::{DISPATCH_LEVEL, Irql};
use crate::pool::{Function, Pool, Tag};
use crate::quarantine::{Freed, GiveBack, Stage};
use crate::settings;
use crate::shortage::Shortage;
use crate::site::Key;

/// A free that the driver asks for.
#[derive(Clone, Copy)]
pub(crate) struct Release {
    pub(crate) address: usize,
    pub(crate) location: &'static Location<'static>,
    pub(crate) function: Function,
    pub(crate) tag: Tag,
    /// How to free the block later, where that is possible.
    pub(crate) give_back: Option<GiveBack>,
    pub(crate) irql: Irql,
}

/// What the books knew of a block that the driver frees.
pub(crate) enum Taken {
    /// Nothing.
    Stranger,
    /// It was freed already.
    Again,
    /// Somebody reads it, and it cannot be held until they are done: try again.
    InUse,
    /// There must be memory first. Nothing has changed.
    NeedsMemory(Shortage),
    /// It was live, and is no longer.
    Live,
    /// It is an entry of a lookaside list, which is freed as a block of pool. Nothing has changed.
    Entry,
}

/// A block that the driver has just freed. The hot path fills it in place: as part of a result it would be copied in
/// pieces of another size than it was written in, which stalls the processor.
pub(crate) struct Taking {
    pub(crate) key: Key,
    pub(crate) live: Live,
    /// The record under which it is held.
    pub(crate) held: Option<Ticket>,
    /// A list may live in it.
    pub(crate) has_list: bool,
    /// A quarantine is beyond its bounds.
    pub(crate) overdue: bool,
    /// How it was freed before.
    pub(crate) before: Option<Freed>,
}

impl Release {
    /// What is known of the block before anything is.
    #[inline]
    pub(crate) fn taking(&self) -> Taking {
        let Self { location, function, tag, .. } = *self;
        let key = Key { location, function, tag, pool: Pool::Unknown, list: None };
        Taking { key, live: Live::NOTHING, held: None, has_list: false, overdue: false, before: None }
    }

    /// What becomes of the live block that is freed; `None` while it is pinned, cannot be held, and the caller may wait.
    #[inline]
    pub(crate) fn stage(
        &self,
        taking: &Taking,
        bounds: settings::Quarantine,
        may_remember: bool,
        may_wait: bool,
    ) -> Option<Stage> {
        let live = taking.live;
        let body = live.body(self.address);
        let fits = bounds.blocks > 0
            && bounds.bytes > 0
            && body.layout.total(body.bytes).is_some_and(|bytes| bytes <= bounds.bytes);
        // Where it may not be touched, or not yet go, it is held whatever the bounds say.
        let must = live.is_pinned() || !may_touch(taking.key.pool, self.irql);
        let can = self.give_back.is_some() && live.is_open() && may_remember;
        if can && (fits || must) {
            Some(Stage::Entering)
        } else if live.is_pinned() && may_touch(taking.key.pool, self.irql) && may_wait {
            None
        } else if bounds.blocks > 0 && may_remember {
            Some(Stage::Remembered)
        } else {
            Some(Stage::Gone)
        }
    }
}

/// Whether memory of this pool may be touched, allocated and freed at this IRQL: paged memory below DISPATCH_LEVEL.
#[inline]
pub(crate) fn may_touch(pool: Pool, irql: Irql) -> bool {
    irql < DISPATCH_LEVEL || !matches!(pool, Pool::Paged)
}
