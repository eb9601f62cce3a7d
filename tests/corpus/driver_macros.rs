//! A driver's own macros, which take calls, make them, and take them apart. A queue of requests.

memtrack::instrument_items! {
    #[allow(non_snake_case, reason = "the kernel's names")]
    mod ntddk {
        use core::ffi::c_void;

        pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> *mut c_void {
            crate::host::allocate(bytes)
        }
        pub unsafe extern "C" fn ExFreePool(block: *mut c_void) {
            crate::host::release(block);
        }
    }

    const TAG: u32 = 0x7571_6552;

    /// Gives up where there is no memory.
    macro_rules! or_return {
        ($block:expr, $otherwise:expr) => {{
            let block = $block;
            if block.is_null() {
                return $otherwise;
            }
            block
        }};
    }

    /// An object of a type, in pool.
    macro_rules! new {
        ($object:expr) => {{
            let object = $object;
            let block = unsafe { ntddk::ExAllocatePool2(0x40, size_of_val(&object) as u64, TAG) };
            if block.is_null() { None } else { unsafe { core::ptr::write(block.cast(), object) }; Some(block.cast()) }
        }};
    }

    macro_rules! delete {
        ($($block:expr),+ $(,)?) => {
            $(unsafe { ntddk::ExFreePool($block.cast()) };)+
        };
    }

    /// Says which function was called, and so gets it as the driver wrote it.
    macro_rules! trace {
        ($log:expr, $module:ident :: $function:ident ( $($argument:expr),* )) => {{
            $log.push(concat!(stringify!($module), "::", stringify!($function)));
            $module::$function($($argument),*)
        }};
    }

    struct Request {
        number: u32,
        data: *mut u8,
    }

    struct Queue {
        requests: Vec<*mut Request>,
        log: Vec<&'static str>,
    }

    #[rustfmt::skip]
    impl Queue {
        fn add(&mut self, bytes: u64) -> Option<u32> {
            let number = u32::try_from(self.requests.len()).ok()?;
            let data: *mut u8 = or_return!(unsafe { /*@*/ntddk::ExAllocatePool2(0x40, bytes, TAG) }, None).cast();
            let request = /*@*/new!(Request { number, data })?;
            self.requests.push(request);
            Some(number)
        }

        fn take(&mut self) -> Option<u32> {
            let request = self.requests.pop()?;
            let Request { number, data } = unsafe { request.read() };
            delete!(data, request);
            Some(number)
        }

        /// What memtrack cannot see is said to be left alone.
        fn probe(&mut self) {
            #[memtrack::skip]
            let block = unsafe { trace!(self.log, ntddk::ExAllocatePool2(0x40, 1, TAG)) };
            #[memtrack::skip]
            unsafe { trace!(self.log, ntddk::ExFreePool(block)) };
        }
    }

    pub fn drive() {
        let mut queue = Queue { requests: Vec::new(), log: Vec::new() };
        assert_eq!([10, 4000, 1 << 20].map(|bytes| queue.add(bytes)), [Some(0), Some(1), None]);
        assert_eq!(queue.take(), Some(1));
        queue.probe();
        assert_eq!(queue.log, ["ntddk::ExAllocatePool2", "ntddk::ExFreePool"]);
    }
}
