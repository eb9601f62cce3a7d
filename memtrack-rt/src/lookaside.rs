//! The kernel's lookaside lists as memory: built by hand, and used as the WDK's headers use them.
//!
//! A list that the kernel initialises is one of those whose depth it tunes, to the misses of each period. One that is
//! built here is not: it never hears of it, and the depth stays what the driver asked for. That is what the 1998 library
//! did, and it holds in every build.
//!
//! Allocating from a list and freeing to it are inline in the WDK's headers below NTDDI_WIN10_NI, and only Windows 11 22H2
//! and later export them. Here they are functions, over the interlocked lists that every Windows exports.
//!
//! Layout and behaviour are those of `wdm.h`, kit 10.0.22621, on x64.

use core::ffi::c_void;
use core::mem::{align_of, offset_of, size_of, transmute};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use crate::arguments::Arguments;
use crate::pool::Function;
use crate::word;

/// What all three kinds of lookaside list begin with: a `GENERAL_LOOKASIDE_POOL`. An `NPAGED_LOOKASIDE_LIST` and a
/// `PAGED_LOOKASIDE_LIST` are this and padding, a `LOOKASIDE_LIST_EX` this alone.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct LookasideList {
    /// An `SLIST_HEADER`, which the kernel's functions alone change. It begins with the number of entries.
    cached: AtomicU16,
    head: [u16; 7],
    depth: AtomicU16,
    maximum_depth: AtomicU16,
    total_allocates: AtomicU32,
    allocate_misses: AtomicU32,
    total_frees: AtomicU32,
    free_misses: AtomicU32,
    /// A `POOL_TYPE`.
    pool: i32,
    tag: u32,
    size: u32,
    allocate: Callback,
    free: Callback,
    /// A `LIST_ENTRY`: its neighbours among the lists that the kernel tunes.
    entry: [*mut c_void; 2],
    last_total_allocates: u32,
    last_allocate_misses: u32,
    future: [u32; 2],
}

/// The address of a function, of a type that the kind of list tells.
pub type Callback = *const c_void;

impl LookasideList {
    /// What an entry is asked for with: a pool type, a size in bytes, a tag.
    #[must_use]
    pub fn request(&self) -> (i32, u64, u32) {
        (self.pool, self.size.into(), self.tag)
    }

    /// What it calls to allocate an entry, and to free one.
    #[must_use]
    pub fn callbacks(&self) -> [Callback; 2] {
        [self.allocate, self.free]
    }
}

const _: () = {
    assert!(size_of::<LookasideList>() == 96 && align_of::<LookasideList>() == 16);
    assert!(offset_of!(LookasideList, depth) == 16 && offset_of!(LookasideList, maximum_depth) == 18);
    assert!(
        offset_of!(LookasideList, total_allocates) == 20 && offset_of!(LookasideList, allocate_misses) == 24
    );
    assert!(offset_of!(LookasideList, total_frees) == 28 && offset_of!(LookasideList, free_misses) == 32);
    assert!(offset_of!(LookasideList, pool) == 36 && offset_of!(LookasideList, tag) == 40);
    assert!(offset_of!(LookasideList, size) == 44 && offset_of!(LookasideList, allocate) == 48);
    assert!(offset_of!(LookasideList, free) == 56 && offset_of!(LookasideList, entry) == 64);
    assert!(offset_of!(LookasideList, last_total_allocates) == 80 && offset_of!(LookasideList, future) == 88);
};

/// What a list counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) depth: u16,
    /// Entries that it keeps.
    pub(crate) cached: u16,
    pub(crate) total_allocates: u32,
    pub(crate) allocate_misses: u32,
    pub(crate) total_frees: u32,
    pub(crate) free_misses: u32,
}

impl LookasideList {
    /// # Safety
    ///
    /// An initialised list lives at `address`.
    pub(crate) unsafe fn counters(address: usize) -> Counters {
        // SAFETY: the caller's promise. What changes of a list is atomic.
        let list = unsafe { &*ptr::with_exposed_provenance::<Self>(address) };
        // Relaxed (all): each is a figure for itself.
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        Counters {
            depth: list.depth.load(Ordering::Relaxed),
            cached: list.cached.load(Ordering::Relaxed),
            total_allocates: count(&list.total_allocates),
            allocate_misses: count(&list.allocate_misses),
            total_frees: count(&list.total_frees),
            free_misses: count(&list.free_misses),
        }
    }

    /// The size and the tag of the entries of the list at `address`.
    ///
    /// # Safety
    ///
    /// As for [`counters`](Self::counters).
    pub(crate) unsafe fn size_and_tag(address: usize) -> (u32, u32) {
        // SAFETY: the caller's promise; of these nothing changes.
        let list = unsafe { &*ptr::with_exposed_provenance::<Self>(address) };
        (list.size, list.tag)
    }

    /// Whether what lies at `address` was ever made a list, or was, and is deleted since: without a callback that allocates.
    ///
    /// # Safety
    ///
    /// The memory is as long as a list and may be read.
    pub(crate) unsafe fn is_none(address: usize) -> bool {
        let place = ptr::with_exposed_provenance::<Self>(address);
        // SAFETY: the caller's promise; a pointer of any bits may be read.
        unsafe { (&raw const (*place).allocate).read_unaligned() }.is_null()
    }

    /// Makes a deleted list known as one: it has no callbacks.
    ///
    /// # Safety
    ///
    /// The memory is the list's, and nobody uses it any more.
    pub(crate) unsafe fn strike(address: usize) {
        let place = ptr::with_exposed_provenance_mut::<Self>(address);
        // SAFETY: the caller's promise.
        unsafe { (&raw mut (*place).allocate).write(ptr::null()) };
        // SAFETY: as above.
        unsafe { (&raw mut (*place).free).write(ptr::null()) };
    }
}

/// The interlocked singly linked lists that a kernel has.
///
/// # Safety
///
/// The functions do what the kernel's of that name do, with any number of threads at once, at IRQL <= DISPATCH_LEVEL.
pub unsafe trait InterlockedLists {
    /// `ExpInterlockedPopEntrySList`: the first entry, or null.
    ///
    /// # Safety
    ///
    /// `head` is an initialised `SLIST_HEADER`.
    unsafe fn pop(&self, head: *mut c_void) -> *mut c_void;

    /// `ExpInterlockedPushEntrySList`.
    ///
    /// # Safety
    ///
    /// As for [`pop`](Self::pop). `entry` has room for an `SLIST_ENTRY`, and belongs to the list from now on.
    unsafe fn push(&self, head: *mut c_void, entry: *mut c_void);

    /// `ExQueryDepthSList`: how many entries there are.
    ///
    /// # Safety
    ///
    /// As for [`pop`](Self::pop).
    unsafe fn depth(&self, head: *mut c_void) -> u16;

    /// What the kernel puts into a list whose owner gives no callbacks; into one whose callbacks get the list, where
    /// `with_list` is true.
    fn callbacks(&self, with_list: bool) -> [Callback; 2];

    /// Calls the callback of `list` that allocates.
    ///
    /// # Safety
    ///
    /// As for [`ask`].
    unsafe fn ask(&self, list: NonNull<LookasideList>, with_list: bool) -> *mut c_void {
        // SAFETY: handed on.
        unsafe { ask(list, with_list) }
    }

    /// Calls the callback of `list` that frees.
    ///
    /// # Safety
    ///
    /// As for [`give_up`].
    unsafe fn give_up(&self, list: NonNull<LookasideList>, entry: *mut c_void, with_list: bool) {
        // SAFETY: handed on.
        unsafe { give_up(list, entry, with_list) };
    }
}

/// Calls the callback of `list` that allocates.
///
/// # Safety
///
/// The list was initialised, with callbacks that get the list if and only if `with_list`.
pub unsafe fn ask(list: NonNull<LookasideList>, with_list: bool) -> *mut c_void {
    // SAFETY: the caller's promise; of these nothing changes.
    let LookasideList { pool, size, tag, allocate, .. } = *unsafe { list.as_ref() };
    if with_list {
        // SAFETY: the caller's promise: such a function stands there.
        let allocate = unsafe { transmute::<Callback, AllocateEx>(allocate) };
        // SAFETY: as its owner meant it to be called.
        unsafe { allocate(pool, size.into(), tag, list.as_ptr().cast()) }
    } else {
        // SAFETY: as above.
        let allocate = unsafe { transmute::<Callback, Allocate>(allocate) };
        // SAFETY: as above.
        unsafe { allocate(pool, size.into(), tag) }
    }
}

/// Calls the callback of `list` that frees.
///
/// # Safety
///
/// As for [`ask`]. `entry` came from the list, and nobody uses it any more.
pub unsafe fn give_up(list: NonNull<LookasideList>, entry: *mut c_void, with_list: bool) {
    // SAFETY: the caller's promise; it does not change.
    let free = unsafe { list.as_ref() }.free;
    if with_list {
        // SAFETY: the caller's promise: such a function stands there.
        let free = unsafe { transmute::<Callback, FreeEx>(free) };
        // SAFETY: as its owner meant it to be called.
        unsafe { free(entry, list.as_ptr().cast()) };
    } else {
        // SAFETY: as above.
        let free = unsafe { transmute::<Callback, Free>(free) };
        // SAFETY: as above.
        unsafe { free(entry) };
    }
}

/// The least that an entry is long: as an `SLIST_ENTRY` needs.
const SMALLEST: u64 = 8;

/// In a `POOL_TYPE`.
const PAGED_POOL: i32 = 1;
const MUST_SUCCEED: i32 = 2;
const QUOTA_FAIL_INSTEAD_OF_RAISE: i32 = 8;
const RAISE_IF_ALLOCATION_FAILURE: i32 = 16;

/// The flags of `ExInitializeLookasideListEx`.
const RAISE_ON_FAIL: u64 = 1;
const FAIL_NO_RAISE: u64 = 2;

/// Whether a list may be as long as a driver's binding says that it is: as one of the three kinds. One that says nothing,
/// 0, or no more than that something is there, 1, may mean a list.
#[must_use]
pub const fn may_be_list(bytes: usize) -> bool {
    matches!(bytes, 0 | 1 | 96 | 128)
}

/// Where `ExInitializeLookasideListEx` has the pool.
pub(crate) const POOL: usize = 3;

/// Where an initialiser has the size of entries; the tag and the depth come after it.
pub(crate) fn size_place(function: Function) -> usize {
    if matches!(function, Function::ExInitializeLookasideListEx) { 5 } else { 4 }
}

/// A list as its owner wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    list: NonNull<LookasideList>,
    depth: u16,
    pool: i32,
    tag: u32,
    size: u32,
    callbacks: [Callback; 2],
    /// Whether the callbacks get the list.
    with_list: bool,
}

impl Wanted {
    /// What a call of an initialiser asks for; `None` where that is for the kernel to do or to refuse: a depth of zero,
    /// flags that there are not, a size that does not fit, arguments that are no numbers.
    pub(crate) fn of<A: Arguments>(function: Function, arguments: &A) -> Option<Self> {
        let with_list = matches!(function, Function::ExInitializeLookasideListEx);
        let place = size_place(function) - 1;
        let [flags, size, tag, depth] = [0, 1, 2, 3].map(|next| arguments.word(place + next));
        let pool = match function {
            Function::ExInitializeNPagedLookasideList => i32::try_from(flags?).ok()?,
            Function::ExInitializePagedLookasideList => PAGED_POOL | i32::try_from(flags?).ok()?,
            Function::ExInitializeLookasideListEx => {
                let pool =
                    i32::try_from(arguments.word(POOL)?).ok().filter(|pool| pool & MUST_SUCCEED == 0)?;
                pool | match flags? {
                    0 => 0,
                    RAISE_ON_FAIL => RAISE_IF_ALLOCATION_FAILURE,
                    FAIL_NO_RAISE => QUOTA_FAIL_INSTEAD_OF_RAISE,
                    _ => return None,
                }
            }
            _ => return None,
        };
        let address = |place| arguments.word(place).and_then(|word| usize::try_from(word).ok());
        let callback = |place| address(place).map(ptr::with_exposed_provenance);
        let depth = u16::try_from(depth?).ok().filter(|depth| *depth > 0)?;
        Some(Self {
            list: NonNull::new(ptr::with_exposed_provenance_mut(address(0)?))?,
            depth,
            pool,
            tag: u32::try_from(tag?).ok()?,
            size: u32::try_from(size?.max(SMALLEST)).ok()?,
            callbacks: [callback(1)?, callback(2)?],
            with_list,
        })
    }

    /// Builds the list: empty, of this depth for ever, and on nobody's list of lists. Its links lead to itself, so that the
    /// kernel's own delete, which takes it off the list that it is on, does no harm.
    ///
    /// # Safety
    ///
    /// The list's memory is its owner's, as long and aligned as the initialiser that was called promises, nonpaged, and
    /// nobody uses it yet. The callbacks are null or of the types that go with the initialiser.
    pub(crate) unsafe fn build(&self, kernel: &impl InterlockedLists) {
        let [mut allocate, mut free] = self.callbacks;
        if allocate.is_null() || free.is_null() {
            let [default_allocate, default_free] = kernel.callbacks(self.with_list);
            allocate = if allocate.is_null() { default_allocate } else { allocate };
            free = if free.is_null() { default_free } else { free };
        }
        let place = self.list.as_ptr();
        // SAFETY: no more than a place is made of it.
        let entry = unsafe { &raw mut (*place).entry }.cast::<c_void>();
        // SAFETY: the caller's promise. An `SLIST_HEADER` of zeros is an empty one (`InitializeSListHead`).
        unsafe {
            place.write(LookasideList {
                cached: AtomicU16::new(0),
                head: [0; 7],
                depth: AtomicU16::new(self.depth),
                maximum_depth: AtomicU16::new(self.depth),
                total_allocates: AtomicU32::new(0),
                allocate_misses: AtomicU32::new(0),
                total_frees: AtomicU32::new(0),
                free_misses: AtomicU32::new(0),
                pool: self.pool,
                tag: self.tag,
                size: self.size,
                allocate,
                free,
                entry: [entry; 2],
                last_total_allocates: 0,
                last_allocate_misses: 0,
                future: [0; 2],
            });
        }
    }
}

/// Initialises a list by hand, if it is to have a depth of its own and the arguments of the driver's call can be read.
/// Returns what the initialiser returns then; `None` where the kernel's own initialiser is to be called.
///
/// IRQL: as of the kernel's initialiser.
///
/// # Safety
///
/// The arguments are what the kernel's `function` may be called with.
pub unsafe fn initialize<A: Arguments, R>(
    kernel: &impl InterlockedLists,
    function: Function,
    arguments: &A,
) -> Option<R> {
    let wanted = Wanted::of(function, arguments)?;
    // STATUS_SUCCESS is zero.
    let success = word::nothing()?;
    // SAFETY: handed on.
    unsafe { wanted.build(kernel) };
    Some(success)
}

/// An entry of the list: one that was freed to it, or else what its allocate callback returns.
///
/// IRQL <= DISPATCH_LEVEL, and <= APC_LEVEL for a list of paged pool.
///
/// # Safety
///
/// The list was initialised, by the kernel or by hand; one with callbacks that get the list, if and only if `with_list`.
pub unsafe fn allocate(
    kernel: &impl InterlockedLists,
    list: NonNull<LookasideList>,
    with_list: bool,
) -> *mut c_void {
    // SAFETY: the caller's promise. What changes of a list is atomic, and its head is the kernel's.
    let LookasideList { total_allocates, allocate_misses, .. } = unsafe { list.as_ref() };
    // Relaxed (both): a figure for itself.
    total_allocates.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the head of an initialised list is an `SLIST_HEADER`.
    let entry = unsafe { kernel.pop(list.as_ptr().cast()) };
    if !entry.is_null() {
        return entry;
    }
    allocate_misses.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's promise.
    unsafe { kernel.ask(list, with_list) }
}

/// Gives an entry back to the list, which keeps it while it is not full, or has its free callback free it.
///
/// IRQL: as of [`allocate`].
///
/// # Safety
///
/// As for [`allocate`]; `entry` came from this list, and nobody uses it any more.
pub unsafe fn free(
    kernel: &impl InterlockedLists,
    list: NonNull<LookasideList>,
    entry: *mut c_void,
    with_list: bool,
) {
    // SAFETY: the caller's promise. What changes of a list is atomic, and its head is the kernel's.
    let LookasideList { depth, total_frees, free_misses, .. } = unsafe { list.as_ref() };
    // Relaxed (all three): a figure for itself; a depth that is changed meanwhile counts from the next free on.
    total_frees.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the head of an initialised list is an `SLIST_HEADER`.
    let is_full = unsafe { kernel.depth(list.as_ptr().cast()) } >= depth.load(Ordering::Relaxed);
    if !is_full {
        // SAFETY: as above; the entry is the list's now.
        unsafe { kernel.push(list.as_ptr().cast(), entry) };
        return;
    }
    free_misses.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's promise.
    unsafe { kernel.give_up(list, entry, with_list) };
}

// The types of callbacks, as `wdm.h` has them.
type Allocate = unsafe extern "C" fn(i32, u64, u32) -> *mut c_void;
type AllocateEx = unsafe extern "C" fn(i32, u64, u32, *mut c_void) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);
type FreeEx = unsafe extern "C" fn(*mut c_void, *mut c_void);
