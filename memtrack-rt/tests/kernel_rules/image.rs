//! The runtime as a driver would link it, with nothing around it: see `tests/kernel_rules.rs`.
#![no_std]

use core::ffi::{CStr, c_char};
use core::ptr::NonNull;

use memtrack_rt::{Function, Irql, Location, Platform, Policy, Settings, SpinLock, Tracker};

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
    fn kernel_irql() -> u8;
    fn kernel_break();
    fn kernel_bugcheck(parameters: *const usize, line: *const c_char);
    fn ExAllocatePool2(flags: u64, bytes: u64, tag: u32) -> *mut u8;
    fn ExFreePoolWithTag(block: *mut u8, tag: u32);
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
    fn irql(&self) -> Irql {
        unsafe { kernel_irql() }
    }
    fn break_in(&self) {
        unsafe { kernel_break() }
    }
    fn bugcheck(&self, parameters: [usize; 4], line: &CStr) {
        unsafe { kernel_bugcheck(parameters.as_ptr(), line.as_ptr()) }
    }
}

static TRACKER: Tracker<Kernel> = Tracker::new(Kernel);

#[unsafe(no_mangle)]
extern "C" fn driver_allocate(flags: u64, bytes: u64, tag: u32) -> *mut u8 {
    let here = Location::caller();
    let arguments = (flags, bytes, tag);
    unsafe {
        TRACKER.allocate(here, Function::ExAllocatePool2, None, arguments, |(flags, bytes, tag)| {
            ExAllocatePool2(flags, bytes, tag)
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn driver_free(block: *mut u8, tag: u32) {
    let here = Location::caller();
    unsafe {
        TRACKER.free(here, Function::ExFreePoolWithTag, (block, tag), |(block, tag)| ExFreePoolWithTag(block, tag));
    }
}

#[unsafe(no_mangle)]
extern "C" fn driver_check(policy: u8) -> usize {
    let policy = [Policy::Report, Policy::Break, Policy::BugCheck][usize::from(policy % 3)];
    TRACKER.configure(Settings::new().policy(policy));
    TRACKER.check()
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
