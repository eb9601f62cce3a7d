//! The host's malloc, as a kernel's pool, and nothing else.

use std::hint::black_box;

use memtrack_peers::{Pool, Task, malloc};

struct Plain;

impl Pool for Plain {
    fn take(&self, bytes: usize, site: u32) -> *mut u8 {
        // SAFETY: any size will do.
        unsafe { malloc::ExAllocatePool2(0x40, bytes as u64, 1 + site).cast() }
    }

    fn give(&self, block: *mut u8, _: usize) {
        // SAFETY: the block came from there.
        unsafe { malloc::ExFreePool(block.cast()) };
    }
}

/// LeakSanitizer, preloaded, gets ready at the first allocation; what it has put in the place of `signal` must not be called
/// before, as Rust's own start does.
#[used]
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = early;

extern "C" fn early() {
    // SAFETY: any size will do, and the block is nobody else's.
    unsafe { malloc::ExFreePool(black_box(malloc::ExAllocatePool2(0x40, 1, 1))) };
}

fn main() {
    Task::from_arguments().run(&Plain);
}
