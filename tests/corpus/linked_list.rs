//! A list of allocations that is walked, thinned out, and freed in a loop. A driver that remembers processes.

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    use core::ptr::{self, null_mut};
    use ntddk::{ExAllocatePool2, ExFreePoolWithTag};

    const TAG: u32 = u32::from_le_bytes(*b"Proc");

    struct Process {
        next: *mut Process,
        id: u32,
        image: *mut u8,
        length: usize,
    }

    struct Processes {
        first: *mut Process,
    }

    impl Processes {
        unsafe fn created(&mut self, id: u32, image: &str) -> bool {
            unsafe {
                let process = /*@*/ExAllocatePool2(0x40, size_of::<Process>() as u64, TAG).cast::<Process>();
                if process.is_null() {
                    return false;
                }
                let copy: *mut u8 = /*@*/ExAllocatePool2(0x100, image.len() as u64, TAG).cast();
                if copy.is_null() {
                    ExFreePoolWithTag(process.cast(), TAG);
                    return false;
                }
                copy.copy_from_nonoverlapping(image.as_ptr(), image.len());
                process.write(Process { next: self.first, id, image: copy, length: image.len() });
                self.first = process;
            }
            true
        }

        /// Takes out everything of which `keep` says no.
        unsafe fn retain(&mut self, mut keep: impl FnMut(&Process) -> bool) {
            let mut link = &raw mut self.first;
            unsafe {
                while let Some(process) = (*link).as_mut() {
                    if keep(process) {
                        link = &raw mut process.next;
                    } else {
                        let gone = ptr::replace(link, process.next);
                        ExFreePoolWithTag((*gone).image.cast(), TAG);
                        ExFreePoolWithTag(gone.cast(), TAG);
                    }
                }
            }
        }

        fn iter(&self) -> impl Iterator<Item = (u32, &str)> + '_ {
            let mut next = self.first;
            core::iter::from_fn(move || {
                let process = unsafe { next.as_ref()? };
                next = process.next;
                let image = unsafe { core::slice::from_raw_parts(process.image, process.length) };
                Some((process.id, core::str::from_utf8(image).ok()?))
            })
        }
    }

    /// Forgets the image of the last one.
    impl Drop for Processes {
        fn drop(&mut self) {
            let mut next = core::mem::replace(&mut self.first, null_mut());
            while !next.is_null() {
                let Process { next: after, image, .. } = unsafe { next.read() };
                if !after.is_null() {
                    unsafe { ExFreePoolWithTag(image.cast(), TAG) };
                }
                unsafe { ExFreePoolWithTag(next.cast(), TAG) };
                next = after;
            }
        }
    }

    pub fn drive() {
        let mut processes = Processes { first: null_mut() };
        unsafe {
            for (image, id) in ["System", "smss.exe", "csrss.exe", "explorer.exe"].iter().zip((4..).step_by(4)) {
                assert!(processes.created(id, image));
            }
            processes.retain(|process| process.id != 8);
        }
        let left: Vec<_> = processes.iter().collect();
        assert_eq!(left, [(16, "explorer.exe"), (12, "csrss.exe"), (4, "System")]);
        unsafe { processes.retain(|process| process.length > 6) };
        assert_eq!(processes.iter().count(), 2);
    }
}
