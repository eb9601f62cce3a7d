//! Bodies of unsafe functions without `unsafe` blocks, `static mut`, sections, exported routines: as it was written
//! before edition 2024. A driver of one global device.
#![allow(unsafe_op_in_unsafe_fn, reason = "so was it written")]
#![allow(clippy::cast_lossless, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
#![allow(clippy::cmp_null, clippy::ptr_as_ptr, clippy::semicolon_if_nothing_returned)]

use core::ffi::c_void;
use core::ptr::null_mut;

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use super::c_void;

    pub unsafe extern "system" fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block)
    }
}

use ntddk::*;

const TAG: u32 = 0x646C_4F20;

struct Device {
    buffers: [*mut u8; 4],
    sizes: [usize; 2],
    total: usize,
}

static mut DEVICE: *mut Device = null_mut();

#[memtrack::instrument]
#[unsafe(export_name = "corpus_old_unsafe_fns_start")]
#[cfg_attr(windows, unsafe(link_section = "INIT"))]
unsafe extern "system" fn start(count: usize) -> i32 {
    DEVICE = /*@*/ExAllocatePoolWithTag(0, size_of::<Device>(), TAG) as *mut Device;
    if DEVICE.is_null() {
        return -1;
    }
    let device = DEVICE;
    (*device).total = 0;
    (*device).sizes = [16, 256];
    for i in 0..count {
        (*device).buffers[i] = /*@*/ExAllocatePoolWithTag(i as i32 & 1, (*device).sizes[i & 1], TAG).cast();
        (*device).total += (*device).sizes[i & 1];
    }
    0
}

#[inline(never)]
#[memtrack::instrument]
#[cfg_attr(windows, unsafe(link_section = "PAGE"))]
unsafe fn stop() {
    let device = DEVICE;
    for buffer in (*device).buffers {
        if buffer != null_mut() {
            ExFreePoolWithTag(buffer as _, TAG)
        }
    }
    ExFreePoolWithTag(device as *mut c_void, TAG);
    DEVICE = null_mut();
}

/// Two addresses of one block, and its size added up.
#[memtrack::instrument]
unsafe fn twice(seen: &mut [usize; 8]) -> usize {
    let mut total = 1;
    let pair = [/*@*/ExAllocatePoolWithTag(1, 32, TAG); 2];
    let slot = pair[0] as usize / 16 % 8;
    seen[slot] += 1;
    total += /*@*/ExAllocatePoolWithTag(1, 48, TAG).is_null() as usize;
    ExFreePoolWithTag(pair[1], TAG);
    total
}

unsafe extern "system" {
    #[link_name = "corpus_old_unsafe_fns_start"]
    fn driver_start(count: usize) -> i32;
}

pub fn drive() {
    let mut seen = [0; 8];
    unsafe {
        assert_eq!(driver_start(3), 0);
        assert_eq!(((*DEVICE).total, (*DEVICE).buffers[3]), (288, null_mut()));
        stop();
        assert_eq!((twice(&mut seen), seen.iter().sum::<usize>()), (1, 1));
    }
}
