//! A pool of real memory, as a kernel that minds: it knows its live blocks, and panics over a free that is wrong.
#![allow(dead_code, unreachable_pub, reason = "shared by several tests, none of which uses all of it")]

use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;

/// A pool that a `static` of a test holds.
pub struct Pool(Mutex<Option<HashMap<usize, Layout>>>);

impl Pool {
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn blocks(&self) -> MutexGuard<'_, Option<HashMap<usize, Layout>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block, aligned as the kernel's are, and full of something.
    pub fn give(&self, bytes: usize) -> usize {
        let layout = Layout::from_size_align(bytes.max(1), if bytes < PAGE { 16 } else { PAGE }).unwrap();
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc(layout) };
        // SAFETY: the block is so long.
        unsafe { block.write_bytes(0xCD, layout.size()) };
        let address = block.expose_provenance();
        assert_eq!(self.blocks().get_or_insert_default().insert(address, layout), None);
        address
    }

    pub fn take(&self, address: usize) {
        let layout =
            self.blocks().get_or_insert_default().remove(&address).expect("a live block of this pool");
        // SAFETY: the block was allocated so, and is live no longer.
        unsafe { dealloc(std::ptr::with_exposed_provenance_mut(address), layout) };
    }

    /// Live blocks, and their bytes.
    pub fn usage(&self) -> (usize, usize) {
        let blocks = self.blocks();
        let blocks = blocks.iter().flatten();
        blocks.fold((0, 0), |(count, bytes), (_, layout)| (count + 1, bytes + layout.size()))
    }
}
