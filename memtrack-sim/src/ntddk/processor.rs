//! What concerns the processor: its level, its spin locks, and how it stops.

use core::sync::atomic::AtomicU64;

use crate::{
    bugcheck::{BugCheck, stop_for_good},
    irql, spin_lock,
    types::{KIRQL, PKSPIN_LOCK, PPROCESSOR_NUMBER, PROCESSOR_NUMBER, ULONG, ULONG_PTR},
};

/// Returns the current IRQL of this thread. IRQL: any.
///
/// # Safety
///
/// None needed; unsafe as all the kernel's functions are.
pub unsafe extern "C-unwind" fn KeGetCurrentIrql() -> KIRQL {
    irql::current()
}

/// Returns the number of the processor that this runs on, which is this thread's, and writes it to `ProcNumber` with
/// its group, of 64 processors, if that is not null. IRQL: any.
///
/// # Safety
///
/// `ProcNumber` is null, or points to memory that may be written to.
pub unsafe extern "C-unwind" fn KeGetCurrentProcessorNumberEx(ProcNumber: PPROCESSOR_NUMBER) -> ULONG {
    let number = irql::processor();
    if !ProcNumber.is_null() {
        let of_group =
            PROCESSOR_NUMBER { Group: (number / 64) as u16, Number: (number % 64) as u8, Reserved: 0 };
        // SAFETY: the caller's promise.
        unsafe { ProcNumber.write(of_group) };
    }
    number
}

/// Raises this thread's IRQL and returns the one before.
///
/// IRQL: at most `NewIrql`. Otherwise, and for a level beyond `HIGH_LEVEL`, the machine stops with
/// `IRQL_NOT_GREATER_OR_EQUAL` (current IRQL, `NewIrql`, 0, 0).
///
/// # Safety
///
/// The level is lowered again, by [`KeLowerIrql`], to what is returned.
pub unsafe extern "C-unwind" fn KfRaiseIrql(NewIrql: KIRQL) -> KIRQL {
    irql::raise(NewIrql)
}

/// Lowers this thread's IRQL.
///
/// IRQL: at least `NewIrql`. Otherwise the machine stops with `IRQL_NOT_LESS_OR_EQUAL` (current IRQL,
/// `NewIrql`, 0, 0).
///
/// # Safety
///
/// `NewIrql` is what [`KfRaiseIrql`] returned.
pub unsafe extern "C-unwind" fn KeLowerIrql(NewIrql: KIRQL) {
    irql::lower(NewIrql);
}

/// Makes a word a spin lock that nobody holds. IRQL: any.
///
/// # Safety
///
/// `SpinLock` points to a word that lives as long as the lock is used.
pub unsafe extern "C-unwind" fn KeInitializeSpinLock(SpinLock: PKSPIN_LOCK) {
    // SAFETY: the caller's promise.
    spin_lock::initialize(unsafe { word(SpinLock) });
}

/// Raises this thread's IRQL to `DISPATCH_LEVEL`, takes a spin lock, and returns the IRQL before.
///
/// IRQL: at most `DISPATCH_LEVEL`. Otherwise the machine stops with `IRQL_NOT_GREATER_OR_EQUAL` (current
/// IRQL, 2, 0, 0).
///
/// Where this thread holds the lock already it stops with `SPIN_LOCK_ALREADY_OWNED` (the lock's address, 0,
/// 0, 0), and where the thread that held it is gone, with `DPC_WATCHDOG_VIOLATION` (1, the lock's address,
/// 0, 0). Either would hang a real machine.
///
/// # Safety
///
/// `SpinLock` points to a spin lock that [`KeInitializeSpinLock`] initialized.
pub unsafe extern "C-unwind" fn KeAcquireSpinLockRaiseToDpc(SpinLock: PKSPIN_LOCK) -> KIRQL {
    let before = irql::raise(irql::DISPATCH);
    // SAFETY: the caller's promise.
    spin_lock::acquire(unsafe { word(SpinLock) });
    before
}

/// Gives a spin lock back and lowers this thread's IRQL to `NewIrql`.
///
/// IRQL: `DISPATCH_LEVEL`, and at least `NewIrql`. Below, the machine stops with `IRQL_NOT_DISPATCH_LEVEL`
/// (the lock's address, current IRQL, 0, 0); for a higher `NewIrql`, with `IRQL_NOT_LESS_OR_EQUAL` (current
/// IRQL, `NewIrql`, 0, 0).
///
/// Where this thread does not hold the lock it stops with `SPIN_LOCK_NOT_OWNED` (the lock's address, 0, 0,
/// 0).
///
/// # Safety
///
/// As for [`KeAcquireSpinLockRaiseToDpc`], which returned `NewIrql`.
pub unsafe extern "C-unwind" fn KeReleaseSpinLock(SpinLock: PKSPIN_LOCK, NewIrql: KIRQL) {
    irql::require_dispatch(SpinLock.addr() as u64);
    // SAFETY: the caller's promise.
    spin_lock::release(unsafe { word(SpinLock) });
    irql::lower(NewIrql);
}

/// Takes a spin lock without raising this thread's IRQL.
///
/// IRQL: at least `DISPATCH_LEVEL`. Below, the machine stops with `IRQL_NOT_DISPATCH_LEVEL`
/// (the lock's address, current IRQL, 0, 0). Other bugchecks: as for [`KeAcquireSpinLockRaiseToDpc`].
///
/// # Safety
///
/// As for [`KeAcquireSpinLockRaiseToDpc`].
pub unsafe extern "C-unwind" fn KeAcquireSpinLockAtDpcLevel(SpinLock: PKSPIN_LOCK) {
    irql::require_dispatch(SpinLock.addr() as u64);
    // SAFETY: the caller's promise.
    spin_lock::acquire(unsafe { word(SpinLock) });
}

/// Gives a spin lock back without lowering this thread's IRQL.
///
/// IRQL: at least `DISPATCH_LEVEL`. Below, the machine stops with `IRQL_NOT_DISPATCH_LEVEL`
/// (the lock's address, current IRQL, 0, 0). Other bugchecks: as for [`KeReleaseSpinLock`].
///
/// # Safety
///
/// As for [`KeAcquireSpinLockAtDpcLevel`].
pub unsafe extern "C-unwind" fn KeReleaseSpinLockFromDpcLevel(SpinLock: PKSPIN_LOCK) {
    irql::require_dispatch(SpinLock.addr() as u64);
    // SAFETY: the caller's promise.
    spin_lock::release(unsafe { word(SpinLock) });
}

/// Stops the machine: prints the bugcheck to the debug output, and panics with the same text.
///
/// IRQL: any. [`catch_bugcheck`](crate::catch_bugcheck) catches it. On a thread that is unwinding already
/// the process is aborted, since this function must not return.
///
/// # Safety
///
/// None needed; unsafe as all the kernel's functions are.
pub unsafe extern "C-unwind" fn KeBugCheckEx(
    BugCheckCode: ULONG,
    BugCheckParameter1: ULONG_PTR,
    BugCheckParameter2: ULONG_PTR,
    BugCheckParameter3: ULONG_PTR,
    BugCheckParameter4: ULONG_PTR,
) -> ! {
    let parameters = [BugCheckParameter1, BugCheckParameter2, BugCheckParameter3, BugCheckParameter4];
    stop_for_good(BugCheck::new(BugCheckCode, parameters))
}

/// # Safety
///
/// `lock` points to a word that lives on, and that only the functions in this file touch meanwhile.
unsafe fn word<'lock>(lock: PKSPIN_LOCK) -> &'lock AtomicU64 {
    // SAFETY: the caller's promise; the word is 8 bytes, and aligned as any u64 is.
    unsafe { AtomicU64::from_ptr(lock) }
}
