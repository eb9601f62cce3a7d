//! An IRQL, which Wine's kernel lacks: it has spin locks, and none of the levels. The linker takes these in place of
//! imports.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::ntddk::{KeAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel, PsGetCurrentThreadId};
use crate::{KIRQL, PKSPIN_LOCK};

const DISPATCH_LEVEL: KIRQL = 2;

/// The threads that are above PASSIVE_LEVEL, and where: a processor's IRQL is that of the thread on it.
static RAISED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// A thread and its IRQL in one word; none is at level 0, so this is never 0.
fn raised(thread: u64, irql: KIRQL) -> u64 {
    thread << 8 | u64::from(irql)
}

fn this_thread() -> u64 {
    // SAFETY: may be called at any time.
    unsafe { PsGetCurrentThreadId() }.addr() as u64
}

#[unsafe(no_mangle)]
extern "C" fn KeGetCurrentIrql() -> KIRQL {
    let thread = this_thread();
    // Relaxed (all here): a thread reads only what it wrote itself.
    let entry = RAISED.iter().map(|entry| entry.load(Ordering::Relaxed)).find(|entry| entry >> 8 == thread);
    entry.map_or(0, |entry| entry as KIRQL)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn KeAcquireSpinLockRaiseToDpc(lock: PKSPIN_LOCK) -> KIRQL {
    let before = KeGetCurrentIrql();
    if before < DISPATCH_LEVEL {
        let now = raised(this_thread(), DISPATCH_LEVEL);
        while !RAISED
            .iter()
            .any(|entry| entry.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok())
        {
        }
    }
    // SAFETY: the caller's promise; this is DISPATCH_LEVEL.
    unsafe { KeAcquireSpinLockAtDpcLevel(lock) };
    before
}

#[unsafe(no_mangle)]
unsafe extern "C" fn KeReleaseSpinLock(lock: PKSPIN_LOCK, irql: KIRQL) {
    // SAFETY: the caller's promise.
    unsafe { KeReleaseSpinLockFromDpcLevel(lock) };
    if irql < DISPATCH_LEVEL {
        let now = raised(this_thread(), DISPATCH_LEVEL);
        for entry in &RAISED {
            let _ = entry.compare_exchange(now, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
