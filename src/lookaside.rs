//! Lookaside lists of the depth that you ask for, on every Windows; tracked or not, with memtrack on or off.
//!
//! A lookaside list keeps a number of freed entries, its depth, and gives them out again. The kernel tunes that depth to
//! the misses of each period, whatever `Depth` its initialisers are given: to them the parameter is reserved. Here a
//! `Depth` other than zero is the depth. Such a list is built by hand and is on nobody's list to be tuned; the kernel's own
//! functions delete and flush it like any other. With a `Depth` of zero the kernel initialises the list, and tunes it.
//!
//! Allocating from a list and freeing to it are exported by Windows 11 22H2 and later only, and inline in older headers,
//! where `wdk-sys` cannot have them. These are functions that work everywhere: they use what every Windows exports
//! (`ExpInterlockedPopEntrySList`, `ExpInterlockedPushEntrySList`, `ExQueryDepthSList`).
//!
//! `memtrack::ntddk` has them too, tracked while memtrack is on; here they are as they are.
//!
//! ```
//! # use memtrack_sim as wdk_sys;
//! use memtrack::lookaside::{
//!     ExAllocateFromNPagedLookasideList, ExFreeToNPagedLookasideList, ExInitializeNPagedLookasideList,
//! };
//! use wdk_sys::{NPAGED_LOOKASIDE_LIST, ntddk::ExDeleteNPagedLookasideList};
//!
//! # let machine = memtrack_sim::Machine::boot();
//! let mut list = NPAGED_LOOKASIDE_LIST::default();
//! let tag = u32::from_le_bytes(*b"Look");
//! // SAFETY: the list stays where it is until it is deleted, and its entries go back to it.
//! unsafe {
//!     ExInitializeNPagedLookasideList(&raw mut list, None, None, 0, 256, tag, 32);
//!     let entry = ExAllocateFromNPagedLookasideList(&raw mut list);
//!     ExFreeToNPagedLookasideList(&raw mut list, entry);
//!     assert_eq!((list.L.Depth, list.L.TotalAllocates, list.L.TotalFrees), (32, 1, 1));
//!     ExDeleteNPagedLookasideList(&raw mut list);
//! }
//! ```
//!
//! Layouts and counters are those of `wdm.h`, kit 10.0.22621, on x64. `TotalAllocates` and its like are exact with any number
//! of processors, which the header's own are not.
#![allow(non_snake_case, reason = "the kernel's names")]

use core::ffi::c_void;
use core::mem::{align_of, offset_of, size_of};
use core::ptr::NonNull;

use memtrack_rt::Function;
use memtrack_rt::lookaside::{self, Callback, InterlockedLists, LookasideList};

use crate::binding::{
    GENERAL_LOOKASIDE, LOOKASIDE_LIST_EX, NPAGED_LOOKASIDE_LIST, NTSTATUS, PAGED_LOOKASIDE_LIST,
    PALLOCATE_FUNCTION, PALLOCATE_FUNCTION_EX, PFREE_FUNCTION, PFREE_FUNCTION_EX, PLOOKASIDE_LIST_EX,
    PNPAGED_LOOKASIDE_LIST, POOL_TYPE, PPAGED_LOOKASIDE_LIST, PVOID, SIZE_T, ULONG, USHORT, ntddk,
};

// What the runtime knows of a list is what the binding says of it.
const DIFFERS: &str =
    "memtrack knows lookaside lists as wdm.h of kit 10.0.22621 lays them out on x64; this binding differs";
const _: () = {
    assert!(size_of::<LookasideList>() == size_of::<LOOKASIDE_LIST_EX>(), "{}", DIFFERS);
    assert!(align_of::<LookasideList>() == align_of::<LOOKASIDE_LIST_EX>(), "{}", DIFFERS);
    assert!(size_of::<NPAGED_LOOKASIDE_LIST>() == 128, "{}", DIFFERS);
    assert!(align_of::<NPAGED_LOOKASIDE_LIST>() == 64, "{}", DIFFERS);
    assert!(size_of::<PAGED_LOOKASIDE_LIST>() == 128, "{}", DIFFERS);
    assert!(align_of::<PAGED_LOOKASIDE_LIST>() == 64, "{}", DIFFERS);
    assert!(offset_of!(NPAGED_LOOKASIDE_LIST, L) == 0, "{}", DIFFERS);
    assert!(offset_of!(PAGED_LOOKASIDE_LIST, L) == 0, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, Depth) == 16, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, MaximumDepth) == 18, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, TotalAllocates) == 20, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, TotalFrees) == 28, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, Type) == 36, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, Tag) == 40, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, Size) == 44, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, ListEntry) == 64, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, LastTotalAllocates) == 80, "{}", DIFFERS);
    assert!(offset_of!(GENERAL_LOOKASIDE, Future) == 88, "{}", DIFFERS);
};

/// The binding's interlocked lists.
pub(crate) struct Lists;

// SAFETY: they are the kernel's.
unsafe impl InterlockedLists for Lists {
    unsafe fn pop(&self, head: *mut c_void) -> *mut c_void {
        // SAFETY: the caller's promise.
        unsafe { ntddk::ExpInterlockedPopEntrySList(head.cast()) }.cast()
    }

    unsafe fn push(&self, head: *mut c_void, entry: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { ntddk::ExpInterlockedPushEntrySList(head.cast(), entry.cast()) };
    }

    unsafe fn depth(&self, head: *mut c_void) -> u16 {
        // SAFETY: the caller's promise.
        unsafe { ntddk::ExQueryDepthSList(head.cast()) }
    }

    /// The simulated pool's own functions may panic, as a bugcheck does, and must not be called by way of a pointer to an
    /// `extern "C"` function.
    #[cfg(feature = "sim")]
    unsafe fn ask(&self, list: NonNull<LookasideList>, with_list: bool) -> *mut c_void {
        // SAFETY: the caller's promise.
        let (callbacks, (pool, size, tag)) = unsafe { (list.as_ref().callbacks(), list.as_ref().request()) };
        if callbacks[0] == pools_own(with_list)[0] {
            // SAFETY: any size and tag will do.
            unsafe { ntddk::ExAllocatePoolWithTag(pool, size, tag) }
        } else {
            // SAFETY: handed on.
            unsafe { lookaside::ask(list, with_list) }
        }
    }

    /// As above.
    #[cfg(feature = "sim")]
    unsafe fn give_up(&self, list: NonNull<LookasideList>, entry: *mut c_void, with_list: bool) {
        // SAFETY: the caller's promise.
        if unsafe { list.as_ref() }.callbacks()[1] == pools_own(with_list)[1] {
            // SAFETY: the caller gives the entry up.
            unsafe { ntddk::ExFreePool(entry) };
        } else {
            // SAFETY: handed on.
            unsafe { lookaside::give_up(list, entry, with_list) };
        }
    }

    /// Asked of a list that the kernel initialises for this alone: not every binding has the functions.
    fn callbacks(&self, with_list: bool) -> [Callback; 2] {
        let (size, tag) = (size_of::<usize>() as SIZE_T, u32::from_le_bytes(*b"Mtrk"));
        // SAFETY (all six): the list is a local, which lives until it is deleted, and has no entries.
        if with_list {
            let mut list = LOOKASIDE_LIST_EX::default();
            // SAFETY: see above.
            let status =
                unsafe { ntddk::ExInitializeLookasideListEx(&raw mut list, None, None, 0, 0, size, tag, 0) };
            if status != 0 {
                return [core::ptr::null(); 2];
            }
            // SAFETY: see above.
            let callbacks = unsafe { &*(&raw const list).cast::<LookasideList>() }.callbacks();
            // SAFETY: see above.
            unsafe { ntddk::ExDeleteLookasideListEx(&raw mut list) };
            callbacks
        } else {
            let mut list = NPAGED_LOOKASIDE_LIST::default();
            // SAFETY: see above.
            unsafe { ntddk::ExInitializeNPagedLookasideList(&raw mut list, None, None, 0, size, tag, 0) };
            // SAFETY: see above.
            let callbacks = unsafe { &*(&raw const list).cast::<LookasideList>() }.callbacks();
            // SAFETY: see above.
            unsafe { ntddk::ExDeleteNPagedLookasideList(&raw mut list) };
            callbacks
        }
    }
}

/// The simulated pool's own callbacks, which do not change.
#[cfg(feature = "sim")]
fn pools_own(with_list: bool) -> [Callback; 2] {
    extern crate std;
    use std::sync::OnceLock;

    static OWN: [OnceLock<[usize; 2]>; 2] = [OnceLock::new(), OnceLock::new()];
    let own = OWN[usize::from(with_list)].get_or_init(|| Lists.callbacks(with_list).map(Callback::addr));
    own.map(core::ptr::without_provenance)
}

/// Makes an empty list of entries from nonpaged pool, of the depth `Depth`; with a `Depth` of 0, one that the kernel tunes.
///
/// Null callbacks stand for the pool's own functions. A size of less than 8 bytes is taken for 8.
///
/// IRQL <= DISPATCH_LEVEL.
///
/// # Safety
///
/// As of the kernel's: the list is nonpaged memory, nobody uses it yet, and it stays where it is until it is deleted.
pub unsafe fn ExInitializeNPagedLookasideList(
    Lookaside: PNPAGED_LOOKASIDE_LIST,
    Allocate: PALLOCATE_FUNCTION,
    Free: PFREE_FUNCTION,
    Flags: ULONG,
    Size: SIZE_T,
    Tag: ULONG,
    Depth: USHORT,
) {
    let arguments = (Lookaside, Allocate, Free, Flags, Size, Tag, Depth);
    // SAFETY: the caller's promise.
    let built =
        unsafe { lookaside::initialize(&Lists, Function::ExInitializeNPagedLookasideList, &arguments) };
    built.unwrap_or_else(|| {
        // SAFETY: the caller's promise.
        unsafe { ntddk::ExInitializeNPagedLookasideList(Lookaside, Allocate, Free, Flags, Size, Tag, 0) }
    })
}

/// As [`ExInitializeNPagedLookasideList`], of entries from paged pool.
///
/// IRQL <= APC_LEVEL.
///
/// # Safety
///
/// As for [`ExInitializeNPagedLookasideList`].
pub unsafe fn ExInitializePagedLookasideList(
    Lookaside: PPAGED_LOOKASIDE_LIST,
    Allocate: PALLOCATE_FUNCTION,
    Free: PFREE_FUNCTION,
    Flags: ULONG,
    Size: SIZE_T,
    Tag: ULONG,
    Depth: USHORT,
) {
    let arguments = (Lookaside, Allocate, Free, Flags, Size, Tag, Depth);
    // SAFETY: the caller's promise.
    let built =
        unsafe { lookaside::initialize(&Lists, Function::ExInitializePagedLookasideList, &arguments) };
    built.unwrap_or_else(|| {
        // SAFETY: the caller's promise.
        unsafe { ntddk::ExInitializePagedLookasideList(Lookaside, Allocate, Free, Flags, Size, Tag, 0) }
    })
}

/// As [`ExInitializeNPagedLookasideList`], of entries from `PoolType`, with callbacks that get the list. What the kernel
/// refuses, it refuses here.
///
/// IRQL <= DISPATCH_LEVEL.
///
/// # Safety
///
/// As for [`ExInitializeNPagedLookasideList`].
#[allow(clippy::too_many_arguments, reason = "the kernel's")]
pub unsafe fn ExInitializeLookasideListEx(
    Lookaside: PLOOKASIDE_LIST_EX,
    Allocate: PALLOCATE_FUNCTION_EX,
    Free: PFREE_FUNCTION_EX,
    PoolType: POOL_TYPE,
    Flags: ULONG,
    Size: SIZE_T,
    Tag: ULONG,
    Depth: USHORT,
) -> NTSTATUS {
    let arguments = (Lookaside, Allocate, Free, PoolType, Flags, Size, Tag, Depth);
    // SAFETY: the caller's promise.
    let built = unsafe { lookaside::initialize(&Lists, Function::ExInitializeLookasideListEx, &arguments) };
    built.unwrap_or_else(|| {
        // SAFETY: the caller's promise.
        unsafe {
            ntddk::ExInitializeLookasideListEx(Lookaside, Allocate, Free, PoolType, Flags, Size, Tag, 0)
        }
    })
}

/// A null list is the kernel's to stop at, as ever.
#[cold]
fn no_list() -> PVOID {
    // SAFETY: it is a mistake that nobody survives.
    unsafe { ntddk::ExpInterlockedPopEntrySList(core::ptr::null_mut()) }.cast()
}

macro_rules! entries {
    ($($allocate:ident, $free:ident: $list:ty, $irql:literal, $with_list:literal;)*) => {$(
        #[doc = "An entry of the list: one that was freed to it, or a new one. Null where there is none."]
        ///
        #[doc = $irql]
        ///
        /// # Safety
        ///
        /// As of the kernel's: the list was initialised.
        #[must_use = "an entry that nobody knows is never freed"]
        pub unsafe fn $allocate(Lookaside: $list) -> PVOID {
            let list = NonNull::new(Lookaside.cast());
            // SAFETY: the caller's promise.
            list.map_or_else(no_list, |list| unsafe { lookaside::allocate(&Lists, list, $with_list) })
        }

        #[doc = "Gives an entry back to the list that it came from."]
        ///
        #[doc = $irql]
        ///
        /// # Safety
        ///
        /// As of the kernel's: the list was initialised, the entry is one of its, and nobody uses it any more.
        pub unsafe fn $free(Lookaside: $list, Entry: PVOID) {
            match NonNull::new(Lookaside.cast()) {
                // SAFETY: the caller's promise.
                Some(list) => unsafe { lookaside::free(&Lists, list, Entry, $with_list) },
                None => drop(no_list()),
            }
        }
    )*};
}

entries! {
    ExAllocateFromNPagedLookasideList, ExFreeToNPagedLookasideList:
        PNPAGED_LOOKASIDE_LIST, "IRQL <= DISPATCH_LEVEL.", false;
    ExAllocateFromPagedLookasideList, ExFreeToPagedLookasideList:
        PPAGED_LOOKASIDE_LIST, "IRQL <= APC_LEVEL.", false;
    ExAllocateFromLookasideListEx, ExFreeToLookasideListEx:
        PLOOKASIDE_LIST_EX, "IRQL <= DISPATCH_LEVEL, and <= APC_LEVEL for a list of paged pool.", true;
}
