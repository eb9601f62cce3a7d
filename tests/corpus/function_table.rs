//! A table of the kernel's functions, resolved once; each user takes out what it needs. A ring of samples.
#![allow(non_snake_case, reason = "the table has the kernel's names")]

use core::ffi::c_void;
use std::sync::OnceLock;

type Allocate = unsafe extern "system" fn(u64, usize, u32) -> *mut c_void;
type Free = unsafe extern "system" fn(*mut c_void, u32);

#[derive(Clone, Copy)]
struct Kernel {
    ExAllocatePool2: Allocate,
    ExFreePoolWithTag: Free,
}

fn kernel() -> &'static Kernel {
    extern "system" fn allocate(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    extern "system" fn free(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel { ExAllocatePool2: allocate, ExFreePoolWithTag: free })
}

const TAG: u32 = u32::from_le_bytes(*b"Ring");

/// The last samples of a sensor.
struct Ring {
    samples: *mut u16,
    room: usize,
    taken: usize,
}

#[memtrack::instrument]
impl Ring {
    fn new(room: usize) -> Option<Self> {
        let Kernel { ExAllocatePool2, .. } = *kernel();
        let samples = unsafe {
            /*@*/
            ExAllocatePool2(0x40, room * size_of::<u16>(), TAG)
        };
        (!samples.is_null()).then_some(Self { samples: samples.cast(), room, taken: 0 })
    }

    fn sample(&mut self, value: u16) {
        unsafe { self.samples.add(self.taken % self.room).write(value) };
        self.taken += 1;
    }

    /// A copy of what there is, the oldest first, for who asks by a request.
    fn copy(&self, ExAllocatePool2: Allocate) -> (*mut u16, usize) {
        let length = self.taken.min(self.room);
        let copy = unsafe {
            /*@*/
            ExAllocatePool2(0x100, length * size_of::<u16>(), TAG)
        }
        .cast::<u16>();
        for place in 0..length {
            let sample = (self.taken - length + place) % self.room;
            unsafe { copy.add(place).write(self.samples.add(sample).read()) };
        }
        (copy, length)
    }
}

impl Drop for Ring {
    #[memtrack::instrument]
    fn drop(&mut self) {
        let free @ ExFreePoolWithTag = kernel().ExFreePoolWithTag;
        assert!(core::ptr::fn_addr_eq(free, kernel().ExFreePoolWithTag));
        unsafe { ExFreePoolWithTag(self.samples.cast(), TAG) }
    }
}

#[memtrack::instrument]
fn give_back(copy: *mut u16) {
    let Kernel { ExFreePoolWithTag, .. } = kernel();
    unsafe { ExFreePoolWithTag(copy.cast(), TAG) }
}

pub fn drive() {
    let mut ring = Ring::new(4).unwrap();
    (1..=6).for_each(|value| ring.sample(value));
    let (copy, length) = ring.copy(kernel().ExAllocatePool2);
    assert_eq!(unsafe { core::slice::from_raw_parts(copy, length) }, [3, 4, 5, 6]);
    give_back(copy);
    core::mem::forget(Ring::new(1000));
}
