//! Quarantines: what was freed lately, oldest first, one for each pool.
//!
//! Everything here happens under the tracker's lock. What is done with the memory of a block, poisoning it, reading
//! it, giving it back, is done without: a record says who is at it.

use core::mem::size_of;
use core::panic::Location;
use core::ptr::{self, NonNull};

use crate::block::{Live, Ticket};
use crate::pool::{Function, Tag};
use crate::settings;

/// How a held block goes back to its kernel: the very function that the driver freed it with.
///
/// # Safety
///
/// The address is that of a block of that kernel's, which nobody uses, and the tag its tag or what the driver gave.
pub(crate) type GiveBack = unsafe fn(address: usize, tag: u32);

/// Who is at a freed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The processor that frees it.
    Entering,
    /// Nobody: its memory is held. Poison tells what is written to it, unless it could not be touched.
    Held { poisoned: bool },
    /// Nobody: its memory is the kernel's again, or about to be.
    Remembered,
    /// It is gone.
    Gone,
}

/// A block that was freed.
#[derive(Clone, Copy)]
pub(crate) struct Freed {
    pub(crate) address: usize,
    pub(crate) live: Live,
    /// Where it was freed, by which function, and under which tag.
    pub(crate) location: &'static Location<'static>,
    pub(crate) function: Function,
    pub(crate) tag: Tag,
    pub(crate) give_back: Option<GiveBack>,
    pub(crate) stage: Stage,
}

const _: () = assert!(size_of::<Freed>() <= 48, "a record of the quarantine has grown");

impl Freed {
    /// What it takes of its pool.
    fn bytes(&self) -> usize {
        match self.stage {
            Stage::Remembered | Stage::Gone => 0,
            _ => {
                let body = self.live.body(self.address);
                body.layout.total(body.bytes).unwrap_or(body.bytes)
            }
        }
    }
}

/// A ring of records that grows.
pub(crate) struct Quarantine {
    slots: *mut Freed,
    /// A power of two, or zero.
    capacity: usize,
    /// The oldest record, and the one that comes next.
    head: Ticket,
    tail: Ticket,
    /// Blocks that are not gone.
    blocks: usize,
    /// Their bytes of pool.
    bytes: usize,
    /// Those of them whose memory is held.
    held: usize,
}

impl Quarantine {
    pub(crate) const EMPTY: Self = Self {
        slots: ptr::null_mut(),
        capacity: 0,
        head: Ticket::FIRST,
        tail: Ticket::FIRST,
        blocks: 0,
        bytes: 0,
        held: 0,
    };

    /// Records of the first ring.
    const FIRST: usize = 64;

    /// How much memory to bring before the next record; `None` while there is room.
    pub(crate) fn wants(&self) -> Option<usize> {
        (self.length() >= self.capacity).then(|| self.next_capacity() * size_of::<Freed>())
    }

    /// Takes memory in as a larger ring. Returns what is not used any more: the smaller one, or the memory itself if
    /// it is no longer what is wanted.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes, and `bytes` long, as [`wants`](Self::wants) asked.
    pub(crate) unsafe fn adopt(&mut self, memory: NonNull<u8>, bytes: usize) -> Option<NonNull<u8>> {
        let capacity = self.next_capacity();
        if self.wants() != Some(bytes) {
            return Some(memory);
        }
        let slots = memory.cast::<Freed>().as_ptr();
        let mut ticket = self.head;
        while ticket != self.tail {
            let place = ticket.place(capacity);
            // SAFETY: the old slot holds a record, the new one lies within the new ring.
            unsafe { slots.add(place).write(*self.slot(ticket)) };
            ticket = ticket.next();
        }
        self.capacity = capacity;
        NonNull::new(core::mem::replace(&mut self.slots, slots)).map(NonNull::cast)
    }

    /// Writes a record down. Where there is no room, which [`wants`](Self::wants) tells before, it is gone at once.
    pub(crate) fn enter(&mut self, freed: Freed) -> Ticket {
        let ticket = self.tail;
        if self.wants().is_some() {
            return ticket;
        }
        // SAFETY: there is room, so the slot lies within the ring and holds no record.
        unsafe { self.slot(ticket).write(freed) };
        self.tail = ticket.next();
        self.blocks += 1;
        self.bytes += freed.bytes();
        self.held += usize::from(freed.stage != Stage::Remembered);
        ticket
    }

    /// The record of a ticket; `None` if it is gone.
    pub(crate) fn at(&mut self, ticket: Ticket) -> Option<&mut Freed> {
        if ticket.since(self.head) >= self.length() {
            return None;
        }
        // SAFETY: the ticket lies between head and tail, so its slot holds a record; `&mut self` makes it ours.
        let freed = unsafe { &mut *self.slot(ticket) };
        (freed.stage != Stage::Gone).then_some(freed)
    }

    pub(crate) fn is_beyond(&self, bounds: settings::Quarantine) -> bool {
        self.blocks > bounds.blocks || self.bytes > bounds.bytes
    }

    /// The oldest record that must go for the quarantine to stay within its bounds, and that nobody is at; `None` where
    /// there is none.
    pub(crate) fn surplus(&mut self, bounds: settings::Quarantine) -> Option<Ticket> {
        if !self.is_beyond(bounds) {
            return None;
        }
        let mut ticket = self.head;
        while let Some(freed) = self.slot_between(ticket) {
            match freed.stage {
                Stage::Held { .. } if !freed.live.is_pinned() => return Some(ticket),
                Stage::Remembered => return Some(ticket),
                // Somebody is at it, for a moment.
                Stage::Held { .. } | Stage::Entering | Stage::Gone => {}
            }
            ticket = ticket.next();
        }
        None
    }

    /// The record is gone. Returns what it was, unless it was gone before.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Freed> {
        let freed = self.at(ticket)?;
        let before = *freed;
        freed.stage = Stage::Gone;
        self.blocks -= 1;
        self.bytes -= before.bytes();
        self.held -= usize::from(before.stage != Stage::Remembered);
        while self.slot_between(self.head).is_some_and(|freed| freed.stage == Stage::Gone) {
            self.head = self.head.next();
        }
        Some(before)
    }

    /// Blocks whose memory is held, and their bytes of pool.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.held as u64, self.bytes as u64)
    }

    /// Forgets every record and hands over their memory. No ticket of before is one of afterwards.
    pub(crate) fn detach(&mut self) -> Option<NonNull<u8>> {
        let next = self.tail.next();
        let slots = core::mem::replace(self, Self { head: next, tail: next, ..Self::EMPTY }).slots;
        NonNull::new(slots).map(NonNull::cast)
    }

    fn slot_between(&self, ticket: Ticket) -> Option<&Freed> {
        // SAFETY: a slot between head and tail holds a record.
        (ticket.since(self.head) < self.length()).then(|| unsafe { &*self.slot(ticket) })
    }

    /// Tickets that come after those of another one, which was closed, so that none of them is one of these.
    pub(crate) fn go_on(&mut self, other: &Self) {
        *self = Self { head: other.tail.next(), tail: other.tail.next(), ..Self::EMPTY };
    }

    pub(crate) fn length(&self) -> usize {
        self.tail.since(self.head)
    }

    fn next_capacity(&self) -> usize {
        self.capacity.saturating_mul(2).max(Self::FIRST)
    }

    fn slot(&self, ticket: Ticket) -> *mut Freed {
        self.slots.wrapping_add(ticket.place(self.capacity))
    }
}
