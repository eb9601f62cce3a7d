//! What the books do with freed blocks that are held or remembered.

use crate::block::{Live, State, Ticket};
use crate::books::Books;
use crate::platform::Irql;
use crate::pool::Pool;
use crate::quarantine::{Freed, Quarantine, Stage};
use crate::settings;
use crate::site::Key;
use crate::taking::{Taking, may_touch};

/// A block on its way out of a quarantine.
#[derive(Clone, Copy)]
pub(crate) struct Leaving {
    pub(crate) key: Key,
    pub(crate) freed: Freed,
    /// Whether it was filled with poison.
    pub(crate) poisoned: bool,
    /// Whether there is another one to leave after it.
    pub(crate) is_followed: bool,
}

impl Books<'_> {
    /// The block of this record is ready to be held; false if the books were closed since it was taken.
    pub(crate) fn settle(&mut self, taking: &Taking, ticket: Ticket, live: Live, poisoned: bool) -> bool {
        let Some(freed) = self.quarantine(taking.key.pool).at(ticket) else { return false };
        // Who pinned it in the meantime unpins it.
        freed.live = live.pinned(freed.live.is_pinned());
        freed.stage = Stage::Held { poisoned };
        true
    }

    /// Whether a quarantine is beyond its bounds.
    pub(crate) fn is_overdue(&self) -> bool {
        self.is_beyond(Pool::NonPaged) || self.is_beyond(Pool::Paged)
    }

    /// Whether this pool's is.
    pub(crate) fn is_beyond(&self, pool: Pool) -> bool {
        let [nonpaged, paged] = self.common.bounds();
        match pool {
            Pool::Paged => self.locked.paged.is_beyond(paged),
            _ => self.locked.nonpaged.is_beyond(nonpaged),
        }
    }

    /// The next block that has to leave so that the quarantine of `pool` keeps its bounds, if one has to and may.
    pub(crate) fn leaving(&mut self, pool: Pool) -> Option<Leaving> {
        let [nonpaged, paged] = self.common.bounds();
        self.leaving_beyond(pool, if matches!(pool, Pool::Paged) { paged } else { nonpaged })
    }

    /// The next block to leave quarantines that are to be empty, as far as this IRQL allows.
    pub(crate) fn leaving_all(&mut self, irql: Irql) -> Option<Leaving> {
        let pools = [Pool::NonPaged, Pool::Paged].into_iter().filter(|pool| may_touch(*pool, irql));
        let mut leaving = None;
        for pool in pools {
            leaving = leaving.or_else(|| self.leaving_beyond(pool, settings::Quarantine::OFF));
        }
        leaving.map(|leaving| Leaving { is_followed: true, ..leaving })
    }

    /// It is in the books no longer: what becomes of it takes no lock.
    fn leaving_beyond(&mut self, pool: Pool, bounds: settings::Quarantine) -> Option<Leaving> {
        while let Some(ticket) = self.quarantine(pool).surplus(bounds) {
            let freed = self.quarantine(pool).at(ticket).copied()?;
            let key = self.dismiss(pool, ticket);
            if let (Stage::Held { poisoned }, Some(key)) = (freed.stage, key) {
                let is_followed = self.quarantine(pool).is_beyond(bounds);
                return Some(Leaving { key, freed, poisoned, is_followed });
            }
        }
        None
    }

    /// Forgets a record, and the block in the ledger if it is still that one: then its site is returned.
    pub(crate) fn dismiss(&mut self, pool: Pool, ticket: Ticket) -> Option<Key> {
        let address = self.quarantine(pool).remove(ticket)?.address;
        let spot = self.book.ledger.spot(address)?;
        let entry = spot.entry();
        let state = State(entry.state);
        let is_its = |key: &Key| key.pool == pool && entry.is_freed && state.ticket() == ticket;
        let key = self.describe(state).map(|(key, _)| key).filter(is_its);
        if key.is_some() {
            spot.remove();
        } else {
            spot.put_back();
        }
        key
    }

    /// The block that was taken was not the one that was written down: that one had been freed by code that is not
    /// annotated, and this one is somebody else's.
    pub(crate) fn was_anothers(&mut self, key: &Key, held: Option<Ticket>) {
        if let Some(ticket) = held {
            self.dismiss(key.pool, ticket);
        }
        self.book.foreign_free(self.inside());
        self.locked.stats.vanished_blocks += 1;
        if let Ok(site) = self.locked.sites.intern(key) {
            self.locked.sites.at(site).vanished_blocks += 1;
        }
    }

    pub(crate) fn quarantine(&mut self, pool: Pool) -> &mut Quarantine {
        if matches!(pool, Pool::Paged) { &mut self.locked.paged } else { &mut self.locked.nonpaged }
    }
}
