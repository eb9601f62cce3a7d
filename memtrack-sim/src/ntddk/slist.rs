//! SLISTs: stacks without a lock of their own.
//!
//! What the functions have in common is told in the [module](crate::ntddk)'s documentation.

use crate::{
    irql, slist,
    types::{PSLIST_ENTRY, PSLIST_HEADER, USHORT},
};

/// Makes a header that of an empty SLIST.
///
/// IRQL: any. Bugchecks: an address at which no header can be, see the [module](crate::ntddk).
///
/// # Safety
///
/// `SListHead` points to a header that nobody uses meanwhile, and that lives as long as the list is used.
pub unsafe extern "C-unwind" fn InitializeSListHead(SListHead: PSLIST_HEADER) {
    // SAFETY: the caller's promise.
    unsafe { slist::initialize(SListHead) };
}

/// Takes the entry that was pushed last, and returns it, or NULL where the list is empty.
///
/// IRQL and bugchecks: see the [module](crate::ntddk); and where something wrote over the entry's link, an address
/// at which no entry can be.
///
/// # Safety
///
/// [`InitializeSListHead`] initialized the header, and the entries are still where they were pushed.
pub unsafe extern "C-unwind" fn ExpInterlockedPopEntrySList(ListHead: PSLIST_HEADER) -> PSLIST_ENTRY {
    irql::require_dispatch_at_most(ListHead.addr() as u64);
    // SAFETY: the caller's promise.
    unsafe { slist::pop(ListHead) }
}

/// Puts an entry in front of the others, and returns the one that was first before, or NULL.
///
/// IRQL and bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// [`InitializeSListHead`] initialized the header. The entry is in no list, and stays where it is until it is taken.
pub unsafe extern "C-unwind" fn ExpInterlockedPushEntrySList(
    ListHead: PSLIST_HEADER,
    ListEntry: PSLIST_ENTRY,
) -> PSLIST_ENTRY {
    irql::require_dispatch_at_most(ListHead.addr() as u64);
    // SAFETY: the caller's promise.
    unsafe { slist::push(ListHead, ListEntry) }
}

/// Takes all entries, and returns the one that was pushed last, or NULL. From there each one's link leads to the next.
///
/// IRQL and bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// As for [`ExpInterlockedPopEntrySList`].
pub unsafe extern "C-unwind" fn ExpInterlockedFlushSList(ListHead: PSLIST_HEADER) -> PSLIST_ENTRY {
    irql::require_dispatch_at_most(ListHead.addr() as u64);
    // SAFETY: the caller's promise.
    unsafe { slist::flush(ListHead) }
}

/// Returns how many entries there are: the number has 16 bits, and wraps.
///
/// IRQL and bugchecks: see the [module](crate::ntddk).
///
/// # Safety
///
/// [`InitializeSListHead`] initialized the header.
pub unsafe extern "C-unwind" fn ExQueryDepthSList(SListHead: PSLIST_HEADER) -> USHORT {
    irql::require_dispatch_at_most(SListHead.addr() as u64);
    // SAFETY: the caller's promise.
    unsafe { slist::depth(SListHead) }
}
