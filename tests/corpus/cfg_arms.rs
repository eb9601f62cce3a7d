//! Statements, arms, fields and functions under `cfg`: what is not compiled need not even exist. A disk driver.

#[allow(non_snake_case, reason = "the kernel's names")]
mod wdk_sys {
    use core::ffi::c_void;

    #[cfg(target_pointer_width = "64")]
    pub type SizeT = u64;
    #[cfg(target_pointer_width = "32")]
    pub type SizeT = u32;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: SizeT, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool(block: *mut c_void) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod disk {
    #[cfg(any())]
    use super::wdk_sys::ExAllocatePool3;
    #[cfg(not(any()))]
    use super::wdk_sys::{ExAllocatePool2, ExFreePool};
    use core::ffi::c_void;
    use core::ptr::null_mut;

    const TAG: u32 = 0x6B73_6944;

    struct Sector {
        data: *mut c_void,
        #[cfg(any())]
        checksum: *mut c_void,
    }

    #[derive(Clone, Copy)]
    enum Operation {
        Read,
        #[cfg(any())]
        Discard,
        Flush,
    }

    fn start(operation: Operation) -> Sector {
        #[cfg(any())]
        let trace = unsafe { ExAllocatePool3(1, 2, TAG, null(), 0) };
        #[cfg(not(any()))]
        let data = unsafe {
            /*@*/
            ExAllocatePool2(0x40, 512, TAG)
        };
        #[cfg(any())]
        unsafe {
            ExFreePool(trace);
        }
        match operation {
            #[cfg(any())]
            Operation::Discard => unsafe { ExFreePool(discard(data)) },
            #[cfg(not(any()))]
            Operation::Read if data.is_null() => {}
            Operation::Read => unsafe { data.cast::<u8>().write_bytes(0xE5, 512) },
            Operation::Flush => {
                unsafe { ExFreePool(data) }
                return Sector {
                    data: null_mut(),
                    #[cfg(any())]
                    checksum: unsafe { ExAllocatePool2(0x40, 4, TAG) },
                };
            }
        }
        Sector {
            data,
            #[cfg(any())]
            checksum: unsafe { ExAllocatePool2(0x40, 4, TAG) },
        }
    }

    #[cfg(any())]
    fn discard(_: *mut c_void) -> *mut c_void {
        unsafe { ExAllocatePoolWithNothing() }
    }

    /// Long transfers go through a buffer of the driver's where the bus cannot reach all memory.
    fn bounce(bytes: u16) -> *mut c_void {
        let block = if cfg!(target_os = "none") {
            null_mut()
        } else {
            unsafe {
                /*@*/
                ExAllocatePool2(0x100, bytes.into(), TAG)
            }
        };
        #[cfg(not(any()))]
        {
            block
        }
        #[cfg(any())]
        {
            ExFreePool(block);
            null_mut()
        }
    }

    pub fn drive() {
        let [read, flush] = [Operation::Read, Operation::Flush].map(start);
        assert_eq!(unsafe { read.data.cast::<u8>().add(511).read() }, 0xE5);
        assert!(flush.data.is_null());
        let block = bounce(8192);
        #[cfg_attr(all(), allow(unused_unsafe))]
        unsafe {
            ExFreePool(block);
        }
    }
}

pub use disk::drive;
