//! The runtime as a driver would link it, with nothing around it: see `tests/kernel_rules.rs`.
#![no_std]

use core::ffi::{CStr, c_char, c_void};
use core::ptr::{self, NonNull};

use memtrack_rt::lookaside::{self, Callback, InterlockedLists};
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
    fn ExpInterlockedPopEntrySList(head: *mut c_void) -> *mut c_void;
    fn ExpInterlockedPushEntrySList(head: *mut c_void, entry: *mut c_void) -> *mut c_void;
    fn ExQueryDepthSList(head: *mut c_void) -> u16;
    fn ExInitializeNPagedLookasideList(
        list: *mut c_void,
        allocate: *mut c_void,
        free: *mut c_void,
        flags: u32,
        size: u64,
        tag: u32,
        depth: u16,
    );
    fn ExDeleteNPagedLookasideList(list: *mut c_void);
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
        TRACKER.free(here, Function::ExFreePoolWithTag, (block, tag), |(block, tag)| {
            ExFreePoolWithTag(block, tag)
        });
    }
}

struct Lists;

// SAFETY: as above.
unsafe impl InterlockedLists for Lists {
    unsafe fn pop(&self, head: *mut c_void) -> *mut c_void {
        unsafe { ExpInterlockedPopEntrySList(head) }
    }
    unsafe fn push(&self, head: *mut c_void, entry: *mut c_void) {
        unsafe { ExpInterlockedPushEntrySList(head, entry) };
    }
    unsafe fn depth(&self, head: *mut c_void) -> u16 {
        unsafe { ExQueryDepthSList(head) }
    }
    fn callbacks(&self, _: bool) -> [Callback; 2] {
        [ptr::null(); 2]
    }
}

#[unsafe(no_mangle)]
extern "C" fn driver_list(list: *mut c_void, size: u64, tag: u32, depth: u16) {
    let here = Location::caller();
    let arguments = (list, ptr::null_mut(), ptr::null_mut(), 0, size, tag, depth);
    unsafe {
        TRACKER.initialize_list(
            &Lists,
            here,
            Function::ExInitializeNPagedLookasideList,
            None,
            arguments,
            |(list, allocate, free, flags, size, tag, depth)| {
                ExInitializeNPagedLookasideList(list, allocate, free, flags, size, tag, depth)
            },
        );
    }
}

#[unsafe(no_mangle)]
extern "C" fn driver_entry(list: *mut c_void) -> *mut c_void {
    let (here, function) = (Location::caller(), Function::ExAllocateFromNPagedLookasideList);
    unsafe {
        TRACKER.allocate_from_list(here, function, (list,), |(list,)| {
            NonNull::new(list).map_or(ptr::null_mut(), |list| lookaside::allocate(&Lists, list.cast(), false))
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn driver_give(list: *mut c_void, entry: *mut c_void) {
    let (here, function) = (Location::caller(), Function::ExFreeToNPagedLookasideList);
    unsafe {
        TRACKER.free_to_list(here, function, (list, entry), |(list, entry)| {
            if let Some(list) = NonNull::new(list) {
                lookaside::free(&Lists, list.cast(), entry, false);
            }
        });
    }
}

#[unsafe(no_mangle)]
extern "C" fn driver_delete(list: *mut c_void) {
    let (here, function) = (Location::caller(), Function::ExDeleteNPagedLookasideList);
    unsafe { TRACKER.delete_list(here, function, (list,), |(list,)| ExDeleteNPagedLookasideList(list)) };
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
