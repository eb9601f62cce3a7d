//! The kernel that the feature `sim` chooses: memtrack-sim's.

use core::ffi::{CStr, c_void};
use core::ptr::NonNull;

use memtrack_rt::{Irql, Platform, SpinLock};
use memtrack_sim::{POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED, ntddk};

/// The tag of the tracker's own memory.
const TAG: u32 = u32::from_le_bytes(*b"Mtrk");

pub struct Kernel;

// SAFETY: the simulated kernel's spin locks exclude and order as the real ones do; its pool hands memory to one
// owner at a time, aligned to 16 bytes; none of its functions calls a driver.
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

    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: any size and tag will do; the memory is written before it is read.
        let memory = unsafe {
            ntddk::ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, bytes as u64, TAG)
        };
        NonNull::new(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<u8>) {
        // SAFETY: the caller gives up a block of `allocate`'s.
        unsafe { ntddk::ExFreePoolWithTag(memory.as_ptr().cast::<c_void>(), TAG) };
    }
}
