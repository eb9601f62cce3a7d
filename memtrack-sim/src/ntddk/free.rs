//! The freeing functions.

use crate::{
    bugcheck::{BugCheck, stop},
    constants::BAD_POOL_CALLER,
    irql,
    pool::{self, Refusal},
    types::{PCPOOL_EXTENDED_PARAMETER, PVOID, ULONG},
};

/// Frees a block, whatever its tag.
///
/// IRQL: at most `DISPATCH_LEVEL`, and at most `APC_LEVEL` for a block of paged pool. Bugchecks: see the
/// [module](crate::ntddk).
///
/// # Safety
///
/// Nobody uses the block from now on.
pub unsafe extern "C-unwind" fn ExFreePool(P: PVOID) {
    free(P, 0);
}

/// Frees a block that was allocated under `Tag`. A tag of zero fits any block.
///
/// IRQL and bugchecks: as for [`ExFreePool`], and a wrong tag.
///
/// # Safety
///
/// Nobody uses the block from now on.
pub unsafe extern "C-unwind" fn ExFreePoolWithTag(P: PVOID, Tag: ULONG) {
    free(P, Tag);
}

/// Frees a block that was allocated under `Tag`. A tag of zero fits any block.
///
/// Extended parameters are for blocks of secure pools, which there are none of here: with any, the machine
/// stops with `BAD_POOL_CALLER` (0x99, address, 0, 0).
///
/// IRQL and bugchecks: as for [`ExFreePoolWithTag`].
///
/// # Safety
///
/// Nobody uses the block from now on.
pub unsafe extern "C-unwind" fn ExFreePool2(
    P: PVOID,
    Tag: ULONG,
    _ExtendedParameters: PCPOOL_EXTENDED_PARAMETER,
    ExtendedParametersCount: ULONG,
) {
    if ExtendedParametersCount == 0 {
        free(P, Tag);
    } else {
        stop(BugCheck::new(BAD_POOL_CALLER, [0x99, P.addr() as u64, 0, 0]));
    }
}

fn free(block: PVOID, tag: ULONG) {
    let address = block.addr() as u64;
    let Err(refusal) = pool::free(block, (tag != 0).then_some(tag)) else { return };
    let parameters = match refusal {
        Refusal::Unknown if block.is_null() => [0x46, 0, 0, 0],
        Refusal::Unknown => [0x99, address, 0, 0],
        Refusal::Free { tag } => [0x07, 0, tag.into(), address],
        Refusal::Level { pool_type } => [0x09, irql::current().into(), (pool_type as u32).into(), address],
        Refusal::Tag { allocated } => [0x0A, address, allocated.into(), tag.into()],
    };
    stop(BugCheck::new(BAD_POOL_CALLER, parameters));
}
