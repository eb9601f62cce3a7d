//! A driver's own `GlobalAlloc`, which nothing registers here. Text that grows in pool memory.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    pub type Pvoid = *mut core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> Pvoid {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool(block: Pvoid) {
        crate::host::release(block);
    }
}

/// Nonpaged pool.
struct KernelAllocator;

const RUST_TAG: u32 = u32::from_ne_bytes(*b"rust");

#[memtrack::instrument]
unsafe impl GlobalAlloc for KernelAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match layout.align() {
            1..=16 => {
                let pool = unsafe {
                    /*@*/
                    ntddk::ExAllocatePool2(0x40 | 2, layout.size() as u64, RUST_TAG)
                };
                pool.cast()
            }
            // Whole pages begin on a page.
            17..=4096 => unsafe {
                /*@*/
                ntddk::ExAllocatePool2(0x40 | 2, layout.size().next_multiple_of(4096) as _, RUST_TAG).cast()
            },
            _ => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        unsafe { ntddk::ExFreePool(block.cast()) }
    }
}

static POOL: KernelAllocator = KernelAllocator;

/// Text in pool memory, with the growth of a `Vec`.
struct Text {
    start: *mut u8,
    length: usize,
    room: usize,
}

impl Text {
    const EMPTY: Self = Self { start: null_mut(), length: 0, room: 0 };

    fn layout(&self) -> Layout {
        Layout::array::<u8>(self.room).expect("texts are short")
    }

    fn push(&mut self, byte: u8) {
        if self.length == self.room {
            let room = (2 * self.room).max(8);
            self.start = unsafe {
                if self.start.is_null() {
                    POOL.alloc(Layout::array::<u8>(room).expect("texts are short"))
                } else {
                    POOL.realloc(self.start, self.layout(), room)
                }
            };
            self.room = room;
        }
        unsafe { self.start.add(self.length).write(byte) };
        self.length += 1;
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        if !self.start.is_null() {
            unsafe { POOL.dealloc(self.start, self.layout()) }
        }
    }
}

pub fn drive() {
    let said = b"\\Registry\\Machine\\System";
    let mut text = Text::EMPTY;
    for byte in said {
        text.push(*byte);
    }
    assert_eq!(unsafe { core::slice::from_raw_parts(text.start, text.length) }, said);
    assert_eq!(text.room, 32);
    unsafe {
        let page = POOL.alloc_zeroed(Layout::from_size_align(100, 4096).unwrap());
        assert_eq!((page.addr() % 4096, page.read()), (0, 0));
        assert!(POOL.alloc(Layout::from_size_align(1, 8192).unwrap()).is_null());
    }
}
