//! The kernel's functions, as in `wdk_sys::ntddk`, and those inline and deprecated ones that `wdk-sys`
//! leaves out.
//!
//! All of them are `unsafe extern "C-unwind"`, where `wdk-sys` has `extern "C"`: a bugcheck is a panic
//! here, and must be able to leave them. A call looks the same; a driver that stores one of them in a
//! function pointer has to leave the pointer's type to inference.
//!
//! The rules that all the allocation functions share:
//!
//! - A block of less than [`PAGE_SIZE`](crate::PAGE_SIZE) is aligned to 16 bytes and does not cross a
//!   page's end; a larger one begins on a page. A cache-aligned block begins on a multiple of 64.
//! - **IRQL**: at most `DISPATCH_LEVEL`, and at most `APC_LEVEL` for paged pool. Otherwise the machine
//!   stops with `BAD_POOL_CALLER` (0x08, current IRQL, pool type, size).
//! - A `MustSucceed` pool type stops it with `BAD_POOL_CALLER` (0x9A, pool type, size, tag).
//! - A tag of zero stops it with `BAD_POOL_CALLER` (0x9B, pool type, size, 0), except in `ExAllocatePool2`
//!   and `ExAllocatePool3`, which fail. The kernel's last parameter is the caller's address.
//! - What is not zeroed holds [`FRESH_BYTE`](crate::FRESH_BYTE) where memory is used for the first time, and
//!   otherwise what its last owner left there.
//! - A size of zero gives a block of the smallest size, except in `ExAllocatePool2` and `ExAllocatePool3`.
//! - A pool at its limit gives NULL, as does a request beyond [`MAXIMUM_REQUEST`](crate::MAXIMUM_REQUEST).
//!
//! And those that the freeing functions share; each stops the machine with `BAD_POOL_CALLER`:
//!
//! | mistake | parameters |
//! | --- | --- |
//! | NULL | 0x46, 0, 0, 0 |
//! | an address at which no block begins: unknown, or within a block | 0x99, address, 0, 0 |
//! | a block that is free | 0x07, 0, its last tag, address |
//! | IRQL too high for the block's pool | 0x09, current IRQL, pool type, address |
//! | a tag that is neither 0 nor the block's | 0x0A, address, the block's tag, the tag given |
//!
//! And those that the functions of SLISTs share:
//!
//! - **IRQL**: at most `DISPATCH_LEVEL`. Otherwise the machine stops with `IRQL_NOT_LESS_OR_EQUAL` (the header's
//!   address, current IRQL, 1, 0).
//! - Headers and entries are aligned to 16 bytes. Otherwise the machine stops with `KMODE_EXCEPTION_NOT_HANDLED`
//!   (`STATUS_DATATYPE_MISALIGNMENT`, 0, 1, the address), which is what becomes of a processor's exception that
//!   nobody handles; and for NULL, with the same of `STATUS_ACCESS_VIOLATION`.
//!
//! And those of lookaside lists, which have an SLIST each:
//!
//! - A list keeps up to `Depth` free entries, and begins with a depth of 4: see
//!   [`Machine::pass_tuning_period`](crate::Machine::pass_tuning_period). The parameter `Depth` is reserved.
//! - An entry has the size that the list was made with, at least
//!   [`LOOKASIDE_MINIMUM_BLOCK_SIZE`](crate::LOOKASIDE_MINIMUM_BLOCK_SIZE).
//! - Where the list has no callback, entries come from the pool as from `ExAllocatePoolWithTag`, and go back as with
//!   `ExFreePool`, with all their bugchecks. What stands in the list then are functions that call these.
//! - **IRQL**: too high for a list of nonpaged entries is as for SLISTs, and for one of paged entries as for
//!   [`PAGED_CODE!`](crate::PAGED_CODE): `IRQL_NOT_LESS_OR_EQUAL` (0, current IRQL, 8, 0).
//! - Deleting a list that the kernel does not know, because it was never initialized, was deleted before or belongs to
//!   another machine, or whose links were overwritten, stops the machine with `KERNEL_SECURITY_CHECK_FAILURE` (3, the
//!   address of its `ListEntry`, 0, 0). One whose `ListEntry` is linked to itself is deleted without a word.
//! - A list without callbacks, since it was never initialized, stops it with `KMODE_EXCEPTION_NOT_HANDLED`
//!   (`STATUS_ACCESS_VIOLATION`, 0, 8, 0) where one would be called.

#![allow(non_snake_case, reason = "the kernel's names")]

mod allocate;
mod free;
mod lookaside;
mod processor;
mod slist;

pub use allocate::*;
pub use free::*;
pub use lookaside::*;
pub use processor::*;
pub use slist::*;

pub use crate::debug::{DbgPrint, DbgPrintEx};
