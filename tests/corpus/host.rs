//! Memory for the mock kernels of the corpus. A free of anything but a live block's start fails the test.

use std::alloc::{alloc_zeroed, dealloc, Layout};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

static LIVE: LazyLock<Mutex<HashMap<usize, Layout>>> = LazyLock::new(Mutex::default);

/// More than this is refused.
const LARGEST: usize = 12 << 10;

fn live() -> MutexGuard<'static, HashMap<usize, Layout>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets what earlier files have left.
pub fn begin() {
    live().clear();
}

/// How many blocks are allocated now.
pub fn blocks() -> usize {
    live().len()
}

/// A block of zeros, aligned as the kernel's pool aligns; null where it is too much.
pub fn allocate<T>(bytes: impl TryInto<usize>) -> *mut T {
    let bytes = bytes.try_into().unwrap_or(usize::MAX);
    if bytes > LARGEST {
        return core::ptr::null_mut();
    }
    let layout = Layout::from_size_align(bytes.max(1), if bytes < 4096 { 16 } else { 4096 }).unwrap();
    // SAFETY: the layout is not empty.
    let block = unsafe { alloc_zeroed(layout) };
    live().insert(block.addr(), layout);
    block.cast()
}

/// Gives back a block of [`allocate`]'s.
#[track_caller]
pub fn release<T>(block: *mut T) {
    let layout = live().remove(&block.addr()).expect("a free of what is no live block");
    // SAFETY: allocated with this very layout, and live until now.
    unsafe { dealloc(block.cast(), layout) };
}
