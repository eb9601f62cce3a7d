//! What memtrack takes for granted of wdk-sys. A version that says otherwise fails to build here, by the name of what
//! differs, instead of corrupting a driver's memory. Layouts of lookaside lists are compared in `lookaside.rs`.

use core::ffi::{c_char, c_void};

use wdk_sys::{
    KIRQL, KSPIN_LOCK, PALLOCATE_FUNCTION, PALLOCATE_FUNCTION_EX, PCPOOL_EXTENDED_PARAMETER, PFREE_FUNCTION,
    PFREE_FUNCTION_EX, PLOOKASIDE_LIST_EX, PNPAGED_LOOKASIDE_LIST, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED,
    POOL_FLAG_UNINITIALIZED, POOL_FLAGS, POOL_TYPE, PPAGED_LOOKASIDE_LIST, PPROCESSOR_NUMBER, PVOID, SIZE_T,
    ULONG, USHORT, ntddk,
};

macro_rules! sizes {
    ($($ty:ty: $bytes:literal;)*) => {$(
        const _: () = assert!(
            size_of::<$ty>() == $bytes,
            concat!(
                "memtrack knows wdk-sys 0.3 to 0.5 on 64-bit targets, where ",
                stringify!($ty), " has ", $bytes, " bytes; this one differs, and memtrack does not fit it"
            )
        );
    )*};
}

sizes! {
    PVOID: 8;
    SIZE_T: 8;
    POOL_FLAGS: 8;
    KSPIN_LOCK: 8;
    ULONG: 4;
    POOL_TYPE: 4;
    USHORT: 2;
    KIRQL: 1;
    PALLOCATE_FUNCTION: 8;
    PALLOCATE_FUNCTION_EX: 8;
    PFREE_FUNCTION: 8;
    PFREE_FUNCTION_EX: 8;
    PCPOOL_EXTENDED_PARAMETER: 8;
}

macro_rules! values {
    ($($name:ident: $value:literal;)*) => {$(
        const _: () = assert!(
            $name == $value,
            concat!("memtrack knows ", stringify!($name), " as ", $value, " (wdm.h); this wdk-sys differs")
        );
    )*};
}

values! {
    POOL_FLAG_UNINITIALIZED: 0x2;
    POOL_FLAG_NON_PAGED: 0x40;
    POOL_FLAG_PAGED: 0x100;
}

/// Each line stands for a function of this signature: "mismatched types" or "takes … arguments" here means that
/// this wdk-sys declares it otherwise than 0.3 to 0.5 do, and that memtrack does not fit it.
macro_rules! functions {
    ($($name:ident($($parameter:ident: $ty:ty),*) $(-> $result:ty)?;)*) => {$(
        const _: unsafe fn($($ty),*) $(-> $result)? = |$($parameter: $ty),*| $(-> $result)? {
            // SAFETY: never called.
            unsafe { ntddk::$name($($parameter),*) }
        };
    )*};
}

functions! {
    ExAllocatePool2(flags: u64, bytes: u64, tag: u32) -> *mut c_void;
    ExAllocatePool3(flags: u64, bytes: u64, tag: u32, parameters: PCPOOL_EXTENDED_PARAMETER, count: u32) -> *mut c_void;
    ExAllocatePoolWithQuota(pool: POOL_TYPE, bytes: u64) -> *mut c_void;
    ExFreePool(block: *mut c_void);
    ExFreePoolWithTag(block: *mut c_void, tag: u32);
    ExFreePool2(block: *mut c_void, tag: u32, parameters: PCPOOL_EXTENDED_PARAMETER, count: u32);
    ExInitializeNPagedLookasideList(
        list: PNPAGED_LOOKASIDE_LIST, allocate: PALLOCATE_FUNCTION, free: PFREE_FUNCTION, flags: u32, size: u64,
        tag: u32, depth: u16
    );
    ExInitializePagedLookasideList(
        list: PPAGED_LOOKASIDE_LIST, allocate: PALLOCATE_FUNCTION, free: PFREE_FUNCTION, flags: u32, size: u64,
        tag: u32, depth: u16
    );
    ExInitializeLookasideListEx(
        list: PLOOKASIDE_LIST_EX, allocate: PALLOCATE_FUNCTION_EX, free: PFREE_FUNCTION_EX, pool: POOL_TYPE,
        flags: u32, size: u64, tag: u32, depth: u16
    ) -> i32;
    ExDeleteNPagedLookasideList(list: PNPAGED_LOOKASIDE_LIST);
    ExDeletePagedLookasideList(list: PPAGED_LOOKASIDE_LIST);
    ExDeleteLookasideListEx(list: PLOOKASIDE_LIST_EX);
    ExFlushLookasideListEx(list: PLOOKASIDE_LIST_EX);
    DbgPrintEx(component: u32, level: u32, format: *const c_char) -> u32;
    KeAcquireSpinLockRaiseToDpc(lock: *mut KSPIN_LOCK) -> u8;
    KeReleaseSpinLock(lock: *mut KSPIN_LOCK, irql: u8);
    KeGetCurrentIrql() -> u8;
    KeGetCurrentProcessorNumberEx(number: PPROCESSOR_NUMBER) -> u32;
    KdRefreshDebuggerNotPresent() -> u8;
    MmIsAddressValid(address: *mut c_void) -> u8;
}
