//! A block of externs that is linked when it is first used, made by a macro. A driver reads a file's header.

use core::ffi::c_void;

/// Finds an exported function by its name, as `MmGetSystemRoutineAddress` does.
fn routine_address(name: &str) -> *const () {
    extern "system" fn allocate(_: u32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    extern "system" fn free(block: *mut c_void) {
        crate::host::release(block);
    }
    match name {
        "ExAllocatePoolZero" => allocate as *const (),
        "ExFreePool" => free as *const (),
        _ => core::ptr::null(),
    }
}

memtrack::instrument_items! {
    macro_rules! lazy_link {
        ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
            #[allow(non_snake_case)]
            unsafe fn $name($($argument: $type),*) $(-> $result)? {
                use core::sync::atomic::{AtomicPtr, Ordering};

                type Routine = unsafe extern "system" fn($($type),*) $(-> $result)?;
                static FOUND: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

                let mut found = FOUND.load(Ordering::Acquire);
                if found.is_null() {
                    found = routine_address(stringify!($name)).cast_mut();
                    assert!(!found.is_null(), concat!("the kernel has no ", stringify!($name)));
                    FOUND.store(found, Ordering::Release);
                }
                let routine = unsafe { core::mem::transmute::<*mut (), Routine>(found) };
                unsafe { routine($($argument),*) }
            }
        )*};
    }

    lazy_link! {
        fn ExAllocatePoolZero(pool: u32, bytes: usize, tag: u32) -> *mut c_void;
        fn ExFreePool(block: *mut c_void);
    }

    const PAGED_POOL: u32 = 1;
    const TAG: u32 = u32::from_le_bytes(*b"Head");

    #[repr(C)]
    struct Header {
        magic: [u8; 2],
        sections: u16,
    }

    /// The header of an image, in memory of its own, if it is one.
    fn header(image: &[u8]) -> Option<*mut Header> {
        let header = unsafe { /*@*/ExAllocatePoolZero(PAGED_POOL, size_of::<Header>(), TAG) };
        let length = image.len().min(size_of::<Header>());
        unsafe { core::ptr::copy_nonoverlapping(image.as_ptr(), header.cast(), length) };
        let header = header.cast::<Header>();
        let is_image = unsafe { (*header).magic == *b"MZ" };
        if !is_image {
            unsafe { ExFreePool(header.cast()) };
        }
        is_image.then_some(header)
    }

    fn sections(image: &[u8]) -> Option<u16> {
        let header = header(image)?;
        let sections = unsafe { (*header).sections };
        unsafe { ExFreePool(header.cast()) };
        Some(u16::from_le(sections))
    }

    pub fn drive() {
        assert_eq!(sections(b"MZ\x05\0..."), Some(5));
        assert_eq!(sections(b"\x7FELF"), None);
        assert_eq!(sections(b"MZ"), Some(0));
        assert!(header(b"MZ and nobody frees it").is_some());
    }
}
