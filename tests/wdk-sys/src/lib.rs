//! `wdk-sys` as memtrack names it, over memtrack-sim. As built from a kit below NTDDI_WIN10_NI: allocating from a lookaside
//! list and freeing to it are inline there, and not bound.

pub use memtrack_sim::{
    GENERAL_LOOKASIDE, KIRQL, KSPIN_LOCK, LOOKASIDE_LIST_EX, NPAGED_LOOKASIDE_LIST, NTSTATUS,
    PAGED_LOOKASIDE_LIST, PALLOCATE_FUNCTION, PALLOCATE_FUNCTION_EX, PCPOOL_EXTENDED_PARAMETER,
    PFREE_FUNCTION, PFREE_FUNCTION_EX, PLOOKASIDE_LIST_EX, PNPAGED_LOOKASIDE_LIST, POOL_FLAG_NON_PAGED,
    POOL_FLAG_PAGED, POOL_FLAG_UNINITIALIZED, POOL_FLAGS, POOL_TYPE, PPAGED_LOOKASIDE_LIST,
    PPROCESSOR_NUMBER, PVOID, SIZE_T, ULONG, USHORT,
};

pub mod ntddk {
    // Without the functions that wdk-build leaves out: ExAllocatePool, …WithTag, …WithQuotaTag, …WithTagPriority, and
    // those that are inline in the header.
    pub use memtrack_sim::ntddk::{
        DbgPrint, DbgPrintEx, ExAllocatePool2, ExAllocatePool3, ExAllocatePoolWithQuota,
        ExDeleteLookasideListEx, ExDeleteNPagedLookasideList, ExDeletePagedLookasideList,
        ExFlushLookasideListEx, ExFreePool, ExFreePool2, ExFreePoolWithTag, ExInitializeLookasideListEx,
        ExInitializeNPagedLookasideList, ExInitializePagedLookasideList, ExQueryDepthSList,
        ExpInterlockedPopEntrySList, ExpInterlockedPushEntrySList, KeAcquireSpinLockRaiseToDpc, KeBugCheckEx,
        KeGetCurrentIrql, KeGetCurrentProcessorNumberEx, KeReleaseSpinLock,
    };

    use crate::PVOID;

    /// All memory of a simulated machine is there.
    #[allow(non_snake_case)]
    pub unsafe extern "C" fn MmIsAddressValid(_: PVOID) -> u8 {
        1
    }

    /// No debugger is attached to a simulated machine.
    #[allow(non_snake_case)]
    pub unsafe extern "C" fn KdRefreshDebuggerNotPresent() -> u8 {
        1
    }
}
