//! What is known of one block, and how much of it the ledger writes down, in eight bytes.

use crate::guard::{Body, Layout};
use crate::lists::{ListId, NUMBERS};

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

/// So many bits of a size stand in the ledger. Whatever is larger is of a kind of its own.
const SMALL: u32 = 28;
const SMALL_BYTES: u64 = (1 << SMALL) - 1;

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

/// A record in a quarantine. There are more than any machine lives to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Ticket {
    pub(crate) const FIRST: Self = Self(0);
    const LAST: u64 = (1 << 41) - 1;

    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1) & Self::LAST)
    }

    /// How many tickets were given since an older one.
    pub(crate) fn since(self, older: Self) -> usize {
        (self.0.wrapping_sub(older.0) & Self::LAST) as usize
    }

    /// Its place in a ring of so many slots, a power of two.
    pub(crate) fn place(self, capacity: usize) -> usize {
        self.0 as usize & capacity.wrapping_sub(1)
    }
}

/// What the ledger has of a block beside its address: the number of its kind, and either the rest of its size, its stamp and
/// whether it was reported, or its record in the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u64);

/// Where a state has the number of the kind.
const KIND: u32 = SMALL;
/// Bits of such a number.
const KINDS: u32 = 20;
/// Where it has the stamp.
const STATE_STAMP: u32 = KIND + KINDS;
const STATE_REPORTED: u64 = 1 << (STATE_STAMP + STAMP);

/// How many kinds there may be.
pub(crate) const KINDS_MAX: usize = 1 << KINDS;

impl State {
    pub(crate) fn of(live: Live, kind: usize) -> Self {
        let reported = if live.is_reported() { STATE_REPORTED } else { 0 };
        let stamp = u64::from(live.stamp()) << STATE_STAMP;
        Self(live.0 & SMALL_BYTES | (kind as u64) << KIND | stamp | reported)
    }

    pub(crate) fn freed(ticket: Ticket, kind: usize) -> Self {
        let high = ticket.0 >> SMALL << STATE_STAMP;
        Self(ticket.0 & SMALL_BYTES | (kind as u64) << KIND | high)
    }

    #[inline]
    pub(crate) fn kind(self) -> usize {
        (self.0 >> KIND) as usize & (KINDS_MAX - 1)
    }

    /// The live block, of a kind that has these features.
    #[inline]
    pub(crate) fn live(self, features: Features) -> Live {
        let stamp = (self.0 >> STATE_STAMP) as u16 & STAMP_MAX;
        Live(features.0 | self.0 & SMALL_BYTES).stamped(stamp).reported(self.0 & STATE_REPORTED != 0)
    }

    pub(crate) fn ticket(self) -> Ticket {
        Ticket(self.0 & SMALL_BYTES | (self.0 >> STATE_STAMP) << SMALL)
    }
}

/// What blocks of a kind have in common: all of a [`Live`] that does not fit into a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features(pub(crate) u64);

impl From<Live> for Features {
    #[inline]
    fn from(live: Live) -> Self {
        Self(live.0 & !(SMALL_BYTES | (STAMP_MAX as u64) << BYTES | REPORTED | PINNED))
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
                let state = State::of(live.reported(true), KINDS_MAX - 1);
                assert_eq!(state.kind(), KINDS_MAX - 1);
                assert_eq!(state.live(live.into()), live.reported(true).pinned(false));
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
        for ticket in [0, 12345, 1 << 28, Ticket::LAST].map(Ticket) {
            assert_eq!(State::freed(ticket, 77).ticket(), ticket);
            assert_eq!(State::freed(ticket, 77).kind(), 77);
            assert_eq!((ticket.next().since(ticket), ticket.since(ticket)), (1, 0));
        }
    }
}
