//! Functions with quotas and priorities, charged to who asked. A driver for named pipes.

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    use core::ffi::c_void;

    #[derive(Clone, Copy)]
    #[repr(u32)]
    pub enum Priority {
        Low = 0,
        High = 32,
    }

    pub unsafe extern "system" fn ExAllocatePoolWithQuota(_: i32, bytes: usize) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExAllocatePoolWithQuotaTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExAllocatePoolQuotaZero(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExAllocatePoolWithTagPriority(
        _: i32,
        bytes: usize,
        _: u32,
        _: Priority,
    ) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExAllocatePoolPriorityZero(
        _: i32,
        bytes: usize,
        _: u32,
        _: Priority,
    ) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExFreePool(block: *mut c_void) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod pipes {
    use super::bindings::*;
    use core::ffi::c_void;

    const TAG: u32 = u32::from_le_bytes(*b"Pipe");
    const PAGED_BUT_NO_RAISE: i32 = 1 | 8;

    struct Message {
        bytes: *mut u8,
        length: usize,
        charged: bool,
    }

    impl Message {
        fn from_client(text: &[u8]) -> Option<Self> {
            let block = unsafe {
                /*@*/
                ExAllocatePoolWithQuotaTag(PAGED_BUT_NO_RAISE, text.len(), TAG)
            };
            Self::filled(block, text, true)
        }

        fn from_system(text: &[u8], priority: Priority) -> Option<Self> {
            let block = unsafe {
                /*@*/
                ExAllocatePoolWithTagPriority(512, text.len(), TAG, priority)
            };
            Self::filled(block, text, false)
        }

        fn filled(block: *mut c_void, text: &[u8], charged: bool) -> Option<Self> {
            let bytes = core::ptr::NonNull::new(block)?.as_ptr().cast();
            unsafe { core::ptr::copy(text.as_ptr(), bytes, text.len()) };
            Some(Self { bytes, length: text.len(), charged })
        }
    }

    impl Drop for Message {
        fn drop(&mut self) {
            unsafe { ExFreePool(self.bytes.cast()) }
        }
    }

    /// Both ends, in one block each: who opens an end pays for it.
    struct Pipe {
        ends: [*mut c_void; 2],
        messages: [Option<Message>; 2],
    }

    fn open() -> Pipe {
        let client = unsafe {
            /*@*/
            ExAllocatePoolQuotaZero(PAGED_BUT_NO_RAISE, 48, TAG)
        };
        let server = unsafe {
            /*@*/
            ExAllocatePoolPriorityZero(512, 48, TAG, Priority::High)
        };
        Pipe { ends: [client, server], messages: [None, None] }
    }

    impl Pipe {
        fn write(&mut self, message: Option<Message>) -> bool {
            let free = self.messages.iter_mut().find(|place| place.is_none());
            let fits = free.is_some() && message.is_some();
            if let (Some(place), message @ Some(_)) = (free, message) {
                *place = message;
            }
            fits
        }

        fn close(self) -> (usize, usize) {
            let Self { ends, messages } = self;
            ends.into_iter().for_each(|end| unsafe { ExFreePool(end) });
            let lost = messages.iter().flatten();
            (lost.clone().map(|message| message.length).sum(), lost.filter(|message| message.charged).count())
        }
    }

    pub fn drive() {
        let mut pipe = open();
        assert!(pipe.write(Message::from_client(b"hello")));
        assert!(!pipe.write(Message::from_client(&[0; 16_000])));
        assert!(pipe.write(Message::from_system(b"bye", Priority::Low)));
        assert!(!pipe.write(Message::from_system(b"late", Priority::High)));
        assert_eq!(pipe.close(), (8, 1));
        let handle_table = unsafe {
            /*@*/
            ExAllocatePoolWithQuota(0, 256)
        };
        assert!(handle_table.is_aligned());
    }
}

pub use pipes::drive;
