//! What the tests share.

#![allow(dead_code, unused_macros, unused_imports, reason = "no test file uses all of it")]

use memtrack_sim::{BAD_POOL_CALLER, BugCheck, KIRQL, PVOID, ULONG, ntddk::*};

/// Calls a function of the kernel.
macro_rules! kernel {
    ($($call:tt)*) => {{
        // SAFETY: what a test passes to the simulated kernel is either valid or exactly what is tested: the
        // kernel checks addresses before it touches anything behind them.
        #[allow(unused_unsafe, reason = "some arguments are calls themselves")]
        unsafe { $($call)* }
    }};
}
pub(crate) use kernel;

pub(crate) const TAG: ULONG = u32::from_ne_bytes(*b"Test");
pub(crate) const DISPATCH: KIRQL = 2;

/// Runs `body` at a level, and comes back from it.
pub(crate) fn at<R>(level: KIRQL, body: impl FnOnce() -> R) -> R {
    let before = kernel!(KfRaiseIrql(level));
    let result = body();
    kernel!(KeLowerIrql(before));
    result
}

pub(crate) fn bad_pool_caller(parameters: [u64; 4]) -> BugCheck {
    BugCheck { code: BAD_POOL_CALLER, parameters }
}

pub(crate) fn address(block: PVOID) -> u64 {
    block.expose_provenance() as u64
}

/// The bytes of a block that is allocated.
pub(crate) fn contents(block: PVOID, bytes: usize) -> Vec<u8> {
    // SAFETY: tests ask for no more bytes than they allocated.
    unsafe { std::slice::from_raw_parts(block.cast::<u8>(), bytes) }.to_vec()
}

pub(crate) fn fill(block: PVOID, byte: u8, bytes: usize) {
    // SAFETY: as above.
    unsafe { block.cast::<u8>().write_bytes(byte, bytes) };
}
