//! Functions found when the driver is loaded: what the newest Windows has, or else the older ones.

use core::ffi::c_void;

const TAG: u32 = 0x6C6F_7352;

/// Which functions this Windows exports.
#[allow(non_snake_case, reason = "the kernel's names")]
mod kernel {
    use core::ffi::c_void;

    unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    unsafe extern "C" fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }

    pub fn routine(name: &str, is_new: bool) -> *const c_void {
        match name {
            "ExAllocatePool2" if is_new => ExAllocatePool2 as *const c_void,
            "ExAllocatePoolWithTag" => ExAllocatePoolWithTag as *const c_void,
            "ExFreePoolWithTag" => ExFreePoolWithTag as *const c_void,
            _ => core::ptr::null(),
        }
    }
}

type NewAllocate = unsafe extern "C" fn(u64, usize, u32) -> *mut c_void;
type OldAllocate = unsafe extern "C" fn(i32, usize, u32) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, u32);

enum Allocate {
    New(NewAllocate),
    Old(OldAllocate),
}

struct Routines {
    allocate: Allocate,
    free: Free,
}

impl Routines {
    fn find(is_new: bool) -> Option<Self> {
        let new = kernel::routine("ExAllocatePool2", is_new);
        let old = kernel::routine("ExAllocatePoolWithTag", is_new);
        let free = kernel::routine("ExFreePoolWithTag", is_new);
        if old.is_null() || free.is_null() {
            return None;
        }
        // The addresses are those of functions of these types.
        let allocate = unsafe {
            if new.is_null() {
                Allocate::Old(core::mem::transmute::<*const c_void, OldAllocate>(old))
            } else {
                Allocate::New(core::mem::transmute::<*const c_void, NewAllocate>(new))
            }
        };
        Some(Self { allocate, free: unsafe { core::mem::transmute::<*const c_void, Free>(free) } })
    }

    #[rustfmt::skip]
    fn get(&self, bytes: u16) -> Option<*mut c_void> {
        let block = match self.allocate {
            Allocate::New(allocate) => unsafe {
                memtrack::record_alloc!(ExAllocatePool2, /*@*/allocate(0x100, bytes.into(), TAG))
            },
            Allocate::Old(allocate) => unsafe {
                memtrack::record_alloc!(ExAllocatePoolWithTag, /*@*/allocate(1, bytes.into(), TAG))
            },
        };
        if block.is_null() { None } else { Some(block) }
    }

    fn put(&self, block: *mut c_void) {
        unsafe { memtrack::record_free!(ExFreePoolWithTag, (self.free)(block, TAG)) }
    }
}

pub fn drive() {
    for is_new in [true, false] {
        let routines = Routines::find(is_new).unwrap();
        let blocks = [12, 40_000, 5].map(|bytes| routines.get(bytes));
        assert!(blocks[1].is_none());
        routines.put(blocks[0].unwrap());
        if is_new {
            routines.put(blocks[2].unwrap());
        }
    }
}
