//! A bugcheck below a function that Rust may not unwind through: the process ends, and says why.

mod common;

use std::process::Command;

use common::kernel;
use memtrack_sim::{Machine, ntddk::*};

unsafe extern "C" fn callback() {
    kernel!(ExFreePool(std::ptr::null_mut()));
}

#[test]
#[ignore = "ends the process: run by the test below"]
fn victim() {
    let _machine = Machine::boot();
    // SAFETY: it has no requirements.
    unsafe { callback() };
}

#[test]
fn the_reason_is_shown_before_the_process_ends() {
    let this = std::env::current_exe().unwrap();
    let ended = Command::new(this).args(["victim", "--exact", "--ignored", "--nocapture"]).output().unwrap();
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("bugcheck 0x000000C2 BAD_POOL_CALLER (0x46, 0x0, 0x0, 0x0)"), "{said}");
}
