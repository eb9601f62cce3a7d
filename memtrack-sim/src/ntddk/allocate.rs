//! The allocation functions. All but two are one function with different habits.

use crate::{
    bugcheck::{BugCheck, stop},
    constants::{
        BAD_POOL_CALLER, POOL_FLAG_CACHE_ALIGNED, POOL_FLAG_NON_PAGED, POOL_FLAG_NON_PAGED_EXECUTE,
        POOL_FLAG_PAGED, POOL_FLAG_RAISE_ON_FAILURE, POOL_FLAG_REQUIRED_END, POOL_FLAG_SESSION,
        POOL_FLAG_UNINITIALIZED, POOL_FLAG_USE_QUOTA, POOL_QUOTA_FAIL_INSTEAD_OF_RAISE,
        POOL_RAISE_IF_ALLOCATION_FAILURE, POOL_ZERO_ALLOCATION, STATUS_INSUFFICIENT_RESOURCES,
        STATUS_INVALID_PARAMETER,
    },
    irql,
    pool::{self, Request},
    raise::raise,
    types::{
        _EX_POOL_PRIORITY, _POOL_EXTENDED_PARAMETER_TYPE, _POOL_TYPE, EX_POOL_PRIORITY, NTSTATUS,
        PCPOOL_EXTENDED_PARAMETER, POOL_EXTENDED_PARAMETER, POOL_FLAGS, POOL_TYPE, PVOID, SIZE_T, ULONG,
    },
};

/// The tag of blocks whose owner gave none, as the kernel's own tools show it.
const NONE: ULONG = u32::from_ne_bytes(*b"None");

/// How an allocation behaves beyond what it asks for.
#[derive(Clone, Copy)]
struct Habits {
    zero: bool,
    raise: bool,
}

/// Allocates a block that is not zeroed, tagged `None`.
///
/// IRQL and bugchecks: see the [module](crate::ntddk). Returns NULL where there is no memory; raises
/// `STATUS_INSUFFICIENT_RESOURCES` instead where the pool type has `POOL_RAISE_IF_ALLOCATION_FAILURE`.
///
/// # Safety
///
/// None beyond the kernel's: what is returned may be NULL, and is not zeroed.
pub unsafe extern "C-unwind" fn ExAllocatePool(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T) -> PVOID {
    allocate(PoolType, NumberOfBytes, NONE, plain(PoolType))
}

/// Allocates a block that is not zeroed.
///
/// IRQL and bugchecks: see the [module](crate::ntddk). Returns NULL where there is no memory; raises
/// `STATUS_INSUFFICIENT_RESOURCES` instead where the pool type has `POOL_RAISE_IF_ALLOCATION_FAILURE`.
///
/// # Safety
///
/// As for [`ExAllocatePool`].
pub unsafe extern "C-unwind" fn ExAllocatePoolWithTag(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, plain(PoolType))
}

/// Allocates a block that is not zeroed, tagged `None`, and charges it to the current process.
///
/// IRQL and bugchecks: see the [module](crate::ntddk). Raises `STATUS_INSUFFICIENT_RESOURCES` where there
/// is no memory; returns NULL instead where the pool type has `POOL_QUOTA_FAIL_INSTEAD_OF_RAISE`.
///
/// # Safety
///
/// As for [`ExAllocatePool`].
pub unsafe extern "C-unwind" fn ExAllocatePoolWithQuota(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T) -> PVOID {
    allocate(PoolType, NumberOfBytes, NONE, quota(PoolType))
}

/// Allocates a block that is not zeroed, and charges it to the current process.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithQuota`].
///
/// # Safety
///
/// As for [`ExAllocatePool`].
pub unsafe extern "C-unwind" fn ExAllocatePoolWithQuotaTag(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, quota(PoolType))
}

/// Allocates a block that is not zeroed. The priority makes no difference: a limit on the desk is exact.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithTag`].
///
/// # Safety
///
/// As for [`ExAllocatePool`].
pub unsafe extern "C-unwind" fn ExAllocatePoolWithTagPriority(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
    _Priority: EX_POOL_PRIORITY,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, plain(PoolType))
}

/// Allocates a zeroed block.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithTag`].
///
/// # Safety
///
/// As for [`ExAllocatePool`], except that the block is zeroed.
pub unsafe extern "C-unwind" fn ExAllocatePoolZero(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, zeroed(plain(PoolType)))
}

/// Allocates a block that is not zeroed.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithTag`].
///
/// # Safety
///
/// As for [`ExAllocatePool`].
pub unsafe extern "C-unwind" fn ExAllocatePoolUninitialized(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, plain(PoolType))
}

/// Allocates a zeroed block, and charges it to the current process.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithQuota`].
///
/// # Safety
///
/// As for [`ExAllocatePool`], except that the block is zeroed.
pub unsafe extern "C-unwind" fn ExAllocatePoolQuotaZero(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, zeroed(quota(PoolType)))
}

/// Allocates a block that is not zeroed, and charges it to the current process.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithQuota`].
///
/// # Safety
///
/// As for [`ExAllocatePool`].
pub unsafe extern "C-unwind" fn ExAllocatePoolQuotaUninitialized(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, quota(PoolType))
}

/// Allocates a zeroed block. The priority makes no difference: a limit on the desk is exact.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithTag`].
///
/// # Safety
///
/// As for [`ExAllocatePool`], except that the block is zeroed.
pub unsafe extern "C-unwind" fn ExAllocatePoolPriorityZero(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
    _Priority: EX_POOL_PRIORITY,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, zeroed(plain(PoolType)))
}

/// Allocates a block that is not zeroed. The priority makes no difference: a limit on the desk is exact.
///
/// IRQL, bugchecks and failure: as for [`ExAllocatePoolWithTag`].
///
/// # Safety
///
/// As for [`ExAllocatePool`].
pub unsafe extern "C-unwind" fn ExAllocatePoolPriorityUninitialized(
    PoolType: POOL_TYPE,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
    _Priority: EX_POOL_PRIORITY,
) -> PVOID {
    allocate(PoolType, NumberOfBytes, Tag, plain(PoolType))
}

/// Allocates a block, zeroed unless the flags have `POOL_FLAG_UNINITIALIZED`.
///
/// Returns NULL where there is no memory, where the tag is zero, where the size is zero, and where the
/// flags are invalid: not exactly one of `POOL_FLAG_NON_PAGED`, `POOL_FLAG_NON_PAGED_EXECUTE` and
/// `POOL_FLAG_PAGED`, or an unknown or reserved flag among the required ones. Raises instead where the
/// flags have `POOL_FLAG_RAISE_ON_FAILURE`: `STATUS_INSUFFICIENT_RESOURCES` for want of memory,
/// `STATUS_INVALID_PARAMETER` otherwise.
///
/// The documentation asks for a size that is not zero, and does not say what becomes of one that is. A test
/// should find that out before a kernel decides it, so that it fails here.
///
/// IRQL: see the [module](crate::ntddk). The pool type in a bugcheck's parameters is the flags' nearest
/// `POOL_TYPE`.
///
/// # Safety
///
/// None beyond the kernel's: what is returned may be NULL.
pub unsafe extern "C-unwind" fn ExAllocatePool2(
    Flags: POOL_FLAGS,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
) -> PVOID {
    allocate_by_flags(Flags, NumberOfBytes, Tag, &[])
}

/// Allocates a block as [`ExAllocatePool2`] does, with further wishes.
///
/// A priority or NUMA node that is valid is accepted and makes no difference. Any other parameter makes the
/// allocation fail as invalid flags do, unless it says that it is optional. There are no secure pools on
/// the desk.
///
/// IRQL and bugchecks: as for [`ExAllocatePool2`].
///
/// # Safety
///
/// `ExtendedParameters` points to `ExtendedParametersCount` parameters, or is NULL.
pub unsafe extern "C-unwind" fn ExAllocatePool3(
    Flags: POOL_FLAGS,
    NumberOfBytes: SIZE_T,
    Tag: ULONG,
    ExtendedParameters: PCPOOL_EXTENDED_PARAMETER,
    ExtendedParametersCount: ULONG,
) -> PVOID {
    if ExtendedParametersCount == 0 {
        return allocate_by_flags(Flags, NumberOfBytes, Tag, &[]);
    }
    if ExtendedParameters.is_null() {
        return fail(Flags & POOL_FLAG_RAISE_ON_FAILURE != 0, STATUS_INVALID_PARAMETER);
    }
    // SAFETY: the caller promises that so many parameters are there.
    let parameters =
        unsafe { core::slice::from_raw_parts(ExtendedParameters, ExtendedParametersCount as usize) };
    allocate_by_flags(Flags, NumberOfBytes, Tag, parameters)
}

fn plain(pool_type: POOL_TYPE) -> Habits {
    Habits {
        // This bit is how the header's inline functions ask for zeroes.
        zero: has(pool_type, POOL_ZERO_ALLOCATION),
        raise: has(pool_type, POOL_RAISE_IF_ALLOCATION_FAILURE),
    }
}

fn quota(pool_type: POOL_TYPE) -> Habits {
    let plain = plain(pool_type);
    Habits { raise: plain.raise || !has(pool_type, POOL_QUOTA_FAIL_INSTEAD_OF_RAISE), ..plain }
}

fn zeroed(habits: Habits) -> Habits {
    Habits { zero: true, ..habits }
}

fn has(pool_type: POOL_TYPE, bit: u32) -> bool {
    pool_type as u32 & bit != 0
}

/// What the older functions do.
fn allocate(pool_type: POOL_TYPE, bytes: SIZE_T, tag: ULONG, habits: Habits) -> PVOID {
    let request = Request { pool_type, bytes, tag };
    let reported = u64::from(pool_type as u32);
    let fault = if is_too_high(&request) {
        Some([0x08, irql::current().into(), reported, bytes])
    } else if request.must_succeed() {
        Some([0x9A, reported, bytes, tag.into()])
    } else if tag == 0 {
        Some([0x9B, reported, bytes, 0])
    } else {
        None
    };
    match fault {
        None => grant(&request, habits),
        Some(parameters) => {
            stop(BugCheck::new(BAD_POOL_CALLER, parameters));
            core::ptr::null_mut()
        }
    }
}

/// What the newer functions do.
fn allocate_by_flags(
    flags: POOL_FLAGS,
    bytes: SIZE_T,
    tag: ULONG,
    parameters: &[POOL_EXTENDED_PARAMETER],
) -> PVOID {
    let habits =
        Habits { zero: flags & POOL_FLAG_UNINITIALIZED == 0, raise: flags & POOL_FLAG_RAISE_ON_FAILURE != 0 };
    let pool_type = pool_type_of(flags).filter(|_| parameters.iter().all(is_valid));
    match pool_type {
        Some(pool_type) if is_too_high(&Request { pool_type, bytes, tag }) => {
            allocate(pool_type, bytes, tag, habits)
        }
        Some(pool_type) if tag != 0 && bytes != 0 => grant(&Request { pool_type, bytes, tag }, habits),
        _ => fail(habits.raise, STATUS_INVALID_PARAMETER),
    }
}

fn is_too_high(request: &Request) -> bool {
    irql::current() > pool::ceiling(request.kind())
}

/// Returns None where the flags are invalid.
fn pool_type_of(flags: POOL_FLAGS) -> Option<POOL_TYPE> {
    const POOLS: POOL_FLAGS = POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED;
    const HABITS: POOL_FLAGS = POOL_FLAG_USE_QUOTA
        | POOL_FLAG_UNINITIALIZED
        | POOL_FLAG_SESSION
        | POOL_FLAG_CACHE_ALIGNED
        | POOL_FLAG_RAISE_ON_FAILURE;
    // The upper half is wishes, which an allocator may not know.
    const REQUIRED: POOL_FLAGS = POOL_FLAG_REQUIRED_END | (POOL_FLAG_REQUIRED_END - 1);
    if flags & REQUIRED & !(POOLS | HABITS) != 0 {
        return None;
    }
    let pool = match flags & POOLS {
        POOL_FLAG_NON_PAGED => _POOL_TYPE::NonPagedPoolNx,
        POOL_FLAG_NON_PAGED_EXECUTE => _POOL_TYPE::NonPagedPool,
        POOL_FLAG_PAGED => _POOL_TYPE::PagedPool,
        _ => return None,
    };
    let aligned = flags & POOL_FLAG_CACHE_ALIGNED != 0;
    Some(if aligned { pool | _POOL_TYPE::NonPagedPoolCacheAligned } else { pool })
}

fn is_valid(parameter: &POOL_EXTENDED_PARAMETER) -> bool {
    let about = &parameter.__bindgen_anon_1;
    if about.Reserved() != 0 {
        return false;
    }
    match about.Type() as i32 {
        _POOL_EXTENDED_PARAMETER_TYPE::PoolExtendedParameterPriority => {
            // SAFETY: the type says which member was written, and every value of 32 bits is a number.
            is_priority(unsafe { parameter.__bindgen_anon_2.Priority })
        }
        _POOL_EXTENDED_PARAMETER_TYPE::PoolExtendedParameterNumaNode => true,
        _ => about.Optional() != 0,
    }
}

fn is_priority(priority: EX_POOL_PRIORITY) -> bool {
    use _EX_POOL_PRIORITY as Priority;
    matches!(
        priority,
        Priority::LowPoolPriority
            | Priority::LowPoolPrioritySpecialPoolOverrun
            | Priority::LowPoolPrioritySpecialPoolUnderrun
            | Priority::NormalPoolPriority
            | Priority::NormalPoolPrioritySpecialPoolOverrun
            | Priority::NormalPoolPrioritySpecialPoolUnderrun
            | Priority::HighPoolPriority
            | Priority::HighPoolPrioritySpecialPoolOverrun
            | Priority::HighPoolPrioritySpecialPoolUnderrun
    )
}

/// Allocates what was found to be a proper request.
fn grant(request: &Request, habits: Habits) -> PVOID {
    let block = pool::allocate(request);
    if block.is_null() {
        return fail(habits.raise, STATUS_INSUFFICIENT_RESOURCES);
    }
    if habits.zero {
        // SAFETY: the block is as long as was asked for, and nobody else's.
        unsafe { block.write_bytes(0, request.bytes as usize) };
    }
    block
}

fn fail(raises: bool, status: NTSTATUS) -> PVOID {
    if raises {
        raise(status);
    }
    core::ptr::null_mut()
}
