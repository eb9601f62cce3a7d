//! `wdk-sys` as drivers name it, on hosts without the kit: types and constants at the root, functions in [`ntddk`].
#![no_std]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, reason = "the kernel's own names")]
#![allow(unnecessary_transmutes, unsafe_op_in_unsafe_fn, clippy::all, reason = "bindgen's code")]

pub use constants::*;
pub use types::*;

#[cfg(target_os = "windows")]
mod irql;
#[cfg(target_os = "windows")]
mod pool;

/// C's types on 64-bit Windows, whatever target this is checked for.
pub mod llp64 {
    pub use core::ffi::{
        c_char, c_double, c_float, c_int, c_longlong, c_schar, c_short, c_uchar, c_uint, c_ulonglong,
        c_ushort, c_void,
    };
    pub type c_long = i32;
    pub type c_ulong = u32;
}

mod types {
    include!(concat!(env!("OUT_DIR"), "/types.rs"));
}

mod constants {
    use crate::types::*;

    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

pub mod ntddk {
    use crate::types::*;

    include!(concat!(env!("OUT_DIR"), "/ntddk.rs"));
}

/// Which linkers ask for wherever there are floating-point types.
#[unsafe(no_mangle)]
pub static _fltused: () = ();

/// Whether a function succeeded.
#[must_use]
pub const fn NT_SUCCESS(nt_status: NTSTATUS) -> bool {
    nt_status >= 0
}

/// In a debug build, stops where paged code runs at too high an IRQL.
#[macro_export]
macro_rules! PAGED_CODE {
    () => {
        // SAFETY: may be called at any time.
        debug_assert!(unsafe { $crate::ntddk::KeGetCurrentIrql() } <= $crate::APC_LEVEL as u8)
    };
}
