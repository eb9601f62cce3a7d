//! The inline functions of `wdm.h`, written by hand as bindings have none, over those that the kernel exports. A driver
//! keeps statistics of its volumes.

#[allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod ntoskrnl {
    pub type PVOID = *mut core::ffi::c_void;
    pub type POOL_TYPE = i32;

    pub unsafe extern "C" fn ExAllocatePoolWithTag(_: POOL_TYPE, bytes: usize, _: u32) -> PVOID {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExAllocatePoolWithTagPriority(
        _: POOL_TYPE,
        bytes: usize,
        _: u32,
        _: i32,
    ) -> PVOID {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: PVOID, _: u32) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    #[allow(non_snake_case, reason = "the kernel's names")]
    mod wdm {
        use super::ntoskrnl::*;

        pub unsafe fn ExAllocatePoolZero(pool: POOL_TYPE, bytes: usize, tag: u32) -> PVOID {
            let allocation = unsafe { ExAllocatePoolWithTag(pool, bytes, tag) };
            if !allocation.is_null() {
                unsafe { allocation.write_bytes(0, bytes) };
            }
            allocation
        }

        pub unsafe fn ExAllocatePoolUninitialized(pool: POOL_TYPE, bytes: usize, tag: u32) -> PVOID {
            unsafe { ExAllocatePoolWithTag(pool, bytes, tag) }
        }

        pub unsafe fn ExAllocatePoolPriorityZero(pool: POOL_TYPE, bytes: usize, tag: u32, priority: i32) -> PVOID {
            let allocation = unsafe { ExAllocatePoolWithTagPriority(pool, bytes, tag, priority) };
            if !allocation.is_null() {
                unsafe { allocation.write_bytes(0, bytes) };
            }
            allocation
        }

        pub unsafe fn ExFreePool(block: PVOID) {
            unsafe { ExFreePoolWithTag(block, 0) }
        }
    }

    use wdm::{ExAllocatePoolPriorityZero, ExAllocatePoolUninitialized, ExAllocatePoolZero, ExFreePool};

    const TAG: u32 = u32::from_le_bytes(*b"Stat");

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Counters {
        reads: u64,
        writes: u64,
    }

    /// The counters of a volume, and its slowest reads, of which there need not be memory.
    struct Volume {
        counters: *mut Counters,
        slow: *mut [u64; 32],
    }

    impl Volume {
        fn mount() -> Option<Self> {
            let counters = unsafe { /*@*/ExAllocatePoolZero(512, size_of::<Counters>(), TAG) };
            let slow = unsafe { /*@*/ExAllocatePoolPriorityZero(1, size_of::<[u64; 32]>(), TAG, 0) };
            (!counters.is_null()).then(|| Self { counters: counters.cast(), slow: slow.cast() })
        }

        fn read(&mut self, microseconds: u64) {
            unsafe {
                (*self.counters).reads += 1;
                if let Some(slow) = self.slow.as_mut() {
                    let fastest = slow.iter_mut().min().expect("there are some");
                    *fastest = microseconds.max(*fastest);
                }
            }
        }

        /// What a user asks for: the caller gives it back.
        fn query(&self) -> Option<*mut Counters> {
            let answer = unsafe { /*@*/wdm::ExAllocatePoolUninitialized(1, size_of::<Counters>(), TAG) };
            if answer.is_null() {
                return None;
            }
            unsafe { answer.cast::<Counters>().write(*self.counters) };
            Some(answer.cast())
        }
    }

    impl Drop for Volume {
        fn drop(&mut self) {
            for block in [self.counters.cast(), self.slow.cast::<core::ffi::c_void>()] {
                if !block.is_null() {
                    unsafe { ExFreePool(block) }
                }
            }
        }
    }

    pub fn drive() {
        let mut volume = Volume::mount().unwrap();
        for microseconds in [30, 10, 20] {
            volume.read(microseconds);
        }
        let slowest = unsafe { (*volume.slow).iter().max().copied() };
        let answer = volume.query().unwrap();
        assert_eq!((unsafe { *answer }, slowest), (Counters { reads: 3, writes: 0 }, Some(30)));
        unsafe { ntoskrnl::ExFreePoolWithTag(answer.cast(), TAG) };
        let _page = unsafe { /*@*/ExAllocatePoolUninitialized(0, 4096, TAG) };
    }
}
