//! Spin locks exclude, raise the level, and know who holds them.

mod common;

use std::{cell::UnsafeCell, fmt::Debug};

use common::{DISPATCH, at, kernel};
use memtrack_sim::{ntddk::*, *};

/// A lock and a number that it guards, as a driver's device extension has them.
#[derive(Default)]
struct Guarded {
    lock: UnsafeCell<KSPIN_LOCK>,
    number: UnsafeCell<u64>,
}

// SAFETY: the number is touched only by whoever holds the lock, which is what the tests find out.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new() -> Self {
        let this = Self::default();
        kernel!(KeInitializeSpinLock(this.lock()));
        this
    }

    fn lock(&self) -> PKSPIN_LOCK {
        self.lock.get()
    }

    fn address(&self) -> u64 {
        self.lock().addr() as u64
    }

    /// In two steps that another thread could come between.
    fn increment(&self) {
        // SAFETY: the caller holds the lock.
        unsafe {
            let before = self.number.get().read_volatile();
            std::hint::spin_loop();
            self.number.get().write_volatile(before + 1);
        }
    }
}

fn assert_stops<R: PartialEq + Debug>(code: u32, parameters: [u64; 4], body: impl FnOnce() -> R) {
    assert_eq!(catch_bugcheck(body), Err(BugCheck { code, parameters }));
}

fn current() -> KIRQL {
    kernel!(KeGetCurrentIrql())
}

#[test]
fn holders_exclude_each_other() {
    const THREADS: u64 = 4;
    const TIMES: u64 = 20_000;
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let guarded = &guarded;
            scope.spawn(move || {
                for _ in 0..TIMES {
                    if thread % 2 == 0 {
                        let before = kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock()));
                        guarded.increment();
                        kernel!(KeReleaseSpinLock(guarded.lock(), before));
                    } else {
                        at(DISPATCH, || {
                            kernel!(KeAcquireSpinLockAtDpcLevel(guarded.lock()));
                            guarded.increment();
                            kernel!(KeReleaseSpinLockFromDpcLevel(guarded.lock()));
                        });
                    }
                }
            });
        }
    });
    assert_eq!(guarded.number.into_inner(), THREADS * TIMES);
}

#[test]
fn a_holder_is_at_dispatch_level() {
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    for level in 0..=2 {
        at(level, || {
            let before = kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock()));
            assert_eq!((before, current()), (level, DISPATCH));
            kernel!(KeReleaseSpinLock(guarded.lock(), before));
            assert_eq!(current(), level);
        });
    }
}

#[test]
fn the_word_shows_whether_the_lock_is_held() {
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    // SAFETY: nobody else uses the lock.
    let word = || unsafe { *guarded.lock() };
    assert_eq!(word(), 0);
    let before = kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock()));
    assert_ne!(word(), 0);
    kernel!(KeReleaseSpinLock(guarded.lock(), before));
    assert_eq!(word(), 0);
}

#[test]
fn taking_a_lock_twice_stops_the_machine() {
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    let before = kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock()));
    let already = [guarded.address(), 0, 0, 0];
    assert_stops(SPIN_LOCK_ALREADY_OWNED, already, || kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock())));
    assert_stops(SPIN_LOCK_ALREADY_OWNED, already, || kernel!(KeAcquireSpinLockAtDpcLevel(guarded.lock())));
    kernel!(KeReleaseSpinLock(guarded.lock(), before));
}

#[test]
fn giving_back_what_is_not_held_stops_the_machine() {
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    let free = [guarded.address(), 0, 0, 0];
    at(DISPATCH, || {
        assert_stops(SPIN_LOCK_NOT_OWNED, free, || kernel!(KeReleaseSpinLock(guarded.lock(), 0)));
        assert_stops(SPIN_LOCK_NOT_OWNED, free, || kernel!(KeReleaseSpinLockFromDpcLevel(guarded.lock())));
    });
    let before = kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock()));
    std::thread::scope(|scope| {
        let guarded = &guarded;
        scope.spawn(move || {
            at(DISPATCH, || {
                assert_stops(SPIN_LOCK_NOT_OWNED, free, || {
                    kernel!(KeReleaseSpinLockFromDpcLevel(guarded.lock()));
                });
            });
        });
    });
    kernel!(KeReleaseSpinLock(guarded.lock(), before));
}

#[test]
fn the_level_must_fit_the_function() {
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    let (lock, address) = (guarded.lock(), guarded.address());
    at(3, || {
        assert_stops(IRQL_NOT_GREATER_OR_EQUAL, [3, 2, 0, 0], || kernel!(KeAcquireSpinLockRaiseToDpc(lock)));
    });
    at(1, || {
        let below = [address, 1, 0, 0];
        assert_stops(IRQL_NOT_DISPATCH_LEVEL, below, || kernel!(KeAcquireSpinLockAtDpcLevel(lock)));
        assert_stops(IRQL_NOT_DISPATCH_LEVEL, below, || kernel!(KeReleaseSpinLockFromDpcLevel(lock)));
        assert_stops(IRQL_NOT_DISPATCH_LEVEL, below, || kernel!(KeReleaseSpinLock(lock, 0)));
    });
    // Interrupt handlers may take locks that were made for them.
    at(5, || {
        kernel!(KeAcquireSpinLockAtDpcLevel(lock));
        kernel!(KeReleaseSpinLockFromDpcLevel(lock));
    });
    kernel!(KeAcquireSpinLockRaiseToDpc(lock));
    assert_stops(IRQL_NOT_LESS_OR_EQUAL, [2, 3, 0, 0], || kernel!(KeReleaseSpinLock(lock, 3)));
}

#[test]
fn initializing_frees_a_lock() {
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock()));
    kernel!(KeInitializeSpinLock(guarded.lock()));
    let before = kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock()));
    kernel!(KeReleaseSpinLock(guarded.lock(), before));
}

#[test]
fn a_lock_whose_holder_is_gone_does_not_hang_the_test() {
    let _machine = Machine::boot();
    let guarded = Guarded::new();
    std::thread::scope(|scope| {
        let guarded = &guarded;
        scope.spawn(move || kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock())));
    });
    let gone = [1, guarded.address(), 0, 0];
    assert_stops(DPC_WATCHDOG_VIOLATION, gone, || kernel!(KeAcquireSpinLockRaiseToDpc(guarded.lock())));
}
