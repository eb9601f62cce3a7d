//! A driver that does what its service's `Scenario` says, when it is loaded and when it is unloaded.
//! `cargo xtask kernel-test` reads what memtrack says of it.
#![no_std]
#![allow(
    clippy::undocumented_unsafe_blocks,
    non_snake_case,
    reason = "nothing of it is safe, and the kernel's names"
)]

extern crate wdk_panic;

mod irql;
mod lists;
#[path = "../../../../examples/filemon-sys/src/parameters.rs"]
mod parameters;
mod partly;
mod threads;

use core::hint;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use memtrack::Policy;
use wdk_sys::{BOOLEAN, DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING, STATUS_SUCCESS};

const THREADS: u32 = 1;
const LISTS: u32 = 2;
const PARTLY: u32 = 3;
const BREAK: u32 = 4;
const BREAK_ATTACHED: u32 = 5;
const BUGCHECK: u32 = 6;
const FAULT: u32 = 7;
const HANG: u32 = 8;
const IRQL: u32 = 9;

static SCENARIO: AtomicU32 = AtomicU32::new(0);

/// Whether a debugger is attached, as far as this driver is told.
static ATTACHED: AtomicBool = AtomicBool::new(false);

/// In place of the kernel's, which knows of none.
#[unsafe(no_mangle)]
extern "C" fn KdRefreshDebuggerNotPresent() -> BOOLEAN {
    u8::from(!ATTACHED.load(Ordering::Relaxed))
}

/// # Safety
///
/// Called by the system when it loads the driver, and by nobody else.
#[unsafe(export_name = "DriverEntry")]
pub unsafe extern "system" fn driver_entry(
    driver: &mut DRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
) -> NTSTATUS {
    let scenario = unsafe { parameters::number(registry_path, "Scenario") };
    SCENARIO.store(scenario, Ordering::Relaxed);
    driver.DriverUnload = Some(driver_unload);
    match scenario {
        THREADS => threads::start(),
        LISTS => lists::keep_their_depth(),
        IRQL => irql::stays(),
        PARTLY => partly::annotated::run(),
        BREAK => mistake::under(Policy::Break),
        BREAK_ATTACHED => {
            ATTACHED.store(true, Ordering::Relaxed);
            mistake::under(Policy::Break);
        }
        BUGCHECK => mistake::under(Policy::BugCheck),
        FAULT => unsafe { null_mut::<u32>().write_volatile(0) },
        HANG => loop {
            hint::spin_loop();
        },
        _ => {}
    }
    STATUS_SUCCESS
}

#[memtrack::instrument(finish = "exercise")]
unsafe extern "C" fn driver_unload(_: *mut DRIVER_OBJECT) {
    if SCENARIO.load(Ordering::Relaxed) == THREADS {
        threads::stop();
    }
    memtrack::report("exercise");
}

/// One mistake, and what the driver's author wants done about it.
#[memtrack::instrument]
mod mistake {
    use memtrack::{Policy, Settings};
    use wdk_sys::POOL_FLAG_NON_PAGED;
    use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};

    const TAG: u32 = u32::from_le_bytes(*b"Mist");

    pub fn under(policy: Policy) {
        memtrack::configure(Settings::new().policy(policy));
        unsafe {
            let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 40, TAG);
            block.cast::<u8>().add(40).write(7);
            ExFreePoolWithTag(block, TAG);
        }
    }
}
