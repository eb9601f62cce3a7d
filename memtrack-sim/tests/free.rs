//! What the freeing functions accept, and how the machine stops at what they do not.

mod common;

use common::{DISPATCH, TAG, address, at, bad_pool_caller, kernel};
use memtrack_sim::{_POOL_TYPE::*, ntddk::*, *};

const OTHER: ULONG = u32::from_ne_bytes(*b"Othr");
const NONE: ULONG = u32::from_ne_bytes(*b"None");

/// Every way to free a block, under the tag where there is one.
const FREE: [fn(PVOID); 3] = [
    |block| kernel!(ExFreePool(block)),
    |block| kernel!(ExFreePoolWithTag(block, TAG)),
    |block| kernel!(ExFreePool2(block, TAG, std::ptr::null(), 0)),
];

fn nonpaged(bytes: u64) -> PVOID {
    kernel!(ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG))
}

#[test]
fn a_block_can_be_freed_by_each_function() {
    let machine = Machine::boot();
    for free in FREE {
        free(nonpaged(100));
    }
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
    assert_eq!(machine.pool(PoolKind::NonPaged).total_blocks, 3);
}

#[test]
fn freeing_twice_stops_the_machine() {
    let _machine = Machine::boot();
    for free in FREE {
        for bytes in [10, 5000] {
            let block = nonpaged(bytes);
            free(block);
            let stop = catch_bugcheck(|| free(block));
            assert_eq!(stop, Err(bad_pool_caller([0x07, 0, TAG.into(), address(block)])));
        }
    }
}

#[test]
fn freeing_twice_is_not_noticed_once_the_block_is_somebody_elses() {
    let machine = Machine::boot();
    let block = nonpaged(10);
    kernel!(ExFreePool(block));
    assert_eq!(nonpaged(10), block);
    kernel!(ExFreePool(block));
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

#[test]
fn freeing_null_stops_the_machine() {
    let _machine = Machine::boot();
    for free in FREE {
        assert_eq!(catch_bugcheck(|| free(std::ptr::null_mut())), Err(bad_pool_caller([0x46, 0, 0, 0])));
    }
}

#[test]
fn freeing_what_is_no_block_stops_the_machine() {
    let _machine = Machine::boot();
    let block = nonpaged(200);
    let large = nonpaged(20_000);
    let mut local = 0_u64;
    let strangers = [
        std::ptr::from_mut(&mut local).cast(),
        block.wrapping_byte_add(1),
        block.wrapping_byte_add(16),
        large.wrapping_byte_add(4096),
        std::ptr::without_provenance_mut(0xFFFF_F800_0000_0000),
        std::ptr::without_provenance_mut(usize::MAX),
        std::ptr::without_provenance_mut(8),
    ];
    for stranger in strangers {
        for free in FREE {
            let stop = catch_bugcheck(|| free(stranger));
            assert_eq!(stop, Err(bad_pool_caller([0x99, address(stranger), 0, 0])));
        }
    }
    kernel!(ExFreePool(block));
    kernel!(ExFreePool(large));
}

#[test]
fn a_block_that_was_never_handed_out_is_a_stranger() {
    let _machine = Machine::boot();
    // The page that the block lies in is cut into more of them.
    let next = nonpaged(64).wrapping_byte_add(64);
    assert_eq!(
        catch_bugcheck(|| kernel!(ExFreePool(next))),
        Err(bad_pool_caller([0x99, address(next), 0, 0]))
    );
}

#[test]
fn a_wrong_tag_stops_the_machine_and_leaves_the_block() {
    let machine = Machine::boot();
    let block = nonpaged(30);
    let expected = Err(bad_pool_caller([0x0A, address(block), TAG.into(), OTHER.into()]));
    assert_eq!(catch_bugcheck(|| kernel!(ExFreePoolWithTag(block, OTHER))), expected);
    assert_eq!(catch_bugcheck(|| kernel!(ExFreePool2(block, OTHER, std::ptr::null(), 0))), expected);
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 1);
    kernel!(ExFreePoolWithTag(block, TAG));
}

#[test]
fn a_tag_of_zero_fits_any_block() {
    let machine = Machine::boot();
    kernel!(ExFreePoolWithTag(nonpaged(30), 0));
    kernel!(ExFreePool2(nonpaged(30), 0, std::ptr::null(), 0));
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

#[test]
fn untagged_blocks_are_tagged_none() {
    let _machine = Machine::boot();
    kernel!(ExFreePoolWithTag(ExAllocatePool(PagedPool, 8), NONE));
    kernel!(ExFreePoolWithTag(ExAllocatePoolWithQuota(PagedPool, 8), NONE));
    let block = kernel!(ExAllocatePool(PagedPool, 8));
    let stop = catch_bugcheck(|| kernel!(ExFreePoolWithTag(block, OTHER)));
    assert_eq!(stop, Err(bad_pool_caller([0x0A, address(block), NONE.into(), OTHER.into()])));
}

#[test]
fn paged_blocks_are_freed_up_to_apc_level_and_nonpaged_up_to_dispatch_level() {
    let _machine = Machine::boot();
    for free in FREE {
        for (pool, highest) in
            [(PagedPool, 1), (PagedPoolCacheAligned, 1), (NonPagedPool, 2), (NonPagedPoolNx, 2)]
        {
            let block = kernel!(ExAllocatePoolWithTag(pool, 40, TAG));
            let above = u64::from(highest) + 1;
            let stop = catch_bugcheck(|| at(highest + 1, || free(block)));
            assert_eq!(stop, Err(bad_pool_caller([0x09, above, pool as u64, address(block)])));
            at(highest, || free(block));
        }
        let block = kernel!(ExAllocatePool2(POOL_FLAG_PAGED, 40, TAG));
        let stop = catch_bugcheck(|| at(DISPATCH, || free(block)));
        assert_eq!(stop, Err(bad_pool_caller([0x09, 2, 1, address(block)])));
    }
}

#[test]
fn extended_parameters_do_not_fit_ordinary_blocks() {
    let machine = Machine::boot();
    let block = nonpaged(30);
    let parameter = POOL_EXTENDED_PARAMETER::default();
    let stop = catch_bugcheck(|| kernel!(ExFreePool2(block, TAG, &parameter, 1)));
    assert_eq!(stop, Err(bad_pool_caller([0x99, address(block), 0, 0])));
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 1);
}
