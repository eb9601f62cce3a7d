//! windows-sys: deep paths, sizes as `usize`, handles as numbers. A driver keeps names of volumes.

#[allow(
    non_snake_case,
    non_camel_case_types,
    non_upper_case_globals,
    clippy::upper_case_acronyms,
    reason = "the crate's names"
)]
mod windows_sys {
    pub mod Win32 {
        pub mod Foundation {
            pub type NTSTATUS = i32;
            pub const STATUS_SUCCESS: NTSTATUS = 0;
            pub const STATUS_NO_MEMORY: NTSTATUS = -1_073_741_801;

            #[derive(Clone, Copy)]
            #[repr(C)]
            pub struct UNICODE_STRING {
                pub Length: u16,
                pub MaximumLength: u16,
                pub Buffer: *mut u16,
            }
        }
    }
    pub mod Wdk {
        pub mod System {
            pub mod SystemServices {
                use core::ffi::c_void;

                pub type POOL_TYPE = i32;
                pub const PagedPool: POOL_TYPE = 1;

                pub unsafe extern "system" fn ExAllocatePoolWithTag(
                    _: POOL_TYPE,
                    numberofbytes: usize,
                    _: u32,
                ) -> *mut c_void {
                    crate::host::allocate(numberofbytes)
                }
                pub unsafe extern "system" fn ExFreePool(p: *const c_void) {
                    crate::host::release(p.cast_mut());
                }
            }
        }
    }
}

#[memtrack::instrument]
mod volumes {
    use super::windows_sys::Wdk::System::SystemServices as Services;
    use super::windows_sys::Win32::Foundation::{NTSTATUS, STATUS_NO_MEMORY, STATUS_SUCCESS, UNICODE_STRING};
    use core::ptr;
    use Services::{ExFreePool, PagedPool};

    const TAG: u32 = u32::from_ne_bytes(*b"Vols");

    /// Copies a volume's name, with a zero behind it.
    unsafe fn remember(name: &[u16], copy: &mut UNICODE_STRING) -> NTSTATUS {
        let bytes = size_of_val(name);
        let buffer = unsafe {
            /*@*/
            Services::ExAllocatePoolWithTag(PagedPool, bytes + size_of::<u16>(), TAG)
        }
        .cast::<u16>();
        if buffer.is_null() {
            return STATUS_NO_MEMORY;
        }
        unsafe {
            ptr::copy_nonoverlapping(name.as_ptr(), buffer, name.len());
            buffer.add(name.len()).write(0);
        }
        let length = u16::try_from(bytes).expect("names are short");
        *copy = UNICODE_STRING { Length: length, MaximumLength: length + 2, Buffer: buffer };
        STATUS_SUCCESS
    }

    unsafe fn forget(name: &mut UNICODE_STRING) {
        let UNICODE_STRING { Buffer, .. } =
            core::mem::replace(name, UNICODE_STRING { Length: 0, MaximumLength: 0, Buffer: ptr::null_mut() });
        if !Buffer.is_null() {
            unsafe { ExFreePool(Buffer.cast()) };
        }
    }

    pub fn drive() {
        let none = UNICODE_STRING { Length: 0, MaximumLength: 0, Buffer: ptr::null_mut() };
        let mut names = [none; 3];
        let path: Vec<u16> = r"\Device\HarddiskVolume1".encode_utf16().collect();
        unsafe {
            for (letters, name) in (21..).zip(&mut names) {
                assert_eq!(remember(&path[..letters], name), STATUS_SUCCESS);
            }
            assert_eq!((names[2].Length, names[2].MaximumLength), (46, 48));
            assert_eq!(core::slice::from_raw_parts(names[2].Buffer, 23), path);
            forget(&mut names[0]);
            forget(&mut names[0]);
            forget(&mut names[2]);
        }
    }
}

pub use volumes::drive;
