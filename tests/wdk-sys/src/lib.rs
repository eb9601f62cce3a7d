//! `wdk-sys` as memtrack names it, over memtrack-sim.

pub use memtrack_sim::{
    KIRQL, KSPIN_LOCK, PCPOOL_EXTENDED_PARAMETER, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, POOL_FLAG_UNINITIALIZED,
    POOL_FLAGS, POOL_TYPE, PVOID, SIZE_T, ULONG,
};

pub mod ntddk {
    // Without the functions that wdk-build leaves out: ExAllocatePool, …WithTag, …WithQuotaTag, …WithTagPriority, and
    // those that are inline in the header.
    pub use memtrack_sim::ntddk::{
        DbgPrint, ExAllocatePool2, ExAllocatePool3, ExAllocatePoolWithQuota, ExFreePool, ExFreePool2,
        ExFreePoolWithTag, KeAcquireSpinLockRaiseToDpc, KeBugCheckEx, KeGetCurrentIrql, KeReleaseSpinLock,
    };

    /// No debugger is attached to a simulated machine.
    #[allow(non_snake_case)]
    pub unsafe extern "C" fn KdRefreshDebuggerNotPresent() -> u8 {
        1
    }

    #[allow(non_snake_case)]
    pub unsafe extern "C" fn DbgBreakPoint() {
        panic!("a break without a debugger stops the machine");
    }
}
