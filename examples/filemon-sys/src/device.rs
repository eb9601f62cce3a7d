//! The device that programs open as `\\.\Filemon`: a read takes the oldest part of the log, a write names a file.

use core::ptr::null_mut;
use core::slice;

use wdk_sys::ntddk::{
    IoCreateDevice, IoCreateSymbolicLink, IoDeleteDevice, IoDeleteSymbolicLink, IofCompleteRequest,
};
use wdk_sys::{
    DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_DEVICE_SECURE_OPEN, FILE_DEVICE_UNKNOWN,
    IO_NO_INCREMENT, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_READ, IRP_MJ_WRITE, NT_SUCCESS, NTSTATUS,
    PDEVICE_OBJECT, PIO_STACK_LOCATION, PIRP, STATUS_SUCCESS, UNICODE_STRING,
};

use crate::{filemon, log};

static NAME: [u16; 15] = wide(b"\\Device\\Filemon");
static LINK: [u16; 19] = wide(b"\\DosDevices\\Filemon");

pub fn create(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
    let routines: [(u32, Dispatch); 4] =
        [(IRP_MJ_CREATE, opened), (IRP_MJ_CLOSE, opened), (IRP_MJ_READ, read), (IRP_MJ_WRITE, write)];
    for (function, routine) in routines {
        driver.MajorFunction[function as usize] = Some(routine);
    }
    let (mut name, mut link) = (string(&NAME), string(&LINK));
    let mut device = null_mut();
    // SAFETY: the driver is being loaded; the names are statics, the rest are locals.
    let status = unsafe {
        IoCreateDevice(
            driver,
            0,
            &raw mut name,
            FILE_DEVICE_UNKNOWN,
            FILE_DEVICE_SECURE_OPEN,
            0,
            &raw mut device,
        )
    };
    if !NT_SUCCESS(status) {
        return status;
    }
    // SAFETY: the device was just made, and nobody has opened it yet.
    unsafe {
        (*device).Flags |= DO_BUFFERED_IO;
        (*device).Flags &= !DO_DEVICE_INITIALIZING;
    }
    // SAFETY: both names are statics.
    let status = unsafe { IoCreateSymbolicLink(&raw mut link, &raw mut name) };
    if !NT_SUCCESS(status) {
        // SAFETY: the device is this driver's, and nobody has opened it.
        unsafe { IoDeleteDevice(device) };
    }
    status
}

pub fn delete(driver: &mut DRIVER_OBJECT) {
    let mut link = string(&LINK);
    // SAFETY: the name is a static.
    let _ = unsafe { IoDeleteSymbolicLink(&raw mut link) };
    // SAFETY: the driver's only device, which `create` made; nobody has it open when the driver goes.
    unsafe { IoDeleteDevice(driver.DeviceObject) };
}

type Dispatch = unsafe extern "C" fn(PDEVICE_OBJECT, PIRP) -> NTSTATUS;

/// Opening and closing need nothing.
unsafe extern "C" fn opened(_device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: the I/O manager sends whole requests.
    unsafe { complete(irp, 0) }
}

unsafe extern "C" fn read(_device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: the I/O manager sends whole requests; this is a read.
    unsafe {
        let length = (*stack(irp)).Parameters.Read.Length;
        complete(irp, log::fetch(buffer(irp, length)).unwrap_or(0))
    }
}

unsafe extern "C" fn write(_device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: the I/O manager sends whole requests; this is a write.
    unsafe {
        let length = (*stack(irp)).Parameters.Write.Length;
        filemon::named(buffer(irp, length));
        complete(irp, length as usize)
    }
}

/// # Safety
///
/// `irp` is a whole request.
unsafe fn stack(irp: PIRP) -> PIO_STACK_LOCATION {
    // SAFETY: the caller's promise; a request on its way has a place on the stack.
    unsafe { (*irp).Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation }
}

/// The request's data, which the I/O manager has copied, or room for them.
///
/// # Safety
///
/// `irp` is a whole request of a device with buffered I/O, and says that it is so long.
unsafe fn buffer<'a>(irp: PIRP, length: u32) -> &'a mut [u8] {
    // SAFETY: the caller's promise; a request of no length has no buffer.
    unsafe {
        let buffer = (*irp).AssociatedIrp.SystemBuffer.cast::<u8>();
        if buffer.is_null() { &mut [] } else { slice::from_raw_parts_mut(buffer, length as usize) }
    }
}

/// # Safety
///
/// `irp` is a whole request, which nobody uses after this.
unsafe fn complete(irp: PIRP, information: usize) -> NTSTATUS {
    // SAFETY: the caller's promise.
    unsafe {
        (*irp).IoStatus.__bindgen_anon_1.Status = STATUS_SUCCESS;
        (*irp).IoStatus.Information = information as u64;
        IofCompleteRequest(irp, IO_NO_INCREMENT as i8);
    }
    STATUS_SUCCESS
}

fn string(units: &'static [u16]) -> UNICODE_STRING {
    let bytes = size_of_val(units) as u16;
    UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: units.as_ptr().cast_mut() }
}

const fn wide<const N: usize>(ascii: &[u8; N]) -> [u16; N] {
    let mut units = [0; N];
    let mut at = 0;
    while at < N {
        units[at] = ascii[at] as u16;
        at += 1;
    }
    units
}
