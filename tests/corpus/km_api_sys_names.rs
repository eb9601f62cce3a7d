//! km-api-sys: one module of functions, flags as a type of their own. A driver buffers what its device says.

#[allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod km_api {
    pub mod ntdef {
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(transparent)]
        pub struct NTSTATUS(pub u32);
        pub type PVOID = *mut core::ffi::c_void;
    }
    pub mod wmk {
        use super::ntdef::PVOID;

        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct POOL_FLAGS(u64);

        impl POOL_FLAGS {
            pub const CACHE_ALIGNED: Self = Self(8);
            pub const NON_PAGED: Self = Self(0x40);
            pub const PAGED: Self = Self(0x100);
        }

        impl core::ops::BitOr for POOL_FLAGS {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct POOL_TAG(u32);

        impl POOL_TAG {
            pub const fn new(tag: [u8; 4]) -> Self {
                Self(u32::from_le_bytes(tag))
            }
        }

        pub unsafe fn ExAllocatePool2(_: POOL_FLAGS, bytes: usize, _: POOL_TAG) -> PVOID {
            crate::host::allocate(bytes)
        }
        pub unsafe fn ExFreePoolWithTag(block: PVOID, _: POOL_TAG) {
            crate::host::release(block);
        }
    }
}

memtrack::instrument_items! {
    use core::slice;
    use km_api::{ntdef::{NTSTATUS, PVOID}, wmk::*};

    const TAG: POOL_TAG = POOL_TAG::new(*b"Kbuf");
    const INSUFFICIENT_RESOURCES: NTSTATUS = NTSTATUS(0xC000_009A);

    /// What came in from a device, until somebody reads it.
    struct Input {
        bytes: PVOID,
        used: usize,
        room: usize,
    }

    impl Input {
        fn with_room(room: usize, in_cache_lines: bool) -> Result<Self, NTSTATUS> {
            let flags = if in_cache_lines {
                POOL_FLAGS::NON_PAGED | POOL_FLAGS::CACHE_ALIGNED
            } else {
                POOL_FLAGS::PAGED
            };
            let bytes = unsafe { /*@*/ExAllocatePool2(flags, room, TAG) };
            if bytes.is_null() { Err(INSUFFICIENT_RESOURCES) } else { Ok(Self { bytes, used: 0, room }) }
        }

        fn push(&mut self, byte: u8) -> bool {
            let has_room = self.used < self.room;
            if has_room {
                unsafe { self.bytes.cast::<u8>().add(self.used).write(byte) };
                self.used += 1;
            }
            has_room
        }

        fn read(&self) -> &[u8] {
            unsafe { slice::from_raw_parts(self.bytes.cast(), self.used) }
        }
    }

    impl Drop for Input {
        fn drop(&mut self) {
            unsafe { ExFreePoolWithTag(self.bytes, TAG) };
        }
    }

    pub fn drive() {
        assert_eq!(Input::with_room(1 << 30, true).err(), Some(INSUFFICIENT_RESOURCES));
        let mut keyboard = Input::with_room(5, true).unwrap();
        let typed = (b'a'..=b'z').filter(|byte| keyboard.push(*byte)).count();
        assert_eq!((typed, keyboard.read()), (5, &b"abcde"[..]));
        let mouse = Input::with_room(4095, false).unwrap();
        assert!(mouse.read().is_empty());
        core::mem::forget(mouse);
    }
}
