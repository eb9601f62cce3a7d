//! Calls at DISPATCH_LEVEL, which leave the IRQL as it is.

use wdk_sys::ntddk::{DbgPrint, KeAcquireSpinLockRaiseToDpc, KeGetCurrentIrql, KeReleaseSpinLock};
use wdk_sys::{KSPIN_LOCK, POOL_FLAG_NON_PAGED};

/// A new site, a known one, a free, and what is asked of memtrack: some of it takes memtrack's own lock.
#[memtrack::instrument]
pub fn stays() {
    use wdk_sys::ntddk::{ExAllocatePool2, ExFreePool};

    let mut lock: KSPIN_LOCK = 0;
    let level = || i32::from(unsafe { KeGetCurrentIrql() });
    unsafe {
        let before = KeAcquireSpinLockRaiseToDpc(&raw mut lock);
        let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 48, u32::from_le_bytes(*b"Irql"));
        let allocated = level();
        ExFreePool(block);
        let freed = level();
        let _ = memtrack::stats();
        memtrack::check();
        let asked = level();
        KeReleaseSpinLock(&raw mut lock, before);
        DbgPrint(c"exercise: IRQL %d, %d, %d, then %d\n".as_ptr(), allocated, freed, asked, level());
    }
}
