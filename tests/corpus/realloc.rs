//! Reallocation by hand, as the kernel has none: grow, shrink, give back at zero. A driver joins fragments.

use core::ffi::c_void;
use core::ptr::null_mut;

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    use core::ffi::c_void;

    pub unsafe fn ExAllocatePoolWithTag(_: u32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

use bindings::{ExAllocatePoolWithTag, ExFreePoolWithTag};

const TAG: u32 = u32::from_le_bytes(*b"Frag");

#[memtrack::instrument]
unsafe fn reallocate(old: *mut c_void, old_bytes: usize, bytes: usize) -> *mut c_void {
    unsafe {
        if bytes == 0 {
            if !old.is_null() {
                ExFreePoolWithTag(old, TAG);
            }
            return null_mut();
        }
        let new = /*@*/ExAllocatePoolWithTag(1, bytes, TAG);
        if new.is_null() || old.is_null() {
            return new;
        }
        new.copy_from_nonoverlapping(old, old_bytes.min(bytes));
        ExFreePoolWithTag(old, TAG);
        new
    }
}

struct Joined {
    bytes: *mut c_void,
    length: usize,
}

impl Joined {
    unsafe fn append(&mut self, fragment: &[u8]) -> Result<usize, ()> {
        let length = self.length + fragment.len();
        unsafe {
            let grown = reallocate(self.bytes, self.length, length);
            if grown.is_null() && length > 0 {
                return Err(());
            }
            let end = grown.byte_add(self.length).cast::<u8>();
            end.copy_from_nonoverlapping(fragment.as_ptr(), fragment.len());
            self.bytes = grown;
        }
        self.length = length;
        Ok(length)
    }

    unsafe fn truncate(&mut self, length: usize) {
        self.bytes = unsafe { reallocate(self.bytes, self.length, length) };
        self.length = length;
    }

    fn as_bytes(&self) -> &[u8] {
        unsafe { core::slice::from_raw_parts(self.bytes.cast(), self.length) }
    }
}

/// What is joined, in a block of its own with its length in front.
#[memtrack::instrument]
unsafe fn message(joined: &Joined) -> *mut u32 {
    let head = size_of::<u32>();
    let block: *mut u32 = unsafe {
        /*@*/
        ExAllocatePoolWithTag(512, head + joined.length, TAG)
    }
    .cast();
    if let (Some(length), Ok(value)) = (unsafe { block.as_mut() }, u32::try_from(joined.length)) {
        *length = value;
        unsafe { block.add(1).cast::<u8>().copy_from_nonoverlapping(joined.bytes.cast(), joined.length) };
    }
    block
}

pub fn drive() {
    let mut joined = Joined { bytes: null_mut(), length: 0 };
    unsafe {
        let lengths = [&b"one "[..], b"two ", b"three"].map(|fragment| joined.append(fragment));
        assert_eq!(lengths, [Ok(4), Ok(8), Ok(13)]);
        assert_eq!(joined.append(&[0; 16_000]), Err(()));
        assert_eq!(joined.as_bytes(), b"one two three");
        let sent = message(&joined);
        assert_eq!((sent.read(), sent.add(1).cast::<[u8; 3]>().read()), (13, *b"one"));
        joined.truncate(7);
        assert_eq!(joined.as_bytes(), b"one two");
        joined.truncate(0);
        joined.truncate(0);
    }
    assert!(joined.bytes.is_null());
}
