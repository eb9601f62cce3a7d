//! Compiled with memtrack, with memtrack off and without memtrack: see `tests/off.rs`.
#![no_std]
#![allow(missing_docs, non_snake_case, clippy::missing_safety_doc)]

use core::ffi::c_void;

unsafe extern "C" {
    fn ExAllocatePool2(flags: u64, bytes: u64, tag: u32) -> *mut c_void;
    fn ExFreePoolWithTag(block: *mut c_void, tag: u32);
    fn log(bytes: u64);
}

const TAG: u32 = u32::from_le_bytes(*b"Off ");

#[cfg_attr(feature = "memtrack", memtrack::instrument)]
pub mod driver {
    use super::{ExAllocatePool2, ExFreePoolWithTag, TAG, c_void, log};

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn copy(source: *const u8, bytes: usize) -> *mut u8 {
        let block = unsafe { ExAllocatePool2(0x40, bytes as _, TAG) }.cast::<u8>();
        if !block.is_null() {
            unsafe { block.copy_from_nonoverlapping(source, bytes) };
        }
        block
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn replace(block: &mut *mut c_void, bytes: u64) {
        unsafe { log(bytes) };
        unsafe { ExFreePoolWithTag(core::mem::replace(block, ExAllocatePool2(0x100, bytes + 1, TAG)), TAG) };
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn take(blocks: *mut *mut c_void, count: usize) {
        for place in 0..count {
            unsafe { ExFreePoolWithTag(*blocks.add(place), TAG) };
        }
    }

    #[cfg_attr(feature = "memtrack", memtrack::instrument(finish = "Off"))]
    #[unsafe(no_mangle)]
    pub extern "C" fn unload(early: bool) -> u32 {
        if early {
            return 1;
        }
        unsafe { log(0) };
        2
    }
}
