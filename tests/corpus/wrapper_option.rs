//! Wrappers that the attribute marks, one on the other. Names that a minifilter keeps.

#[allow(non_snake_case, reason = "the kernel's names")]
mod fltmgr {
    use core::ffi::c_void;

    pub unsafe extern "system" fn ExAllocatePoolZero(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

use core::ffi::c_void;
use fltmgr::{ExAllocatePoolZero, ExFreePoolWithTag};

const TAG: u32 = 0x6D61_4E46;

#[memtrack::instrument(wrapper)]
unsafe fn allocate<T>(count: usize) -> *mut T {
    unsafe { ExAllocatePoolZero(1, count * size_of::<T>(), TAG) }.cast()
}

#[derive(Debug)]
struct Name {
    start: *mut u16,
    length: usize,
}

#[memtrack::instrument]
impl Name {
    #[memtrack::instrument(wrapper, guard = "none")]
    fn empty(room: usize) -> Result<Self, i32> {
        let start = unsafe { allocate::<u16>(room) };
        if start.is_null() {
            Err(-1)
        } else {
            Ok(Self { start, length: 0 })
        }
    }

    #[memtrack::instrument(wrapper)]
    fn of(units: &[u16]) -> Result<Self, i32> {
        let mut name = Self::empty(units.len())?;
        unsafe { name.start.copy_from_nonoverlapping(units.as_ptr(), units.len()) };
        name.length = units.len();
        Ok(name)
    }

    fn units(&self) -> &[u16] {
        unsafe { core::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Name {
    #[memtrack::instrument]
    fn drop(&mut self) {
        unsafe { ExFreePoolWithTag(self.start.cast(), TAG) }
    }
}

/// The filter manager's side calls this one, by no line of the driver's.
#[memtrack::instrument]
#[rustfmt::skip]
extern "system" fn context_of(bytes: u32) -> *mut c_void {
    unsafe { /*@*/ExAllocatePoolZero(0, bytes as usize, TAG) }
}

fn normalized(name: &[u16]) -> Result<Name, i32> {
    let last = name.iter().rposition(|unit| *unit == u16::from(b'\\')).map_or(0, |place| place + 1);
    /*@*/
    Name::of(&name[last..])
}

pub fn drive() {
    let path: Vec<_> = r"\Device\Volume1\note.txt".encode_utf16().collect();
    let name = normalized(&path).unwrap();
    assert_eq!(String::from_utf16_lossy(name.units()), "note.txt");
    assert_eq!(/*@*/ Name::empty(1 << 20).unwrap_err(), -1);
    assert!(!context_of(48).is_null());
}
