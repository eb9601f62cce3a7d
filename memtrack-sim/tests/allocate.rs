//! What the allocation functions hand out.

mod common;

use common::{DISPATCH, TAG, address, at, bad_pool_caller, contents, fill, kernel};
use memtrack_sim::{_POOL_TYPE::*, ntddk::*, *};

type Old = (&'static str, fn(POOL_TYPE, u64, u32) -> PVOID);

/// The functions with a pool type, a size and a tag, by what they promise about the contents.
const UNINITIALIZED: [Old; 6] = [
    ("ExAllocatePoolWithTag", |kind, bytes, tag| kernel!(ExAllocatePoolWithTag(kind, bytes, tag))),
    ("ExAllocatePoolWithQuotaTag", |kind, bytes, tag| kernel!(ExAllocatePoolWithQuotaTag(kind, bytes, tag))),
    ("ExAllocatePoolWithTagPriority", |kind, bytes, tag| {
        kernel!(ExAllocatePoolWithTagPriority(kind, bytes, tag, _EX_POOL_PRIORITY::NormalPoolPriority))
    }),
    ("ExAllocatePoolUninitialized", |kind, bytes, tag| {
        kernel!(ExAllocatePoolUninitialized(kind, bytes, tag))
    }),
    ("ExAllocatePoolQuotaUninitialized", |kind, bytes, tag| {
        kernel!(ExAllocatePoolQuotaUninitialized(kind, bytes, tag))
    }),
    ("ExAllocatePoolPriorityUninitialized", |kind, bytes, tag| {
        kernel!(ExAllocatePoolPriorityUninitialized(kind, bytes, tag, _EX_POOL_PRIORITY::LowPoolPriority))
    }),
];

const ZEROED: [Old; 3] = [
    ("ExAllocatePoolZero", |kind, bytes, tag| kernel!(ExAllocatePoolZero(kind, bytes, tag))),
    ("ExAllocatePoolQuotaZero", |kind, bytes, tag| kernel!(ExAllocatePoolQuotaZero(kind, bytes, tag))),
    ("ExAllocatePoolPriorityZero", |kind, bytes, tag| {
        kernel!(ExAllocatePoolPriorityZero(kind, bytes, tag, _EX_POOL_PRIORITY::HighPoolPriority))
    }),
];

const UNTAGGED: [Old; 2] = [
    ("ExAllocatePool", |kind, bytes, _| kernel!(ExAllocatePool(kind, bytes))),
    ("ExAllocatePoolWithQuota", |kind, bytes, _| kernel!(ExAllocatePoolWithQuota(kind, bytes))),
];

fn every_old() -> impl Iterator<Item = Old> {
    UNINITIALIZED.into_iter().chain(ZEROED).chain(UNTAGGED)
}

fn pool2(flags: POOL_FLAGS, bytes: u64) -> PVOID {
    kernel!(ExAllocatePool2(flags, bytes, TAG))
}

#[test]
fn blocks_are_aligned_by_their_size() {
    let _machine = Machine::boot();
    for pool in [NonPagedPool, NonPagedPoolNx, PagedPool, NonPagedPoolSession] {
        for bytes in [1, 15, 16, 17, 100, 2047, 2048, 2049, 4000, 4095] {
            let block = address(kernel!(ExAllocatePoolWithTag(pool, bytes, TAG)));
            assert_eq!(block % 16, 0, "{bytes}");
            assert_eq!(block / 4096, (block + bytes - 1) / 4096, "{bytes} bytes cross a page");
        }
        for bytes in [4096, 4097, 8192, 100_000] {
            assert_eq!(address(kernel!(ExAllocatePoolWithTag(pool, bytes, TAG))) % 4096, 0, "{bytes}");
        }
    }
}

#[test]
fn cache_aligned_blocks_begin_a_cache_line() {
    let _machine = Machine::boot();
    for bytes in [1, 16, 48, 64, 65, 200, 4095, 4096] {
        for pool in [NonPagedPoolCacheAligned, PagedPoolCacheAligned, NonPagedPoolNxCacheAligned] {
            for _ in 0..3 {
                assert_eq!(address(kernel!(ExAllocatePoolWithTag(pool, bytes, TAG))) % 64, 0, "{bytes}");
            }
        }
        for pool in [POOL_FLAG_NON_PAGED, POOL_FLAG_NON_PAGED_EXECUTE, POOL_FLAG_PAGED] {
            assert_eq!(address(pool2(pool | POOL_FLAG_CACHE_ALIGNED, bytes)) % 64, 0, "{bytes}");
        }
    }
}

#[test]
fn a_freed_block_is_the_next_one_of_its_class() {
    let _machine = Machine::boot();
    for bytes in [1, 16, 24, 500, 4095, 4096, 9000] {
        let first = pool2(POOL_FLAG_NON_PAGED, bytes);
        let second = pool2(POOL_FLAG_NON_PAGED, bytes);
        kernel!(ExFreePool(first));
        kernel!(ExFreePool(second));
        assert_ne!(pool2(POOL_FLAG_PAGED, bytes), second, "the pools share {bytes} bytes");
        assert_eq!(pool2(POOL_FLAG_NON_PAGED, bytes), second, "{bytes}");
        assert_eq!(pool2(POOL_FLAG_NON_PAGED, bytes), first, "{bytes}");
    }
}

#[test]
fn sizes_that_round_alike_share_a_class_and_others_do_not() {
    let _machine = Machine::boot();
    let block = pool2(POOL_FLAG_PAGED, 33);
    kernel!(ExFreePool(block));
    assert_ne!(pool2(POOL_FLAG_PAGED, 32), block);
    assert_ne!(pool2(POOL_FLAG_PAGED, 49), block);
    assert_eq!(kernel!(ExAllocatePoolWithTag(PagedPool, 48, TAG)), block);
}

#[test]
fn an_aligned_block_does_not_come_from_the_unaligned() {
    let _machine = Machine::boot();
    let plain: Vec<_> = (0..8).map(|_| pool2(POOL_FLAG_NON_PAGED, 64)).collect();
    plain.iter().for_each(|block| kernel!(ExFreePool(*block)));
    for _ in 0..8 {
        let aligned = pool2(POOL_FLAG_NON_PAGED | POOL_FLAG_CACHE_ALIGNED, 64);
        assert!(!plain.contains(&aligned));
    }
}

#[test]
fn zeroing_functions_zero_fresh_and_reused_memory() {
    let _machine = Machine::boot();
    for bytes in [1_u64, 100, 4096, 10_000] {
        let length = bytes as usize;
        let allocate: Vec<Old> = ZEROED
            .into_iter()
            .chain([("ExAllocatePool2", (|_, bytes, _| pool2(POOL_FLAG_PAGED, bytes)) as fn(_, _, _) -> _)])
            .collect();
        for (name, allocate) in allocate {
            let block = allocate(PagedPool, bytes, TAG);
            assert_eq!(contents(block, length), vec![0; length], "{name}");
            fill(block, 0xEE, length);
            kernel!(ExFreePool(block));
            assert_eq!(allocate(PagedPool, bytes, TAG), block, "{name}");
            assert_eq!(contents(block, length), vec![0; length], "{name}");
        }
    }
}

#[test]
fn other_functions_show_whose_memory_it_was() {
    let _machine = Machine::boot();
    for (at, (name, allocate)) in UNINITIALIZED.into_iter().chain(UNTAGGED).enumerate() {
        let length = 5000 + at * 4096;
        let block = allocate(NonPagedPoolNx, length as u64, TAG);
        assert_eq!(contents(block, length), vec![FRESH_BYTE; length], "{name}");
        fill(block, 0xEE, length);
        kernel!(ExFreePool(block));
        assert_eq!(allocate(NonPagedPoolNx, length as u64, TAG), block, "{name}");
        assert_eq!(contents(block, length), vec![0xEE; length], "{name}");
    }
    let block = pool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, 64);
    assert_eq!(contents(block, 64), [FRESH_BYTE; 64]);
}

#[test]
fn a_size_of_zero_is_a_block_for_the_old_functions() {
    let machine = Machine::boot();
    for (name, allocate) in every_old() {
        let block = allocate(NonPagedPool, 0, TAG);
        assert!(!block.is_null(), "{name}");
        assert_eq!(address(block) % 16, 0, "{name}");
        assert_ne!(allocate(NonPagedPool, 0, TAG), block, "{name}");
        kernel!(ExFreePool(block));
    }
    assert_eq!(machine.pool(PoolKind::NonPaged).bytes, 0);
}

#[test]
fn a_size_of_zero_fails_for_the_new_functions() {
    let _machine = Machine::boot();
    assert!(pool2(POOL_FLAG_NON_PAGED, 0).is_null());
    assert!(kernel!(ExAllocatePool3(POOL_FLAG_PAGED, 0, TAG, std::ptr::null(), 0)).is_null());
    let raised = catch_raise(|| pool2(POOL_FLAG_NON_PAGED | POOL_FLAG_RAISE_ON_FAILURE, 0));
    assert_eq!(raised, Err(Raised { status: STATUS_INVALID_PARAMETER }));
}

#[test]
fn absurd_sizes_fail() {
    let machine = Machine::boot();
    let absurd =
        [u64::MAX, u64::MAX - 1, u64::MAX - 4095, u64::MAX / 2, 1 << 63, 1 << 46, MAXIMUM_REQUEST + 1];
    for bytes in absurd {
        for (name, allocate) in every_old() {
            let failing = POOL_QUOTA_FAIL_INSTEAD_OF_RAISE as i32;
            assert!(allocate(PagedPool | failing, bytes, TAG).is_null(), "{name} {bytes}");
            assert!(allocate(NonPagedPoolCacheAligned | failing, bytes, TAG).is_null(), "{name} {bytes}");
        }
        assert!(pool2(POOL_FLAG_PAGED, bytes).is_null());
    }
    assert_eq!(machine.pool(PoolKind::Paged).blocks + machine.pool(PoolKind::NonPaged).blocks, 0);
    // A limit that is as large as the size does not make the sum overflow.
    machine.set_pool_limit(PoolKind::Paged, Some(u64::MAX));
    assert!(!pool2(POOL_FLAG_PAGED, 100).is_null());
    assert!(pool2(POOL_FLAG_PAGED, u64::MAX).is_null());
}

#[test]
fn limits_are_exact_and_each_pools_own() {
    let machine = Machine::boot();
    machine.set_pool_limit(PoolKind::NonPaged, Some(1000));
    let block = pool2(POOL_FLAG_NON_PAGED, 600);
    assert!(pool2(POOL_FLAG_NON_PAGED, 401).is_null());
    assert!(!pool2(POOL_FLAG_PAGED, 401).is_null());
    assert!(!kernel!(ExAllocatePool(NonPagedPool, 400)).is_null());
    assert!(pool2(POOL_FLAG_NON_PAGED_EXECUTE, 1).is_null());
    kernel!(ExFreePool(block));
    assert!(pool2(POOL_FLAG_NON_PAGED, 601).is_null());
    assert!(!pool2(POOL_FLAG_NON_PAGED, 600).is_null());
    let usage = machine.pool(PoolKind::NonPaged);
    assert_eq!((usage.blocks, usage.bytes, usage.max_bytes), (2, 1000, 1000));
    assert_eq!((usage.total_blocks, usage.total_bytes, usage.max_blocks), (3, 1600, 2));
    assert_eq!((usage.refused, usage.limit), (3, Some(1000)));

    machine.set_pool_limit(PoolKind::NonPaged, Some(10));
    assert!(pool2(POOL_FLAG_NON_PAGED, 1).is_null());
    machine.set_pool_limit(PoolKind::NonPaged, None);
    assert!(!pool2(POOL_FLAG_NON_PAGED, 1_000_000).is_null());
}

#[test]
fn quota_functions_raise_unless_told_not_to() {
    let machine = Machine::boot();
    machine.set_pool_limit(PoolKind::Paged, Some(0));
    let refused = Err(Raised { status: STATUS_INSUFFICIENT_RESOURCES });
    for (name, allocate) in every_old() {
        let raises = name.contains("Quota");
        let plainly = catch_raise(|| allocate(PagedPool, 1, TAG));
        assert_eq!(plainly, if raises { refused } else { Ok(std::ptr::null_mut()) }, "{name}");

        let failing = POOL_QUOTA_FAIL_INSTEAD_OF_RAISE as i32;
        assert_eq!(catch_raise(|| allocate(PagedPool | failing, 1, TAG)), Ok(std::ptr::null_mut()), "{name}");

        let raising = POOL_RAISE_IF_ALLOCATION_FAILURE as i32;
        assert_eq!(catch_raise(|| allocate(PagedPool | raising, 1, TAG)), refused, "{name}");
    }
    let raising = POOL_FLAG_PAGED | POOL_FLAG_RAISE_ON_FAILURE;
    assert_eq!(catch_raise(|| pool2(raising, 1)), refused);
    assert_eq!(catch_raise(|| pool2(POOL_FLAG_PAGED | POOL_FLAG_USE_QUOTA, 1)), Ok(std::ptr::null_mut()));
}

#[test]
#[should_panic(expected = "STATUS_INSUFFICIENT_RESOURCES")]
fn a_raise_is_a_panic_with_a_name() {
    let machine = Machine::boot();
    machine.set_pool_limit(PoolKind::NonPaged, Some(10));
    kernel!(ExAllocatePoolWithQuotaTag(NonPagedPool, 11, TAG));
}

#[test]
fn flags_need_exactly_one_pool_and_no_strangers() {
    let _machine = Machine::boot();
    let pools = [POOL_FLAG_NON_PAGED, POOL_FLAG_NON_PAGED_EXECUTE, POOL_FLAG_PAGED];
    let valid = |flags| !pool2(flags, 10).is_null();
    for chosen in 0..8_u64 {
        let flags = (0..3).filter(|at| chosen >> at & 1 == 1).map(|at| pools[at]).sum();
        assert_eq!(valid(flags), chosen.count_ones() == 1, "{flags:#x}");
    }
    for bit in 0..64 {
        let flags = POOL_FLAG_PAGED | 1 << bit;
        let known = [0, 1, 2, 3, 5, 8].contains(&bit);
        assert_eq!(valid(flags), known || bit >= 32, "bit {bit}");
    }
    let raised = catch_raise(|| pool2(POOL_FLAG_RAISE_ON_FAILURE, 10));
    assert_eq!(raised, Err(Raised { status: STATUS_INVALID_PARAMETER }));
}

#[test]
fn a_tag_of_zero_stops_the_old_functions_and_fails_the_new() {
    let _machine = Machine::boot();
    for (name, allocate) in UNINITIALIZED.into_iter().chain(ZEROED) {
        let stop = catch_bugcheck(|| allocate(PagedPool, 77, 0));
        assert_eq!(stop, Err(bad_pool_caller([0x9B, 1, 77, 0])), "{name}");
    }
    assert!(kernel!(ExAllocatePool2(POOL_FLAG_PAGED, 77, 0)).is_null());
    let raised =
        catch_raise(|| kernel!(ExAllocatePool2(POOL_FLAG_PAGED | POOL_FLAG_RAISE_ON_FAILURE, 77, 0)));
    assert_eq!(raised, Err(Raised { status: STATUS_INVALID_PARAMETER }));
}

#[test]
fn must_succeed_is_no_longer_supported() {
    let _machine = Machine::boot();
    for pool in [NonPagedPoolMustSucceed, DontUseThisType, NonPagedPoolCacheAlignedMustS] {
        for (name, allocate) in UNINITIALIZED.into_iter().chain(ZEROED) {
            let stop = catch_bugcheck(|| allocate(pool, 5, TAG));
            assert_eq!(stop, Err(bad_pool_caller([0x9A, pool as u64, 5, TAG.into()])), "{name}");
        }
    }
}

#[test]
fn paged_pool_ends_at_apc_level_and_nonpaged_at_dispatch_level() {
    let _machine = Machine::boot();
    for (name, allocate) in every_old() {
        for (pool, highest) in [(PagedPool, 1), (NonPagedPool, 2), (NonPagedPoolNx, 2)] {
            assert!(at(highest, || !allocate(pool, 20, TAG).is_null()), "{name}");
            let above = u64::from(highest) + 1;
            let stop = catch_bugcheck(|| at(highest + 1, || allocate(pool, 20, TAG)));
            assert_eq!(stop, Err(bad_pool_caller([0x08, above, pool as u64, 20])), "{name}");
        }
    }
    let translated = [(POOL_FLAG_PAGED, PagedPool), (POOL_FLAG_PAGED | POOL_FLAG_CACHE_ALIGNED, 5)];
    for (flags, pool) in translated {
        assert!(at(1, || !pool2(flags, 20).is_null()));
        let stop = catch_bugcheck(|| at(DISPATCH, || pool2(flags, 20)));
        assert_eq!(stop, Err(bad_pool_caller([0x08, 2, pool as u64, 20])));
    }
    for (flags, pool) in
        [(POOL_FLAG_NON_PAGED, NonPagedPoolNx), (POOL_FLAG_NON_PAGED_EXECUTE, NonPagedPoolExecute)]
    {
        assert!(at(DISPATCH, || !pool2(flags, 20).is_null()));
        let stop = catch_bugcheck(|| at(3, || pool2(flags, 20)));
        assert_eq!(stop, Err(bad_pool_caller([0x08, 3, pool as u64, 20])));
    }
}

#[test]
fn extended_parameters_are_known_optional_or_fatal() {
    let _machine = Machine::boot();
    use _POOL_EXTENDED_PARAMETER_TYPE as Type;
    let parameter = |about: i32, optional: bool, value: u64| {
        let mut parameter = POOL_EXTENDED_PARAMETER::default();
        parameter.__bindgen_anon_1.set_Type(about as u64);
        parameter.__bindgen_anon_1.set_Optional(optional.into());
        parameter.__bindgen_anon_2.Reserved2 = value;
        parameter
    };
    let allocate = |parameters: &[POOL_EXTENDED_PARAMETER]| {
        let count = parameters.len() as u32;
        !kernel!(ExAllocatePool3(POOL_FLAG_PAGED, 30, TAG, parameters.as_ptr(), count)).is_null()
    };
    let priority = parameter(Type::PoolExtendedParameterPriority, false, 16);
    assert!(allocate(&[]));
    assert!(allocate(&[priority]));
    assert!(allocate(&[priority, parameter(Type::PoolExtendedParameterNumaNode, false, 3)]));
    assert!(!allocate(&[parameter(Type::PoolExtendedParameterPriority, false, 17)]));
    assert!(!allocate(&[priority, parameter(Type::PoolExtendedParameterSecurePool, false, 0)]));
    assert!(!allocate(&[parameter(99, false, 0)]));
    assert!(!allocate(&[parameter(Type::PoolExtendedParameterInvalidType, false, 0)]));
    assert!(allocate(&[parameter(99, true, 0), priority]));
    let mut reserved = priority;
    reserved.__bindgen_anon_1.set_Reserved(1);
    assert!(!allocate(&[reserved]));
    assert!(kernel!(ExAllocatePool3(POOL_FLAG_PAGED, 30, TAG, std::ptr::null(), 1)).is_null());
}

#[test]
fn an_inline_functions_zero_bit_is_understood() {
    let _machine = Machine::boot();
    let zeroing = PagedPool | POOL_ZERO_ALLOCATION as i32;
    assert_eq!(contents(kernel!(ExAllocatePoolWithTag(zeroing, 50, TAG)), 50), [0; 50]);
}
