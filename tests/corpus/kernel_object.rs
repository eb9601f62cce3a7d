//! The kernel as a value that a driver is given, its functions methods: a test gives another. Each site is the caller's
//! line. A driver that logs to memory.

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

memtrack::instrument_items! {
    use core::ptr::NonNull;

    #[allow(non_snake_case, reason = "the kernel's names")]
    trait Kernel: Copy {
        #[track_caller]
        fn ExAllocatePool2(&self, flags: u64, bytes: usize, tag: [u8; 4]) -> Option<NonNull<u8>>;
        unsafe fn ExFreePool(&self, block: NonNull<u8>);
    }

    #[derive(Clone, Copy)]
    struct Windows;

    #[allow(non_snake_case, reason = "the kernel's names")]
    impl Kernel for Windows {
        #[track_caller]
        fn ExAllocatePool2(&self, flags: u64, bytes: usize, tag: [u8; 4]) -> Option<NonNull<u8>> {
            NonNull::new(unsafe { ntddk::ExAllocatePool2(flags, bytes as u64, u32::from_le_bytes(tag)) }.cast())
        }

        unsafe fn ExFreePool(&self, block: NonNull<u8>) {
            unsafe { ntddk::ExFreePool(block.as_ptr().cast()) }
        }
    }

    /// Has no memory at all.
    #[derive(Clone, Copy)]
    struct Exhausted;

    #[allow(non_snake_case, reason = "the kernel's names")]
    impl Kernel for Exhausted {
        fn ExAllocatePool2(&self, _: u64, _: usize, _: [u8; 4]) -> Option<NonNull<u8>> {
            None
        }
        unsafe fn ExFreePool(&self, _: NonNull<u8>) {
            unreachable!("nothing was allocated")
        }
    }

    struct Log<K: Kernel> {
        kernel: K,
        page: NonNull<u8>,
        used: usize,
        full: Option<NonNull<u8>>,
    }

    impl<K: Kernel> Log<K> {
        const PAGE: usize = 64;

        fn new(kernel: K) -> Option<Self> {
            let page = kernel./*@*/ExAllocatePool2(0x40, Self::PAGE, *b"LogP")?;
            Some(Self { kernel, page, used: 0, full: None })
        }

        fn write(&mut self, text: &[u8]) -> Option<usize> {
            let text = text.get(..text.len().min(Self::PAGE))?;
            if self.used + text.len() > Self::PAGE {
                let next = self.kernel./*@*/ExAllocatePool2(0x100, Self::PAGE, *b"LogP")?;
                let full = core::mem::replace(&mut self.page, next);
                if let Some(older) = self.full.replace(full) {
                    unsafe { self.kernel.ExFreePool(older) };
                }
                self.used = 0;
            }
            unsafe { self.page.add(self.used).copy_from_nonoverlapping(NonNull::from(text).cast(), text.len()) };
            self.used += text.len();
            Some(self.used)
        }
    }

    /// The last full page stays for the debugger.
    impl<K: Kernel> Drop for Log<K> {
        fn drop(&mut self) {
            unsafe { self.kernel.ExFreePool(self.page) };
        }
    }

    pub fn drive() {
        assert!(Log::new(Exhausted).is_none());
        let mut log = Log::new(Windows).unwrap();
        let lines = [&b"a line of thirty characters..."[..]; 5];
        assert_eq!(lines.map(|line| log.write(line)), [30, 60, 30, 60, 30].map(Some));
        assert_eq!(unsafe { log.page.read() }, b'a');
    }
}
