//! The kernel that the feature `sim` chooses: memtrack-sim's.

extern crate std;

use core::ffi::CStr;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::{Layout, alloc, dealloc};
use std::sync::{Mutex, PoisonError};

use memtrack_rt::{Irql, Platform, SpinLock, Tracker};
use memtrack_sim::{KSPIN_LOCK, ntddk};

pub struct Kernel;

const _: () = assert!(size_of::<KSPIN_LOCK>() == size_of::<SpinLock>(), "memtrack-sim needs a 64-bit host");

/// Before each piece of the tracker's memory stands how long it is, with what keeps the alignment.
const HEAD: usize = 16;
const _: () = assert!(size_of::<Layout>() <= HEAD);

/// Forgets what `tracker` knows of another machine than the one that runs now: a boot loads the driver anew.
pub fn load_anew(tracker: &Tracker<Kernel>) {
    static LOADED: AtomicU64 = AtomicU64::new(0);
    static LOADING: Mutex<()> = Mutex::new(());

    let running = memtrack_sim::running();
    // Acquire pairs with the Release below: who sees the number sees the new books.
    if LOADED.load(Ordering::Acquire) != running {
        let _loading = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: only changed under the mutex, which is held.
        if LOADED.load(Ordering::Relaxed) != running {
            tracker.forget();
            // Release pairs with the Acquire above.
            LOADED.store(running, Ordering::Release);
        }
    }
}

// SAFETY: the simulated kernel's spin locks exclude and order as the real ones do, and neither they nor its debug
// output call a driver. The memory is the host's allocator's.
unsafe impl Platform for Kernel {
    fn print(&self, line: &CStr) {
        // SAFETY: one string for one `%s`, both terminated by zero.
        unsafe { ntddk::DbgPrint(c"%s".as_ptr(), line.as_ptr()) };
    }

    fn acquire(&self, lock: &SpinLock) -> Irql {
        // SAFETY: the word is a spin lock of one pointer's size, as a `KSPIN_LOCK` is, and lives as long as `lock`.
        unsafe { ntddk::KeAcquireSpinLockRaiseToDpc(lock.word().as_ptr().cast()) }
    }

    unsafe fn release(&self, lock: &SpinLock, irql: Irql) {
        // SAFETY: as above, and the caller holds the lock.
        unsafe { ntddk::KeReleaseSpinLock(lock.word().as_ptr().cast(), irql) };
    }

    /// The host's memory, not the simulated pool's: the tracker outlives a machine that a test shuts down, and the
    /// limits that a test sets are for its driver.
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        let layout = Layout::from_size_align(bytes.checked_add(HEAD)?, HEAD).ok()?;
        // SAFETY: the layout is as long as the head at least.
        let memory = NonNull::new(unsafe { alloc(layout) })?;
        // SAFETY: the memory begins with room for the head, aligned to more than it needs.
        unsafe { memory.cast::<Layout>().write(layout) };
        // SAFETY: the memory is longer than the head.
        Some(unsafe { memory.add(HEAD) })
    }

    unsafe fn free(&self, memory: NonNull<u8>) {
        // SAFETY: the caller gives up a piece of `allocate`'s, so its head stands before it.
        let head = unsafe { memory.sub(HEAD) };
        // SAFETY: as above; the head was written there.
        let layout = unsafe { head.cast::<Layout>().read() };
        // SAFETY: allocated with this very layout.
        unsafe { dealloc(head.as_ptr(), layout) };
    }
}
