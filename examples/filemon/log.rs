//! The log: buffers of lines, from a lookaside list, the oldest of which a program fetches.
//!
//! `examples/filemon-sys` has this file, too. It is tracked by a macro round its items, because stable Rust has no
//! attribute for a module in a file of its own.

memtrack::instrument_items! {
    use core::ffi::c_void;
    use core::mem::MaybeUninit;
    use core::ptr::{self, null_mut};

    use memtrack::ntddk::{
        ExAllocateFromNPagedLookasideList, ExDeleteNPagedLookasideList, ExFreeToNPagedLookasideList,
        ExInitializeNPagedLookasideList,
    };
    use wdk_sys::ntddk::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
    use wdk_sys::{KSPIN_LOCK, NPAGED_LOOKASIDE_LIST, POOL_NX_ALLOCATION};

    const TAG: u32 = u32::from_le_bytes(*b"Flog");

    const BUFFER_BYTES: usize = 4096;
    const ROOM: usize = BUFFER_BYTES - size_of::<Buffer>();
    /// Longer lines are cut.
    const LINE_MOST: usize = 512;
    /// Empty buffers that are kept for the next lines. With memtrack, on or off, the list is of this depth; without, the
    /// kernel would choose one.
    const DEPTH: u16 = 4;
    /// Full buffers that wait for a reader. More are thrown away, the oldest first.
    const MOST_BUFFERS: usize = 16;

    /// A buffer of log lines: this head, and text to the end of the block.
    #[repr(C)]
    struct Buffer {
        next: *mut Buffer,
        used: usize,
    }

    impl Buffer {
        unsafe fn text(this: *mut Self) -> *mut u8 {
            // SAFETY: the text follows the head in the same block.
            unsafe { this.add(1).cast() }
        }
    }

    struct Log {
        /// Buffers, the oldest first; the last one is being written.
        oldest: *mut Buffer,
        newest: *mut Buffer,
        buffers: usize,
    }

    static mut LOCK: KSPIN_LOCK = 0;
    static mut LIST: MaybeUninit<NPAGED_LOOKASIDE_LIST> = MaybeUninit::uninit();
    static mut LOG: Log = Log { oldest: null_mut(), newest: null_mut(), buffers: 0 };

    /// Begins the log. The first thing that a driver does with it.
    pub fn open() {
        // SAFETY: the list is a static, and nobody uses it yet.
        unsafe { ExInitializeNPagedLookasideList(list(), None, None, POOL_NX_ALLOCATION, BUFFER_BYTES as _, TAG, DEPTH) };
    }

    /// Throws the log away. The last thing that a driver does with it.
    pub fn close() {
        while fetch(&mut []).is_some() {}
        // SAFETY: no line comes any more, and the log is empty.
        unsafe { ExDeleteNPagedLookasideList(list()) };
    }

    /// Writes one line, shortened to what fits.
    pub fn write(operation: &str, name: &str, detail: &str) {
        // A name may be in paged pool, which is out of reach under a spin lock. The stack is not. What is not written over
        // is the line's end.
        let mut line = [b'\n'; LINE_MOST];
        let text = [operation, "\t", name, "\t", detail].into_iter().flat_map(str::bytes);
        let mut length = 1;
        for (place, byte) in line.iter_mut().take(LINE_MOST - 1).zip(text) {
            *place = byte;
            length += 1;
        }
        with_log(|log| {
            if log.make_room(length) {
                log.append(line.get(..length).unwrap_or_default());
            }
        });
    }

    /// Takes the oldest buffer off the log, and copies as much of it as there is room for; how much that was, or `None`
    /// if the log is empty.
    pub fn fetch(room: &mut [u8]) -> Option<usize> {
        let buffer = with_log(Log::take_oldest);
        if buffer.is_null() {
            return None;
        }
        // SAFETY: the buffer was taken off the log, so it is ours alone; it holds `used` bytes of text.
        unsafe {
            let length = (*buffer).used.min(room.len());
            ptr::copy_nonoverlapping(Buffer::text(buffer), room.as_mut_ptr(), length);
            ExFreeToNPagedLookasideList(list(), buffer.cast());
            Some(length)
        }
    }

    /// Does `work` with the log's lock held, at DISPATCH_LEVEL.
    fn with_log<R>(work: impl FnOnce(&mut Log) -> R) -> R {
        // SAFETY: the lock is a static.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(&raw mut LOCK) };
        let log = &raw mut LOG;
        // SAFETY: the lock is held, so this is the only reference.
        let result = work(unsafe { &mut *log });
        // SAFETY: the lock was taken above, at this IRQL.
        unsafe { KeReleaseSpinLock(&raw mut LOCK, irql) };
        result
    }

    /// Where empty buffers come from.
    fn list() -> *mut NPAGED_LOOKASIDE_LIST {
        (&raw mut LIST).cast()
    }

    impl Log {
        /// Makes sure that the newest buffer has room for so many bytes; false if there is no memory for another.
        fn make_room(&mut self, length: usize) -> bool {
            // SAFETY: buffers on the log are whole.
            if !self.newest.is_null() && unsafe { (*self.newest).used } + length <= ROOM {
                return true;
            }
            // SAFETY: the list is of nonpaged pool, and the log's lock is held, which is DISPATCH_LEVEL.
            let block: *mut c_void = unsafe { ExAllocateFromNPagedLookasideList(list()) };
            if block.is_null() {
                return false;
            }
            let buffer = block.cast::<Buffer>();
            // SAFETY: the block is new, and longer than a head.
            unsafe { buffer.write(Buffer { next: null_mut(), used: 0 }) };
            if self.newest.is_null() {
                self.oldest = buffer;
            } else {
                // SAFETY: buffers on the log are whole.
                unsafe { (*self.newest).next = buffer };
            }
            self.newest = buffer;
            self.buffers += 1;
            if self.buffers > MOST_BUFFERS {
                let oldest = self.take_oldest();
                // SAFETY: the buffer was taken off the log.
                unsafe { ExFreeToNPagedLookasideList(list(), oldest.cast()) };
            }
            true
        }

        fn append(&mut self, bytes: &[u8]) {
            // SAFETY: `make_room` has just made sure of a newest buffer; no more than its room is used.
            unsafe {
                let buffer = self.newest;
                let length = bytes.len().min(ROOM - (*buffer).used);
                let end = Buffer::text(buffer).add((*buffer).used);
                ptr::copy_nonoverlapping(bytes.as_ptr(), end, length);
                (*buffer).used += length;
            }
        }

        fn take_oldest(&mut self) -> *mut Buffer {
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
