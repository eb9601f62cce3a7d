//! What is printed when nobody collects it, looked at from outside.

mod common;

use std::process::Command;

use common::kernel;
use memtrack_sim::{Machine, catch_bugcheck, ntddk::*};

#[test]
#[ignore = "prints: run by the test below"]
fn speaker() {
    kernel!(DbgPrint(c"[default %u]\n".as_ptr(), 1_u32));
    let machine = Machine::boot();
    kernel!(DbgPrint(c"[collected]\n".as_ptr()));
    machine.echo(true);
    kernel!(DbgPrint(c"[echoed]\n".as_ptr()));
    machine.echo(false);
    kernel!(DbgPrint(c"[collected]\n".as_ptr()));
    assert_eq!(machine.output(), ["[collected]", "[echoed]", "[collected]"]);
    drop(machine);
    kernel!(DbgPrintEx(77, 0, c"[default again]\n".as_ptr()));
    catch_bugcheck(|| kernel!(ExFreePool(std::ptr::null_mut()))).unwrap_err();
}

#[test]
fn output_is_printed_unless_a_machine_collects_it() {
    let this = std::env::current_exe().unwrap();
    let ended = Command::new(this).args(["speaker", "--exact", "--ignored", "--nocapture"]).output().unwrap();
    assert!(ended.status.success());
    let printed = String::from_utf8_lossy(&ended.stdout);
    let order = ["[default 1]\n", "[echoed]\n", "[default again]\n", "bugcheck 0x000000C2 BAD_POOL_CALLER"];
    let at: Vec<_> = order.iter().map(|text| printed.find(text).expect(text)).collect();
    assert!(at.is_sorted(), "{printed}");
    assert!(!printed.contains("[collected]"), "{printed}");
}
