//! Tracking: the one tracker of this driver, over the kernel that the features chose.

#[cfg(feature = "sim")]
#[path = "sim.rs"]
mod kernel;
#[cfg(not(feature = "sim"))]
#[path = "wdk.rs"]
mod kernel;
#[macro_use]
mod twins;

use kernel::Kernel;
use memtrack_rt::{Arguments, Function, Guard, ListStats, Location, Settings, SiteStats, Stats, Tracker};

use memtrack_rt::lookaside::may_be_list;

use crate::lookaside::Lists;

/// Rewrites the pool calls in a module with a body, a function, an impl or a trait, so that each block is known
/// by the line that allocated it. On a `use` of `wdk_sys::ntddk`, takes what that brings in from memtrack's own `ntddk`.
///
/// Options: `finish = "Name"`, on the unload routine, calls [`finish`](crate::finish) at every way out of it, after
/// all its locals are gone; only what its parameters own by value is dropped later.
/// `guard = "tail"`, `"full"` or `"none"` chooses the [`Guard`] of blocks that are allocated here; without it they
/// get the driver's, which [`configure`](crate::configure) chooses.
/// `wrapper`, on a function, adds `#[track_caller]`: its callers' lines are the sites. Not on an `extern "C"` function, on
/// `Drop::drop` or in a `GlobalAlloc`, which no line of the driver's calls: there, the call's own line is the site.
/// `crate = path` says under which path this crate knows memtrack, where that is not `::memtrack`.
///
/// An attribute inside of an annotated item adds its options to the outer one's; a call is rewritten once. `use … as`
/// renames count where the annotated item contains them, so an annotated module sees more of them than an annotated
/// function. In a function with `#[track_caller]` the site is the caller's line; in a closure there, the closure's own.
///
/// The tokens of a macro call are rewritten where they read as code: expressions in a row, statements, or such in braces.
/// So are the calls that a `macro_rules!` makes, if it stands in annotated code and is not exported; their site is the
/// line that calls the macro. Macros to which tokens are text or data, such as `stringify!`, `concat!` and `quote!`, get
/// what the driver wrote, and so does a `macro_rules!` here that takes a call apart, into a name and parentheses. A pool
/// call that is seen and not rewritten is a deprecation warning at its place, until [`skip`](macro@crate::skip) says that
/// it is meant so.
///
/// ```
/// # use memtrack_sim as wdk_sys;
/// use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
///
/// const TAG: u32 = u32::from_le_bytes(*b"Flog");
///
/// struct Log(wdk_sys::PVOID);
///
/// #[memtrack::instrument]
/// impl Log {
///     fn new(bytes: u64) -> Option<Self> {
///         // SAFETY: any size and tag will do.
///         let block = unsafe { ExAllocatePool2(wdk_sys::POOL_FLAG_NON_PAGED, bytes, TAG) };
///         (!block.is_null()).then_some(Self(block))
///     }
/// }
///
/// #[memtrack::instrument]
/// impl Drop for Log {
///     fn drop(&mut self) {
///         // SAFETY: the block is ours.
///         unsafe { ExFreePoolWithTag(self.0, TAG) }
///     }
/// }
/// # let machine = memtrack_sim::Machine::boot();
/// let log = Log::new(512);
/// assert_eq!(memtrack::stats().nonpaged.curr_bytes, 512);
/// drop(log);
/// assert_eq!(memtrack::stats().nonpaged.curr_bytes, 0);
/// ```
pub use memtrack_macros::instrument;

/// Rewrites the pool calls in a file's items, as [`instrument`](macro@instrument) does in a module: for files of their
/// own, which an attribute on their `mod device;` cannot reach.
///
/// Settings may stand at the top, `#![instrument(guard = "full")]`, and so may the file's documentation. Names that
/// the items bring in or define are known to all of them.
///
/// ```
/// # mod device {
/// memtrack::instrument_items! {
///     //! The device.
///     #![instrument(guard = "full")]
///
///     # use memtrack_sim as wdk_sys;
///     use wdk_sys::{POOL_FLAG_PAGED, PVOID, ntddk::ExAllocatePool2 as allocate};
///
///     pub fn buffer(bytes: u64) -> PVOID {
///         // SAFETY: any size and tag will do.
///         unsafe { allocate(POOL_FLAG_PAGED, bytes, u32::from_le_bytes(*b"Devi")) }
///     }
/// }
/// # }
/// # let machine = memtrack_sim::Machine::boot();
/// device::buffer(100);
/// assert_eq!(memtrack::stats().paged.curr_bytes, 100);
/// ```
pub use memtrack_macros::instrument_items;

/// Tracks one call that allocates, which memtrack cannot know by its name: of a function found at run time, or in a
/// table of functions.
///
/// ```text
/// memtrack::record_alloc!(ExAllocatePool2, (routines.allocate)(flags, bytes, TAG))
/// ```
///
/// First comes the kernel's name of the function, which says what the arguments mean; then the call as ever. It keeps its
/// types, and the `unsafe` that it needs goes round the macro. `guard = "full"` and `crate = path` may follow, as with
/// [`instrument`](macro@instrument). When memtrack is off, the call alone is left.
///
/// ```
/// # use memtrack_sim as wdk_sys;
/// use wdk_sys::{POOL_FLAGS, POOL_FLAG_PAGED, PVOID, SIZE_T, ULONG};
///
/// const TAG: u32 = u32::from_le_bytes(*b"Rout");
///
/// /// What this driver finds with `MmGetSystemRoutineAddress`: Windows before 10 2004 has no `ExAllocatePool2`.
/// struct Routines {
///     allocate: unsafe extern "C-unwind" fn(POOL_FLAGS, SIZE_T, ULONG) -> PVOID,
///     free: unsafe extern "C-unwind" fn(PVOID, ULONG),
/// }
///
/// fn find() -> Routines {
///     # return Routines { allocate: wdk_sys::ntddk::ExAllocatePool2, free: wdk_sys::ntddk::ExFreePoolWithTag };
///     # fn routine(_: &str) -> *const () { core::ptr::null() }
///     # #[allow(unreachable_code)]
///     // SAFETY: the addresses are those of functions of these types.
///     unsafe {
///         Routines {
///             allocate: core::mem::transmute(routine("ExAllocatePool2")),
///             free: core::mem::transmute(routine("ExFreePoolWithTag")),
///         }
///     }
/// }
///
/// # let machine = memtrack_sim::Machine::boot();
/// let routines = find();
/// // SAFETY: any size and tag will do.
/// let block = unsafe { memtrack::record_alloc!(ExAllocatePool2, (routines.allocate)(POOL_FLAG_PAGED, 40, TAG)) };
/// assert_eq!(memtrack::stats().paged.curr_bytes, 40);
/// // SAFETY: the block is ours.
/// unsafe { memtrack::record_free!(ExFreePoolWithTag, (routines.free)(block, TAG)) };
/// assert_eq!(memtrack::stats().paged.curr_bytes, 0);
/// # assert_eq!(memtrack::finish("doc").violations, 0);
/// ```
///
/// A block that such a call frees is remembered, so that a second free is found, but not held: the function pointer may
/// be gone when the block's time comes.
pub use memtrack_macros::record_alloc;

/// Tracks one call that makes, empties or deletes a lookaside list, as [`record_alloc!`] does one that allocates.
///
/// ```text
/// memtrack::record_list!(ExDeleteLookasideListEx, (routines.delete)(list))
/// ```
///
/// When memtrack is off, an initialiser's depth still holds.
pub use memtrack_macros::record_list;

/// Tracks one call that frees, as [`record_alloc!`] does one that allocates.
///
/// ```text
/// memtrack::record_free!(ExFreePoolWithTag, (routines.free)(block, TAG))
/// ```
pub use memtrack_macros::record_free;

/// The kernel's functions, as in `wdk_sys::ntddk`, the pool functions among them tracked: a door that needs no attribute.
///
/// `use memtrack::ntddk::{ExAllocatePool2, ExFreePool};` in place of `use wdk_sys::ntddk::{…};` is the whole change to
/// a file. Each call is known by its line, in macros and macros within macros too, and in a function with
/// `#[track_caller]` by its caller's. The functions have `wdk-sys`'s parameters and results; where memtrack is off they
/// are the binding's own. Everything else of that module is re-exported.
///
/// ```
/// # use memtrack_sim as wdk_sys;
/// use memtrack::ntddk::{ExAllocatePool2, ExFreePool};
/// use wdk_sys::POOL_FLAG_PAGED;
///
/// # let machine = memtrack_sim::Machine::boot();
/// let tag = u32::from_le_bytes(*b"Door");
/// // SAFETY: any size and tag will do, and the blocks are ours.
/// unsafe {
///     assert!(!ExAllocatePool2(POOL_FLAG_PAGED, 30, tag).is_null());
///     ExFreePool(ExAllocatePool2(POOL_FLAG_PAGED, 40, tag));
/// }
/// assert_eq!(memtrack::stats().paged.curr_bytes, 30);
/// ```
///
/// The feature `sim` chooses [`memtrack_sim`]'s functions, `wdk` those of `wdk-sys`; without one of them there is no such
/// module. Two things differ from the binding's functions: they are Rust's own, not `extern "C"`, so a function pointer
/// that a driver hands to the kernel takes the binding's; and their blocks have the guard that
/// [`configure`](crate::configure) chooses. A call should have one door: what is rewritten by the attribute as well, where
/// it cannot see that a name is memtrack's, is counted twice.
#[allow(non_snake_case, reason = "the kernel's names")]
#[allow(clippy::missing_safety_doc, reason = "the kernel's documentation is meant")]
pub mod ntddk {
    twins!(None);
}

/// The same for each guard, as an annotated `use` chooses it.
#[doc(hidden)]
#[allow(non_snake_case, reason = "the kernel's names")]
pub mod guarded {
    macro_rules! guarded {
        ($($name:ident: $guard:ident)*) => {
            $(pub mod $name {
                pub mod ntddk {
                    twins!(Some(memtrack_rt::Guard::$guard));
                }
            })*
        };
    }

    guarded! { none: None  tail: Tail  full: Full }
}

fn tracker() -> &'static Tracker<Kernel> {
    static TRACKER: Tracker<Kernel> = Tracker::new(Kernel);
    kernel::load_anew(&TRACKER);
    &TRACKER
}

pub(crate) fn print_stats(name: &str) {
    tracker().print_stats(name);
}

pub(crate) fn report(name: &str) {
    tracker().report(name);
}

pub(crate) fn finish(name: &str) -> Stats {
    tracker().finish(name)
}

pub(crate) fn stats() -> Stats {
    tracker().stats()
}

pub(crate) fn sites() -> impl Iterator<Item = SiteStats> {
    tracker().sites()
}

pub(crate) fn lists() -> impl Iterator<Item = ListStats> {
    tracker().lists()
}

pub(crate) fn check() -> usize {
    tracker().check()
}

pub(crate) fn configure(settings: Settings) {
    tracker().configure(settings);
}

/// What an expansion makes of an allocation.
#[inline]
pub fn allocate<A: Arguments, R>(
    location: &'static Location<'static>,
    function: Function,
    guard: Option<Guard>,
    arguments: A,
    kernel: impl Fn(A) -> R,
) -> R {
    // SAFETY: an expansion's closure makes the driver's own call of that function of the kernel's, and nothing else.
    unsafe { tracker().allocate(location, function, guard, arguments, kernel) }
}

/// What an expansion makes of an initialiser of lookaside lists.
#[inline]
pub fn initialize_list<A: Arguments, R>(
    location: &'static Location<'static>,
    function: Function,
    guard: Option<Guard>,
    arguments: A,
    kernel: impl Fn(A) -> R,
    list_bytes: impl Fn(&A) -> usize,
) -> R {
    if !may_be_list(list_bytes(&arguments)) {
        return kernel(arguments);
    }
    // SAFETY: as above.
    unsafe { tracker().initialize_list(&Lists, location, function, guard, arguments, kernel) }
}

macro_rules! list_doors {
    ($($(#[$what:meta])* $door:ident)*) => {$(
        $(#[$what])*
        #[inline]
        pub fn $door<A: Arguments, R>(
            location: &'static Location<'static>,
            function: Function,
            arguments: A,
            kernel: impl Fn(A) -> R,
            list_bytes: impl Fn(&A) -> usize,
        ) -> R {
            if !may_be_list(list_bytes(&arguments)) {
                return kernel(arguments);
            }
            // SAFETY: as above.
            unsafe { tracker().$door(location, function, arguments, kernel) }
        }
    )*};
}

list_doors! {
    /// What an expansion makes of an allocation from a lookaside list.
    allocate_from_list
    /// What an expansion makes of a free to a lookaside list.
    free_to_list
    /// What an expansion makes of the end of a lookaside list.
    delete_list
    /// What an expansion makes of a flush of a lookaside list.
    flush_list
}

/// What an expansion makes of a free.
#[inline]
pub fn free<A: Arguments, R>(
    location: &'static Location<'static>,
    function: Function,
    arguments: A,
    kernel: impl Fn(A) -> R,
) -> R {
    // SAFETY: as above.
    unsafe { tracker().free(location, function, arguments, kernel) }
}
