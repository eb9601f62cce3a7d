//! `#[memtrack::skip]`: blocks that a driver hands to the system are none of its own. A driver completes requests.

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

/// The I/O manager, which frees what it was given.
struct System(Vec<*mut core::ffi::c_void>);

impl Drop for System {
    fn drop(&mut self) {
        for block in self.0.drain(..) {
            unsafe { ntddk::ExFreePool(block) }
        }
    }
}

memtrack::instrument_items! {
    use core::ffi::c_void;
    use core::ptr::null_mut;
    use ntddk::{ExAllocatePool2, ExFreePool};

    const TAG: u32 = u32::from_le_bytes(*b"Skip");

    struct Request {
        name: *mut c_void,
        own: *mut c_void,
        hint: *mut c_void,
    }

    impl Request {
        fn new(bytes: u64) -> Self {
            unsafe {
                #[memtrack::skip]
                let name = ExAllocatePool2(0x100, bytes, TAG);
                let own = /*@*/ExAllocatePool2(0x40, 2 * bytes, TAG);
                let hint;
                #[memtrack::skip]
                {
                    hint = ExAllocatePool2(0x40, 8, TAG);
                }
                Self { name, own, hint }
            }
        }

        /// The system frees the name; the hint stays here.
        fn complete(self, system: &mut System) {
            system.0.push(self.name);
            unsafe {
                ExFreePool(self.own);
                #[memtrack::skip]
                ExFreePool(self.hint);
            }
        }
    }

    #[memtrack::skip]
    mod log {
        use super::{ExAllocatePool2, ExFreePool, TAG, c_void};

        pub struct Page(*mut c_void);

        impl Page {
            pub fn new() -> Self {
                Self(unsafe { ExAllocatePool2(0x40, 4096, TAG) })
            }
        }

        impl Drop for Page {
            fn drop(&mut self) {
                unsafe { ExFreePool(self.0) }
            }
        }
    }

    struct Cache(*mut c_void);

    impl Cache {
        #[memtrack::skip]
        fn borrow_from_system(bytes: u64) -> Self {
            Self(unsafe { ExAllocatePool2(0x100, bytes, TAG) })
        }

        /// Not skipped: a free of what memtrack has never seen.
        fn give_up(&mut self) {
            unsafe { ExFreePool(core::mem::replace(&mut self.0, null_mut())) }
        }
    }

    fn pick(kind: u8) -> *mut c_void {
        match kind {
            #[memtrack::skip]
            0 => unsafe { ExAllocatePool2(0x40, 1, TAG) },
            _ => unsafe { /*@*/ExAllocatePool2(0x40, 2, TAG) },
        }
    }

    pub fn drive() {
        let mut system = System(Vec::new());
        let page = log::Page::new();
        for bytes in [10, 20] {
            Request::new(bytes).complete(&mut system);
        }
        let [unseen, seen] = [0, 1].map(pick);
        system.0.push(unseen);
        assert!(!seen.is_null());
        Cache::borrow_from_system(64).give_up();
        drop((page, system));
    }
}
