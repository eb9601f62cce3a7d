//! Without a boot everything works, too. A file of its own: these tests share one machine.

mod common;

use common::{TAG, address, bad_pool_caller, kernel};
use memtrack_sim::{ntddk::*, *};

fn allocate(bytes: u64) -> PVOID {
    kernel!(ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG))
}

#[test]
fn the_default_machine_is_set_aside_by_a_boot_and_comes_back() {
    let block = allocate(77);
    common::fill(block, 0x77, 77);
    let freed = allocate(77);
    kernel!(ExFreePool(freed));

    let machine = Machine::boot();
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
    let stop = catch_bugcheck(|| kernel!(ExFreePool(block)));
    assert_eq!(stop, Err(bad_pool_caller([0x99, address(block), 0, 0])));
    for _ in 0..100 {
        assert!(![block, freed].contains(&allocate(77)));
    }
    drop(machine);

    assert_eq!(common::contents(block, 77), [0x77; 77]);
    assert_eq!(allocate(77), freed);
    kernel!(ExFreePoolWithTag(block, TAG));
    kernel!(ExFreePoolWithTag(freed, TAG));
    let stop = catch_bugcheck(|| kernel!(ExFreePool(block)));
    assert_eq!(stop, Err(bad_pool_caller([0x07, 0, TAG.into(), address(block)])));
    kernel!(DbgPrint(c"printed, and captured by the harness: %u\n".as_ptr(), 5_u32));
}
