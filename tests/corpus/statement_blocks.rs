//! Calls at the start of statements, in blocks that a cast or a method follows. A driver for a serial port.
#![allow(clippy::ptr_as_ptr, reason = "`as` behind a block is what it is about")]

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool(block: *mut c_void) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    use ntddk::*;

    const TAG: u32 = u32::from_le_bytes(*b"Port");

    #[repr(C)]
    struct Line {
        length: usize,
        bytes: [u8; 72],
    }

    fn line() -> *mut Line {
        unsafe { /*@*/ExAllocatePool2(0x40, size_of::<Line>(), TAG) }.cast()
    }

    fn address() -> usize {
        (unsafe { /*@*/ExAllocatePool2(0x40, 1, TAG) }) as usize
    }

    fn first_byte(text: &[u8]) -> Option<u8> {
        unsafe {
            let copy = { /*@*/ExAllocatePool2(0x40, text.len(), TAG) } as *mut u8;
            copy.copy_from_nonoverlapping(text.as_ptr(), text.len());
            let first = if text.is_empty() { None } else { Some(copy.read()) };
            ExFreePool(copy.cast());
            first
        }
    }

    unsafe fn free_all(lines: &[*mut Line]) {
        for line in lines {
            unsafe { ExFreePool(line.cast()) }
        }
    }

    /// Reads lines until an empty one.
    unsafe fn lines(input: &[u8], kept: &mut [*mut Line; 3]) -> usize {
        let mut count = 0;
        for text in input.split(|byte| *byte == b'\n') {
            if text.is_empty() { break }
            let line = if count < kept.len() { line() } else { return count };
            match text.len() {
                73.. => return count,
                length => unsafe {
                    (&raw mut (*line).bytes).cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), length);
                    (*line).length = length;
                },
            }
            kept[count] = line;
            count += 1;
        }
        count
    }

    trait Keep {
        fn keep(self, place: &mut *mut u8);
    }

    impl<T> Keep for *mut T {
        fn keep(self, place: &mut *mut u8) {
            *place = self.cast();
        }
    }

    /// Whether there is room for three: asks for them, and gives them back.
    fn has_room() -> bool {
        let mut places = [core::ptr::null_mut::<u8>(); 3];
        let [first, second, third] = &mut places;
        unsafe {
            while !first.is_null() {}
            /*@*/ExAllocatePool2(0x100, 8, TAG).keep(first);
            if first.is_null() { return false }
            (/*@*/ExAllocatePool2(0x100, 8, TAG)).cast::<u64>().keep(second);
            for _ in 0..3 {}
            { /*@*/ExAllocatePool2(0x100, 8, TAG) }.keep(third);
            for block in places { ExFreePool(block.cast()) }
            /*@*/ExAllocatePool2(0x100, 8, TAG) as usize > 0
        }
    }

    pub fn drive() {
        let mut kept = [core::ptr::null_mut(); 3];
        unsafe {
            let count = lines(b"ATZ\nATDT 5551234\n\nlost", &mut kept);
            assert_eq!((count, (*kept[1]).length), (2, 12));
            free_all(&kept[..count]);
            ExFreePool(address() as *mut _);
        }
        assert_eq!(first_byte(b"OK"), Some(b'O'));
        assert!(has_room());
    }
}
