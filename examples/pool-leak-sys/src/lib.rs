//! A driver that takes 64 bytes of nonpaged pool for its device and does not give them back: the mistake that
//! `fail_driver_pool_leak` of Microsoft's Windows-rust-driver-samples makes for Driver Verifier to find.
#![no_std]

extern crate wdk_panic;

#[memtrack::instrument]
pub mod driver {
    use core::ptr::null_mut;

    use wdk_sys::ntddk::{ExAllocatePool2, IoCreateDevice, IoDeleteDevice};
    use wdk_sys::{
        DRIVER_OBJECT, FILE_DEVICE_UNKNOWN, NT_SUCCESS, NTSTATUS, PCUNICODE_STRING, POOL_FLAG_NON_PAGED,
        PVOID, STATUS_INSUFFICIENT_RESOURCES,
    };

    const TAG: u32 = u32::from_le_bytes(*b"Leak");
    const BUFFER_BYTES: u64 = 64;

    static mut BUFFER: PVOID = null_mut();

    /// # Safety
    ///
    /// Called by the system when it loads the driver, and by nobody else.
    #[unsafe(export_name = "DriverEntry")]
    pub unsafe extern "system" fn driver_entry(driver: &mut DRIVER_OBJECT, _: PCUNICODE_STRING) -> NTSTATUS {
        driver.DriverUnload = Some(driver_unload);
        let status = add_device(driver);
        if !NT_SUCCESS(status) {
            // Nobody unloads a driver that was not loaded.
            memtrack::finish("pool-leak");
        }
        status
    }

    fn add_device(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
        let mut device = null_mut();
        // SAFETY: the driver is being loaded; the device has no name.
        let status =
            unsafe { IoCreateDevice(driver, 0, null_mut(), FILE_DEVICE_UNKNOWN, 0, 0, &raw mut device) };
        if !NT_SUCCESS(status) {
            return status;
        }
        // SAFETY: any size and tag will do.
        let buffer = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, BUFFER_BYTES, TAG) };
        // SAFETY: the driver is loaded by one thread, and nobody reads the buffer yet.
        unsafe { BUFFER = buffer };
        if buffer.is_null() {
            // SAFETY: the device was just made, and nobody has opened it.
            unsafe { IoDeleteDevice(device) };
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        status
    }

    #[memtrack::instrument(finish = "pool-leak")]
    unsafe extern "C" fn driver_unload(driver: *mut DRIVER_OBJECT) {
        // SAFETY: the driver's only device, which `add_device` made.
        unsafe { IoDeleteDevice((*driver).DeviceObject) };
        // `BUFFER` should go here, too.
    }
}
