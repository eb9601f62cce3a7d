//! Blocks that come as unions and as `MaybeUninit`. A driver reads and writes the registers of a timer.

#[allow(non_snake_case, dead_code, reason = "the kernel's names")]
mod bindings {
    use core::ffi::c_void;
    use core::mem::MaybeUninit;

    /// A pointer, or a number that a 32-bit process knows.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub union Pointer {
        pub memory: *mut c_void,
        pub number: u64,
    }

    pub unsafe fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> Pointer {
        Pointer { memory: crate::host::allocate(bytes) }
    }
    pub unsafe fn ExAllocatePoolZero(_: i32, bytes: usize, _: u32) -> MaybeUninit<*mut u8> {
        MaybeUninit::new(crate::host::allocate(bytes))
    }
    pub unsafe fn ExFreePool(block: Pointer) {
        crate::host::release(unsafe { block.memory });
    }
}

memtrack::instrument_items! {
    use bindings::{ExAllocatePoolWithTag, ExAllocatePoolZero, ExFreePool, Pointer};
    use core::mem::MaybeUninit;

    const TAG: u32 = u32::from_le_bytes(*b"Timr");

    #[repr(C)]
    #[derive(Clone, Copy)]
    union Register {
        whole: u64,
        halves: [u32; 2],
        bytes: [u8; 8],
    }

    const COUNT: usize = 4;

    /// What a request asks of the timer.
    #[derive(Clone, Copy)]
    enum Request {
        Set(usize, Register),
        Swap(usize),
    }

    struct Timer {
        registers: Pointer,
    }

    impl Timer {
        fn new() -> Option<Self> {
            let registers = unsafe { /*@*/ExAllocatePoolWithTag(0, size_of::<[Register; COUNT]>(), TAG) };
            (unsafe { registers.number } != 0).then_some(Self { registers })
        }

        fn register(&mut self, number: usize) -> &mut MaybeUninit<Register> {
            assert!(number < COUNT);
            unsafe { &mut *self.registers.memory.cast::<MaybeUninit<Register>>().add(number) }
        }

        fn request(&mut self, request: Request) -> u64 {
            match request {
                Request::Set(number, value) => unsafe { self.register(number).write(value).whole },
                Request::Swap(number) => unsafe {
                    let register = self.register(number).assume_init_mut();
                    register.halves = [register.halves[1], register.halves[0]];
                    register.whole
                },
            }
        }

        /// All registers' bytes, for a debugger.
        unsafe fn dump(&mut self) -> Option<*mut u8> {
            unsafe {
                let copy = /*@*/ExAllocatePoolZero(1, 8 * COUNT, TAG).assume_init();
                for number in 0..COUNT {
                    let bytes = self.register(number).assume_init_ref().bytes;
                    copy.as_mut()?;
                    copy.add(8 * number).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
                Some(copy)
            }
        }
    }

    impl Drop for Timer {
        fn drop(&mut self) {
            unsafe { ExFreePool(self.registers) }
        }
    }

    pub fn drive() {
        let mut timer = Timer::new().unwrap();
        for number in 0..COUNT {
            timer.request(Request::Set(number, Register { whole: number as u64 }));
        }
        assert_eq!(timer.request(Request::Swap(3)), 3 << 32);
        let nothing = MaybeUninit::<[Register; COUNT]>::zeroed();
        unsafe {
            assert_eq!(nothing.assume_init()[0].whole, 0);
            let [first, second] = [timer.dump(), timer.dump()].map(Option::unwrap);
            assert_eq!((first.add(8).read(), second.add(28).read()), (1, 3));
            ExFreePool(Pointer { memory: second.cast() });
        }
    }
}
