//! The runtime of memtrack: who allocated which block of pool, counted by source line.
//!
//! A [`Tracker`] keeps the books of one driver. Every tracked allocation asks the kernel, for some bytes more, signs
//! them, and writes down what the kernel gave; every tracked free strikes the block out first, looks at what was
//! signed, and holds the block for a while or gives it to the kernel. Between the two the block stands in the
//! ledger, under the [`Location`] that asked for it. Reports read the same books and leave through the platform's
//! debug output.
//!
//! Drivers do not use this crate by name: the package `memtrack` holds the tracker and re-exports what a
//! driver author may name. It is a crate of its own so that the runtime can be read, tested and checked
//! alone, over any [`Platform`].
//!
//! # What it promises
//!
//! Every function may be called at IRQL <= DISPATCH_LEVEL unless its documentation says less. Nothing here
//! panics, recurses, uses floating point or touches a heap; the only memory it asks for are its own tables,
//! by way of [`Platform::allocate`]. One spin lock guards the books, and no call into the kernel, not even a
//! `DbgPrint`, is made while it is held.
#![no_std]
#![allow(
    clippy::declare_interior_mutable_const,
    reason = "empty tables and figures are written out where they stand: in statics and in arrays"
)]

mod act;
mod arguments;
mod block;
mod book;
mod books;
mod closing;
mod doors;
mod entries;
mod extension;
mod guard;
mod holding;
mod kind;
mod ledger;
mod listed;
mod lists;
pub mod lookaside;
mod parting;
mod platform;
mod pool;
mod quarantine;
mod release;
mod report;
mod request;
mod settings;
mod shortage;
mod sink;
mod site;
mod slab;
mod snapshot;
mod stats;
mod suspect;
mod sweep;
mod sync;
mod taking;
mod tally;
mod tracker;
mod violation;
mod word;

pub use core::panic::Location;

pub use arguments::Arguments;
pub use guard::Guard;
pub use platform::{Irql, Platform, SpinLock, Tenant};
pub use pool::{Function, Pool, Tag};
pub use settings::{BUGCHECK, Policy, Quarantine, Settings};
pub use sink::LINE_MAX;
pub use stats::{Figures, ListStats, SiteStats, Stats};
pub use tracker::{Sites, Tracker};
