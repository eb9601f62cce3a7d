//! Safe functions of a driver's own with the kernel's names, called without `unsafe`. A table of open handles.

memtrack::instrument_items! {
    /// The driver's door to the pool.
    #[allow(non_snake_case, reason = "the kernel's names")]
    mod pool {
        use core::ptr::NonNull;

        unsafe extern "C" {
            #[link_name = "corpus_safe_wrappers_allocate"]
            fn allocate(flags: u64, bytes: usize, tag: u32) -> *mut u8;
            #[link_name = "corpus_safe_wrappers_free"]
            safe fn free(block: *mut u8, tag: u32);
        }

        #[derive(Clone, Copy)]
        pub enum Kind {
            NonPaged = 0x40,
            Paged = 0x100,
        }

        #[derive(Clone, Copy)]
        pub struct Tag(u32);

        impl From<&[u8; 4]> for Tag {
            fn from(tag: &[u8; 4]) -> Self {
                Self(u32::from_le_bytes(*tag))
            }
        }

        pub fn ExAllocatePool2(kind: Kind, bytes: usize, tag: Tag) -> Option<NonNull<u8>> {
            NonNull::new(unsafe { allocate(kind as u64, bytes, tag.0) })
        }

        pub fn ExFreePoolWithTag(block: NonNull<u8>, tag: Tag) {
            free(block.as_ptr(), tag.0);
        }
    }

    use core::ptr::NonNull;
    use pool::{ExAllocatePool2, ExFreePoolWithTag, Kind};

    /// What a handle leads to.
    struct Open {
        reads: u32,
        name: NonNull<u8>,
    }

    #[derive(Default)]
    struct Handles([Option<NonNull<Open>>; 4]);

    impl Handles {
        fn open(&mut self, name: &[u8]) -> Option<usize> {
            let free = self.0.iter().position(Option::is_none)?;
            let open = /*@*/ExAllocatePool2(Kind::NonPaged, size_of::<Open>(), b"Open".into())?.cast();
            let Some(copy) = /*@*/ExAllocatePool2(Kind::Paged, name.len(), b"Name".into()) else {
                ExFreePoolWithTag(open.cast(), b"Open".into());
                return None;
            };
            unsafe {
                copy.copy_from_nonoverlapping(NonNull::from(name).cast(), name.len());
                open.write(Open { reads: 0, name: copy });
            }
            self.0[free] = Some(open);
            Some(free)
        }

        fn read(&mut self, handle: usize) -> Option<u8> {
            let open = unsafe { self.0.get_mut(handle)?.as_mut()?.as_mut() };
            open.reads += 1;
            Some(unsafe { open.name.read() })
        }

        fn close(&mut self, handle: usize) -> Option<u32> {
            let open = self.0.get_mut(handle)?.take()?;
            let Open { reads, name } = unsafe { open.read() };
            pool::ExFreePoolWithTag(name, b"Name".into());
            pool::ExFreePoolWithTag(open.cast(), b"Open".into());
            Some(reads)
        }
    }

    pub fn drive() {
        let mut handles = Handles::default();
        let [first, second] = [&b"COM1"[..], b"LPT1"].map(|name| handles.open(name).unwrap());
        assert_eq!([first, second, first].map(|handle| handles.read(handle)), [b'C', b'L', b'C'].map(Some));
        assert!(handles.open(&[0; 16_000]).is_none());
        assert_eq!((handles.close(first), handles.close(first)), (Some(2), None));
    }
}

mod kernel {
    #[unsafe(export_name = "corpus_safe_wrappers_allocate")]
    extern "C" fn allocate(_: u64, bytes: usize, _: u32) -> *mut u8 {
        crate::host::allocate(bytes)
    }
    #[unsafe(export_name = "corpus_safe_wrappers_free")]
    extern "C" fn free(block: *mut u8, _: u32) {
        crate::host::release(block);
    }
}
