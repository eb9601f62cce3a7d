//! `DriverEntry` and its unload routine, which prints the leaks. The driver is loaded twice.

#[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod wdk_sys {
    pub type NTSTATUS = i32;
    pub type PVOID = *mut core::ffi::c_void;
    pub const STATUS_SUCCESS: NTSTATUS = 0;
    pub const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = -1_073_741_670;

    pub type PDRIVER_UNLOAD = Option<unsafe extern "C" fn(*mut DRIVER_OBJECT)>;

    #[repr(C)]
    pub struct DRIVER_OBJECT {
        pub extension: PVOID,
        pub unload: PDRIVER_UNLOAD,
    }

    #[allow(non_snake_case)]
    pub mod ntddk {
        use super::PVOID;

        pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> PVOID {
            crate::host::allocate(bytes)
        }
        pub unsafe extern "C" fn ExFreePoolWithTag(block: PVOID, _: u32) {
            crate::host::release(block);
        }
    }
}

memtrack::instrument_items! {
    use core::ptr::null_mut;
    use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
    use wdk_sys::{DRIVER_OBJECT, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};

    const TAG: u32 = u32::from_le_bytes(*b"Entr");

    #[repr(C)]
    struct Extension {
        path: *mut u16,
        units: usize,
        spare: PVOID,
    }

    unsafe extern "C" fn driver_entry(driver: *mut DRIVER_OBJECT, path: *const u16, units: usize) -> NTSTATUS {
        unsafe {
            let bytes = size_of::<Extension>() as u64;
            let extension = /*@*/ExAllocatePool2(0x40, bytes, TAG).cast::<Extension>();
            let copy = /*@*/ExAllocatePool2(0x100, 2 * units as u64, TAG).cast::<u16>();
            if extension.is_null() || copy.is_null() {
                for block in [extension.cast(), copy.cast::<core::ffi::c_void>()] {
                    if !block.is_null() {
                        ExFreePoolWithTag(block, TAG);
                    }
                }
                return STATUS_INSUFFICIENT_RESOURCES;
            }
            copy.copy_from_nonoverlapping(path, units);
            let spare = /*@*/ExAllocatePool2(0x40, 77, TAG);
            extension.write(Extension { path: copy, units, spare });
            (*driver).extension = extension.cast();
            (*driver).unload = Some(driver_unload);
        }
        STATUS_SUCCESS
    }

    /// Forgets the spare block.
    #[memtrack::instrument(finish = "Entry")]
    unsafe extern "C" fn driver_unload(driver: *mut DRIVER_OBJECT) {
        let extension = unsafe { core::mem::replace(&mut (*driver).extension, null_mut()) }.cast::<Extension>();
        if extension.is_null() {
            return;
        }
        unsafe {
            assert_eq!(((*extension).units, (*extension).path.read()), (9, u16::from(b'\\')));
            ExFreePoolWithTag((*extension).path.cast(), TAG);
            ExFreePoolWithTag(extension.cast(), TAG);
        }
    }

    pub fn drive() {
        let path: Vec<u16> = r"\Registry".encode_utf16().collect();
        let mut driver = DRIVER_OBJECT { extension: null_mut(), unload: None };
        unsafe {
            assert_eq!(driver_entry(&raw mut driver, path.as_ptr(), path.len()), STATUS_SUCCESS);
            driver.unload.unwrap()(&raw mut driver);
            // Nothing of the first time is known to the second.
            assert_eq!(driver_entry(&raw mut driver, path.as_ptr(), 1 << 40), STATUS_INSUFFICIENT_RESOURCES);
            assert_eq!(driver_entry(&raw mut driver, path.as_ptr(), path.len()), STATUS_SUCCESS);
            assert!((*driver.extension.cast::<Extension>()).spare.is_aligned());
        }
    }
}
