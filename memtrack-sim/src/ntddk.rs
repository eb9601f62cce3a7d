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

#![allow(non_snake_case, reason = "the kernel's names")]

mod allocate;
mod free;
mod processor;
mod slist;

pub use allocate::*;
pub use free::*;
pub use processor::*;
pub use slist::*;

pub use crate::debug::{DbgPrint, DbgPrintEx};
