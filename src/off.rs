//! Not tracking: the attribute gives back what it was put on, and there is nothing to tell.

use memtrack_rt::{Settings, SiteStats, Stats};

/// Leaves the item as it is: memtrack is off.
#[cfg(any(feature = "off", all(feature = "release_off", not(debug_assertions))))]
pub use memtrack_macros::{
    instrument_items_off as instrument_items, instrument_off as instrument, record_alloc_off as record_alloc,
    record_free_off as record_free,
};

/// Leaves the item as it is, with a warning: no kernel is chosen by a feature.
#[cfg(not(any(feature = "off", all(feature = "release_off", not(debug_assertions)))))]
pub use memtrack_macros::{
    instrument_idle as instrument, instrument_items_idle as instrument_items,
    record_alloc_idle as record_alloc, record_free_idle as record_free,
};

/// The binding's own functions: memtrack is off.
#[cfg(any(feature = "sim", feature = "wdk"))]
pub use crate::binding::ntddk;

pub(crate) fn print_stats(_: &str) {}

pub(crate) fn report(_: &str) {}

pub(crate) fn finish(_: &str) -> Stats {
    Stats::default()
}

pub(crate) fn stats() -> Stats {
    Stats::default()
}

pub(crate) fn sites() -> impl Iterator<Item = SiteStats> {
    core::iter::empty()
}

pub(crate) fn check() -> usize {
    0
}

pub(crate) fn configure(_: Settings) {}
