//! A driver's modules in one file: renames, globs, `self`, `super`, `crate`, names that are handed on.

#[allow(non_snake_case, reason = "the kernel's names")]
mod wdk {
    pub mod km {
        use core::ffi::c_void;

        pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
            crate::host::allocate(bytes)
        }
        pub unsafe extern "C" fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
            crate::host::allocate(bytes)
        }
        pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
            crate::host::release(block);
        }
    }
}

memtrack::instrument_items! {
    use self::wdk::km as kernel;
    use kernel::*;
    pub(crate) use kernel::ExAllocatePool2 as allocate_by_flags;

    mod sys {
        pub(super) use super::kernel::{ExAllocatePoolWithTag as obtain, ExFreePoolWithTag as put_back};
        pub(super) const TAG: u32 = u32::from_le_bytes(*b"Nest");

        pub mod prelude {
            pub(crate) use super::super::allocate_by_flags as get;
            pub(in super::super) use super::{TAG, put_back as put};
        }
    }

    mod device {
        use super::sys::prelude::*;

        pub struct Device {
            pub(super) queue: queue::Queue,
            name: *mut u8,
        }

        impl Device {
            pub fn new(letter: u8) -> Self {
                let name: *mut u8 = unsafe { /*@*/get(0x100, 2, TAG) }.cast();
                unsafe { name.write(letter) };
                Self { queue: queue::Queue::new(), name }
            }

            pub fn letter(&self) -> char {
                char::from(unsafe { self.name.read() })
            }
        }

        impl Drop for Device {
            fn drop(&mut self) {
                unsafe { put(self.name.cast(), TAG) }
            }
        }

        pub mod queue {
            use super::super::{self as driver, sys::{self, obtain}};

            pub struct Queue {
                slots: *mut u32,
                used: usize,
            }

            impl Queue {
                pub(super) fn new() -> Self {
                    Self { slots: unsafe { /*@*/obtain(512, 4 * 8, sys::TAG) }.cast(), used: 0 }
                }

                pub fn push(&mut self, request: u32) -> Result<(), u32> {
                    use self::limits::LONGEST as longest;
                    if self.used == longest {
                        return Err(request);
                    }
                    unsafe { self.slots.add(self.used).write(request) };
                    self.used += 1;
                    Ok(())
                }
            }

            impl Drop for Queue {
                fn drop(&mut self) {
                    unsafe { driver::sys::put_back(self.slots.cast(), driver::sys::TAG) };
                }
            }

            mod limits {
                pub const LONGEST: usize = 8;
            }
        }
    }

    fn scratch() -> (usize, usize) {
        let block = unsafe { /*@*/allocate_by_flags(0x40, 3, sys::TAG) };
        {
            use sys::put_back as allocate_by_flags;
            unsafe { allocate_by_flags(block, sys::TAG) }
        }
        let [old, new] = unsafe {
            [/*@*/ExAllocatePoolWithTag(0, 4096, sys::TAG), /*@*/self::kernel::ExAllocatePool2(0x40, 4096, sys::TAG)]
        };
        unsafe { crate::files::nested_modules::wdk::km::ExFreePoolWithTag(old, sys::TAG) };
        (old.addr() % 4096, new.addr() % 4096)
    }

    pub fn drive() {
        let mut device = device::Device::new(b'E');
        let taken = (0..10).map(|request| device.queue.push(request)).filter_map(Result::err);
        assert_eq!((taken.sum::<u32>(), device.letter()), (8 + 9, 'E'));
        assert_eq!(scratch(), (0, 0));
    }
}
