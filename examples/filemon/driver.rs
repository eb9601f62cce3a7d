//! The driver: it sees files being opened, read and closed, and keeps a log that a program fetches.
//!
//! Written as for `wdk-sys`; the names come from memtrack-sim, which has them too. Two attributes are all that
//! memtrack asks for: one on the module, one on the unload routine.

use memtrack_sim as wdk_sys;

#[memtrack::instrument]
pub mod filemon {
    use core::ffi::c_void;
    use core::mem::MaybeUninit;
    use core::ptr::{self, null_mut};
    use core::sync::atomic::{AtomicBool, Ordering};

    use super::wdk_sys::ntddk::{
        ExAllocateFromNPagedLookasideList, ExAllocatePool2, ExDeleteNPagedLookasideList, ExFreePoolWithTag,
        ExFreeToNPagedLookasideList, ExInitializeNPagedLookasideList, KeAcquireSpinLockRaiseToDpc,
        KeReleaseSpinLock,
    };
    use super::wdk_sys::{
        KSPIN_LOCK, NPAGED_LOOKASIDE_LIST, NTSTATUS, POOL_FLAG_PAGED, POOL_NX_ALLOCATION,
        STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
    };
    use crate::io::{DRIVER_OBJECT, IRP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_READ};

    const NAME_TAG: u32 = u32::from_le_bytes(*b"Fnam");
    const TEXT_TAG: u32 = u32::from_le_bytes(*b"Ftxt");
    const LOG_TAG: u32 = u32::from_le_bytes(*b"Flog");

    const LOG_BYTES: usize = 4096;
    /// Empty buffers that are kept for the next lines. With memtrack, on or off, the list is of this depth; without, the
    /// kernel would choose one.
    const LOG_DEPTH: u16 = 4;
    /// Full buffers that wait for a reader. More are thrown away, the oldest first.
    const LOG_BUFFERS: usize = 16;

    /// Whether the mistake in `read` is mended.
    pub static FIXED: AtomicBool = AtomicBool::new(false);

    /// What hangs on an open file.
    #[repr(C)]
    struct OpenFile {
        name_length: usize,
        name: [u8; 0],
    }

    /// A buffer of log lines: this head, and text to the end of the block.
    #[repr(C)]
    struct LogBuffer {
        next: *mut LogBuffer,
        used: usize,
    }

    const LOG_ROOM: usize = LOG_BYTES - size_of::<LogBuffer>();

    impl LogBuffer {
        unsafe fn text(this: *mut Self) -> *mut u8 {
            // SAFETY: the text follows the head in the same block.
            unsafe { this.add(1).cast() }
        }
    }

    struct Log {
        /// Buffers, the oldest first; the last one is being written.
        oldest: *mut LogBuffer,
        newest: *mut LogBuffer,
        buffers: usize,
    }

    static mut LOG_LOCK: KSPIN_LOCK = 0;
    static mut LOG_LIST: MaybeUninit<NPAGED_LOOKASIDE_LIST> = MaybeUninit::uninit();
    static mut LOG: Log = Log { oldest: null_mut(), newest: null_mut(), buffers: 0 };

    /// Does `work` with the log's lock held, at DISPATCH_LEVEL.
    fn with_log<R>(work: impl FnOnce(&mut Log) -> R) -> R {
        // SAFETY: the lock is a static.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(&raw mut LOG_LOCK) };
        let log = &raw mut LOG;
        // SAFETY: the lock is held, so this is the only reference.
        let result = work(unsafe { &mut *log });
        // SAFETY: the lock was taken above, at this IRQL.
        unsafe { KeReleaseSpinLock(&raw mut LOG_LOCK, irql) };
        result
    }

    /// Where empty buffers come from.
    fn buffers() -> *mut NPAGED_LOOKASIDE_LIST {
        (&raw mut LOG_LIST).cast()
    }

    pub fn driver_entry(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
        // SAFETY: the list is a static, and nobody uses it yet.
        unsafe {
            ExInitializeNPagedLookasideList(
                buffers(),
                None,
                None,
                POOL_NX_ALLOCATION,
                LOG_BYTES as u64,
                LOG_TAG,
                LOG_DEPTH,
            );
        }
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
        log("open", unsafe { name(file) }, "");
        STATUS_SUCCESS
    }

    /// A file was read: the first line of what was read goes to the log, if it is text.
    unsafe extern "C" fn read(irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the I/O manager sends whole requests, and reads of open files.
        let irp = unsafe { &mut *irp };
        // SAFETY: as above.
        let name = unsafe { name(irp.FsContext.cast()) };
        if irp.Length == 0 {
            log("read", name, "(empty)");
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
            log("read", name, "(not text)");
            return STATUS_INVALID_PARAMETER;
        };
        log("read", name, line);
        // SAFETY: the block is ours, and `line` is not used any more.
        unsafe { ExFreePoolWithTag(text.cast(), TEXT_TAG) };
        STATUS_SUCCESS
    }

    /// A file is closed: its name goes.
    unsafe extern "C" fn close(irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the I/O manager sends whole requests.
        let file = unsafe { (*irp).FsContext };
        // SAFETY: the file is open until here.
        log("close", unsafe { name(file.cast()) }, "");
        // SAFETY: `create` made the block, and no request uses the file any more.
        unsafe { ExFreePoolWithTag(file, NAME_TAG) };
        STATUS_SUCCESS
    }

    /// A program fetches the oldest buffer of the log.
    unsafe extern "C" fn device_control(irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the I/O manager sends whole requests.
        let irp = unsafe { &mut *irp };
        let buffer = with_log(Log::take_oldest);
        irp.Information = 0;
        if buffer.is_null() {
            return STATUS_SUCCESS;
        }
        // SAFETY: the buffer was taken off the log, so it is ours alone; it holds `used` bytes of text.
        unsafe {
            let length = (*buffer).used.min(irp.Length);
            ptr::copy_nonoverlapping(LogBuffer::text(buffer), irp.SystemBuffer, length);
            irp.Information = length;
            ExFreeToNPagedLookasideList(buffers(), buffer.cast());
        }
        STATUS_SUCCESS
    }

    #[memtrack::instrument(finish = "Filemon")]
    unsafe extern "C" fn driver_unload(_driver: *mut DRIVER_OBJECT) {
        loop {
            let buffer = with_log(Log::take_oldest);
            if buffer.is_null() {
                // SAFETY: no request comes any more, and the log is empty.
                unsafe { ExDeleteNPagedLookasideList(buffers()) };
                return;
            }
            // SAFETY: the buffer was taken off the log.
            unsafe { ExFreeToNPagedLookasideList(buffers(), buffer.cast()) };
        }
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

    /// Writes one line to the log, shortened to what fits.
    fn log(operation: &str, name: &str, detail: &str) {
        let parts = [operation, "\t", name, "\t", detail];
        with_log(|log| {
            let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
            if !log.make_room(length.min(LOG_ROOM)) {
                return;
            }
            for part in parts.iter().copied().chain(["\n"]) {
                log.append(part.as_bytes());
            }
        });
    }

    impl Log {
        /// Makes sure that the newest buffer has room for so many bytes; false if there is no memory for another.
        fn make_room(&mut self, length: usize) -> bool {
            // SAFETY: buffers on the log are whole.
            if !self.newest.is_null() && unsafe { (*self.newest).used } + length <= LOG_ROOM {
                return true;
            }
            // SAFETY: the list is of nonpaged pool, and the log's lock is held, which is DISPATCH_LEVEL.
            let block: *mut c_void = unsafe { ExAllocateFromNPagedLookasideList(buffers()) };
            if block.is_null() {
                return false;
            }
            let buffer = block.cast::<LogBuffer>();
            // SAFETY: the block is new, and longer than a head.
            unsafe { buffer.write(LogBuffer { next: null_mut(), used: 0 }) };
            if self.newest.is_null() {
                self.oldest = buffer;
            } else {
                // SAFETY: buffers on the log are whole.
                unsafe { (*self.newest).next = buffer };
            }
            self.newest = buffer;
            self.buffers += 1;
            if self.buffers > LOG_BUFFERS {
                let oldest = self.take_oldest();
                // SAFETY: the buffer was taken off the log.
                unsafe { ExFreeToNPagedLookasideList(buffers(), oldest.cast()) };
            }
            true
        }

        fn append(&mut self, bytes: &[u8]) {
            // SAFETY: `make_room` has just made sure of a newest buffer; no more than its room is used.
            unsafe {
                let buffer = self.newest;
                let length = bytes.len().min(LOG_ROOM - (*buffer).used);
                let end = LogBuffer::text(buffer).add((*buffer).used);
                ptr::copy_nonoverlapping(bytes.as_ptr(), end, length);
                (*buffer).used += length;
            }
        }

        fn take_oldest(&mut self) -> *mut LogBuffer {
            let buffer = self.oldest;
            if !buffer.is_null() {
                // SAFETY: buffers on the log are whole.
                self.oldest = unsafe { (*buffer).next };
                self.buffers -= 1;
                if self.oldest.is_null() {
                    self.newest = null_mut();
                }
            }
            buffer
        }
    }
}
