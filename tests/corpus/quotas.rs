//! Functions with quotas and priorities, charged to who asked. A driver for named pipes.

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    pub type Block = *mut core::ffi::c_void;

    #[repr(u32)]
    pub enum Priority {
        Low = 0,
        High = 32,
    }

    pub unsafe extern "system" fn ExAllocatePoolWithQuota(_: i32, bytes: usize) -> Block {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExAllocatePoolWithQuotaTag(_: i32, bytes: usize, _: u32) -> Block {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExAllocatePoolQuotaZero(_: i32, bytes: usize, _: u32) -> Block {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExAllocatePoolWithTagPriority(_: i32, bytes: usize, _: u32, _: Priority) -> Block {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExAllocatePoolPriorityZero(_: i32, bytes: usize, _: u32, _: Priority) -> Block {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExFreePool(block: Block) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod pipes {
    use super::bindings::*;

    const TAG: u32 = u32::from_le_bytes(*b"Pipe");
    const PAGED_BUT_NO_RAISE: i32 = 1 | 8;

    struct Message {
        bytes: *mut u8,
        length: usize,
    }

    impl Message {
        fn from_client(text: &[u8]) -> Option<Self> {
            let block = unsafe {
                /*@*/
                ExAllocatePoolWithQuotaTag(PAGED_BUT_NO_RAISE, text.len(), TAG)
            };
            Self::filled(block, text)
        }

        fn from_system(text: &[u8], priority: Priority) -> Option<Self> {
            let block = unsafe {
                /*@*/
                ExAllocatePoolWithTagPriority(512, text.len(), TAG, priority)
            };
            Self::filled(block, text)
        }

        fn filled(block: Block, text: &[u8]) -> Option<Self> {
            let bytes = core::ptr::NonNull::new(block)?.as_ptr().cast();
            unsafe { core::ptr::copy(text.as_ptr(), bytes, text.len()) };
            Some(Self { bytes, length: text.len() })
        }
    }

    impl Drop for Message {
        fn drop(&mut self) {
            unsafe { ExFreePool(self.bytes.cast()) }
        }
    }

    /// Both ends, in one block each: who opens an end pays for it.
    struct Pipe {
        ends: [Block; 2],
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
            let (Some(place), Some(message)) = (free, message) else { return false };
            *place = Some(message);
            true
        }

        /// Returns how many bytes nobody has read.
        fn close(self) -> usize {
            self.ends.into_iter().for_each(|end| unsafe { ExFreePool(end) });
            self.messages.iter().flatten().map(|message| message.length).sum()
        }
    }

    pub fn drive() {
        let mut pipe = open();
        assert!(pipe.write(Message::from_client(b"hello")));
        assert!(!pipe.write(Message::from_client(&[0; 16_000])));
        assert!(pipe.write(Message::from_system(b"bye", Priority::Low)));
        assert!(!pipe.write(Message::from_system(b"late", Priority::High)));
        assert_eq!(pipe.close(), 8);
        let _handle_table = unsafe {
            /*@*/
            ExAllocatePoolWithQuota(0, 256)
        };
    }
}

pub use pipes::drive;
