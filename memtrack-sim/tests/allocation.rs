//! Which allocation lives at an address.

use core::ptr::null_mut;
use std::thread;

use memtrack_sim::{
    Allocation, Machine, POOL_FLAG_NON_PAGED, PVOID, allocation_at, latest_allocation,
    ntddk::{ExAllocatePool2, ExFreePool},
};

const TAG: u32 = u32::from_le_bytes(*b"Numb");

fn allocate(bytes: u64) -> PVOID {
    // SAFETY: any size and tag will do.
    unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG) }
}

fn free(block: PVOID) {
    // SAFETY: every test frees its blocks once.
    unsafe { ExFreePool(block) }
}

#[test]
fn an_address_that_comes_again_has_another_number() {
    let _machine = Machine::boot();
    assert_eq!(allocation_at(null_mut()), Allocation::Unknown);
    let first = allocate(100);
    let Allocation::Live(number) = allocation_at(first) else { panic!("it is live") };
    assert_eq!(latest_allocation(first), number);
    assert_eq!(allocation_at(first.wrapping_byte_add(16)), Allocation::Unknown, "no block begins there");
    free(first);
    assert_eq!(allocation_at(first), Allocation::Free);
    let again = allocate(100);
    assert_eq!(again, first);
    assert!(matches!(allocation_at(again), Allocation::Live(later) if later > number));
    free(again);
}

#[test]
fn the_latest_block_is_each_threads_own() {
    let _machine = Machine::boot();
    let (first, second) = (allocate(100).expose_provenance(), allocate(100).expose_provenance());
    let at = core::ptr::without_provenance_mut;
    assert_eq!(latest_allocation(at(first)), 0);
    assert_eq!(Allocation::Live(latest_allocation(at(second))), allocation_at(at(second)));
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(latest_allocation(at(second)), 0));
    });
}

#[test]
fn numbers_go_on_from_machine_to_machine() {
    let number = || {
        let _machine = Machine::boot();
        latest_allocation(allocate(1))
    };
    assert!(number() < number());
}
