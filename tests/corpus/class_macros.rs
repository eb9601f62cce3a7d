//! A macro of the driver's makes its classes, with the attribute inside: the site is where the macro is used.

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

/// What all classes of devices can do.
trait Class: Sized {
    const TAG: u32;
    type Report: Copy + Default;

    fn open() -> Option<Self>;
    fn report(&mut self) -> &mut Self::Report;
}

macro_rules! class {
    ($(#[$attribute:meta])* $visibility:vis $name:ident($report:ty) = $tag:literal) => {
        $(#[$attribute])*
        $visibility struct $name(*mut $report);

        #[memtrack::instrument]
        impl Class for $name {
            const TAG: u32 = u32::from_le_bytes(*$tag);
            type Report = $report;

            fn open() -> Option<Self> {
                let bytes = size_of::<Self::Report>();
                let report = unsafe { ntddk::ExAllocatePool2(0x40, bytes, Self::TAG) }.cast::<$report>();
                if report.is_null() {
                    return None;
                }
                unsafe { report.write(<$report>::default()) };
                Some(Self(report))
            }

            fn report(&mut self) -> &mut $report {
                unsafe { &mut *self.0 }
            }
        }

        impl Drop for $name {
            #[memtrack::instrument]
            fn drop(&mut self) {
                unsafe { ntddk::ExFreePoolWithTag(self.0.cast(), <Self as Class>::TAG) }
            }
        }
    };
}

#[rustfmt::skip]
mod classes {
    use super::{Class, ntddk};

    /*@*/class!(#[derive(Debug)] pub Keyboard([u8; 8]) = b"Keyb");
    /*@*/class! { pub Mouse((i16, i16, u8)) = b"Mous" }
    /*@*/class! { pub Tablet([u32; 16]) = b"Tabl" }
}

use classes::{Keyboard, Mouse, Tablet};

fn poll<C: Class>(device: &mut C, report: C::Report) -> C::Report {
    core::mem::replace(device.report(), report)
}

pub fn drive() {
    let (mut keyboard, mut mouse) = (Keyboard::open().unwrap(), Mouse::open().unwrap());
    assert_eq!(poll(&mut keyboard, *b"\0\0\x04\0\0\0\0\0"), [0; 8]);
    assert_eq!(poll(&mut keyboard, [0; 8])[2], 4);
    assert_eq!([poll(&mut mouse, (1, -1, 0)), poll(&mut mouse, (0, 0, 1))], [(0, 0, 0), (1, -1, 0)]);
    let mut tablet = Tablet::open().unwrap();
    tablet.report()[15] = 7;
    core::mem::forget(tablet);
    drop(keyboard);
}
