//! Six mistakes that drivers make, each in a function of its own. With `--bugs` they are made after the walk.
//!
//! `guard = "full"` signs bytes in front of the blocks, too, which the underrun needs; everything else is found with
//! the guard that blocks have without it.

#[memtrack::instrument(guard = "full")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "nothing of it is safe")]
pub mod mistakes {
    use core::ffi::c_void;

    use wdk_sys::ntddk::{
        ExAllocatePool2, ExFreePoolWithTag, KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock,
    };
    use wdk_sys::{KSPIN_LOCK, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED};

    const TAG: u32 = u32::from_le_bytes(*b"Fbug");

    pub fn make_all() {
        // Every one stays within what memtrack signs and holds, so that the kernel lives on.
        unsafe {
            overrun(b"\\Device\\HarddiskVolume2\\Users\\fred\\notes.txt");
            underrun();
            double_free();
            write_after_free();
            wrong_tag();
            paged_at_dispatch_level();
        }
    }

    /// Marked so, the place that reports name is the caller's.
    #[track_caller]
    unsafe fn allocate(bytes: usize) -> *mut u8 {
        let block = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes as u64, TAG) };
        assert!(!block.is_null(), "the kernel has memory");
        block.cast()
    }

    /// Room for the name, and none for the zero behind it.
    unsafe fn overrun(name: &[u8]) {
        unsafe {
            let copy = allocate(name.len());
            copy.copy_from_nonoverlapping(name.as_ptr(), name.len());
            copy.add(name.len()).write(0);
            ExFreePoolWithTag(copy.cast(), TAG);
        }
    }

    /// A search to the left that does not stop at the start.
    unsafe fn underrun() {
        unsafe {
            let text = allocate(8);
            let mut last = text.add(7);
            while last.read() != b'\\' && last >= text {
                last.write(b' ');
                last = last.sub(1);
            }
            last.write(b'\\');
            ExFreePoolWithTag(text.cast(), TAG);
        }
    }

    /// Two ways out that both clean up.
    unsafe fn double_free() {
        unsafe {
            let request = allocate(120);
            ExFreePoolWithTag(request.cast(), TAG);
            ExFreePoolWithTag(request.cast(), TAG);
        }
    }

    /// A list whose entry is freed before it is unlinked.
    unsafe fn write_after_free() {
        unsafe {
            let entry = allocate(48).cast::<usize>();
            ExFreePoolWithTag(entry.cast(), TAG);
            entry.add(1).write(0);
        }
        memtrack::check();
    }

    /// The tag as one reads it, not as the kernel keeps it.
    unsafe fn wrong_tag() {
        unsafe {
            let block = allocate(64);
            ExFreePoolWithTag(block.cast(), u32::from_be_bytes(*b"Fbug"));
        }
    }

    /// Paged pool with a spin lock held.
    unsafe fn paged_at_dispatch_level() {
        static mut LOCK: KSPIN_LOCK = 0;
        unsafe {
            let irql = KeAcquireSpinLockRaiseToDpc(&raw mut LOCK);
            let block: *mut c_void = ExAllocatePool2(POOL_FLAG_PAGED, 96, TAG);
            KeReleaseSpinLock(&raw mut LOCK, irql);
            ExFreePoolWithTag(block, TAG);
        }
    }
}
