//! Lookaside lists: free entries are kept in an SLIST, up to a depth, and the pool is asked for the others.
//!
//! The three kinds begin with the same fields, and differ in what their callbacks are given. Each figure is counted
//! as one step, so that it is exact with any number of threads: the kernel's own are not quite.

mod tuning;

use core::{
    mem::offset_of,
    ptr::fn_addr_eq,
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
};

pub(crate) use tuning::{Tuned, pass_period, replace};

use crate::{
    bugcheck::{BugCheck, stop},
    constants::{
        EX_MAXIMUM_LOOKASIDE_DEPTH_BASE, KERNEL_SECURITY_CHECK_FAILURE, KMODE_EXCEPTION_NOT_HANDLED,
        LOOKASIDE_MINIMUM_BLOCK_SIZE, STATUS_ACCESS_VIOLATION,
    },
    irql,
    ntddk::{ExAllocatePoolWithTag, ExFreePool},
    pool::{self, PoolKind},
    slist,
    types::{
        _GENERAL_LOOKASIDE_POOL__bindgen_ty_4 as Allocate, _GENERAL_LOOKASIDE_POOL__bindgen_ty_5 as Free,
        GENERAL_LOOKASIDE_POOL, PALLOCATE_FUNCTION, PALLOCATE_FUNCTION_EX, PFREE_FUNCTION, PFREE_FUNCTION_EX,
        PGENERAL_LOOKASIDE_POOL, PLIST_ENTRY, PLOOKASIDE_LIST_EX, PNPAGED_LOOKASIDE_LIST, POOL_TYPE,
        PPAGED_LOOKASIDE_LIST, PSLIST_HEADER, PVOID, SIZE_T, ULONG, USHORT,
    },
};

/// The depth that a list begins with, and keeps at least.
const MINIMUM_DEPTH: USHORT = 4;
const MAXIMUM_DEPTH: USHORT = EX_MAXIMUM_LOOKASIDE_DEPTH_BASE as USHORT;

/// The last kind of access that an access violation tells apart: an instruction was fetched.
const EXECUTE: u64 = 8;

/// What `KERNEL_SECURITY_CHECK_FAILURE` says first where the links round a `LIST_ENTRY` do not fit.
const CORRUPT_LIST_ENTRY: u64 = 3;

// What stands in a list whose owner gave no callbacks. A bugcheck cannot unwind out of an `extern "C"` function: where
// `make` and `unmake` find one of these, they ask the pool themselves. They know it by its address, which a static
// makes the same everywhere.
static POOL_ALLOCATE: unsafe extern "C" fn(POOL_TYPE, SIZE_T, ULONG) -> PVOID = pool_allocate;
static POOL_ALLOCATE_EX: unsafe extern "C" fn(POOL_TYPE, SIZE_T, ULONG, PLOOKASIDE_LIST_EX) -> PVOID =
    pool_allocate_ex;
static POOL_FREE: unsafe extern "C" fn(PVOID) = pool_free;
static POOL_FREE_EX: unsafe extern "C" fn(PVOID, PLOOKASIDE_LIST_EX) = pool_free_ex;

unsafe extern "C" fn pool_allocate(pool_type: POOL_TYPE, bytes: SIZE_T, tag: ULONG) -> PVOID {
    // SAFETY: it has no requirements.
    unsafe { ExAllocatePoolWithTag(pool_type, bytes, tag) }
}

unsafe extern "C" fn pool_allocate_ex(
    pool_type: POOL_TYPE,
    bytes: SIZE_T,
    tag: ULONG,
    _list: PLOOKASIDE_LIST_EX,
) -> PVOID {
    // SAFETY: it has no requirements.
    unsafe { ExAllocatePoolWithTag(pool_type, bytes, tag) }
}

unsafe extern "C" fn pool_free(entry: PVOID) {
    // SAFETY: the caller promises that nobody uses the entry.
    unsafe { ExFreePool(entry) };
}

unsafe extern "C" fn pool_free_ex(entry: PVOID, _list: PLOOKASIDE_LIST_EX) {
    // SAFETY: the caller promises that nobody uses the entry.
    unsafe { ExFreePool(entry) };
}

/// What makes and frees the entries of a list.
pub(crate) struct Callbacks {
    allocate: Allocate,
    free: Free,
}

impl Callbacks {
    pub(crate) fn plain(allocate: PALLOCATE_FUNCTION, free: PFREE_FUNCTION) -> Self {
        Self {
            allocate: Allocate { Allocate: allocate.or(Some(POOL_ALLOCATE)) },
            free: Free { Free: free.or(Some(POOL_FREE)) },
        }
    }

    pub(crate) fn extended(allocate: PALLOCATE_FUNCTION_EX, free: PFREE_FUNCTION_EX) -> Self {
        Self {
            allocate: Allocate { AllocateEx: allocate.or(Some(POOL_ALLOCATE_EX)) },
            free: Free { FreeEx: free.or(Some(POOL_FREE_EX)) },
        }
    }
}

/// A list of any kind.
#[derive(Clone, Copy)]
pub(crate) struct List {
    /// The fields that lists of all kinds begin with.
    fields: PGENERAL_LOOKASIDE_POOL,
    /// Whether its callbacks get the list, too.
    extended: bool,
}

impl From<PNPAGED_LOOKASIDE_LIST> for List {
    fn from(list: PNPAGED_LOOKASIDE_LIST) -> Self {
        Self { fields: list.cast(), extended: false }
    }
}

impl From<PPAGED_LOOKASIDE_LIST> for List {
    fn from(list: PPAGED_LOOKASIDE_LIST) -> Self {
        Self { fields: list.cast(), extended: false }
    }
}

impl From<PLOOKASIDE_LIST_EX> for List {
    fn from(list: PLOOKASIDE_LIST_EX) -> Self {
        Self { fields: list.cast(), extended: true }
    }
}

impl List {
    /// # Safety
    ///
    /// The list's memory is the caller's, and stays where it is while the list is tuned.
    pub(crate) unsafe fn initialize(
        self,
        callbacks: Callbacks,
        pool_type: POOL_TYPE,
        bytes: SIZE_T,
        tag: ULONG,
    ) {
        if !slist::is_placed(self.address()) {
            return;
        }
        let fields = GENERAL_LOOKASIDE_POOL {
            Depth: MINIMUM_DEPTH,
            MaximumDepth: MAXIMUM_DEPTH,
            Type: pool_type,
            Tag: tag,
            // As in the kernel, no more than this field holds.
            Size: bytes.max(LOOKASIDE_MINIMUM_BLOCK_SIZE.into()) as ULONG,
            __bindgen_anon_4: callbacks.allocate,
            __bindgen_anon_5: callbacks.free,
            ..Default::default()
        };
        // SAFETY: the caller's promise; zeros are an empty SLIST's head.
        unsafe {
            self.fields.write(fields);
            tuning::register(self);
        }
    }

    /// Returns a free entry, or a new one, or NULL.
    ///
    /// # Safety
    ///
    /// The list was initialized, and its free entries were not touched.
    pub(crate) unsafe fn allocate(self) -> PVOID {
        // SAFETY: the caller's promise; each field is read and written as threads may that share the list.
        unsafe {
            if !self.is_usable() {
                return core::ptr::null_mut();
            }
            count(&raw mut (*self.fields).TotalAllocates);
            let entry = slist::pop(self.head());
            if !entry.is_null() {
                return entry.cast();
            }
            count(&raw mut (*self.fields).__bindgen_anon_2.AllocateMisses);
            self.make()
        }
    }

    /// Keeps an entry, or gives it back where enough are kept.
    ///
    /// # Safety
    ///
    /// As for [`allocate`](Self::allocate), which returned the entry; and nobody uses the entry from now on.
    pub(crate) unsafe fn free(self, entry: PVOID) {
        // SAFETY: the caller's promise; each field is read and written as threads may that share the list.
        unsafe {
            if !self.is_usable() {
                return;
            }
            count(&raw mut (*self.fields).TotalFrees);
            // Relaxed: the depth guards nothing. As in the kernel, threads that look at once may keep an entry more.
            if slist::depth(self.head()) < self.depth().load(Ordering::Relaxed) {
                slist::push(self.head(), entry.cast());
            } else {
                count(&raw mut (*self.fields).__bindgen_anon_3.FreeMisses);
                self.unmake(entry);
            }
        }
    }

    /// Gives all free entries back.
    ///
    /// # Safety
    ///
    /// As for [`allocate`](Self::allocate).
    pub(crate) unsafe fn flush(self) {
        // SAFETY: the caller's promise. What is popped is nobody else's.
        unsafe {
            if !self.is_usable() {
                return;
            }
            loop {
                let entry = slist::pop(self.head());
                if entry.is_null() {
                    return;
                }
                self.unmake(entry.cast());
            }
        }
    }

    /// Takes the list out of what is tuned, and gives all free entries back.
    ///
    /// # Safety
    ///
    /// As for [`allocate`](Self::allocate), except that a list that was not initialized is found out. Nobody uses the
    /// list meanwhile.
    pub(crate) unsafe fn delete(self) {
        // SAFETY: the caller's promise; `flush` runs only where the list was initialized.
        unsafe {
            if !self.is_usable() {
                return;
            }
            if !tuning::unlink(self) {
                let parameters = [CORRUPT_LIST_ENTRY, self.link().addr() as u64, 0, 0];
                return stop(BugCheck::new(KERNEL_SECURITY_CHECK_FAILURE, parameters));
            }
            self.flush();
        }
    }

    /// Stops the machine where no list can be at the address, and where the level is too high for the list's pool.
    /// Returns whether the list can be touched.
    ///
    /// # Safety
    ///
    /// As for [`allocate`](Self::allocate).
    unsafe fn is_usable(self) -> bool {
        let placed = slist::is_placed(self.address());
        if placed {
            // SAFETY: the caller's promise; nobody writes this field while the list is in use.
            let pool_type = unsafe { (*self.fields).Type };
            self.require_level(pool::kind_of(pool_type));
        }
        placed
    }

    /// Stops a caller at a level that is too high for a pool.
    pub(crate) fn require_level(self, pool: PoolKind) {
        match pool {
            PoolKind::NonPaged => irql::require_dispatch_at_most(self.address() as u64),
            PoolKind::Paged => irql::require_paging(),
        }
    }

    /// Makes an entry, by the list's callback.
    ///
    /// # Safety
    ///
    /// As for [`allocate`](Self::allocate).
    unsafe fn make(self) -> PVOID {
        // SAFETY: the caller's promise; nobody writes these fields while the list is in use.
        let (pool_type, bytes, tag, callback) = unsafe {
            let fields = self.fields;
            ((*fields).Type, SIZE_T::from((*fields).Size), (*fields).Tag, (*fields).__bindgen_anon_4)
        };
        // SAFETY: the list's kind tells which callback stands in it, and a driver gave it for this list.
        unsafe {
            if self.extended {
                match callback.AllocateEx {
                    Some(own) if !fn_addr_eq(own, POOL_ALLOCATE_EX) => {
                        return own(pool_type, bytes, tag, self.fields.cast());
                    }
                    Some(_) => return ExAllocatePoolWithTag(pool_type, bytes, tag),
                    None => stop_at_null(),
                }
            } else {
                match callback.Allocate {
                    Some(own) if !fn_addr_eq(own, POOL_ALLOCATE) => return own(pool_type, bytes, tag),
                    Some(_) => return ExAllocatePoolWithTag(pool_type, bytes, tag),
                    None => stop_at_null(),
                }
            }
        }
        core::ptr::null_mut()
    }

    /// Frees an entry, by the list's callback.
    ///
    /// # Safety
    ///
    /// As for [`free`](Self::free).
    unsafe fn unmake(self, entry: PVOID) {
        // SAFETY: as in `make`.
        unsafe {
            let callback = (*self.fields).__bindgen_anon_5;
            if self.extended {
                match callback.FreeEx {
                    Some(own) if !fn_addr_eq(own, POOL_FREE_EX) => own(entry, self.fields.cast()),
                    Some(_) => ExFreePool(entry),
                    None => stop_at_null(),
                }
            } else {
                match callback.Free {
                    Some(own) if !fn_addr_eq(own, POOL_FREE) => own(entry),
                    Some(_) => ExFreePool(entry),
                    None => stop_at_null(),
                }
            }
        }
    }

    fn address(self) -> usize {
        self.fields.addr()
    }

    /// The head of the list's free entries, with which it begins.
    fn head(self) -> PSLIST_HEADER {
        self.fields.cast()
    }

    /// Where the kernel's link to the list is, whether or not the list is still there.
    fn link(self) -> PLIST_ENTRY {
        self.fields.wrapping_byte_add(offset_of!(GENERAL_LOOKASIDE_POOL, ListEntry)).cast()
    }

    /// # Safety
    ///
    /// The list's memory is there while the result is used.
    unsafe fn depth<'list>(self) -> &'list AtomicU16 {
        // SAFETY: the caller's promise; the field is aligned, and only written through this.
        unsafe { AtomicU16::from_ptr(&raw mut (*self.fields).Depth) }
    }
}

/// # Safety
///
/// `figure` is a list's figure, and the list's memory is there while the result is used.
unsafe fn figure<'list>(figure: *mut ULONG) -> &'list AtomicU32 {
    // SAFETY: the caller's promise; the field is aligned, and only written through this.
    unsafe { AtomicU32::from_ptr(figure) }
}

/// # Safety
///
/// As for [`figure`].
unsafe fn count(total: *mut ULONG) {
    // SAFETY: the caller's promise. Release pairs with the Acquire in `tuning::tune`.
    unsafe { figure(total) }.fetch_add(1, Ordering::Release);
}

/// What becomes of a call of a function that is not there.
fn stop_at_null() {
    let status = i64::from(STATUS_ACCESS_VIOLATION) as u64;
    stop(BugCheck::new(KMODE_EXCEPTION_NOT_HANDLED, [status, 0, EXECUTE, 0]));
}
