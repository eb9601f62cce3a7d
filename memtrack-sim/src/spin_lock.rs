//! Spin locks: a word that holds its owner's number.
//!
//! The kernel's word holds a bit. Ours holds more, so that the two mistakes that hang a real machine,
//! taking a lock twice and waiting for an owner that is gone, stop this one with a name.

use core::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};
use std::sync::{Mutex, PoisonError};

use crate::{
    bugcheck::{BugCheck, stop},
    constants::{DPC_WATCHDOG_VIOLATION, SPIN_LOCK_ALREADY_OWNED, SPIN_LOCK_NOT_OWNED},
};

const FREE: u64 = 0;

/// How often to look at the word before giving the processor away. The owner may be waiting for one:
/// threads are not bound to processors here.
const LOOKS_PER_YIELD: u32 = 64;

/// How often to give the processor away before asking whether the owner is still there.
const YIELDS_PER_INQUEST: u32 = 256;

/// Threads that ended while they held locks. Few enough, in a test, for a list.
static GONE: Mutex<Vec<u64>> = Mutex::new(Vec::new());

thread_local! {
    static PROCESSOR: Processor = Processor::start();
}

struct Processor {
    number: u64,
    held: Cell<usize>,
}

impl Processor {
    fn start() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(FREE + 1);
        // Relaxed: only the numbers must differ, nothing is read on their strength.
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), held: Cell::new(0) }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if self.held.get() > 0 {
            GONE.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
        }
    }
}

pub(crate) fn initialize(word: &AtomicU64) {
    // Relaxed: whoever shows the lock to another thread has to order that himself, as in the kernel.
    word.store(FREE, Ordering::Relaxed);
}

pub(crate) fn acquire(word: &AtomicU64) {
    PROCESSOR.with(|processor| {
        if wait(word, processor.number) {
            processor.held.set(processor.held.get() + 1);
        }
    });
}

pub(crate) fn release(word: &AtomicU64) {
    PROCESSOR.with(|processor| {
        // Relaxed: if the number is ours, this thread wrote it; if not, the value is only reported.
        if word.load(Ordering::Relaxed) != processor.number {
            return stop(BugCheck::new(SPIN_LOCK_NOT_OWNED, [address(word), 0, 0, 0]));
        }
        processor.held.set(processor.held.get().saturating_sub(1));
        // Release pairs with the Acquire in `wait`: the next owner sees all that this one did.
        word.store(FREE, Ordering::Release);
    });
}

/// Returns whether the lock was taken; it is not only where a bugcheck was found on an unwinding thread.
fn wait(word: &AtomicU64, me: u64) -> bool {
    let mut round = 0_u32;
    loop {
        round = round.wrapping_add(1);
        // Acquire pairs with the Release in `release`. Relaxed on failure: the owner's number is only
        // compared.
        match word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(owner) if owner == me => {
                stop(BugCheck::new(SPIN_LOCK_ALREADY_OWNED, [address(word), 0, 0, 0]));
                return false;
            }
            Err(owner) if round % YIELDS_PER_INQUEST == 0 && is_gone(owner) => {
                stop(BugCheck::new(DPC_WATCHDOG_VIOLATION, [1, address(word), 0, 0]));
                return false;
            }
            Err(_) => look(word),
        }
    }
}

/// Spins on reads, which leave the cache line shared, until the lock looks free or it is time to yield.
fn look(word: &AtomicU64) {
    for _ in 0..LOOKS_PER_YIELD {
        // Relaxed: a hint only; the compare_exchange that follows is what decides.
        if word.load(Ordering::Relaxed) == FREE {
            return;
        }
        core::hint::spin_loop();
    }
    std::thread::yield_now();
}

fn is_gone(owner: u64) -> bool {
    GONE.lock().unwrap_or_else(PoisonError::into_inner).contains(&owner)
}

fn address(word: &AtomicU64) -> u64 {
    core::ptr::from_ref(word).addr() as u64
}
