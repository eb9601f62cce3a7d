//! memtrack finds pool leaks in Windows drivers written in Rust, and names the source line.
//!
//! Put one attribute on the code that allocates, and one on the unload routine:
//!
//! ```
//! #[memtrack::instrument]
//! mod driver {
//!     # use memtrack_sim as wdk_sys;
//!     use wdk_sys::{POOL_FLAG_PAGED, ntddk::ExAllocatePool2};
//!
//!     pub fn remember(name: &[u8]) {
//!         // SAFETY: any size and tag will do.
//!         let copy = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, name.len() as u64, 0x6E6F_6D46) };
//!         // ... and nobody frees it
//!         # let _ = copy;
//!     }
//!
//!     #[memtrack::instrument(finish = "Filemon")]
//!     pub fn unload() {}
//! }
//! # let machine = memtrack_sim::Machine::boot();
//! # driver::remember(b"\\Windows\\notepad.exe");
//! # driver::unload();
//! # let said = machine.output().join("\n");
//! # if cfg!(not(any(feature = "off", feature = "release_off"))) {
//! # assert!(said.contains("memtrack: leak 1 block 20 bytes  "), "{said}");
//! # assert!(said.contains("  ExAllocatePool2 'Fmon' Paged #"), "{said}");
//! # }
//! ```
//!
//! The driver's debug output then says
//!
//! ```text
//! memtrack: leak 1 block 20 bytes  src/driver.rs:7:29  ExAllocatePool2 'Fmon' Paged #1.2
//! ```
//!
//! # What is rewritten
//!
//! There are three doors to one runtime; each call goes through one of them.
//!
//! - [`instrument`] on a module with a body, a function, an impl or a trait,
//! - [`instrument_items!`] round the items of a file of its own,
//! - `memtrack::ntddk` in place of `wdk_sys::ntddk` in a `use`, or [`instrument`] on that `use`.
//!
//! The first two find calls of the kernel's pool functions by their names, under any path and any binding (`wdk-sys`,
//! `windows-sys`, your own `extern` block), and put a question before and a word after each; the call itself, its types
//! and its `unsafe` stay yours. A driver's own function named like the kernel's is taken for a wrapper of it: its calls
//! are tracked, its body is not. The third is a module of functions that are tracked already.
//!
//! In a function that carries `#[track_caller]`, the site is the caller's line; `#[memtrack::instrument(wrapper)]` marks
//! one so while memtrack is on. Calls inside of macro calls, such as `assert!(…)`, are found where the tokens read as
//! code, and otherwise a warning says that one is not tracked. Functions that a driver finds at run time are named to
//! memtrack by [`record_alloc!`] and [`record_free!`].
//!
//! `#[memtrack::skip]`, written so, with memtrack's name, leaves the item or statement that it stands on alone.
//!
//! Lookaside lists are tracked likewise, entry by entry, and keep the depth that you ask for: see
#![cfg_attr(any(feature = "sim", feature = "wdk"), doc = "[`lookaside`].")]
#![cfg_attr(not(any(feature = "sim", feature = "wdk")), doc = "`lookaside`.")]
//!
//! # What it costs, and how it goes away
//!
//! With the feature `off`, and with `release_off` in builds without debug assertions, the attribute gives your own
//! tokens back, but for those depths, and the functions below do nothing. Otherwise a call costs a look into a table under a spin lock.
//!
//! # Which kernel
//!
//! A feature says where memory comes from and lines go to, one of two. `sim` is [`memtrack_sim`], for tests on any
//! machine; `wdk` is Windows's kernel, through `wdk-sys`, where that builds. Without one, the attribute tracks nothing and
//! says so in a warning. A driver that wants both, at different times, has features of its own that turn on one or the
//! other.
#![cfg_attr(not(feature = "sim"), doc = "", doc = "[`memtrack_sim`]: https://docs.rs/memtrack-sim")]
#![no_std]

#[cfg(all(feature = "sim", feature = "wdk"))]
compile_error!(
    "memtrack's features `sim` and `wdk` are both on, and a driver reports to one kernel. Let features of the driver's \
     own choose, one for tests with `memtrack/sim` and one for the driver with `memtrack/wdk`; cargo adds up what \
     `[dependencies]` and `[dev-dependencies]` ask for"
);

/// The binding that a feature chose.
#[cfg(feature = "sim")]
use memtrack_sim as binding;
#[cfg(all(feature = "wdk", not(feature = "sim")))]
use wdk_sys as binding;

// The two conditions below are each other's opposite: on, and everything else.
#[cfg(all(
    any(feature = "sim", feature = "wdk"),
    not(feature = "off"),
    any(debug_assertions, not(feature = "release_off"))
))]
#[path = "on.rs"]
mod door;
#[cfg(not(all(
    any(feature = "sim", feature = "wdk"),
    not(feature = "off"),
    any(debug_assertions, not(feature = "release_off"))
)))]
#[path = "off.rs"]
mod door;

#[cfg(all(feature = "wdk", not(feature = "sim")))]
mod agreement;
#[cfg(any(feature = "sim", feature = "wdk"))]
pub mod lookaside;

#[cfg(any(feature = "sim", feature = "wdk"))]
pub use door::ntddk;
pub use door::{instrument, instrument_items, record_alloc, record_free, record_list};
pub use memtrack_macros::skip;
pub use memtrack_rt::{
    BUGCHECK, Figures, Function, Guard, ListStats, Policy, Pool, Quarantine, Settings, SiteStats, Stats, Tag,
};

/// Prints what the driver uses of each pool now, and the most that it ever used, in bytes:
///
/// ```text
/// memtrack: Filemon Nonpaged Memory Usage: #4.1
/// memtrack:    Current: 63838 bytes #4.2
/// memtrack:    Max: 127383 bytes #4.3
/// memtrack: Filemon Paged Memory Usage: #4.4
/// memtrack:    Current: 0 bytes #4.5
/// memtrack:    Max: 4096 bytes #4.6/6
/// ```
///
/// `name` is the driver's, of any length. Does nothing when memtrack is off.
///
/// IRQL <= DISPATCH_LEVEL.
pub fn print_stats(name: &str) {
    door::print_stats(name);
}

/// Prints every site, the one with the most bytes outstanding first, and the sums, all of one moment.
///
/// The lines are described in `docs/report-format.md`. For as long as it runs the report takes about 100 bytes
/// of nonpaged pool a site; where there are none it goes on without, and says so. Does nothing when off.
///
/// IRQL <= DISPATCH_LEVEL.
pub fn report(name: &str) {
    door::report(name);
}

/// Looks at the guards of all live blocks and at what the quarantines hold, now, and returns how many blocks are
/// broken. Each is reported once, however often it is found. 0 when off.
///
/// Call it where you suspect something: between two checks without and with a report lies the write.
///
/// ```
/// assert_eq!(memtrack::check(), 0);
/// ```
///
/// IRQL <= DISPATCH_LEVEL; at DISPATCH_LEVEL it looks at nonpaged pool only.
pub fn check() -> usize {
    door::check()
}

/// Chooses the driver's guards, how much freed memory is held, and what happens after a violation was reported. Does
/// nothing when off.
///
/// Call it first in `DriverEntry`: blocks keep the guards that they were allocated with. On memtrack-sim each boot of
/// a machine begins with [`Settings::new`] again.
///
/// ```
/// use memtrack::{Guard, Policy, Quarantine, Settings};
///
/// // In a test: every mistake fails it, at its line.
/// memtrack::configure(Settings::new().guard(Guard::Full).policy(Policy::BugCheck));
/// // In a driver that is short of pool: nothing is held.
/// memtrack::configure(Settings::new().quarantines(Quarantine::OFF));
/// ```
///
/// IRQL <= DISPATCH_LEVEL.
pub fn configure(settings: Settings) {
    door::configure(settings);
}

/// Empties the quarantines, prints a leak line for every site with blocks outstanding, gives memtrack's own memory
/// back, and begins afresh. Returns the figures as they stood: `curr_blocks()` of them were leaked, and `violations`
/// were reported.
///
/// It is the last thing to do in the unload routine; `#[memtrack::instrument(finish = "Name")]` on that routine
/// does it at every way out. A driver that never calls it leaves behind at unload some pages of nonpaged pool, and
/// what the quarantines hold. Does nothing, and returns zeros, when off.
///
/// ```
/// let left = memtrack::finish("Filemon");
/// assert_eq!((left.curr_blocks(), left.violations), (0, 0));
/// ```
///
/// A block with [`Guard::Full`] can be freed until here only: memtrack alone knows where the kernel's block begins.
///
/// IRQL <= APC_LEVEL. At DISPATCH_LEVEL it cannot give back what the quarantine of paged pool holds, and says so.
pub fn finish(name: &str) -> Stats {
    door::finish(name)
}

/// All figures as plain values, of one moment. Zeros when off.
///
/// IRQL <= DISPATCH_LEVEL.
#[must_use]
pub fn stats() -> Stats {
    door::stats()
}

/// Every site as plain values, in the order of their first call; each is read when it is asked for. None when off.
///
/// ```
/// for site in memtrack::sites().filter(|site| site.figures.curr_blocks > 0) {
///     # let _ =
///     (site.file, site.line, site.column, site.figures.curr_bytes)
///     # ;
/// }
/// ```
///
/// IRQL <= DISPATCH_LEVEL.
pub fn sites() -> impl Iterator<Item = SiteStats> {
    door::sites()
}

/// Every lookaside list that tracked code initialised, as plain values, the newest first; each is read when it is asked
/// for. None when off.
///
/// ```
/// for list in memtrack::lists().filter(|list| !list.is_deleted) {
///     # let _ =
///     (list.file, list.line, list.depth, list.cached, list.hits, list.misses, list.figures.curr_blocks)
///     # ;
/// }
/// ```
///
/// IRQL <= DISPATCH_LEVEL.
pub fn lists() -> impl Iterator<Item = ListStats> {
    door::lists()
}

/// What expansions name. Not for anybody else, and different in every version.
#[doc(hidden)]
pub mod __private {
    pub use memtrack_rt::{Function, Guard, Location};

    #[cfg(any(feature = "sim", feature = "wdk"))]
    pub use crate::binding::ntddk as binding;
    pub use crate::door::*;

    /// An argument that says where a lookaside list is. Its type may say how long that is.
    pub struct ListOf<T>(pub T);

    /// One that does not say.
    pub struct Somewhere;

    impl<T> core::ops::Deref for ListOf<T> {
        type Target = Somewhere;

        fn deref(&self) -> &Somewhere {
            &Somewhere
        }
    }

    impl Somewhere {
        #[must_use]
        pub const fn bytes(&self) -> usize {
            0
        }
    }

    impl<T> ListOf<&*mut T> {
        #[must_use]
        pub const fn bytes(&self) -> usize {
            size_of::<T>()
        }
    }

    impl<T> ListOf<&&mut T> {
        #[must_use]
        pub const fn bytes(&self) -> usize {
            size_of::<T>()
        }
    }

    impl<T> ListOf<&core::ptr::NonNull<T>> {
        #[must_use]
        pub const fn bytes(&self) -> usize {
            size_of::<T>()
        }
    }

    /// Two that are one function. What an annotated `use` names must be what memtrack's own functions call, or the
    /// driver would reach another kernel than it says.
    #[diagnostic::on_unimplemented(
        message = "memtrack's functions call another binding than this `use` names",
        label = "not the function that memtrack calls",
        note = "they call `memtrack_sim::ntddk` with the feature `sim`, `wdk_sys::ntddk` with the feature `wdk`; where \
                a driver has a binding of its own, write `memtrack::instrument_items!` round the items that call it"
    )]
    pub trait Same {}

    #[diagnostic::do_not_recommend]
    impl<T> Same for (T, T) {}

    pub const fn the_same<P: Same + Copy>(_: P) {}

    /// Prints the leak report when it is dropped.
    pub struct Finish(&'static str);

    impl Finish {
        #[must_use]
        pub const fn new(name: &'static str) -> Self {
            Self(name)
        }
    }

    impl Drop for Finish {
        fn drop(&mut self) {
            crate::finish(self.0);
        }
    }
}
