//! `#[track_caller]` three deep: the site is the line of the driver's own work. Handling of device controls.

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool(block: *mut c_void) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod helpers {
    use super::ntddk::{ExAllocatePool2, ExFreePool};
    use core::ffi::c_void;

    pub struct Buffer {
        start: *mut c_void,
        pub bytes: usize,
    }

    #[track_caller]
    unsafe fn raw(bytes: usize) -> *mut c_void {
        unsafe { ExAllocatePool2(0x40, bytes, 0x6C74_6F49) }
    }

    #[track_caller]
    fn checked(bytes: usize) -> Option<*mut c_void> {
        let block = unsafe { raw(bytes) };
        if block.is_null() {
            None
        } else {
            Some(block)
        }
    }

    impl Buffer {
        #[track_caller]
        pub fn new(bytes: usize) -> Option<Self> {
            Some(Self { start: checked(bytes)?, bytes })
        }

        #[track_caller]
        pub fn of(text: &str) -> Option<Self> {
            let buffer = Self::new(text.len())?;
            unsafe { buffer.start.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
            Some(buffer)
        }

        pub fn text(&self) -> &str {
            let bytes = unsafe { core::slice::from_raw_parts(self.start.cast(), self.bytes) };
            core::str::from_utf8(bytes).unwrap_or_default()
        }
    }

    impl Drop for Buffer {
        #[track_caller]
        fn drop(&mut self) {
            unsafe { ExFreePool(self.start) }
        }
    }
}

use helpers::Buffer;

struct Device {
    model: Buffer,
    pending: Option<Buffer>,
}

#[derive(Clone, Copy)]
enum Control {
    Identify,
    Rename(&'static str),
    Wait(usize),
}

fn control(device: &mut Device, control: Control) -> Option<usize> {
    match control {
        Control::Identify => Some(device.model.text().len()),
        Control::Rename(model) => {
            device.model = /*@*/Buffer::of(model)?;
            Some(model.len())
        }
        Control::Wait(bytes) => {
            let pending = /*@*/Buffer::new(bytes)?;
            let bytes = pending.bytes;
            device.pending.replace(pending).map_or(Some(bytes), |before| Some(bytes + before.bytes))
        }
    }
}

pub fn drive() {
    let model = /*@*/ Buffer::of("none").unwrap();
    let mut device = Device { model, pending: None };
    let controls = [
        Control::Rename("Model 5150"),
        Control::Identify,
        Control::Wait(7),
        Control::Wait(100_000),
        Control::Wait(9),
    ];
    let answers = controls.map(|one| control(&mut device, one));
    assert_eq!(answers, [Some(10), Some(10), Some(7), None, Some(16)]);
    let Device { model, pending } = device;
    drop(model);
    core::mem::forget(pending);
}
