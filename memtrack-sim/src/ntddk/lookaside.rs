//! Lookaside lists: of nonpaged entries, of paged ones, and of either with callbacks that get the list.
//!
//! What the functions have in common is told in the [module](crate::ntddk)'s documentation.

use crate::{
    constants::{
        EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE, EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL,
        POOL_QUOTA_FAIL_INSTEAD_OF_RAISE, POOL_RAISE_IF_ALLOCATION_FAILURE, STATUS_INVALID_PARAMETER_4,
        STATUS_INVALID_PARAMETER_5, STATUS_SUCCESS,
    },
    lookaside::{Callbacks, List},
    pool::{PoolKind, Request},
    types::{
        _POOL_TYPE, NTSTATUS, PALLOCATE_FUNCTION, PALLOCATE_FUNCTION_EX, PFREE_FUNCTION, PFREE_FUNCTION_EX,
        PLOOKASIDE_LIST_EX, PNPAGED_LOOKASIDE_LIST, POOL_TYPE, PPAGED_LOOKASIDE_LIST, PVOID, SIZE_T, ULONG,
        USHORT,
    },
};

/// Makes an empty list of entries from nonpaged pool, of which `Flags` may say `POOL_NX_ALLOCATION` and
/// `POOL_RAISE_IF_ALLOCATION_FAILURE`.
///
/// IRQL: at most `DISPATCH_LEVEL`. Callbacks, sizes and bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// `Lookaside` points to memory of a list's size that nobody else uses. It stays where it is until
/// [`ExDeleteNPagedLookasideList`] has deleted the list, or until the [`Machine`](crate::Machine) is dropped; a list
/// in a block of pool may go with the block. The callbacks do what their type says.
pub unsafe extern "C-unwind" fn ExInitializeNPagedLookasideList(
    Lookaside: PNPAGED_LOOKASIDE_LIST,
    Allocate: PALLOCATE_FUNCTION,
    Free: PFREE_FUNCTION,
    Flags: ULONG,
    Size: SIZE_T,
    Tag: ULONG,
    _Depth: USHORT,
) {
    let list = List::from(Lookaside);
    list.require_level(PoolKind::NonPaged);
    let pool_type = _POOL_TYPE::NonPagedPool | Flags as POOL_TYPE;
    // SAFETY: the caller's promise.
    unsafe { list.initialize(Callbacks::plain(Allocate, Free), pool_type, Size, Tag) };
}

/// Makes an empty list of entries from paged pool, of which `Flags` may say `POOL_RAISE_IF_ALLOCATION_FAILURE`.
///
/// IRQL: at most `APC_LEVEL`. Callbacks, sizes and bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// As for [`ExInitializeNPagedLookasideList`], with [`ExDeletePagedLookasideList`].
pub unsafe extern "C-unwind" fn ExInitializePagedLookasideList(
    Lookaside: PPAGED_LOOKASIDE_LIST,
    Allocate: PALLOCATE_FUNCTION,
    Free: PFREE_FUNCTION,
    Flags: ULONG,
    Size: SIZE_T,
    Tag: ULONG,
    _Depth: USHORT,
) {
    let list = List::from(Lookaside);
    list.require_level(PoolKind::Paged);
    let pool_type = _POOL_TYPE::PagedPool | Flags as POOL_TYPE;
    // SAFETY: the caller's promise.
    unsafe { list.initialize(Callbacks::plain(Allocate, Free), pool_type, Size, Tag) };
}

/// Makes an empty list of entries from `PoolType`.
///
/// `EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL` adds `POOL_RAISE_IF_ALLOCATION_FAILURE` to the pool type that the
/// list's callback gets, and `EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE` adds `POOL_QUOTA_FAIL_INSTEAD_OF_RAISE`.
///
/// Returns `STATUS_INVALID_PARAMETER_4` for a pool type that must succeed, and `STATUS_INVALID_PARAMETER_5` for both
/// flags or an unknown one: there is no list then.
///
/// IRQL: at most `DISPATCH_LEVEL`, whatever the pool. Callbacks, sizes and bugchecks: see the
/// [module](crate::ntddk).
///
/// # Safety
///
/// As for [`ExInitializeNPagedLookasideList`], with [`ExDeleteLookasideListEx`].
#[allow(clippy::too_many_arguments, reason = "the kernel's")]
pub unsafe extern "C-unwind" fn ExInitializeLookasideListEx(
    Lookaside: PLOOKASIDE_LIST_EX,
    Allocate: PALLOCATE_FUNCTION_EX,
    Free: PFREE_FUNCTION_EX,
    PoolType: POOL_TYPE,
    Flags: ULONG,
    Size: SIZE_T,
    Tag: ULONG,
    _Depth: USHORT,
) -> NTSTATUS {
    let list = List::from(Lookaside);
    list.require_level(PoolKind::NonPaged);
    if (Request { pool_type: PoolType, bytes: Size, tag: Tag }).must_succeed() {
        return STATUS_INVALID_PARAMETER_4;
    }
    let habit = match Flags {
        0 => 0,
        EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL => POOL_RAISE_IF_ALLOCATION_FAILURE,
        EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE => POOL_QUOTA_FAIL_INSTEAD_OF_RAISE,
        _ => return STATUS_INVALID_PARAMETER_5,
    };
    let pool_type = PoolType | habit as POOL_TYPE;
    // SAFETY: the caller's promise.
    unsafe { list.initialize(Callbacks::extended(Allocate, Free), pool_type, Size, Tag) };
    STATUS_SUCCESS
}

/// Deletes a list, and frees the entries that it keeps. Those that are allocated stay so.
///
/// IRQL: at most `DISPATCH_LEVEL`. Bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// [`ExInitializeNPagedLookasideList`] initialized the list; or it was not initialized, which is found where its
/// memory holds values. Nobody uses the list meanwhile.
pub unsafe extern "C-unwind" fn ExDeleteNPagedLookasideList(Lookaside: PNPAGED_LOOKASIDE_LIST) {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).delete() };
}

/// Deletes a list, and frees the entries that it keeps. Those that are allocated stay so.
///
/// IRQL: at most `APC_LEVEL`. Bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// As for [`ExDeleteNPagedLookasideList`], with [`ExInitializePagedLookasideList`].
pub unsafe extern "C-unwind" fn ExDeletePagedLookasideList(Lookaside: PPAGED_LOOKASIDE_LIST) {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).delete() };
}

/// Deletes a list, and frees the entries that it keeps. Those that are allocated stay so.
///
/// IRQL: at most `DISPATCH_LEVEL`, and at most `APC_LEVEL` for a list of paged entries. Bugchecks: see the
/// [module](crate::ntddk).
///
/// # Safety
///
/// As for [`ExDeleteNPagedLookasideList`], with [`ExInitializeLookasideListEx`].
pub unsafe extern "C-unwind" fn ExDeleteLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX) {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).delete() };
}

/// Frees the entries that a list keeps. The list stays, with its figures.
///
/// IRQL: at most `DISPATCH_LEVEL`, and at most `APC_LEVEL` for a list of paged entries. Bugchecks: see the
/// [module](crate::ntddk).
///
/// # Safety
///
/// [`ExInitializeLookasideListEx`] initialized the list, and nobody touches the entries that it keeps.
pub unsafe extern "C-unwind" fn ExFlushLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX) {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).flush() };
}

/// Allocates an entry: the one that was freed last, where the list keeps one, and otherwise a new one.
///
/// Returns NULL where there is no memory, or what the list's callback returns; raises what that raises, such as
/// `STATUS_INSUFFICIENT_RESOURCES` where the list's flags have `POOL_RAISE_IF_ALLOCATION_FAILURE`.
///
/// IRQL: at most `DISPATCH_LEVEL`. Bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// [`ExInitializeNPagedLookasideList`] initialized the list, and nobody touches the entries that it keeps. What is
/// returned may be NULL, and is not zeroed.
pub unsafe extern "C-unwind" fn ExAllocateFromNPagedLookasideList(
    Lookaside: PNPAGED_LOOKASIDE_LIST,
) -> PVOID {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).allocate() }
}

/// Allocates an entry: the one that was freed last, where the list keeps one, and otherwise a new one.
///
/// IRQL: at most `APC_LEVEL`. Failure and bugchecks: as for [`ExAllocateFromNPagedLookasideList`].
///
/// # Safety
///
/// As for [`ExAllocateFromNPagedLookasideList`], with [`ExInitializePagedLookasideList`].
pub unsafe extern "C-unwind" fn ExAllocateFromPagedLookasideList(Lookaside: PPAGED_LOOKASIDE_LIST) -> PVOID {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).allocate() }
}

/// Allocates an entry: the one that was freed last, where the list keeps one, and otherwise a new one.
///
/// IRQL: at most `DISPATCH_LEVEL`, and at most `APC_LEVEL` for a list of paged entries. Failure and bugchecks: as
/// for [`ExAllocateFromNPagedLookasideList`]; the list's flag for raising is
/// `EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL`.
///
/// # Safety
///
/// As for [`ExAllocateFromNPagedLookasideList`], with [`ExInitializeLookasideListEx`].
pub unsafe extern "C-unwind" fn ExAllocateFromLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX) -> PVOID {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).allocate() }
}

/// Frees an entry: the list keeps it, where it keeps fewer than its depth, and otherwise it is given back.
///
/// IRQL: at most `DISPATCH_LEVEL`. Bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// [`ExAllocateFromNPagedLookasideList`] returned the entry for this list, and nobody uses it from now on.
pub unsafe extern "C-unwind" fn ExFreeToNPagedLookasideList(Lookaside: PNPAGED_LOOKASIDE_LIST, Entry: PVOID) {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).free(Entry) };
}

/// Frees an entry: the list keeps it, where it keeps fewer than its depth, and otherwise it is given back.
///
/// IRQL: at most `APC_LEVEL`. Bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// [`ExAllocateFromPagedLookasideList`] returned the entry for this list, and nobody uses it from now on.
pub unsafe extern "C-unwind" fn ExFreeToPagedLookasideList(Lookaside: PPAGED_LOOKASIDE_LIST, Entry: PVOID) {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).free(Entry) };
}

/// Frees an entry: the list keeps it, where it keeps fewer than its depth, and otherwise it is given back.
///
/// IRQL: at most `DISPATCH_LEVEL`, and at most `APC_LEVEL` for a list of paged entries. Bugchecks: see the
/// [module](crate::ntddk).
///
/// # Safety
///
/// [`ExAllocateFromLookasideListEx`] returned the entry for this list, and nobody uses it from now on.
pub unsafe extern "C-unwind" fn ExFreeToLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX, Entry: PVOID) {
    // SAFETY: the caller's promise.
    unsafe { List::from(Lookaside).free(Entry) };
}
