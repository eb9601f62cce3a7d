//! filemon as a driver that Windows loads: it is told of each program and library that is mapped to be run, and of those
//! that somebody names by `echo NAME> \\.\Filemon`. It keeps a log of the programs, which `type \\.\Filemon` shows, and
//! makes one honest mistake.
//!
//! Values of its service's registry key choose what it does, each a `REG_DWORD` that is 0 if it is not there: `Fixed`
//! mends the mistake, `Bugs` makes six others, `Policy` is what memtrack does then: 0 reports, 1 breaks into a debugger,
//! 2 stops the machine.
#![no_std]

extern crate wdk_panic;

#[path = "../../filemon/bugs.rs"]
mod bugs;
mod device;
#[path = "../../filemon/log.rs"]
mod log;
mod parameters;

use wdk_alloc::WdkAllocator;

#[global_allocator]
static ALLOCATOR: WdkAllocator = WdkAllocator;

#[memtrack::instrument]
pub mod filemon {
    use core::slice;
    use core::str;
    use core::sync::atomic::{AtomicBool, Ordering};

    use wdk_sys::ntddk::{
        ExAllocatePool2, ExFreePoolWithTag, PsRemoveLoadImageNotifyRoutine, PsSetLoadImageNotifyRoutine,
    };
    use wdk_sys::{
        DRIVER_OBJECT, HANDLE, NT_SUCCESS, NTSTATUS, PCUNICODE_STRING, PIMAGE_INFO, POOL_FLAG_PAGED,
        PUNICODE_STRING,
    };

    use crate::{bugs, device, log, parameters};

    const NAME_TAG: u32 = u32::from_le_bytes(*b"Fnam");

    /// Whether the mistake in `image_loaded` is mended.
    static FIXED: AtomicBool = AtomicBool::new(false);

    /// # Safety
    ///
    /// Called by the system when it loads the driver, and by nobody else.
    #[unsafe(export_name = "DriverEntry")]
    pub unsafe extern "system" fn driver_entry(
        driver: &mut DRIVER_OBJECT,
        registry_path: PCUNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the path is the system's, and stays for this call.
        let chosen = |name: &str| unsafe { parameters::number(registry_path, name) };
        FIXED.store(chosen("Fixed") != 0, Ordering::Relaxed);
        configure(chosen("Policy"));

        log::open();
        let status = open(driver);
        if !NT_SUCCESS(status) {
            log::close();
            // Nobody unloads a driver that was not loaded.
            memtrack::finish("Filemon");
            return status;
        }
        driver.DriverUnload = Some(driver_unload);
        // Only memtrack keeps them from the kernel.
        if cfg!(not(feature = "off")) && chosen("Bugs") != 0 {
            bugs::mistakes::make_all();
        }
        status
    }

    fn open(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
        let status = device::create(driver);
        if !NT_SUCCESS(status) {
            return status;
        }
        // SAFETY: the routine stays until `driver_unload` has taken it back.
        let status = unsafe { PsSetLoadImageNotifyRoutine(Some(image_loaded)) };
        if !NT_SUCCESS(status) {
            device::delete(driver);
        }
        status
    }

    fn configure(policy: u32) {
        let policy = match policy {
            0 => memtrack::Policy::Report,
            1 => memtrack::Policy::Break,
            _ => memtrack::Policy::BugCheck,
        };
        memtrack::configure(memtrack::Settings::new().policy(policy));
    }

    /// The system maps an image.
    unsafe extern "C" fn image_loaded(name: PUNICODE_STRING, _process: HANDLE, _image: PIMAGE_INFO) {
        if name.is_null() {
            return;
        }
        // SAFETY: the system's name stays for this call, and is as long as it says, in bytes.
        let units = unsafe { slice::from_raw_parts((*name).Buffer, usize::from((*name).Length) / 2) };
        // No code unit becomes more than three bytes.
        seen(3 * units.len(), |text| {
            let mut length = 0;
            for character in char::decode_utf16(units.iter().copied()) {
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                length += character.encode_utf8(text.get_mut(length..)?).len();
            }
            Some(length)
        });
    }

    /// A program writes a name to the device.
    pub fn named(name: &[u8]) {
        let name = name.trim_ascii();
        seen(name.len(), |text| {
            text.copy_from_slice(name);
            Some(name.len())
        });
    }

    /// An image was seen, of a name of at most `room` bytes, which `copy` writes down. Programs go to the log.
    ///
    /// IRQL <= APC_LEVEL.
    fn seen(room: usize, copy: impl FnOnce(&mut [u8]) -> Option<usize>) {
        if room == 0 {
            return;
        }
        // SAFETY: any size and tag will do.
        let block = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, room as u64, NAME_TAG) };
        if block.is_null() {
            return;
        }
        // SAFETY: the block is as long, zeroed, and ours.
        let text = unsafe { slice::from_raw_parts_mut(block.cast::<u8>(), room) };
        let length = copy(text).unwrap_or(0);
        let Some(program) = program(&text[..length.min(room)]) else {
            // Here is the mistake: the way out that forgets the block.
            if FIXED.load(Ordering::Relaxed) {
                // SAFETY: the block is ours, and `text` is not used any more.
                unsafe { ExFreePoolWithTag(block, NAME_TAG) };
            }
            return;
        };
        log::write("run", program, "");
        // SAFETY: the block is ours, and `program` is not used any more.
        unsafe { ExFreePoolWithTag(block, NAME_TAG) };
    }

    /// The name, if it is a program's.
    fn program(name: &[u8]) -> Option<&str> {
        let name = str::from_utf8(name).ok()?;
        let ending = name.get(name.len().checked_sub(4)?..)?;
        ending.eq_ignore_ascii_case(".exe").then_some(name)
    }

    #[memtrack::instrument(finish = "Filemon")]
    unsafe extern "C" fn driver_unload(driver: *mut DRIVER_OBJECT) {
        // SAFETY: `driver_entry` has set it. When this returns, no call of it is under way.
        let _ = unsafe { PsRemoveLoadImageNotifyRoutine(Some(image_loaded)) };
        // SAFETY: the system's driver object, which is ours for this call.
        device::delete(unsafe { &mut *driver });
        memtrack::print_stats("Filemon");
        memtrack::report("Filemon");
        log::close();
    }
}
