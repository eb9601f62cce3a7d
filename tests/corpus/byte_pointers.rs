//! Blocks as `*mut u8`. A network driver strips and adds headers.

#[allow(non_snake_case, reason = "the kernel's names")]
mod pool {
    pub unsafe fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut u8 {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExFreePoolWithTag(block: *mut u8, _: u32) {
        crate::host::release(block);
    }
}

const TAG: u32 = u32::from_le_bytes(*b"Pckt");
const HEADER: usize = 4;

/// A packet: a type and a length of two bytes each, then what it carries.
struct Packet {
    bytes: *mut u8,
    length: usize,
}

#[memtrack::instrument]
impl Packet {
    fn raw(bytes: &[u8]) -> Option<Self> {
        let copy = unsafe {
            /*@*/
            pool::ExAllocatePoolWithTag(512, bytes.len(), TAG)
        };
        if copy.is_null() {
            return None;
        }
        for (place, byte) in bytes.iter().enumerate() {
            unsafe { *copy.add(place) = *byte };
        }
        Some(Self { bytes: copy, length: bytes.len() })
    }

    fn wrapped(&self, kind: u16) -> Option<Self> {
        let first = unsafe {
            /*@*/
            pool::ExAllocatePoolWithTag(512, HEADER + self.length, TAG).as_mut()?
        };
        let mut bytes = core::ptr::from_mut(first);
        let length = u16::try_from(self.length).ok()?.to_be_bytes();
        let start = bytes;
        for byte in kind.to_be_bytes().into_iter().chain(length) {
            unsafe {
                bytes.write(byte);
                bytes = bytes.add(1);
            }
        }
        unsafe { bytes.copy_from_nonoverlapping(self.bytes, self.length) };
        Some(Self { bytes: start, length: HEADER + self.length })
    }

    fn unwrapped(self) -> Option<Self> {
        Self::raw(self.as_slice().get(HEADER..)?)
    }

    fn as_slice(&self) -> &[u8] {
        unsafe { core::slice::from_raw_parts(self.bytes, self.length) }
    }
}

#[memtrack::instrument]
impl Drop for Packet {
    fn drop(&mut self) {
        unsafe { pool::ExFreePoolWithTag(self.bytes, TAG) };
    }
}

pub fn drive() {
    let wrapped = Packet::raw(b"data").and_then(|packet| packet.wrapped(0x0800)).unwrap();
    assert_eq!(wrapped.as_slice(), b"\x08\0\0\x04data");
    assert_eq!(wrapped.unwrapped().unwrap().as_slice(), b"data");
    assert!(Packet::raw(b"ab").unwrap().unwrapped().is_none());
    core::mem::forget(Packet::raw(b"sent, and never completed"));
}
