//! The kernel that the feature `wdk` chooses: Windows's, through wdk-sys.

use core::ffi::CStr;
use core::ptr::NonNull;

use memtrack_rt::{BUGCHECK, Irql, Platform, SpinLock, Tracker};
use wdk_sys::{POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED, ntddk};

pub struct Kernel;

const _: () =
    assert!(size_of::<wdk_sys::KSPIN_LOCK>() == size_of::<SpinLock>(), "memtrack needs a 64-bit target");

/// The tag of memtrack's own memory, as PoolMon shows it.
const TAG: u32 = u32::from_le_bytes(*b"Mtrk");

/// A driver's statics are new whenever it is loaded.
pub fn load_anew(_: &Tracker<Kernel>) {}

// SAFETY: the kernel's spin locks exclude and order, and neither they nor its debug output call a driver. The memory is
// the kernel's, of which nobody else knows. Nothing is said of who lives at an address.
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
        let flags = POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED;
        // SAFETY: any size will do.
        NonNull::new(unsafe { ntddk::ExAllocatePool2(flags, bytes as u64, TAG) }.cast())
    }

    fn irql(&self) -> Irql {
        // SAFETY: may be called at any time.
        unsafe { ntddk::KeGetCurrentIrql() }
    }

    fn break_in(&self) {
        // SAFETY: may be called at any time; with a debugger attached, somebody answers the break.
        unsafe {
            if ntddk::KdRefreshDebuggerNotPresent() == 0 {
                ntddk::DbgBreakPoint();
            }
        }
    }

    fn bugcheck(&self, [first, second, third, fourth]: [usize; 4], _: &CStr) {
        // SAFETY: may be called at any time.
        unsafe { ntddk::KeBugCheckEx(BUGCHECK, first as u64, second as u64, third as u64, fourth as u64) };
    }

    unsafe fn free(&self, memory: NonNull<u8>) {
        // SAFETY: the caller gives up a piece of `allocate`'s.
        unsafe { ntddk::ExFreePoolWithTag(memory.as_ptr().cast(), TAG) };
    }
}
