//! The host's memory: whole pages, filled with a byte that shows.

use std::alloc::{Layout, alloc, dealloc};

use super::{FRESH_BYTE, PAGE};
use crate::types::PVOID;

/// Where a block begins. The pools keep addresses; only their callers look behind them.
#[derive(Clone, Copy)]
pub(super) struct Address(*mut u8);

// SAFETY: nothing here reads or writes through an address, so that it is as good as a number to every thread.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

impl Address {
    pub(super) fn of(pointer: PVOID) -> Self {
        Self(pointer.cast())
    }

    pub(super) fn pointer(self) -> PVOID {
        self.0.cast()
    }

    pub(super) fn number(self) -> usize {
        self.0.addr()
    }

    pub(super) fn after(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// Pages that are given back to the host when this is dropped.
pub(super) struct Pages {
    start: Address,
    layout: Layout,
}

impl Pages {
    /// None where the host has no memory. `bytes` is a multiple of the page size and not zero.
    pub(super) fn fresh(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes, PAGE).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return None;
        }
        // SAFETY: `start` is the beginning of `bytes` bytes that were allocated just now and belong to
        // nobody else.
        unsafe { start.write_bytes(FRESH_BYTE, bytes) };
        Some(Self { start: Address(start), layout })
    }

    pub(super) fn start(&self) -> Address {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `alloc` returned this address for this layout, and only this drop gives it back.
        unsafe { dealloc(self.start.0, self.layout) };
    }
}
