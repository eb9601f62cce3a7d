//! `unsafe extern "system"` with the file's functions annotated one by one. A driver queues work items.

use core::ffi::c_void;
use core::ptr::null_mut;

#[allow(clippy::upper_case_acronyms, reason = "the kernel's name")]
type PVOID = *mut c_void;

#[cfg_attr(windows, link(name = "ntoskrnl", kind = "raw-dylib"))]
unsafe extern "system" {
    #[link_name = "corpus_extern_system_allocate"]
    fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> PVOID;
    #[link_name = "corpus_extern_system_free"]
    fn ExFreePool(block: PVOID);
}

#[unsafe(export_name = "corpus_extern_system_allocate")]
extern "system" fn host_allocates(_: u64, bytes: usize, _: u32) -> PVOID {
    crate::host::allocate(bytes)
}

#[unsafe(export_name = "corpus_extern_system_free")]
extern "system" fn host_frees(block: PVOID) {
    crate::host::release(block);
}

type Routine = unsafe extern "system" fn(PVOID) -> i32;

struct WorkItem {
    next: *mut WorkItem,
    routine: Routine,
    context: PVOID,
}

struct Queue {
    first: *mut WorkItem,
    length: usize,
}

impl Queue {
    #[memtrack::instrument]
    unsafe fn push(&mut self, routine: Routine, context: PVOID) -> bool {
        let item = unsafe {
            /*@*/
            ExAllocatePool2(0x40, size_of::<WorkItem>(), 0x6B72_6F57)
        }
        .cast::<WorkItem>();
        if item.is_null() {
            return false;
        }
        unsafe { item.write(WorkItem { next: self.first, routine, context }) };
        self.first = item;
        self.length += 1;
        true
    }

    #[memtrack::instrument]
    unsafe fn run_one(&mut self) -> Option<i32> {
        let item = self.first;
        let WorkItem { next, routine, context } = unsafe { (!item.is_null()).then(|| item.read())? };
        unsafe { ExFreePool(item.cast()) };
        self.first = next;
        self.length -= 1;
        Some(unsafe { routine(context) })
    }
}

/// Sums up a buffer of four numbers and frees it.
#[memtrack::instrument]
unsafe extern "system" fn sum(context: PVOID) -> i32 {
    let numbers = unsafe { context.cast::<[i32; 4]>().read() };
    unsafe { ExFreePool(context) };
    numbers.iter().sum()
}

#[memtrack::instrument(guard = "none")]
fn numbers(from: i32) -> PVOID {
    let block = unsafe {
        /*@*/
        ExAllocatePool2(0x100, size_of::<[i32; 4]>(), 0x736D_754E)
    };
    if !block.is_null() {
        unsafe { block.cast::<[i32; 4]>().write([from, from + 1, from + 2, from + 3]) };
    }
    block
}

pub fn drive() {
    let mut queue = Queue { first: null_mut(), length: 0 };
    unsafe {
        assert!(queue.push(sum, numbers(1)) && queue.push(sum, numbers(10)) && queue.push(sum, numbers(100)));
        assert_eq!((queue.run_one(), queue.run_one()), (Some(406), Some(46)));
    }
    assert_eq!(queue.length, 1);
}
