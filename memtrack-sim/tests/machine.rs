//! One machine at a time, clean at the start and gone at the end.

mod common;

use std::{
    panic::catch_unwind,
    sync::atomic::{AtomicU32, Ordering},
};

use common::{TAG, address, bad_pool_caller, kernel};
use memtrack_sim::{ntddk::*, *};

fn allocate() -> PVOID {
    kernel!(ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TAG))
}

#[test]
fn machines_take_turns() {
    static RUNNING: AtomicU32 = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let machine = Machine::boot();
                    // Relaxed: the machine's own turn orders these, if it does its work; that is the test.
                    assert_eq!(RUNNING.fetch_add(1, Ordering::Relaxed), 0);
                    allocate();
                    std::thread::yield_now();
                    assert_eq!(machine.pool(PoolKind::NonPaged).total_blocks, 1);
                    RUNNING.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
    });
}

#[test]
fn a_boot_is_clean_whatever_was_before() {
    let failed = catch_unwind(|| {
        let machine = Machine::boot();
        machine.set_pool_limit(PoolKind::NonPaged, Some(100));
        machine.echo(true);
        allocate();
        kernel!(DbgPrint(c"one\ntwo".as_ptr()));
        kernel!(ExFreePool(std::ptr::null_mut()));
    });
    assert!(failed.is_err());

    let machine = Machine::boot();
    assert_eq!(machine.pool(PoolKind::NonPaged), PoolUsage::default());
    assert_eq!(machine.pool(PoolKind::Paged), PoolUsage::default());
    kernel!(DbgPrint(c"three\n".as_ptr()));
    assert_eq!(machine.output(), ["three"]);
}

#[test]
fn a_second_machine_on_one_thread_is_refused() {
    let _machine = Machine::boot();
    let second = catch_unwind(Machine::boot);
    let reason = *second.unwrap_err().downcast::<&str>().unwrap();
    assert!(reason.contains("already"));
}

#[test]
fn a_block_of_another_boot_is_a_stranger() {
    let block = {
        let _machine = Machine::boot();
        allocate()
    };
    let _machine = Machine::boot();
    // Whether the host hands out the same pages again is its own affair.
    let stop = catch_bugcheck(|| kernel!(ExFreePool(block)));
    assert_eq!(stop, Err(bad_pool_caller([0x99, address(block), 0, 0])));
}

#[test]
fn output_is_lines() {
    let machine = Machine::boot();
    kernel!(DbgPrint(c"one\r\ntw".as_ptr()));
    assert_eq!(machine.output(), ["one"]);
    kernel!(DbgPrint(c"o\n\nthree".as_ptr()));
    assert_eq!(machine.output(), ["one", "two", ""]);
    assert_eq!(machine.take_output(), ["one", "two", ""]);
    assert!(machine.output().is_empty());
    kernel!(DbgPrintEx(_DPFLTR_TYPE::DPFLTR_IHVDRIVER_ID as u32, DPFLTR_ERROR_LEVEL, c", four\n".as_ptr()));
    assert_eq!(machine.output(), ["three, four"]);
    machine.echo(true);
    kernel!(DbgPrint(c"five\n".as_ptr()));
    assert_eq!(machine.output(), ["three, four", "five"]);
}

#[test]
fn threads_share_the_machine() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 2000;
    let machine = Machine::boot();
    std::thread::scope(|scope| {
        for mark in 1..=THREADS {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let bytes = 1 + (round * 37 + mark) % 5000;
                    let pool = (round & 1) as i32;
                    let block = kernel!(ExAllocatePoolUninitialized(pool, bytes, TAG));
                    common::fill(block, mark as u8, bytes as usize);
                    std::thread::yield_now();
                    assert!(common::contents(block, bytes as usize).iter().all(|byte| *byte == mark as u8));
                    kernel!(ExFreePoolWithTag(block, TAG));
                    if round % 500 == 0 {
                        kernel!(DbgPrint(c"thread %u round %I64u\n".as_ptr(), mark as u32, round));
                    }
                }
            });
        }
    });
    for kind in [PoolKind::NonPaged, PoolKind::Paged] {
        let usage = machine.pool(kind);
        assert_eq!((usage.blocks, usage.bytes, usage.total_blocks), (0, 0, THREADS * ROUNDS / 2));
        assert!(usage.max_blocks <= THREADS);
    }
    let lines = machine.output();
    assert_eq!(lines.len(), (THREADS * 4) as usize);
    assert!(lines.iter().all(|line| line.starts_with("thread ") && line.contains(" round ")));
}

#[test]
fn machines_are_told_apart_by_their_numbers() {
    let first = {
        let _machine = Machine::boot();
        memtrack_sim::running()
    };
    let _machine = Machine::boot();
    assert_ne!(first, 0);
    assert_ne!(memtrack_sim::running(), 0);
    assert_ne!(memtrack_sim::running(), first);
}
