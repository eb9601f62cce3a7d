//! Pool types as an enum, as a plain integer and as constants. A driver sets its counters up at each level.

#[allow(non_snake_case, non_camel_case_types, dead_code, reason = "the kernel's names")]
#[allow(clippy::upper_case_acronyms)]
mod bindings {
    use core::ffi::c_void;

    #[derive(Clone, Copy, PartialEq, Eq)]
    #[repr(i32)]
    pub enum POOL_TYPE {
        NonPagedPool = 0,
        PagedPool = 1,
        NonPagedPoolNx = 512,
    }
    pub mod flags {
        pub const POOL_FLAG_NON_PAGED: u64 = 0x40;
        pub const POOL_FLAG_PAGED: u64 = 0x100;
    }

    pub unsafe fn ExAllocatePoolWithTag(_: POOL_TYPE, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExAllocatePoolUninitialized(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod counters {
    use super::bindings::flags::*;
    use super::bindings::POOL_TYPE::{self, NonPagedPoolNx, PagedPool};
    use super::bindings::*;
    use core::ffi::c_void;

    const TAG: u32 = u32::from_le_bytes(*b"Cntr");
    const BY_PROCESSOR: i32 = POOL_TYPE::NonPagedPool as i32;

    /// Who may touch a counter decides where it lives.
    #[derive(Clone, Copy)]
    enum Level {
        Passive,
        Dispatch,
        Interrupt { processors: usize },
    }

    fn counters(level: Level) -> *mut c_void {
        let is_high = !matches!(level, Level::Passive);
        let kind = if is_high { NonPagedPoolNx } else { PagedPool };
        unsafe {
            match level {
                Level::Passive => {
                    /*@*/
                    ExAllocatePoolWithTag(kind, 10, TAG)
                }
                Level::Dispatch => {
                    /*@*/
                    ExAllocatePoolWithTag(kind, 20, TAG)
                }
                Level::Interrupt { processors } => {
                    /*@*/
                    ExAllocatePoolUninitialized(BY_PROCESSOR, 8 * processors, TAG)
                }
            }
        }
    }

    fn names(is_for_interrupts: bool) -> *mut c_void {
        let flags = if is_for_interrupts { POOL_FLAG_NON_PAGED } else { POOL_FLAG_PAGED };
        unsafe {
            /*@*/
            ExAllocatePool2(flags | 2, 64, TAG)
        }
    }

    pub fn drive() {
        let [passive, dispatch, _] =
            [Level::Passive, Level::Dispatch, Level::Interrupt { processors: 4 }].map(counters);
        let [high, _low] = [true, false].map(names);
        for block in [passive, dispatch, high] {
            unsafe { ExFreePoolWithTag(block, TAG) }
        }
    }
}

pub use counters::drive;
