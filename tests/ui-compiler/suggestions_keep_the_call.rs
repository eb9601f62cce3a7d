#![deny(unused_parens)]

use memtrack_sim::ntddk::{ExAllocatePool2, ExFreePool};

#[memtrack::instrument]
unsafe fn replace(block: *mut u8) -> *mut core::ffi::c_void {
    unsafe {
        let _ = (ExFreePool(block.cast()));
        return (memtrack_sim::ntddk::ExAllocatePool2(0x40, 64, 1));
    }
}

fn main() {
    let _ = ExAllocatePool2 as *const ();
    unsafe { replace(core::ptr::null_mut()) };
}
