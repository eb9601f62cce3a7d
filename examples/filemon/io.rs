//! The I/O manager's side of a driver, as small as this example needs it: the objects that `wdk-sys` declares under
//! these names, with the fields that filemon uses.
#![allow(
    non_camel_case_types,
    non_snake_case,
    clippy::upper_case_acronyms,
    reason = "the kernel's own names"
)]

use memtrack_sim::{NTSTATUS, PVOID, STATUS_INVALID_PARAMETER};

pub type DRIVER_DISPATCH = unsafe extern "C" fn(Irp: *mut IRP) -> NTSTATUS;
pub type DRIVER_UNLOAD = unsafe extern "C" fn(DriverObject: *mut DRIVER_OBJECT);

pub const IRP_MJ_CREATE: usize = 0x00;
pub const IRP_MJ_CLOSE: usize = 0x02;
pub const IRP_MJ_READ: usize = 0x03;
pub const IRP_MJ_DEVICE_CONTROL: usize = 0x0e;

#[derive(Default)]
pub struct DRIVER_OBJECT {
    pub MajorFunction: [Option<DRIVER_DISPATCH>; 0x1c],
    pub DriverUnload: Option<DRIVER_UNLOAD>,
}

/// One request to the driver.
pub struct IRP {
    pub MajorFunction: usize,
    /// What the driver hangs on an open file: `FsContext` of its file object.
    pub FsContext: PVOID,
    /// The request's data: a name at a create, what was read at a read, room for the log at a device control.
    pub SystemBuffer: *mut u8,
    pub Length: usize,
    /// What the driver did of it.
    pub Information: usize,
}

impl DRIVER_OBJECT {
    /// Sends a request down.
    pub fn call(&self, irp: &mut IRP) -> NTSTATUS {
        match self.MajorFunction.get(irp.MajorFunction) {
            // SAFETY: the driver put its own dispatch routine there; the request is whole and outlives the call.
            Some(&Some(dispatch)) => unsafe { dispatch(irp) },
            _ => STATUS_INVALID_PARAMETER,
        }
    }

    /// Unloads the driver.
    pub fn unload(&mut self) {
        if let Some(unload) = self.DriverUnload.take() {
            // SAFETY: the driver put its own unload routine there; no request is under way.
            unsafe { unload(self) };
        }
    }
}
