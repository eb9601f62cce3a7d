//! Guards on both sides here, on none there. A driver parses frames in buffers of its own, and steps out of one.

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    pub unsafe fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut u8 {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExFreePoolWithTag(block: *mut u8, _: u32) {
        crate::host::release(block);
    }
}

#[memtrack::instrument(guard = "full")]
mod frames {
    use super::ntddk::{ExAllocatePoolWithTag, ExFreePoolWithTag};

    const TAG: u32 = u32::from_le_bytes(*b"Fram");

    pub struct Frame {
        bytes: *mut u8,
        length: usize,
    }

    impl Frame {
        pub fn of(data: &[u8]) -> Self {
            let bytes = unsafe {
                /*@*/
                ExAllocatePoolWithTag(512, data.len(), TAG)
            };
            unsafe { bytes.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
            Self { bytes, length: data.len() }
        }

        /// A page for the device to write to: as large as it is, and nothing round it.
        #[memtrack::instrument(guard = "none")]
        pub fn page() -> Self {
            let bytes = unsafe {
                /*@*/
                ExAllocatePoolWithTag(512, 4096, TAG)
            };
            Self { bytes, length: 4096 }
        }

        /// A page that only the driver writes to.
        pub fn own_page() -> Self {
            let bytes = unsafe {
                /*@*/
                ExAllocatePoolWithTag(512, 4096, TAG)
            };
            Self { bytes, length: 4096 }
        }

        /// Everything in front of the first escape, in place.
        pub fn unescaped(&mut self) -> &[u8] {
            let escape = (0..self.length).find(|place| unsafe { *self.bytes.add(*place) } == 0x7D);
            self.length = escape.unwrap_or(self.length);
            unsafe { core::slice::from_raw_parts(self.bytes, self.length) }
        }

        /// Puts a mark in front: a byte too early.
        pub fn mark(&mut self) {
            unsafe { self.bytes.wrapping_sub(1).write(0x7E) };
        }

        pub fn fill(&mut self, byte: u8) {
            unsafe { self.bytes.write_bytes(byte, self.length) }
        }

        pub fn is_on_a_page(&self) -> bool {
            self.bytes.addr() % 4096 == 0
        }
    }

    impl Drop for Frame {
        fn drop(&mut self) {
            unsafe { ExFreePoolWithTag(self.bytes, TAG) }
        }
    }
}

use frames::Frame;

pub fn drive() {
    let mut frame = Frame::of(b"\xFF\x03data\x7Drest");
    assert_eq!(frame.unescaped(), b"\xFF\x03data");
    let [mut page, mut own] = [Frame::page(), Frame::own_page()];
    page.fill(1);
    own.fill(2);
    assert!(page.is_on_a_page() && own.is_on_a_page());
    assert_eq!(own.unescaped()[4095], 2);
    // Without memtrack, the byte in front is some other block's.
    if memtrack::sites().next().is_some() {
        frame.mark();
    }
    core::mem::forget(page);
}
