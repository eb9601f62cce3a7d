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

/// Threads that took locks once and have ended. Few enough, in a test, for a list.
static GONE: Mutex<Vec<u64>> = Mutex::new(Vec::new());

thread_local! {
    /// This thread's number, or `FREE` before it took its first lock.
    static NUMBER: Cell<u64> = const { Cell::new(FREE) };
    static LAST_WORD: LastWord = const { LastWord };
}

/// Says that its thread has ended. Apart from the number, which is quicker to reach without it.
struct LastWord;

impl Drop for LastWord {
    fn drop(&mut self) {
        GONE.lock().unwrap_or_else(PoisonError::into_inner).push(NUMBER.get());
    }
}

#[inline]
fn number() -> u64 {
    match NUMBER.get() {
        FREE => first_lock(),
        number => number,
    }
}

#[cold]
fn first_lock() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(FREE + 1);
    // Relaxed: only the numbers must differ, nothing is read on their strength.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    // On a thread that is ending already there is nobody left to say so: waiting for it goes on for ever.
    let _ = LAST_WORD.try_with(|_| ());
    number
}

pub(crate) fn initialize(word: &AtomicU64) {
    // Relaxed: whoever shows the lock to another thread has to order that himself, as in the kernel.
    word.store(FREE, Ordering::Relaxed);
}

pub(crate) fn acquire(word: &AtomicU64) {
    let me = number();
    // Acquire pairs with the Release in `release`. Relaxed on failure: `wait` looks again.
    if word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
        wait(word, me);
    }
}

pub(crate) fn release(word: &AtomicU64) {
    // Relaxed: if the number is ours, this thread wrote it; if not, the value is only reported.
    if word.load(Ordering::Relaxed) != number() {
        return stop(BugCheck::new(SPIN_LOCK_NOT_OWNED, [address(word), 0, 0, 0]));
    }
    // Release pairs with the Acquire in `acquire` and `wait`: the next owner sees all that this one did.
    word.store(FREE, Ordering::Release);
}

/// Takes the lock, or returns without it where a bugcheck was found on an unwinding thread.
#[cold]
fn wait(word: &AtomicU64, me: u64) {
    let mut round = 0_u32;
    loop {
        round = round.wrapping_add(1);
        // Acquire pairs with the Release in `release`. Relaxed on failure: the owner's number is only
        // compared.
        match word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return,
            Err(owner) if owner == me => {
                return stop(BugCheck::new(SPIN_LOCK_ALREADY_OWNED, [address(word), 0, 0, 0]));
            }
            Err(owner) if round % YIELDS_PER_INQUEST == 0 && is_gone(owner) => {
                return stop(BugCheck::new(DPC_WATCHDOG_VIOLATION, [1, address(word), 0, 0]));
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
