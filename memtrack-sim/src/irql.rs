//! The interrupt request level: a number that each thread has, since a thread stands for a processor.
//!
//! Nothing is interrupted here. The level is kept so that the rules that depend on it can be checked.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{
    bugcheck::{BugCheck, stop},
    constants::{
        APC_LEVEL, HIGH_LEVEL, IRQL_NOT_DISPATCH_LEVEL, IRQL_NOT_GREATER_OR_EQUAL, IRQL_NOT_LESS_OR_EQUAL,
    },
    types::KIRQL,
};

pub(crate) const PASSIVE: KIRQL = crate::constants::PASSIVE_LEVEL as KIRQL;
pub(crate) const APC: KIRQL = APC_LEVEL as KIRQL;
pub(crate) const DISPATCH: KIRQL = crate::constants::DISPATCH_LEVEL as KIRQL;
const HIGH: KIRQL = HIGH_LEVEL as KIRQL;

/// The kinds of access that `IRQL_NOT_LESS_OR_EQUAL` tells apart: memory was written, an instruction was fetched.
const WRITE: u64 = 1;
const EXECUTE: u64 = 8;

thread_local! {
    static LEVEL: Cell<KIRQL> = const { Cell::new(PASSIVE) };
}

/// The number of this thread as a processor, from 0, in the order in which they asked.
pub(crate) fn processor() -> u32 {
    static PROCESSORS: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static NUMBER: Cell<Option<u32>> = const { Cell::new(None) };
    }
    // Relaxed: a number is all that it is.
    let number = || PROCESSORS.fetch_add(1, Ordering::Relaxed);
    // A thread that is ending, and has none any more, is the first one's processor.
    let kept = NUMBER.try_with(|kept| {
        let number = kept.get().unwrap_or_else(number);
        kept.set(Some(number));
        number
    });
    kept.unwrap_or(0)
}

pub(crate) fn current() -> KIRQL {
    LEVEL.get()
}

/// Sets the level without asking whether it may be set: for those who put it back after a crash.
pub(crate) fn set(level: KIRQL) {
    LEVEL.set(level);
}

/// Returns the level before.
pub(crate) fn raise(level: KIRQL) -> KIRQL {
    let before = current();
    if level < before || level > HIGH {
        stop(BugCheck::new(IRQL_NOT_GREATER_OR_EQUAL, [before.into(), level.into(), 0, 0]));
        return before;
    }
    set(level);
    before
}

pub(crate) fn lower(level: KIRQL) {
    let before = current();
    if level > before {
        return stop(BugCheck::new(IRQL_NOT_LESS_OR_EQUAL, [before.into(), level.into(), 0, 0]));
    }
    set(level);
}

/// Stops a caller below `DISPATCH_LEVEL`, naming the object that it wanted.
pub(crate) fn require_dispatch(object: u64) {
    let level = current();
    if level < DISPATCH {
        stop(BugCheck::new(IRQL_NOT_DISPATCH_LEVEL, [object, level.into(), 0, 0]));
    }
}

/// Stops a caller that may be paged out and may not be paged in.
pub(crate) fn require_paging() {
    let level = current();
    if level > APC {
        stop(BugCheck::new(IRQL_NOT_LESS_OR_EQUAL, [0, level.into(), EXECUTE, 0]));
    }
}

/// Stops a caller above `DISPATCH_LEVEL`, naming the object that it wanted.
pub(crate) fn require_dispatch_at_most(object: u64) {
    let level = current();
    if level > DISPATCH {
        stop(BugCheck::new(IRQL_NOT_LESS_OR_EQUAL, [object, level.into(), WRITE, 0]));
    }
}
