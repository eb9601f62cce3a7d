//! wdk-sys: `ntddk`'s functions, sizes as `SIZE_T`. A device keeps a log of its requests.

#[allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod wdk_sys {
    pub type NTSTATUS = i32;
    pub type POOL_FLAGS = u64;
    pub type PVOID = *mut core::ffi::c_void;
    pub type SIZE_T = u64;
    pub type ULONG = u32;

    pub const POOL_FLAG_NON_PAGED: POOL_FLAGS = 0x40;
    pub const POOL_FLAG_PAGED: POOL_FLAGS = 0x100;
    pub const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = -1_073_741_670;

    pub mod ntddk {
        use super::{POOL_FLAGS, PVOID, SIZE_T, ULONG};
        use crate::host;

        pub unsafe extern "C" fn ExAllocatePool2(_: POOL_FLAGS, bytes: SIZE_T, _: ULONG) -> PVOID {
            host::allocate(bytes)
        }
        pub unsafe extern "C" fn ExFreePoolWithTag(block: PVOID, _: ULONG) {
            host::release(block);
        }
    }
}

memtrack::instrument_items! {
    use core::ptr::null_mut;
    use wdk_sys::{
        NTSTATUS, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, PVOID, SIZE_T, STATUS_INSUFFICIENT_RESOURCES, ULONG, ntddk,
    };

    const TAG: ULONG = u32::from_le_bytes(*b"Wdev");

    /// What the device keeps of one request.
    struct LogEntry {
        next: *mut LogEntry,
        offset: u64,
    }

    struct DeviceExtension {
        log: *mut LogEntry,
        scratch: PVOID,
        scratch_length: SIZE_T,
    }

    unsafe fn add_device(scratch_length: SIZE_T) -> Result<*mut DeviceExtension, NTSTATUS> {
        unsafe {
            let extension: *mut DeviceExtension = /*@*/ntddk::ExAllocatePool2(
                POOL_FLAG_NON_PAGED,
                size_of::<DeviceExtension>() as SIZE_T,
                TAG,
            )
            .cast();
            if extension.is_null() {
                return Err(STATUS_INSUFFICIENT_RESOURCES);
            }
            let scratch = /*@*/wdk_sys::ntddk::ExAllocatePool2(POOL_FLAG_PAGED, scratch_length, TAG);
            if scratch.is_null() {
                ntddk::ExFreePoolWithTag(extension.cast(), TAG);
                return Err(STATUS_INSUFFICIENT_RESOURCES);
            }
            extension.write(DeviceExtension { log: null_mut(), scratch, scratch_length });
            Ok(extension)
        }
    }

    unsafe fn dispatch_read(extension: *mut DeviceExtension, offset: u64) {
        let bytes = size_of::<LogEntry>() as SIZE_T;
        let entry = unsafe { /*@*/ntddk::ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG) }.cast::<LogEntry>();
        if !entry.is_null() {
            unsafe {
                entry.write(LogEntry { next: (*extension).log, offset });
                (*extension).log = entry;
            }
        }
    }

    unsafe fn remove_device(extension: *mut DeviceExtension) -> u64 {
        let mut offsets = 0;
        unsafe {
            while !(*extension).log.is_null() {
                let entry = (*extension).log;
                (*extension).log = (*entry).next;
                offsets += (*entry).offset;
                ntddk::ExFreePoolWithTag(entry.cast(), TAG);
            }
            ntddk::ExFreePoolWithTag((*extension).scratch, TAG);
            ntddk::ExFreePoolWithTag(extension.cast(), TAG);
        }
        offsets
    }

    pub fn drive() {
        unsafe {
            assert_eq!(add_device(u64::MAX / 2).err(), Some(STATUS_INSUFFICIENT_RESOURCES));
            let kept = add_device(4096).unwrap();
            let removed = add_device(100).unwrap();
            (1..=3).for_each(|offset| dispatch_read(removed, 512 * offset));
            dispatch_read(kept, 7);
            assert_eq!(remove_device(removed), 512 * 6);
            assert_eq!(((*kept).scratch.addr() % 4096, (*kept).scratch_length), (0, 4096));
        }
    }
}
