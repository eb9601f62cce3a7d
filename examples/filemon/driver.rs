//! The driver: it sees files being opened, read and closed, and keeps a log that a program fetches.
//!
//! Written as for `wdk-sys`, whose names memtrack-sim has too. Two attributes are all that memtrack asks for: one on the
//! module, one on the unload routine.

#[memtrack::instrument]
pub mod filemon {
    use core::ptr;
    use core::sync::atomic::{AtomicBool, Ordering};

    use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
    use wdk_sys::{
        NTSTATUS, POOL_FLAG_PAGED, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
    };

    use crate::io::{DRIVER_OBJECT, IRP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_READ};
    use crate::log;

    const NAME_TAG: u32 = u32::from_le_bytes(*b"Fnam");
    const TEXT_TAG: u32 = u32::from_le_bytes(*b"Ftxt");

    /// Whether the mistake in `read` is mended.
    pub static FIXED: AtomicBool = AtomicBool::new(false);

    /// What hangs on an open file.
    #[repr(C)]
    struct OpenFile {
        name_length: usize,
        name: [u8; 0],
    }

    pub fn driver_entry(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
        log::open();
        driver.MajorFunction[IRP_MJ_CREATE] = Some(create);
        driver.MajorFunction[IRP_MJ_READ] = Some(read);
        driver.MajorFunction[IRP_MJ_CLOSE] = Some(close);
        driver.MajorFunction[IRP_MJ_DEVICE_CONTROL] = Some(device_control);
        driver.DriverUnload = Some(driver_unload);
        STATUS_SUCCESS
    }

    /// A file is opened: its name is kept for as long as it stays open.
    unsafe extern "C" fn create(irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the I/O manager sends whole requests.
        let irp = unsafe { &mut *irp };
        let bytes = size_of::<OpenFile>() + irp.Length;
        // SAFETY: PASSIVE_LEVEL.
        let file = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, bytes as u64, NAME_TAG) }.cast::<OpenFile>();
        if file.is_null() {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        // SAFETY: the block has room for the head and the name.
        unsafe {
            (*file).name_length = irp.Length;
            ptr::copy_nonoverlapping(irp.SystemBuffer, (&raw mut (*file).name).cast(), irp.Length);
        }
        irp.FsContext = file.cast();
        // SAFETY: the file was just made.
        log::write("open", unsafe { name(file) }, "");
        STATUS_SUCCESS
    }

    /// A file was read: the first line of what was read goes to the log, if it is text.
    unsafe extern "C" fn read(irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the I/O manager sends whole requests, and reads of open files.
        let irp = unsafe { &mut *irp };
        // SAFETY: as above.
        let name = unsafe { name(irp.FsContext.cast()) };
        if irp.Length == 0 {
            log::write("read", name, "(empty)");
            return STATUS_SUCCESS;
        }
        // SAFETY: PASSIVE_LEVEL.
        let text = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, irp.Length as u64, TEXT_TAG) }.cast::<u8>();
        if text.is_null() {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        // SAFETY: both are as long as the request says.
        let data = unsafe {
            ptr::copy_nonoverlapping(irp.SystemBuffer, text, irp.Length);
            core::slice::from_raw_parts(text, irp.Length)
        };
        let Some(line) = first_line(data) else {
            // Here is the mistake: the way out that forgets the block.
            if FIXED.load(Ordering::Relaxed) {
                // SAFETY: the block is ours, and `data` is not used any more.
                unsafe { ExFreePoolWithTag(text.cast(), TEXT_TAG) };
            }
            log::write("read", name, "(not text)");
            return STATUS_INVALID_PARAMETER;
        };
        log::write("read", name, line);
        // SAFETY: the block is ours, and `line` is not used any more.
        unsafe { ExFreePoolWithTag(text.cast(), TEXT_TAG) };
        STATUS_SUCCESS
    }

    /// A file is closed: its name goes.
    unsafe extern "C" fn close(irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the I/O manager sends whole requests.
        let file = unsafe { (*irp).FsContext };
        // SAFETY: the file is open until here.
        log::write("close", unsafe { name(file.cast()) }, "");
        // SAFETY: `create` made the block, and no request uses the file any more.
        unsafe { ExFreePoolWithTag(file, NAME_TAG) };
        STATUS_SUCCESS
    }

    /// A program fetches the oldest buffer of the log.
    unsafe extern "C" fn device_control(irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the I/O manager sends whole requests.
        let irp = unsafe { &mut *irp };
        // SAFETY: as above: the buffer is as long as the request says, and this request's alone.
        let room = unsafe { core::slice::from_raw_parts_mut(irp.SystemBuffer, irp.Length) };
        irp.Information = log::fetch(room).unwrap_or(0);
        STATUS_SUCCESS
    }

    #[memtrack::instrument(finish = "Filemon")]
    unsafe extern "C" fn driver_unload(_driver: *mut DRIVER_OBJECT) {
        log::close();
    }

    unsafe fn name<'a>(file: *mut OpenFile) -> &'a str {
        // SAFETY: the caller's file is open; its name follows the head and stays until the close.
        let bytes = unsafe {
            core::slice::from_raw_parts((&raw const (*file).name).cast::<u8>(), (*file).name_length)
        };
        core::str::from_utf8(bytes).unwrap_or("(a name that is not text)")
    }

    /// The first line of a text; `None` where the bytes are not text. A character that the end of a read cuts in two
    /// is no mistake of the file's.
    fn first_line(data: &[u8]) -> Option<&str> {
        let text = match core::str::from_utf8(data) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() => {
                core::str::from_utf8(&data[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        let binary = text.contains('\0');
        (!binary).then(|| text.lines().next().unwrap_or_default())
    }
}
