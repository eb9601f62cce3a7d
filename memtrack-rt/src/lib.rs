//! The runtime of memtrack: who allocated which block of pool, counted by source line.
//!
//! A [`Tracker`] keeps the books of one driver. Every tracked allocation opens a [`Request`], asks the
//! kernel, and tells the request what the kernel gave; every tracked free tells the tracker first and the
//! kernel second. Between the two the block stands in the ledger, under the [`Location`] that asked for it.
//! Reports read the same books and leave through the platform's debug output.
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

mod books;
mod ledger;
mod platform;
mod pool;
mod report;
mod sink;
mod site;
mod slab;
mod snapshot;
mod stats;
mod tracker;
mod word;

pub use core::panic::Location;

pub use platform::{Irql, Platform, SpinLock};
pub use pool::{Function, Pool, Tag};
pub use sink::LINE_MAX;
pub use stats::{Figures, SiteStats, Stats};
pub use tracker::{Request, Sites, Tracker};
