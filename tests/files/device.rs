//! A file of a driver, as `mod device;` brings it in: what an attribute on the module cannot reach.

memtrack::instrument_items! {
    //! The device keeps buffers.
    #![instrument(guard = "full")]

    use core::ptr::null_mut;

    use memtrack_sim::ntddk::{ExAllocatePool2 as allocate, ExFreePoolWithTag};
    use memtrack_sim::{POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, PVOID, SIZE_T};

    const TAG: u32 = u32::from_le_bytes(*b"Devi");

    /// A buffer of the device's.
    pub struct Buffer(PVOID);

    impl Buffer {
        pub fn new(bytes: SIZE_T) -> Option<Self> {
            let block = unsafe { /*@*/allocate(POOL_FLAG_PAGED, bytes, TAG) };
            (!block.is_null()).then_some(Self(block))
        }

        pub fn start(&self) -> *mut u8 {
            self.0.cast()
        }
    }

    impl Drop for Buffer {
        fn drop(&mut self) {
            unsafe { ExFreePoolWithTag(core::mem::replace(&mut self.0, null_mut()), TAG) }
        }
    }

    mod inner {
        use super::{POOL_FLAG_NON_PAGED, PVOID, TAG, allocate};

        #[memtrack::instrument(guard = "none")]
        pub(super) fn bare(bytes: usize) -> PVOID {
            unsafe { /*@*/allocate(POOL_FLAG_NON_PAGED, bytes as _, TAG) }
        }

        #[memtrack::skip]
        pub(super) fn unseen() -> PVOID {
            unsafe { allocate(POOL_FLAG_NON_PAGED, 1, TAG) }
        }
    }

    /// Allocates as the file does in other places, and gives it back.
    pub fn others() {
        unsafe {
            ExFreePoolWithTag(inner::bare(7), TAG);
            ExFreePoolWithTag(inner::unseen(), TAG);
        }
    }

    macro_rules! buffer {
        ($bytes:expr) => {
            Buffer::new($bytes)
        };
    }

    pub fn small() -> Option<Buffer> {
        buffer!(61)
    }

    #[memtrack::instrument(finish = "Device")]
    pub fn unload() {}
}
