//! The atomics of everything that is shared without a lock. The models of `tests/loom.rs` read the same files with
//! loom's in their place.

pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
