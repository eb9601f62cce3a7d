//! Reading the registry: ask how long a value is, allocate, ask again. A driver loads its settings.

use core::ffi::c_void;

#[allow(non_snake_case, reason = "the kernel's names")]
mod nt {
    use super::c_void;

    pub const SUCCESS: i32 = 0;
    pub const BUFFER_TOO_SMALL: i32 = -1_073_741_789;
    pub const NOT_FOUND: i32 = -1_073_741_772;
    pub const INSUFFICIENT_RESOURCES: i32 = -1_073_741_670;

    #[repr(C)]
    pub struct PartialInformation {
        pub kind: u32,
        pub length: u32,
        pub data: [u8; 0],
    }

    /// Two values, the second of which is longer each time.
    pub unsafe fn ZwQueryValueKey(
        name: &str,
        to: *mut PartialInformation,
        room: u32,
        needed: &mut u32,
    ) -> i32 {
        use core::sync::atomic::{AtomicUsize, Ordering};
        static ASKED: AtomicUsize = AtomicUsize::new(0);

        let data = &b"COM1;COM2;COM3;"[..match name {
            "First" => 5,
            "Growing" => (5 * ASKED.fetch_add(1, Ordering::Relaxed)).min(15),
            _ => return NOT_FOUND,
        }];
        let length = u32::try_from(data.len()).unwrap();
        *needed = 8 + length;
        if room < *needed {
            return BUFFER_TOO_SMALL;
        }
        unsafe {
            to.write(PartialInformation { kind: 1, length, data: [] });
            to.add(1).cast::<u8>().copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
        SUCCESS
    }

    pub unsafe extern "C" fn ExAllocatePoolZero(_: i32, bytes: u64, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod settings {
    use super::nt::{self, PartialInformation};

    const TAG: u32 = u32::from_le_bytes(*b"Regs");

    unsafe fn query(name: &str) -> Result<*mut PartialInformation, i32> {
        let mut block: *mut PartialInformation = core::ptr::null_mut();
        let mut room = 0;
        loop {
            let mut needed = 0;
            match unsafe { nt::ZwQueryValueKey(name, block, room, &mut needed) } {
                nt::SUCCESS => return Ok(block),
                status => {
                    if !block.is_null() {
                        unsafe { nt::ExFreePoolWithTag(block.cast(), TAG) };
                    }
                    if status != nt::BUFFER_TOO_SMALL {
                        return Err(status);
                    }
                }
            }
            block = match unsafe {
                /*@*/
                nt::ExAllocatePoolZero(1, needed.into(), TAG)
            } {
                null if null.is_null() => return Err(nt::INSUFFICIENT_RESOURCES),
                block => block.cast(),
            };
            room = needed;
        }
    }

    /// The ports that a value names, separated by semicolons.
    unsafe fn ports(name: &str) -> Result<usize, i32> {
        unsafe {
            let value = query(name)?;
            let data =
                core::slice::from_raw_parts((&raw const (*value).data).cast::<u8>(), (*value).length as _);
            let count = data.split(|byte| *byte == b';').count() - 1;
            nt::ExFreePoolWithTag(value.cast(), TAG);
            Ok(count)
        }
    }

    pub fn drive() {
        unsafe {
            assert_eq!([ports("First"), ports("Growing")], [Ok(1), Ok(3)]);
            assert_eq!(ports("Missing"), Err(nt::NOT_FOUND));
            let kept = query("First").unwrap();
            assert_eq!((*kept).kind, 1);
        }
    }
}

pub use settings::drive;
