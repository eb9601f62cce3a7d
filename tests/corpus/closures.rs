//! Calls in closures: kept in structs, passed on, run when a scope ends. A driver answers queries.

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    use core::ffi::c_void;
    use ntddk::{ExAllocatePoolWithTag, ExFreePoolWithTag};

    const TAG: u32 = u32::from_le_bytes(*b"Qury");

    /// Does something when the scope ends, unless it was disarmed.
    struct OnExit<F: FnMut()>(F, bool);

    impl<F: FnMut()> Drop for OnExit<F> {
        fn drop(&mut self) {
            if self.1 {
                (self.0)();
            }
        }
    }

    fn with_buffer<R>(bytes: usize, work: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let allocate = |kind, bytes| unsafe { /*@*/ExAllocatePoolWithTag(kind, bytes, TAG) };
        let block = Some(allocate(1, bytes)).filter(|block| !block.is_null())?;
        let _free = OnExit(|| unsafe { ExFreePoolWithTag(block, TAG) }, true);
        Some(work(unsafe { core::slice::from_raw_parts_mut(block.cast(), bytes) }))
    }

    /// The answer is the caller's to free; where there is none, nothing is left.
    fn answer(question: &[u8]) -> Result<*mut c_void, &'static str> {
        let block = unsafe { /*@*/ExAllocatePoolWithTag(0, question.len(), TAG) };
        let mut undo = OnExit(move || unsafe { ExFreePoolWithTag(block, TAG) }, true);
        if question.ends_with(b"?") {
            undo.1 = false;
            Ok(block)
        } else {
            Err("this is no question")
        }
    }

    type Handler = fn(usize) -> *mut c_void;

    const HANDLERS: [(u8, Handler); 2] = [
        (b'r', |bytes| unsafe { /*@*/ExAllocatePoolWithTag(0, bytes, TAG) }),
        (b'w', |bytes| {
            let twice = move || 2 * bytes;
            unsafe { /*@*/ExAllocatePoolWithTag(1, twice(), TAG) }
        }),
    ];

    fn dispatch(major: u8) -> Option<*mut c_void> {
        let found = HANDLERS.iter().find(|(letter, _)| *letter == major);
        found.map(|(_, handler)| handler(16))
    }

    pub fn drive() {
        let sum = with_buffer(10, |bytes| {
            bytes.iter_mut().zip(1..).for_each(|(byte, number)| *byte = number);
            bytes.iter().copied().sum::<u8>()
        });
        assert_eq!(sum, Some(55));
        assert_eq!(with_buffer(usize::MAX / 2, |bytes| bytes.len()), None);
        assert_eq!(answer(b"now"), Err("this is no question"));
        let free = |block: *mut c_void| unsafe { ExFreePoolWithTag(block, TAG) };
        answer(b"now?").map(free).unwrap();
        b"rxwr".iter().filter_map(|major| dispatch(*major)).skip(1).for_each(free);
    }
}
