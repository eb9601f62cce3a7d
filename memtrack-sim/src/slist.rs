//! SLISTs: stacks that any number of threads push to and pop from.
//!
//! The kernel changes a header's two words with one instruction. Stable Rust has none that wide, so a lock stands in
//! for it: one of a few, chosen by the header's address. Nothing panics while it is held.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    bugcheck::{BugCheck, stop},
    constants::{KMODE_EXCEPTION_NOT_HANDLED, STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT},
    types::{
        _SLIST_HEADER__bindgen_ty_2 as Fields, NTSTATUS, PSLIST_ENTRY, PSLIST_HEADER, SLIST_ENTRY,
        SLIST_HEADER, USHORT,
    },
};

const GRANULE: usize = align_of::<SLIST_ENTRY>();

/// The second kind of access that an access violation tells apart: memory was written.
const WRITE: u64 = 1;

/// A prime, so that headers in structures of any size are spread over all of them.
const LOCKS: usize = 61;

/// # Safety
///
/// Nobody uses the header meanwhile.
pub(crate) unsafe fn initialize(head: PSLIST_HEADER) {
    if is_placed(head.addr()) {
        // SAFETY: the caller's promise.
        unsafe { head.write(SLIST_HEADER::default()) };
    }
}

/// Returns the entry that was the first.
///
/// # Safety
///
/// `head` is a header that was initialized, and `entry` 16 bytes that are the list's from now on.
pub(crate) unsafe fn push(head: PSLIST_HEADER, entry: PSLIST_ENTRY) -> PSLIST_ENTRY {
    if !is_placed(head.addr()) || !is_placed(entry.addr()) {
        return core::ptr::null_mut();
    }
    let _lock = lock(head);
    // SAFETY: the caller's promise about the header, which is this thread's while it holds the lock.
    let fields = unsafe { &mut (*head).HeaderX64 };
    let former = first(fields);
    // SAFETY: the caller's promise about the entry. Only the link is written: the rest may be any type's.
    unsafe { (&raw mut (*entry).Next).write(former) };
    set_first(fields, entry);
    // Both wrap within their bits.
    fields.set_Depth(fields.Depth().wrapping_add(1));
    fields.set_Sequence(fields.Sequence().wrapping_add(1));
    former
}

/// Returns NULL where there is no entry.
///
/// # Safety
///
/// `head` is a header that was initialized, and what was pushed to it is still there.
pub(crate) unsafe fn pop(head: PSLIST_HEADER) -> PSLIST_ENTRY {
    if !is_placed(head.addr()) {
        return core::ptr::null_mut();
    }
    // SAFETY: the caller's promise.
    let popped = unsafe { take_first(head) };
    popped.unwrap_or_else(|next| {
        fault(STATUS_DATATYPE_MISALIGNMENT, next);
        core::ptr::null_mut()
    })
}

/// Empties the list and returns the entry that was the first, from which the links lead to the others.
///
/// # Safety
///
/// As for [`pop`].
pub(crate) unsafe fn flush(head: PSLIST_HEADER) -> PSLIST_ENTRY {
    if !is_placed(head.addr()) {
        return core::ptr::null_mut();
    }
    let _lock = lock(head);
    // SAFETY: the caller's promise about the header, which is this thread's while it holds the lock.
    let fields = unsafe { &mut (*head).HeaderX64 };
    let former = first(fields);
    set_first(fields, core::ptr::null_mut());
    fields.set_Depth(0);
    former
}

/// # Safety
///
/// `head` is a header that was initialized.
pub(crate) unsafe fn depth(head: PSLIST_HEADER) -> USHORT {
    if !is_placed(head.addr()) {
        return 0;
    }
    let _lock = lock(head);
    // SAFETY: the caller's promise about the header, which is this thread's while it holds the lock.
    let fields = unsafe { (*head).HeaderX64 };
    fields.Depth() as USHORT
}

/// Whether a header or an entry can be at an address. Stops the machine where it cannot.
pub(crate) fn is_placed(address: usize) -> bool {
    let fits = address != 0 && address % GRANULE == 0;
    if !fits {
        fault(if address == 0 { STATUS_ACCESS_VIOLATION } else { STATUS_DATATYPE_MISALIGNMENT }, address);
    }
    fits
}

fn fault(status: NTSTATUS, address: usize) {
    // The kernel, too, shows a status with its sign spread over 64 bits.
    let parameters = [i64::from(status) as u64, 0, WRITE, address as u64];
    stop(BugCheck::new(KMODE_EXCEPTION_NOT_HANDLED, parameters));
}

fn lock(head: PSLIST_HEADER) -> MutexGuard<'static, ()> {
    static HELD: [Mutex<()>; LOCKS] = [const { Mutex::new(()) }; LOCKS];
    HELD[head.addr() / GRANULE % LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The second entry's address where no entry can be there: something wrote over the first one's link.
///
/// # Safety
///
/// As for [`pop`].
unsafe fn take_first(head: PSLIST_HEADER) -> Result<PSLIST_ENTRY, usize> {
    let _lock = lock(head);
    // SAFETY: the caller's promise about the header, which is this thread's while it holds the lock.
    let fields = unsafe { &mut (*head).HeaderX64 };
    let entry = first(fields);
    if entry.is_null() {
        return Ok(entry);
    }
    // SAFETY: the caller's promise about what was pushed.
    let next = unsafe { (&raw const (*entry).Next).read() };
    if next.addr() % GRANULE != 0 {
        return Err(next.addr());
    }
    set_first(fields, next);
    fields.set_Depth(fields.Depth().wrapping_sub(1));
    Ok(entry)
}

fn first(fields: &Fields) -> PSLIST_ENTRY {
    core::ptr::with_exposed_provenance_mut(fields.NextEntry() as usize * GRANULE)
}

fn set_first(fields: &mut Fields, entry: PSLIST_ENTRY) {
    fields.set_NextEntry((entry.expose_provenance() / GRANULE) as u64);
}
