//! Violations: what a driver did that no correct driver does.

use crate::act::Act;
use crate::guard::{Damage, Wounds};
use crate::lists::List;
use crate::platform::Irql;
use crate::pool::Tag;
use crate::site::Key;

/// A mistake, with what there is to say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Violation {
    Overrun(Damage),
    Underrun(Damage),
    WriteAfterFree(Damage),
    DoubleFree,
    /// A second free of a block whose memory was not held: perhaps of another block at its address.
    FreedBefore,
    /// A free of a live block's inside, so many bytes from its start.
    InnerFree(usize),
    /// A free under this tag.
    WrongTag(Tag),
    WrongFunction,
    ZeroBytes,
    PagedRequest(Irql),
    PagedFree(Irql),
    /// A call at a level at which there is no pool at all.
    HighIrql(Irql),
    /// A call on what was never initialised as a lookaside list.
    NoList,
    /// A call on a list that was deleted.
    DeletedList,
    /// An initialiser of a list that lives.
    MadeAgain,
    /// A call on a list of paged pool where paged pool may not be touched.
    PagedList(Irql),
    /// A free to a list of what another list has handed out.
    AnothersEntry,
    /// A free to a list of a block of pool.
    BlockToList,
    /// A free to pool of what a list has handed out.
    EntryToPool,
    /// A free of a block in which a list lives.
    ListInBlock,
    /// A list is deleted with so many entries outstanding.
    EntriesOut(u64),
}

impl Violation {
    /// What wounds of a block are: an underrun, an overrun, or both.
    pub(crate) fn of(wounds: &Wounds) -> impl Iterator<Item = Self> {
        let Wounds { behind, before } = *wounds;
        before.map(Self::Underrun).into_iter().chain(behind.map(Self::Overrun))
    }

    /// The number in `docs/detection.md`, and the first parameter of the bugcheck.
    pub(crate) fn number(&self) -> usize {
        match self {
            Self::Overrun(_) => 1,
            Self::Underrun(_) => 2,
            Self::WriteAfterFree(_) => 3,
            Self::DoubleFree => 4,
            Self::FreedBefore => 5,
            Self::InnerFree(_) => 6,
            Self::WrongTag(_) => 7,
            Self::WrongFunction => 8,
            Self::ZeroBytes => 9,
            Self::PagedRequest(_) => 10,
            Self::PagedFree(_) => 11,
            Self::HighIrql(_) => 12,
            Self::NoList => 13,
            Self::DeletedList => 14,
            Self::MadeAgain => 15,
            Self::PagedList(_) => 16,
            Self::AnothersEntry => 17,
            Self::BlockToList => 18,
            Self::EntryToPool => 19,
            Self::ListInBlock => 20,
            Self::EntriesOut(_) => 21,
        }
    }

    /// Whether it is about a block that there is, or was.
    pub(crate) fn is_of_a_block(&self) -> bool {
        !matches!(self, Self::ZeroBytes | Self::PagedRequest(_) | Self::HighIrql(_)) && !self.is_of_a_list()
    }

    /// Whether it is about a lookaside list, and no block.
    pub(crate) fn is_of_a_list(&self) -> bool {
        matches!(
            self,
            Self::NoList | Self::DeletedList | Self::MadeAgain | Self::PagedList(_) | Self::EntriesOut(_)
        )
    }

    pub(crate) fn damage(&self) -> Option<&Damage> {
        match self {
            Self::Overrun(damage) | Self::Underrun(damage) | Self::WriteAfterFree(damage) => Some(damage),
            _ => None,
        }
    }
}

/// What was going on when a violation came to light.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caught {
    /// The call that is the mistake, or that shows it.
    At(Act),
    /// A call that made the block leave the quarantine.
    Leaving(Act),
    /// A call of memtrack's own, of this name.
    By(&'static str),
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is nothing to say: it goes on as if nothing had been.
    Goes,
    PassedOn,
    Swallowed,
    WithItsTag,
    HeldBack,
    NonPagedInstead,
}

/// A violation, and all that its report tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) violation: Violation,
    /// The block's address, zero where there is none.
    pub(crate) address: usize,
    /// The size that the driver asked for.
    pub(crate) bytes: usize,
    /// Where it was allocated.
    pub(crate) site: Option<Key>,
    /// The list that it is about, or that the block is an entry of.
    pub(crate) list: Option<List>,
    /// Where it was freed before; `None` also where code did it that is not annotated.
    pub(crate) freed: Option<Act>,
    pub(crate) caught: Caught,
    pub(crate) next: Next,
}
