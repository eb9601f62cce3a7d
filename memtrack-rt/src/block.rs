//! What the ledger writes down of one block, in eight bytes.

use crate::guard::{Body, Layout};
use crate::lists::{ListId, NUMBERS};
use crate::pool::Pool;

/// Sizes are kept up to 4 TiB.
const BYTES: u32 = 42;
const STAMP: u32 = 13;

const PRIVATE: u64 = 1 << 55;
const TAIL: u64 = 1 << 56;
const FRONT: u32 = 57; // two bits
const TAGGED: u64 = 1 << 59;
const SECURE: u64 = 1 << 60;
const REPORTED: u64 = 1 << 61;
const PINNED: u64 = 1 << 62;
const FREED: u64 = 1 << 63;

/// The largest block that can be written down, in bytes.
pub(crate) const BYTES_MAX: usize = (1 << BYTES) - 1;
/// What a stamp has room for.
pub(crate) const STAMP_MAX: u16 = (1 << STAMP) - 1;

/// A live block: size, layout, and what else must be known when it is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live(u64);

impl Live {
    /// A block of no bytes.
    pub(crate) const NOTHING: Self = Self(0);

    /// A block of so many bytes; `None` for one that no kernel has.
    pub(crate) fn new(bytes: usize, layout: Layout) -> Option<Self> {
        let front = u64::from(layout.front_code()) << FRONT;
        let tail = if layout.tail { TAIL } else { 0 };
        (bytes <= BYTES_MAX).then_some(Self(bytes as u64 | front | tail))
    }

    /// With what tells this allocation from a later one at its address; 0 where nothing does.
    pub(crate) fn stamped(self, stamp: u16) -> Self {
        Self(self.0 | u64::from(stamp & STAMP_MAX) << BYTES)
    }

    /// The tag of its site is the one that the kernel was given.
    pub(crate) fn tagged(self, yes: bool) -> Self {
        self.with(TAGGED, yes)
    }

    /// It lives in a secure pool: the driver itself may not write to it.
    pub(crate) fn secure(self, yes: bool) -> Self {
        self.with(SECURE, yes)
    }

    /// Only who has it may touch it: it is a session pool's, or perhaps a secure one's. It is neither held nor looked at.
    pub(crate) fn private(self, yes: bool) -> Self {
        self.with(PRIVATE, yes)
    }

    /// What is wrong with its guards was said.
    pub(crate) fn reported(self, yes: bool) -> Self {
        self.with(REPORTED, yes)
    }

    /// Somebody reads it: it may not go back to the kernel.
    pub(crate) fn pinned(self, yes: bool) -> Self {
        self.with(PINNED, yes)
    }

    fn with(self, mark: u64, yes: bool) -> Self {
        Self(if yes { self.0 | mark } else { self.0 & !mark })
    }

    /// Whether this is the other one, but for marks that come and go.
    pub(crate) fn same_block(self, other: Self) -> bool {
        (self.0 ^ other.0) & !(REPORTED | PINNED) == 0
    }

    pub(crate) fn bytes(self) -> usize {
        (self.0 as usize) & BYTES_MAX
    }

    pub(crate) fn stamp(self) -> u16 {
        (self.0 >> BYTES) as u16 & STAMP_MAX
    }

    pub(crate) fn is_guarded(self) -> bool {
        self.body(0).layout != Layout::BARE
    }

    pub(crate) fn is_tagged(self) -> bool {
        self.0 & TAGGED != 0
    }

    /// Whether it is an entry whose memory is a block that is written down itself. A list has one tag for all of its
    /// entries, so that mark means this of an entry.
    pub(crate) fn is_counted_elsewhere(self, list: Option<ListId>) -> bool {
        list.is_some() && self.is_tagged()
    }

    pub(crate) fn is_secure(self) -> bool {
        self.0 & SECURE != 0
    }

    /// Whether its memory may be poisoned, held, and read when it is nobody's turn.
    pub(crate) fn is_open(self) -> bool {
        self.0 & (PRIVATE | SECURE) == 0
    }

    pub(crate) fn is_reported(self) -> bool {
        self.0 & REPORTED != 0
    }

    pub(crate) fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    /// The block at `address`.
    pub(crate) fn body(self, address: usize) -> Body {
        let layout = Layout::from_parts((self.0 >> FRONT) as u8, self.0 & TAIL != 0);
        // An entry of a list stands in the ledger beside the block that it may be.
        Body { address: address & !NUMBERS, bytes: self.bytes(), layout }
    }
}

/// How a block of the ledger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The driver has it.
    Live(Live),
    /// It was freed: the quarantine of its pool has the record.
    Freed(Pool, Ticket),
}

/// A record in a quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) usize);

/// A [`Standing`], packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u64);

impl From<Live> for State {
    fn from(live: Live) -> Self {
        Self(live.0)
    }
}

impl State {
    const PAGED: u64 = 1;

    pub(crate) fn freed(pool: Pool, ticket: Ticket) -> Self {
        let paged = if matches!(pool, Pool::Paged) { Self::PAGED } else { 0 };
        Self(FREED | ((ticket.0 as u64) << 1 & !FREED) | paged)
    }

    pub(crate) fn standing(self) -> Standing {
        if self.0 & FREED == 0 {
            return Standing::Live(Live(self.0));
        }
        let pool = if self.0 & Self::PAGED == 0 { Pool::NonPaged } else { Pool::Paged };
        Standing::Freed(pool, Ticket(((self.0 & !FREED) >> 1) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guard;
    use crate::pool::Function;

    #[test]
    fn everything_comes_back() {
        for bytes in [0, 1, 61, 4096, BYTES_MAX] {
            for guard in Guard::ALL {
                let layout = Layout::of(guard, bytes, Function::ExAllocatePool2, 0x48).unwrap();
                let live = Live::new(bytes, layout).unwrap().stamped(STAMP_MAX).tagged(true).pinned(true);
                let Standing::Live(live) = State::from(live).standing() else { panic!("it is live") };
                assert_eq!((live.bytes(), live.stamp()), (bytes, STAMP_MAX));
                assert_eq!(live.body(0x5000).layout, layout);
                let marks = (live.is_tagged(), live.is_secure(), live.is_reported(), live.is_pinned());
                assert_eq!(marks, (true, false, false, true));
                assert_eq!(live.pinned(false).pinned(true), live);
                assert_eq!(live.secure(true).body(0x5000).layout, layout);
                assert_eq!(live.reported(true).bytes(), bytes);
            }
        }
        assert_eq!(Live::new(BYTES_MAX + 1, Layout::BARE), None);
        for pool in [Pool::NonPaged, Pool::Paged] {
            for ticket in [Ticket(0), Ticket(12345), Ticket(usize::MAX >> 2)] {
                assert_eq!(State::freed(pool, ticket).standing(), Standing::Freed(pool, ticket));
            }
        }
    }
}
