//! A driver that takes its pool from memtrack's own `ntddk`, and its kernel by a feature.
#![deny(warnings)]

#[cfg(feature = "desk")]
extern crate memtrack_sim as wdk_sys;

use memtrack::ntddk::{DbgPrint, ExAllocatePool2, ExFreePool, ExFreePoolWithTag};
use wdk_sys::{POOL_FLAG_PAGED, PVOID};

const TAG: u32 = u32::from_le_bytes(*b"Dwdk");

pub struct Name(PVOID);

impl Name {
    #[track_caller]
    pub fn copied(name: &[u8]) -> Option<Self> {
        let block = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, name.len() as _, TAG) };
        if block.is_null() {
            return None;
        }
        unsafe { block.cast::<u8>().copy_from_nonoverlapping(name.as_ptr(), name.len()) };
        Some(Self(block))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        unsafe { ExFreePoolWithTag(self.0, TAG) }
    }
}

/// By the attribute, whose calls reach the driver's own binding.
#[memtrack::instrument]
pub mod annotated {
    use super::TAG;
    use wdk_sys::{POOL_FLAG_NON_PAGED, PVOID, ntddk};

    pub fn buffer(bytes: u64) -> PVOID {
        unsafe { ntddk::ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG) }
    }
}

#[memtrack::instrument]
use wdk_sys::ntddk::ExAllocatePool2 as allocate;

/// Lists, which this binding cannot allocate from, and of which an entry stays out.
pub mod lists {
    use super::TAG;
    use memtrack::ntddk::*;
    use wdk_sys::{LOOKASIDE_LIST_EX, NPAGED_LOOKASIDE_LIST};

    pub fn run() {
        let mut list = NPAGED_LOOKASIDE_LIST::default();
        let mut with_list = LOOKASIDE_LIST_EX::default();
        unsafe {
            ExInitializeNPagedLookasideList(&raw mut list, None, None, 0, 24, TAG, 7);
            let entry = ExAllocateFromNPagedLookasideList(&raw mut list);
            ExFreeToNPagedLookasideList(&raw mut list, entry);
            assert_eq!((list.L.Depth, list.L.TotalFrees), (7, 1));
            ExDeleteNPagedLookasideList(&raw mut list);

            let status = ExInitializeLookasideListEx(&raw mut with_list, None, None, 1, 0, 24, TAG, 9);
            assert_eq!((status, with_list.L.Depth), (0, 9));
            let entry = ExAllocateFromLookasideListEx(&raw mut with_list);
            ExFreeToLookasideListEx(&raw mut with_list, entry);
            ExFlushLookasideListEx(&raw mut with_list);
            ExDeleteLookasideListEx(&raw mut with_list);
        }
    }
}

pub fn run() {
    lists::run();
    unsafe { DbgPrint(c"loaded\n".as_ptr()) };
    drop(Name::copied(b"gone"));
    let kept = Name::copied(b"kept").unwrap();
    std::mem::forget(kept);
    unsafe {
        ExFreePool(annotated::buffer(8));
        ExFreePool(allocate(POOL_FLAG_PAGED, 9, TAG));
    }
    memtrack::print_stats("Dwdk");
    memtrack::finish("Dwdk");
}

/// With memtrack off they are the binding's own.
#[cfg(feature = "off")]
const _: unsafe extern "C-unwind" fn(PVOID) = ExFreePool;

#[test]
fn the_leak_is_named() {
    let machine = memtrack_sim::Machine::boot();
    run();
    let said = machine.output().join("\n");
    assert!(said.starts_with("loaded"), "{said}");
    let usage = machine.pool(memtrack_sim::PoolKind::NonPaged);
    assert_eq!(usage.blocks, 0, "all of memtrack's own memory is back: {usage:?}");
    if cfg!(feature = "off") {
        assert_eq!(said, "loaded");
        return;
    }
    assert!(said.contains("memtrack: leak 1 block 4 bytes  "), "{said}");
    let line =
        1 + include_str!("driver.rs").lines().position(|line| line.contains(r#"copied(b"kept")"#)).unwrap();
    assert!(said.contains(&format!("driver.rs:{line}:16  ExAllocatePool2 'Dwdk' Paged")), "{said}");
    assert_eq!(said.matches("memtrack: leak ").count(), 1, "{said}");
    assert!(said.contains("Dwdk Paged Memory Usage:"), "{said}");
}
