//! The kernel that the feature `sim` chooses: memtrack-sim's.

extern crate std;

use core::ffi::CStr;
use core::ptr::{NonNull, null_mut, without_provenance_mut};
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::{Layout, alloc, dealloc};
use std::sync::{Mutex, PoisonError};

use memtrack_rt::{Irql, Platform, Pool, Settings, SpinLock, Tenant, Tracker};
use memtrack_sim::{Allocation, KSPIN_LOCK, allocation_at, latest_allocation, ntddk};

pub struct Kernel;

const _: () = assert!(size_of::<KSPIN_LOCK>() == size_of::<SpinLock>(), "memtrack-sim needs a 64-bit host");

/// Before each piece of the tracker's memory stands how long it is, with what keeps the alignment.
const HEAD: usize = 16;
const _: () = assert!(size_of::<Layout>() <= HEAD);

/// Forgets what `tracker` knows of another machine than the one that runs now, and what was chosen there: a boot
/// loads the driver anew.
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
            tracker.configure(Settings::new());
            // Release pairs with the Acquire above.
            LOADED.store(running, Ordering::Release);
        }
    }
}

/// The number of an allocation as the tracker keeps it, in thirteen bits; 0 stands for none.
fn stamp(number: u64) -> u16 {
    if number == 0 { 0 } else { (number % 0x1FFF) as u16 + 1 }
}

// SAFETY: the simulated kernel's spin locks exclude and order as the real ones do, and neither they nor its debug
// output call a driver. The memory is the host's allocator's. The kernel numbers its allocations, and two blocks of
// one address have the same stamp only if a multiple of 8,191 allocations lies between them.
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

    fn irql(&self) -> Irql {
        // SAFETY: may be called at any time.
        unsafe { ntddk::KeGetCurrentIrql() }
    }

    #[inline]
    fn processor(&self) -> usize {
        // SAFETY: may be called at any time; nothing is written down.
        unsafe { ntddk::KeGetCurrentProcessorNumberEx(null_mut()) as usize }
    }

    fn stamp(&self, block: usize, _: Pool) -> u16 {
        stamp(latest_allocation(without_provenance_mut(block)))
    }

    fn tenant(&self, block: usize, known: u16) -> Tenant {
        match allocation_at(without_provenance_mut(block)) {
            Allocation::Live(number) if stamp(number) == known => Tenant::Same,
            Allocation::Live(_) => Tenant::Another,
            Allocation::Free => Tenant::Nobody,
            // Another kernel's, such as a test's own.
            Allocation::Unknown => Tenant::Unknown,
        }
    }

    /// No debugger is attached to a simulated machine.
    fn break_in(&self) {}

    /// A test is to fail at the mistake, and to say what it was; a panic while it is failing already would end the
    /// process.
    fn bugcheck(&self, _: [usize; 4], line: &CStr) {
        if !std::thread::panicking() {
            panic!("{}", line.to_string_lossy());
        }
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
