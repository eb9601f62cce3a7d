//! Names that look like the kernel's and are not, and a few that are. A driver with a log of its own failures.

#[allow(non_snake_case, reason = "the kernel's names")]
mod kernel {
    use core::ffi::c_void;

    pub type Allocate = unsafe extern "C" fn(u64, usize, u32) -> *mut c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool(block: *mut c_void) {
        crate::host::release(block);
    }
    pub fn system_routine() -> Allocate {
        ExAllocatePool2
    }
}

#[memtrack::instrument]
#[allow(non_snake_case, non_camel_case_types, reason = "the traps")]
#[allow(clippy::items_after_statements)]
mod failures {
    use super::kernel;
    use core::ffi::c_void;

    const TAG: u32 = 0x6C69_6146;

    type ExAllocatePool = unsafe extern "C" fn(u64, usize, u32) -> *mut c_void;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Failure {
        ExAllocatePool2(u64, usize, u32),
        ExFreePoolWithTag { tag: u32 },
    }

    #[derive(Default)]
    struct Log {
        failures: [Option<Failure>; 4],
        ExAllocatePoolZero: u32,
    }

    impl Log {
        fn ExFreePool(&mut self) {
            self.failures = [None; 4];
        }

        fn ExFreePool2(&mut self, place: usize, tag: u32, _: bool) {
            self.failures[place] = Some(Failure::ExFreePoolWithTag { tag });
        }

        fn note(&mut self, failure: Failure) {
            if let Some(free) = self.failures.iter_mut().find(|place| place.is_none()) {
                *free = Some(failure);
            }
            self.ExAllocatePoolZero += 1;
        }
    }

    fn ExAllocatePoolFailed(flags: u64, bytes: usize, tag: u32) -> Failure {
        Failure::ExAllocatePool2(flags, bytes, tag)
    }

    struct ExAllocatePoolWithQuota(u32, usize);

    const fn ExAllocatePoolWithQuotaTag(bytes: usize) -> usize {
        bytes.next_multiple_of(16)
    }

    fn checked(log: &mut Log, bytes: usize) -> *mut c_void {
        // Its body is the wrapper's; the call below is the driver's.
        unsafe fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> *mut c_void {
            unsafe { kernel::ExAllocatePool2(flags, bytes, tag) }
        }
        let block = unsafe {
            /*@*/
            ExAllocatePool2(0x40, bytes, TAG)
        };
        if block.is_null() {
            log.note(ExAllocatePoolFailed(0x40, bytes, TAG));
        }
        block
    }

    fn found(log: &mut Log) -> *mut c_void {
        let ExAllocatePool2: ExAllocatePool = kernel::system_routine();
        let ExAllocatePoolWithQuota(kind, bytes) = ExAllocatePoolWithQuota(0x40, 24);
        log.ExAllocatePoolZero += kind;
        unsafe {
            /*@*/
            ExAllocatePool2(kind.into(), ExAllocatePoolWithQuotaTag(bytes), TAG)
        }
    }

    pub fn drive() {
        let mut log = Log::default();
        assert!(checked(&mut log, 1 << 30).is_null());
        assert_eq!(log.failures[0], Some(Failure::ExAllocatePool2(0x40, 1 << 30, TAG)));
        log.ExFreePool2(1, TAG, true);
        log.ExFreePool();
        Log::ExFreePool(&mut log);
        assert_eq!((log.failures, log.ExAllocatePoolZero), ([None; 4], 1));
        for block in [checked(&mut log, 8), found(&mut log)] {
            fn ExFreePool(_: &mut Log, block: *mut c_void) {
                unsafe { kernel::ExFreePool(block) }
            }
            ExFreePool(&mut log, block);
        }
        checked(&mut log, 9);
    }
}

pub use failures::drive;
