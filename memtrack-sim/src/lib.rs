//! A kernel on the desk: test the code of a Windows driver with plain `cargo test`.
//!
//! A driver that allocates pool, takes spin locks and prints with `DbgPrint` cannot be linked into a test
//! on a development machine, let alone on Linux: the functions it calls live in `ntoskrnl.exe`. This crate
//! has those functions, under the names, types and argument order that `wdk-sys` gives them, over nothing
//! but the standard library. It is not a set of stubs: the kernel's rules are here too. Free a block twice,
//! free it under a wrong tag, ask for paged pool at `DISPATCH_LEVEL`, and the machine on the desk stops with
//! the bugcheck that is documented for it. Only here it is a panic: a test can expect it by name.
//!
//! # Putting it under a driver
//!
//! Give this crate the other one's name where tests are built:
//!
//! ```
//! use memtrack_sim as wdk_sys;
//! use wdk_sys::{POOL_FLAG_PAGED, ntddk::ExAllocatePool2};
//! # let _ = (POOL_FLAG_PAGED, ExAllocatePool2 as unsafe extern "C-unwind" fn(_, _, _) -> _);
//! ```
//!
//! or let Cargo rename it, so that the driver's sources need not change at all:
//!
//! ```toml
//! [dependencies]
//! wdk-sys = { package = "memtrack-sim", version = "0.1" }
//! ```
//!
//! A crate has one name in a build, so what this crate has beside the kernel's functions goes by that name, too:
//! `wdk_sys::Machine`. There are none of the I/O manager's objects here (`DRIVER_OBJECT`, `IRP`): tests call
//! what a dispatch routine calls, or bring small ones of their own.
//!
//! # A test
//!
//! A [`Machine`] is one boot of the simulated machine. It starts with empty pools, collects what the driver
//! prints, can be told to run out of memory, and gives everything back when it is dropped. Tests that boot a
//! machine take turns, however many threads the test harness uses.
//!
//! ```
//! use memtrack_sim as wdk_sys; // only needed where Cargo does not rename the crate
//! use memtrack_sim::{BAD_POOL_CALLER, Machine, PoolKind, catch_bugcheck};
//! use wdk_sys::{
//!     NT_SUCCESS, NTSTATUS, POOL_FLAG_NON_PAGED, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS,
//!     ULONG, ntddk::{DbgPrint, ExAllocatePool2, ExFreePoolWithTag},
//! };
//!
//! const TAG: ULONG = u32::from_ne_bytes(*b"Fmon");
//!
//! // The driver: this part builds against wdk-sys, too.
//! unsafe fn start(bytes: u64, buffer: &mut PVOID) -> NTSTATUS {
//!     unsafe {
//!         *buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG);
//!         if buffer.is_null() {
//!             DbgPrint(c"filemon: no memory for %I64u bytes\n".as_ptr(), bytes);
//!             return STATUS_INSUFFICIENT_RESOURCES;
//!         }
//!     }
//!     STATUS_SUCCESS
//! }
//!
//! // The test.
//! let machine = Machine::boot();
//! let mut buffer = core::ptr::null_mut();
//!
//! assert!(NT_SUCCESS(unsafe { start(512, &mut buffer) }));
//! assert_eq!(machine.pool(PoolKind::NonPaged).bytes, 512);
//!
//! // The machine runs out of memory, and the driver says so.
//! machine.set_pool_limit(PoolKind::NonPaged, Some(600));
//! let mut second = core::ptr::null_mut();
//! assert_eq!(unsafe { start(512, &mut second) }, STATUS_INSUFFICIENT_RESOURCES);
//! assert_eq!(machine.take_output(), ["filemon: no memory for 512 bytes"]);
//!
//! // Freed twice: the machine stops, by name.
//! unsafe { ExFreePoolWithTag(buffer, TAG) };
//! let stop = catch_bugcheck(|| unsafe { ExFreePoolWithTag(buffer, TAG) }).unwrap_err();
//! assert_eq!((stop.code, stop.parameters[0]), (BAD_POOL_CALLER, 0x07));
//! assert_eq!(stop.name(), Some("BAD_POOL_CALLER"));
//! assert!(machine.output()[0].starts_with("bugcheck 0x000000C2 BAD_POOL_CALLER (0x7, "));
//! ```
//!
//! Without a booted machine everything works as well: memory is unlimited and `DbgPrint` goes to standard
//! output, where the test harness captures it. A test may then say `#[should_panic(expected =
//! "BAD_POOL_CALLER")]`. Do not mix the two kinds in one test binary where figures matter: a test that has
//! not booted shares the machine of whichever test has.
//!
//! # What is simulated
//!
//! - **Pool** ([`ntddk`]): alignment and page rules, zeroing, tags, limits, and the ways of freeing wrongly. A block that was just freed is the next one handed out for its size, as on a real
//!   machine, so that a use after free meets somebody else's data. Fresh memory is filled with
//!   [`FRESH_BYTE`].
//! - **IRQL**: one per thread, since a thread stands for a processor. It is kept, checked, and never
//!   preempts.
//! - **Spin locks**: real ones. Taking one twice, or giving back one that is not held, is a bugcheck.
//! - **SLISTs and lookaside lists**: their figures are exact, deleting one that was never initialized, or was deleted
//!   before, is a bugcheck, and depths are tuned when a test says so: [`Machine::pass_tuning_period`].
//! - **`DbgPrint`**: the kernel's format language, its 512-byte buffer, and no floating point.
//!
//! # Bugchecks are panics
//!
//! The functions are `extern "C-unwind"`, where `wdk-sys` has `extern "C"`, so that a panic can leave them.
//! Calls look the same. A callback of the driver's own that is declared `extern "C"` is different: Rust
//! does not unwind through it, and **a bugcheck below such a function aborts the test process**, after its
//! line has been printed. To test that path, call the Rust function that the callback wraps, or declare the
//! callback `extern "C-unwind"` in tests:
//!
//! ```
//! # mod driver {
//! #[cfg(not(test))]
//! pub unsafe extern "C" fn driver_unload() { unsafe { unload() } }
//!
//! // Tests call this one.
//! unsafe fn unload() { /* … */ }
//! # }
//! # let _ = driver::driver_unload as unsafe extern "C" fn();
//! ```
//!
//! The callbacks of lookaside lists are `extern "C"` functions, as in `wdk-sys`: Rust does not take one for an
//! `extern "C-unwind"` function, and a driver's source has to compile with both. So a bugcheck or a raise in such a
//! callback aborts the test process. In a list without callbacks it does not: there the kernel's functions ask the pool
//! themselves.
//!
//! Once a thread is unwinding from a bugcheck, a second one on it is printed and otherwise ignored: what
//! destructors do in a machine that has stopped cannot hide why it stopped.
//!
//! # Limits
//!
//! Memory is not really paged, so touching paged pool at a high IRQL through a pointer goes unnoticed, as
//! does a write outside a block (it meets the neighbouring block, as in the kernel). A thread that is left
//! running when its [`Machine`] is dropped holds pointers into memory that is gone: start threads with
//! [`std::thread::scope`].

mod bugcheck;
mod catch;
mod constants;
mod debug;
mod irql;
mod lookaside;
mod machine;
pub mod ntddk;
mod pool;
mod raise;
mod slist;
mod spin_lock;
mod types;

pub use bugcheck::BugCheck;
pub use catch::{catch_bugcheck, catch_raise};
pub use constants::*;
pub use machine::{Machine, running};
pub use pool::{
    Allocation, FRESH_BYTE, MAXIMUM_REQUEST, PoolKind, PoolUsage, allocation_at, latest_allocation,
};
pub use raise::Raised;
pub use types::*;

/// Asserts, as the kernel's macro does, that the caller may touch paged memory.
///
/// Stops the machine with `IRQL_NOT_LESS_OR_EQUAL` (0, the current IRQL, 8 for «execute», 0) above
/// `APC_LEVEL`: what a page fault in paged code would do on a machine that happens to have paged it out. As
/// in `wdk-sys`, the check is there in builds with debug assertions only.
///
/// ```should_panic
/// use memtrack_sim::{DISPATCH_LEVEL, KIRQL, PAGED_CODE, ntddk::KfRaiseIrql};
///
/// fn read_configuration() {
///     PAGED_CODE!();
/// }
///
/// unsafe { KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
/// read_configuration();
/// ```
#[macro_export]
macro_rules! PAGED_CODE {
    () => {
        if ::core::cfg!(debug_assertions) {
            $crate::__paged_code();
        }
    };
}

#[doc(hidden)]
pub fn __paged_code() {
    irql::require_paging();
}

/// Whether a status is a success or an informational one, as `wdk_sys::NT_SUCCESS`.
#[allow(non_snake_case, reason = "the kernel's name")]
#[must_use]
pub const fn NT_SUCCESS(nt_status: NTSTATUS) -> bool {
    nt_status >= 0
}

/// Whether a status is an informational one, as `wdk_sys::NT_INFORMATION`.
#[allow(non_snake_case, reason = "the kernel's name")]
#[must_use]
pub const fn NT_INFORMATION(nt_status: NTSTATUS) -> bool {
    (nt_status as u32) >> 30 == 1
}

/// Whether a status is a warning, as `wdk_sys::NT_WARNING`.
#[allow(non_snake_case, reason = "the kernel's name")]
#[must_use]
pub const fn NT_WARNING(nt_status: NTSTATUS) -> bool {
    (nt_status as u32) >> 30 == 2
}

/// Whether a status is an error, as `wdk_sys::NT_ERROR`.
#[allow(non_snake_case, reason = "the kernel's name")]
#[must_use]
pub const fn NT_ERROR(nt_status: NTSTATUS) -> bool {
    (nt_status as u32) >> 30 == 3
}
