//! Hand-written `unsafe extern "C"`, the library named under `cfg`. A driver moves buffers from one IRP to the next.

memtrack::instrument_items! {
    use core::ffi::c_void;
    use core::ptr::{self, null_mut};

    #[cfg_attr(windows, link(name = "ntoskrnl"))]
    unsafe extern "C" {
        #[link_name = "corpus_extern_c_allocate"]
        fn ExAllocatePoolWithTag(pool: i32, bytes: usize, tag: u32) -> *mut c_void;
        #[link_name = "corpus_extern_c_free"]
        fn ExFreePoolWithTag(block: *mut c_void, tag: u32);
    }

    const NON_PAGED_POOL_NX: i32 = 512;
    const TAG: u32 = 0x2070_7249;

    #[repr(C)]
    struct Irp {
        system_buffer: *mut c_void,
        information: usize,
        status: i32,
    }

    impl Irp {
        const EMPTY: Self = Self { system_buffer: null_mut(), information: 0, status: 0 };
    }

    fn fill(irp: &mut Irp, data: &[u8]) {
        unsafe {
            irp.system_buffer = /*@*/ExAllocatePoolWithTag(NON_PAGED_POOL_NX, data.len(), TAG);
            if irp.system_buffer.is_null() {
                irp.status = -1;
                return;
            }
            ptr::copy_nonoverlapping(data.as_ptr(), irp.system_buffer.cast(), data.len());
        }
        irp.information = data.len();
    }

    /// The next driver's IRP gets a copy twice as long; this one's buffer goes.
    fn forward(irp: &mut Irp, next: &mut Irp) {
        let twice = 2 * irp.information;
        next.system_buffer = unsafe { /*@*/ExAllocatePoolWithTag(NON_PAGED_POOL_NX, twice, TAG) };
        let (from, to) = (irp.system_buffer.cast::<u8>(), next.system_buffer.cast::<u8>());
        for copy in 0..2 {
            unsafe { ptr::copy_nonoverlapping(from, to.add(copy * irp.information), irp.information) };
        }
        next.information = twice;
        complete(irp);
    }

    fn complete(irp: &mut Irp) {
        let buffer = core::mem::replace(&mut irp.system_buffer, null_mut());
        if !buffer.is_null() {
            unsafe { ExFreePoolWithTag(buffer, TAG) }
        }
    }

    pub fn drive() {
        let (mut upper, mut lower) = (Irp::EMPTY, Irp::EMPTY);
        fill(&mut upper, b"ping ");
        forward(&mut upper, &mut lower);
        complete(&mut upper);
        let sent = unsafe { core::slice::from_raw_parts(lower.system_buffer.cast::<u8>(), lower.information) };
        assert_eq!((sent, upper.status), (&b"ping ping "[..], 0));
        complete(&mut lower);
        fill(&mut upper, b"never completed");
    }
}

/// The kernel's side.
mod ntoskrnl {
    use core::ffi::c_void;

    #[unsafe(export_name = "corpus_extern_c_allocate")]
    extern "C" fn allocate(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    #[unsafe(export_name = "corpus_extern_c_free")]
    extern "C" fn free(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}
