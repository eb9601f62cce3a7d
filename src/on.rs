//! Tracking: the one tracker of this driver, over the kernel that the features chose.

mod kernel;

use kernel::Kernel;
use memtrack_rt::{Arguments, Function, Guard, Location, Settings, SiteStats, Stats, Tracker};

/// Rewrites the pool calls in a module with a body, a function, an impl or a trait, so that each block is known
/// by the line that allocated it.
///
/// Options: `finish = "Name"`, on the unload routine, calls [`finish`](crate::finish) at every way out of it, after
/// all its locals are gone; only what its parameters own by value is dropped later.
/// `guard = "tail"`, `"full"` or `"none"` chooses the [`Guard`] of blocks that are allocated here; without it they
/// get the driver's, which [`configure`](crate::configure) chooses.
/// `crate = path` says under which path this crate knows memtrack, where that is not `::memtrack`.
///
/// An attribute inside of an annotated item adds its options to the outer one's; a call is rewritten once. `use … as` renames count
/// where the annotated item contains them, so an annotated module sees more of them than an annotated function.
/// In a function with `#[track_caller]` the site is the caller's line; in a closure there, the closure's own.
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
