//! Blocks as `Option<NonNull<_>>`, as a `Result` without and with a code, and by `ok_or(…)?`. A driver attaches to a
//! stack of devices.

use core::ptr::NonNull;

type Status = i32;
const INSUFFICIENT_RESOURCES: Status = -1_073_741_670;

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    use super::{NonNull, Status};
    use core::ffi::c_void;

    pub struct Refused;

    pub unsafe fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> Option<NonNull<u8>> {
        NonNull::new(crate::host::allocate(bytes))
    }
    pub unsafe fn ExAllocatePoolZero(_: i32, bytes: usize, _: u32) -> Result<NonNull<c_void>, Refused> {
        NonNull::new(crate::host::allocate(bytes)).ok_or(Refused)
    }
    pub unsafe fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    /// With a code beside it, a block is wider than a register, and so is a refusal.
    pub unsafe fn ExAllocatePoolUninitialized(_: i32, bytes: usize, _: u32) -> Result<NonNull<u8>, Status> {
        NonNull::new(crate::host::allocate(bytes)).ok_or(super::INSUFFICIENT_RESOURCES)
    }
    pub unsafe fn ExFreePool(block: NonNull<u8>) {
        crate::host::release(block.as_ptr());
    }
    pub unsafe fn ExFreePoolWithTag(block: Option<NonNull<c_void>>, _: u32) -> Status {
        crate::host::release(block.map_or(core::ptr::null_mut(), NonNull::as_ptr));
        0
    }
}

#[memtrack::instrument]
mod stack {
    use super::bindings::*;
    use super::{NonNull, Status, INSUFFICIENT_RESOURCES};
    use core::ffi::c_void;

    const TAG: u32 = u32::from_le_bytes(*b"Stck");

    impl From<Refused> for Status {
        fn from(_: Refused) -> Self {
            INSUFFICIENT_RESOURCES
        }
    }

    pub struct Attached {
        below: Option<NonNull<Attached>>,
        extension: NonNull<c_void>,
        id: usize,
    }

    pub type Device = NonNull<Attached>;

    pub unsafe fn attach(below: Option<Device>, id: usize, extension: usize) -> Result<Device, Status> {
        unsafe {
            let extension: NonNull<c_void> = /*@*/ExAllocatePoolZero(512, extension, TAG)?;
            let device = NonNull::new(/*@*/ ExAllocatePoolWithTag(512, size_of::<Attached>(), TAG))
                .ok_or(INSUFFICIENT_RESOURCES)?
                .cast();
            device.write(Attached { below, extension, id });
            Ok(device)
        }
    }

    pub unsafe fn detach(device: Device) -> Result<Option<Device>, Status> {
        unsafe {
            let Attached { below, extension, .. } = device.read();
            let status = ExFreePoolWithTag(Some(extension), TAG);
            if status < 0 {
                return Err(status);
            }
            ExFreePool(device.cast());
            Ok(below)
        }
    }

    /// The identifiers of all devices from here down.
    pub unsafe fn path(mut device: Device) -> Option<(NonNull<usize>, usize)> {
        let ids = unsafe {
            /*@*/
            ExAllocatePool2(0x100, size_of::<[usize; 8]>(), TAG)?
        }
        .cast::<usize>();
        for place in 0..8 {
            let Attached { below, id, .. } = unsafe { device.read() };
            unsafe { ids.add(place).write(id) };
            let Some(below) = below else { return Some((ids, place + 1)) };
            device = below;
        }
        unsafe { ExFreePool(ids.cast()) }
        None
    }

    pub unsafe fn scratch(bytes: usize) -> Result<usize, Status> {
        let block = unsafe {
            /*@*/
            ExAllocatePoolUninitialized(0, bytes, TAG)
        }?;
        unsafe { ExFreePool(block) };
        Ok(bytes)
    }
}

pub fn drive() {
    unsafe {
        let bus = stack::attach(None, 7, 24).unwrap();
        let filter = stack::attach(Some(bus), 8, 100).unwrap();
        assert_eq!(stack::attach(Some(filter), 9, 1 << 20).err(), Some(INSUFFICIENT_RESOURCES));
        let (ids, count) = stack::path(filter).unwrap();
        assert_eq!(core::slice::from_raw_parts(ids.as_ptr(), count), [8, 7]);
        assert_eq!(stack::detach(filter).map(|below| below == Some(bus)), Ok(true));
        assert_eq!([9, 1 << 20].map(|bytes| stack::scratch(bytes)), [Ok(9), Err(INSUFFICIENT_RESOURCES)]);
    }
}
