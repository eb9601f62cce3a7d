//! The runtime as a driver would link it, with nothing around it: see `tests/kernel_rules.rs`.
#![no_std]

use core::ffi::{CStr, c_char};
use core::ptr::NonNull;

use memtrack_rt::{Function, Irql, Location, Platform, SpinLock, Tracker};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

unsafe extern "C" {
    fn kernel_print(line: *const c_char);
    fn kernel_acquire(lock: *mut usize) -> u8;
    fn kernel_release(lock: *mut usize, irql: u8);
    fn kernel_allocate(bytes: usize) -> *mut u8;
    fn kernel_free(memory: *mut u8);
}

struct Kernel;

// SAFETY: never run; only its instructions are read.
unsafe impl Platform for Kernel {
    fn print(&self, line: &CStr) {
        unsafe { kernel_print(line.as_ptr()) }
    }
    fn acquire(&self, lock: &SpinLock) -> Irql {
        unsafe { kernel_acquire(lock.word().as_ptr()) }
    }
    unsafe fn release(&self, lock: &SpinLock, irql: Irql) {
        unsafe { kernel_release(lock.word().as_ptr(), irql) }
    }
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        NonNull::new(unsafe { kernel_allocate(bytes) })
    }
    unsafe fn free(&self, memory: NonNull<u8>) {
        unsafe { kernel_free(memory.as_ptr()) }
    }
}

static TRACKER: Tracker<Kernel> = Tracker::new(Kernel);

#[unsafe(no_mangle)]
extern "C" fn driver_allocate(flags: u64, bytes: u64, tag: u32, block: *mut u8) {
    TRACKER.request(Location::caller(), Function::ExAllocatePool2, &flags, &bytes, &tag).granted(&block);
}

#[unsafe(no_mangle)]
extern "C" fn driver_free(block: *mut u8) {
    TRACKER.release(&block);
}

#[unsafe(no_mangle)]
extern "C" fn driver_report(blocks: &mut u64) {
    TRACKER.print_stats("Image");
    TRACKER.report("Image");
    *blocks = TRACKER.stats().curr_blocks() + TRACKER.sites().map(|site| site.failures).sum::<u64>();
}

#[unsafe(no_mangle)]
extern "C" fn driver_unload() {
    TRACKER.finish("Image");
}
