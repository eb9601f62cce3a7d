//! Memory that a table needs. Nobody asks the platform for it while the lock is held: who finds a shortage lets go of the
//! lock, brings the memory, and tries again.

use crate::kind;
use crate::pool::Pool;
use crate::site::{SiteRef, Sites};

/// A table that needs memory, and how many bytes, or what of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    Sites(usize),
    /// Columns of a site, for calls that come through other doors than the first, in the so-many-th book. Only a wish.
    Columns(SiteRef, usize),
    Kinds(kind::Needs),
    Lists(usize),
    /// Buckets of the ledger's next table, so many. While it has room, only a wish.
    Buckets(usize),
    Quarantine(Pool, usize),
}

impl Shortage {
    /// How much memory to bring; `None` where none helps.
    pub(crate) fn bytes(self) -> Option<usize> {
        match self {
            Self::Kinds(kind::Needs::Numbers) => None,
            Self::Sites(bytes)
            | Self::Kinds(
                kind::Needs::Kinds(bytes) | kind::Needs::Numbered(bytes) | kind::Needs::Hashed(bytes),
            )
            | Self::Lists(bytes)
            | Self::Quarantine(_, bytes) => Some(bytes),
            Self::Columns(..) => Some(Sites::COLUMNS),
            Self::Buckets(length) => crate::books::table_bytes(length),
        }
    }
}
