//! Not tracking: the attribute gives back what it was put on, and there is nothing to tell.

#[cfg(any(feature = "sim", feature = "wdk"))]
use memtrack_rt::{Arguments, Function, Guard, Location, lookaside};
use memtrack_rt::{ListStats, Settings, SiteStats, Stats};

/// Leaves the item as it is, but for the depths of lookaside lists: memtrack is off.
#[cfg(all(
    any(feature = "off", all(feature = "release_off", not(debug_assertions))),
    any(feature = "sim", feature = "wdk")
))]
pub use memtrack_macros::{
    instrument_items_off as instrument_items, instrument_off as instrument, record_alloc_off as record_alloc,
    record_free_off as record_free, record_list_off as record_list,
};

/// Leaves the item as it is: memtrack is off, and has no kernel for which it could make lookaside lists.
#[cfg(all(
    any(feature = "off", all(feature = "release_off", not(debug_assertions))),
    not(any(feature = "sim", feature = "wdk"))
))]
pub use memtrack_macros::{
    instrument_items_plain as instrument_items, instrument_plain as instrument,
    record_alloc_plain as record_alloc, record_free_plain as record_free, record_list_plain as record_list,
};

/// Leaves the item as it is, with a warning: no kernel is chosen by a feature.
#[cfg(not(any(feature = "off", all(feature = "release_off", not(debug_assertions)))))]
pub use memtrack_macros::{
    instrument_idle as instrument, instrument_items_idle as instrument_items,
    record_alloc_idle as record_alloc, record_free_idle as record_free, record_list_idle as record_list,
};

/// The binding's own functions, and those of [`lookaside`](crate::lookaside): memtrack is off.
#[cfg(any(feature = "sim", feature = "wdk"))]
pub mod ntddk {
    pub use crate::binding::ntddk::*;
    pub use crate::lookaside::{
        ExAllocateFromLookasideListEx, ExAllocateFromNPagedLookasideList, ExAllocateFromPagedLookasideList,
        ExFreeToLookasideListEx, ExFreeToNPagedLookasideList, ExFreeToPagedLookasideList,
        ExInitializeLookasideListEx, ExInitializeNPagedLookasideList, ExInitializePagedLookasideList,
    };
}

/// What an expansion makes of an initialiser of lookaside lists: a depth of the driver's own holds.
#[cfg(any(feature = "sim", feature = "wdk"))]
#[inline]
pub fn initialize_list<A: Arguments, R>(
    _: &'static Location<'static>,
    function: Function,
    _: Option<Guard>,
    arguments: A,
    kernel: impl Fn(A) -> R,
    list_bytes: impl Fn(&A) -> usize,
) -> R {
    if !lookaside::may_be_list(list_bytes(&arguments)) {
        return kernel(arguments);
    }
    // SAFETY: an expansion's arguments are those of the driver's own call of that function.
    let built = unsafe { lookaside::initialize(&crate::lookaside::Lists, function, &arguments) };
    built.unwrap_or_else(|| kernel(arguments))
}

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

pub(crate) fn lists() -> impl Iterator<Item = ListStats> {
    core::iter::empty()
}

pub(crate) fn check() -> usize {
    0
}

pub(crate) fn configure(_: Settings) {}
