//! The types that the simulated functions take and return, spelled and sized as `wdk-sys` has them.
//!
//! They follow Windows's data model on every host: `ULONG` is 32 bits wide, pointers and `SIZE_T` are 64.

#![allow(non_camel_case_types, non_snake_case, reason = "the kernel's names, and bindgen's")]

mod list;
mod lookaside;
mod slist;

use core::ffi::{c_char, c_int, c_uchar, c_void};

pub use list::*;
pub use lookaside::*;
pub use slist::*;

/// A pointer to anything.
pub type PVOID = *mut c_void;
/// One character of an ANSI string.
pub type CHAR = c_char;
/// One unit of a UTF-16 string.
pub type WCHAR = u16;
/// A writable ANSI string that ends in a zero.
pub type PCHAR = *mut CHAR;
/// An ANSI string that ends in a zero.
pub type PCSTR = *const CHAR;
/// A writable UTF-16 string.
pub type PWCH = *mut WCHAR;
/// A UTF-16 string that ends in a zero.
pub type PCWSTR = *const WCHAR;
/// An unsigned byte.
pub type UCHAR = c_uchar;
/// An unsigned 16-bit number.
pub type USHORT = u16;
/// An unsigned 32-bit number.
pub type ULONG = u32;
/// A signed 32-bit number.
pub type LONG = i32;
/// An unsigned 64-bit number.
pub type ULONG64 = u64;
/// An unsigned number as wide as a pointer.
pub type ULONG_PTR = u64;
/// A size in bytes.
pub type SIZE_T = ULONG_PTR;
/// What a kernel function says about its success.
pub type NTSTATUS = i32;
/// An interrupt request level.
pub type KIRQL = UCHAR;
/// Where an interrupt request level is kept.
pub type PKIRQL = *mut KIRQL;
/// A spin lock: one word, zero while nobody holds it.
pub type KSPIN_LOCK = ULONG_PTR;
/// Where a spin lock is kept.
pub type PKSPIN_LOCK = *mut KSPIN_LOCK;
/// What `ExAllocatePool2` is asked for: an or of the `POOL_FLAG_*` constants.
pub type POOL_FLAGS = ULONG64;
/// A handle to a kernel object.
pub type HANDLE = *mut c_void;
/// The number of a NUMA node.
pub type POOL_NODE_REQUIREMENT = ULONG;

pub use _DPFLTR_TYPE::Type as DPFLTR_TYPE;
pub use _EX_POOL_PRIORITY::Type as EX_POOL_PRIORITY;
pub use _POOL_EXTENDED_PARAMETER_TYPE::Type as POOL_EXTENDED_PARAMETER_TYPE;

pub use _POOL_TYPE::Type as POOL_TYPE;

/// The kinds of pool that the older allocation functions are asked for.
#[allow(non_upper_case_globals, reason = "the kernel's names")]
pub mod _POOL_TYPE {
    /// The type of the constants in this module.
    pub type Type = super::c_int;
    /// Nonpaged pool from which code may run.
    pub const NonPagedPool: Type = 0;
    /// The newer name of [`NonPagedPool`].
    pub const NonPagedPoolExecute: Type = 0;
    /// Paged pool.
    pub const PagedPool: Type = 1;
    /// No longer supported: a bugcheck.
    pub const NonPagedPoolMustSucceed: Type = 2;
    /// Reserved.
    pub const DontUseThisType: Type = 3;
    /// Nonpaged pool, aligned to the cache's lines.
    pub const NonPagedPoolCacheAligned: Type = 4;
    /// Paged pool, aligned to the cache's lines.
    pub const PagedPoolCacheAligned: Type = 5;
    /// No longer supported: a bugcheck.
    pub const NonPagedPoolCacheAlignedMustS: Type = 6;
    /// One past the last of the original kinds.
    pub const MaxPoolType: Type = 7;
    /// Reserved for the system.
    pub const NonPagedPoolBase: Type = 0;
    /// Reserved for the system.
    pub const NonPagedPoolBaseMustSucceed: Type = 2;
    /// Reserved for the system.
    pub const NonPagedPoolBaseCacheAligned: Type = 4;
    /// Reserved for the system.
    pub const NonPagedPoolBaseCacheAlignedMustS: Type = 6;
    /// Session pool: here, nonpaged pool.
    pub const NonPagedPoolSession: Type = 32;
    /// Session pool: here, paged pool.
    pub const PagedPoolSession: Type = 33;
    /// No longer supported: a bugcheck.
    pub const NonPagedPoolMustSucceedSession: Type = 34;
    /// Reserved.
    pub const DontUseThisTypeSession: Type = 35;
    /// Session pool: here, nonpaged and aligned to the cache's lines.
    pub const NonPagedPoolCacheAlignedSession: Type = 36;
    /// Session pool: here, paged and aligned to the cache's lines.
    pub const PagedPoolCacheAlignedSession: Type = 37;
    /// No longer supported: a bugcheck.
    pub const NonPagedPoolCacheAlignedMustSSession: Type = 38;
    /// Nonpaged pool from which no code runs.
    pub const NonPagedPoolNx: Type = 512;
    /// Nonpaged pool from which no code runs, aligned to the cache's lines.
    pub const NonPagedPoolNxCacheAligned: Type = 516;
    /// Session pool: here, nonpaged.
    pub const NonPagedPoolSessionNx: Type = 544;
}

/// How hard the kernel should try.
#[allow(non_upper_case_globals, reason = "the kernel's names")]
pub mod _EX_POOL_PRIORITY {
    /// The type of the constants in this module.
    pub type Type = super::c_int;
    /// May fail when memory runs low.
    pub const LowPoolPriority: Type = 0;
    /// Low, and at the end of a page where special pool is on.
    pub const LowPoolPrioritySpecialPoolOverrun: Type = 8;
    /// Low, and at the start of a page where special pool is on.
    pub const LowPoolPrioritySpecialPoolUnderrun: Type = 9;
    /// May fail when memory runs very low.
    pub const NormalPoolPriority: Type = 16;
    /// Normal, and at the end of a page where special pool is on.
    pub const NormalPoolPrioritySpecialPoolOverrun: Type = 24;
    /// Normal, and at the start of a page where special pool is on.
    pub const NormalPoolPrioritySpecialPoolUnderrun: Type = 25;
    /// May fail only when there is no memory at all.
    pub const HighPoolPriority: Type = 32;
    /// High, and at the end of a page where special pool is on.
    pub const HighPoolPrioritySpecialPoolOverrun: Type = 40;
    /// High, and at the start of a page where special pool is on.
    pub const HighPoolPrioritySpecialPoolUnderrun: Type = 41;
}

/// What an extended parameter of `ExAllocatePool3` says.
#[allow(non_upper_case_globals, reason = "the kernel's names")]
pub mod _POOL_EXTENDED_PARAMETER_TYPE {
    /// The type of the constants in this module.
    pub type Type = super::c_int;
    /// Never valid.
    pub const PoolExtendedParameterInvalidType: Type = 0;
    /// The allocation's priority.
    pub const PoolExtendedParameterPriority: Type = 1;
    /// The secure pool to allocate from.
    pub const PoolExtendedParameterSecurePool: Type = 2;
    /// The NUMA node to prefer.
    pub const PoolExtendedParameterNumaNode: Type = 3;
    /// One past the last.
    pub const PoolExtendedParameterMax: Type = 4;
}

/// Who prints with `DbgPrintEx`: the identifiers that the documentation leaves to drivers.
pub mod _DPFLTR_TYPE {
    /// The type of the constants in this module.
    pub type Type = super::c_int;
    /// Video drivers.
    pub const DPFLTR_IHVVIDEO_ID: Type = 78;
    /// Audio drivers.
    pub const DPFLTR_IHVAUDIO_ID: Type = 79;
    /// Network drivers.
    pub const DPFLTR_IHVNETWORK_ID: Type = 80;
    /// Streaming drivers.
    pub const DPFLTR_IHVSTREAMING_ID: Type = 81;
    /// Bus drivers.
    pub const DPFLTR_IHVBUS_ID: Type = 82;
    /// All other drivers.
    pub const DPFLTR_IHVDRIVER_ID: Type = 77;
    /// What `DbgPrint` uses.
    pub const DPFLTR_DEFAULT_ID: Type = 101;
}

/// A processor: its group, and its number in there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct _PROCESSOR_NUMBER {
    /// The group.
    pub Group: USHORT,
    /// The number.
    pub Number: UCHAR,
    /// Zero.
    pub Reserved: UCHAR,
}
/// A processor.
pub type PROCESSOR_NUMBER = _PROCESSOR_NUMBER;
/// Where a processor is written down.
pub type PPROCESSOR_NUMBER = *mut PROCESSOR_NUMBER;

/// A counted ANSI string.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct _STRING {
    /// Bytes in use.
    pub Length: USHORT,
    /// Bytes there are.
    pub MaximumLength: USHORT,
    /// The characters; no zero need follow them.
    pub Buffer: PCHAR,
}
/// A counted ANSI string.
pub type STRING = _STRING;
/// A counted ANSI string.
pub type ANSI_STRING = _STRING;
/// Where a counted ANSI string is kept.
pub type PANSI_STRING = *mut ANSI_STRING;

impl Default for _STRING {
    fn default() -> Self {
        Self { Length: 0, MaximumLength: 0, Buffer: core::ptr::null_mut() }
    }
}

/// A counted UTF-16 string.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct _UNICODE_STRING {
    /// Bytes in use: twice the characters.
    pub Length: USHORT,
    /// Bytes there are.
    pub MaximumLength: USHORT,
    /// The characters; no zero need follow them.
    pub Buffer: PWCH,
}
/// A counted UTF-16 string.
pub type UNICODE_STRING = _UNICODE_STRING;
/// Where a counted UTF-16 string is kept.
pub type PUNICODE_STRING = *mut UNICODE_STRING;

impl Default for _UNICODE_STRING {
    fn default() -> Self {
        Self { Length: 0, MaximumLength: 0, Buffer: core::ptr::null_mut() }
    }
}

/// What a secure pool asks for. Secure pools are not simulated.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct _POOL_EXTENDED_PARAMS_SECURE_POOL {
    /// The pool.
    pub SecurePoolHandle: HANDLE,
    /// What to fill the block with.
    pub Buffer: PVOID,
    /// The block's password.
    pub Cookie: ULONG_PTR,
    /// Who may free and change the block.
    pub SecurePoolFlags: ULONG,
}
/// What a secure pool asks for. Secure pools are not simulated.
pub type POOL_EXTENDED_PARAMS_SECURE_POOL = _POOL_EXTENDED_PARAMS_SECURE_POOL;

/// One extended parameter of `ExAllocatePool3`.
///
/// ```
/// use memtrack_sim::{_EX_POOL_PRIORITY, _POOL_EXTENDED_PARAMETER_TYPE, POOL_EXTENDED_PARAMETER};
///
/// let mut parameter = POOL_EXTENDED_PARAMETER::default();
/// parameter.__bindgen_anon_1.set_Type(_POOL_EXTENDED_PARAMETER_TYPE::PoolExtendedParameterPriority as u64);
/// parameter.__bindgen_anon_2.Priority = _EX_POOL_PRIORITY::HighPoolPriority;
/// assert_eq!(parameter.__bindgen_anon_1.Type(), 1);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct _POOL_EXTENDED_PARAMETER {
    /// What the parameter is about.
    pub __bindgen_anon_1: _POOL_EXTENDED_PARAMETER__bindgen_ty_1,
    /// What it says.
    pub __bindgen_anon_2: _POOL_EXTENDED_PARAMETER__bindgen_ty_2,
}
/// One extended parameter of `ExAllocatePool3`.
pub type POOL_EXTENDED_PARAMETER = _POOL_EXTENDED_PARAMETER;
/// Where extended parameters are kept.
pub type PPOOL_EXTENDED_PARAMETER = *mut POOL_EXTENDED_PARAMETER;
/// Where extended parameters are read from.
pub type PCPOOL_EXTENDED_PARAMETER = *const POOL_EXTENDED_PARAMETER;

/// What an extended parameter is about: three bit fields in 64 bits.
#[repr(C)]
#[repr(align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct _POOL_EXTENDED_PARAMETER__bindgen_ty_1 {
    bits: ULONG64,
}

impl _POOL_EXTENDED_PARAMETER__bindgen_ty_1 {
    const TYPE_BITS: u32 = 8;
    const TYPE_MASK: ULONG64 = (1 << Self::TYPE_BITS) - 1;
    const OPTIONAL: ULONG64 = 1 << Self::TYPE_BITS;

    /// One of the constants of [`_POOL_EXTENDED_PARAMETER_TYPE`].
    #[must_use]
    pub const fn Type(&self) -> ULONG64 {
        self.bits & Self::TYPE_MASK
    }

    /// Sets what [`Type`](Self::Type) reads.
    pub const fn set_Type(&mut self, value: ULONG64) {
        self.bits = (self.bits & !Self::TYPE_MASK) | (value & Self::TYPE_MASK);
    }

    /// 1 where a kernel that does not know the type shall ignore the parameter.
    #[must_use]
    pub const fn Optional(&self) -> ULONG64 {
        (self.bits & Self::OPTIONAL) >> Self::TYPE_BITS
    }

    /// Sets what [`Optional`](Self::Optional) reads.
    pub const fn set_Optional(&mut self, value: ULONG64) {
        self.bits = (self.bits & !Self::OPTIONAL) | ((value & 1) << Self::TYPE_BITS);
    }

    /// Zero.
    #[must_use]
    pub const fn Reserved(&self) -> ULONG64 {
        self.bits >> (Self::TYPE_BITS + 1)
    }

    /// Sets what [`Reserved`](Self::Reserved) reads.
    pub const fn set_Reserved(&mut self, value: ULONG64) {
        let low = Self::TYPE_MASK | Self::OPTIONAL;
        self.bits = (self.bits & low) | (value << (Self::TYPE_BITS + 1));
    }
}

/// What an extended parameter says.
#[repr(C)]
#[derive(Clone, Copy)]
pub union _POOL_EXTENDED_PARAMETER__bindgen_ty_2 {
    /// Reserved.
    pub Reserved2: ULONG64,
    /// Reserved.
    pub Reserved3: PVOID,
    /// The allocation's priority.
    pub Priority: EX_POOL_PRIORITY,
    /// The secure pool to allocate from.
    pub SecurePoolParams: *mut POOL_EXTENDED_PARAMS_SECURE_POOL,
    /// The NUMA node to prefer.
    pub PreferredNode: POOL_NODE_REQUIREMENT,
}

impl Default for _POOL_EXTENDED_PARAMETER__bindgen_ty_2 {
    fn default() -> Self {
        Self { Reserved2: 0 }
    }
}

const _: () =
    assert!(size_of::<POOL_EXTENDED_PARAMETER>() == 16 && align_of::<POOL_EXTENDED_PARAMETER>() == 8);
const _: () = assert!(size_of::<UNICODE_STRING>() == 16 && size_of::<ANSI_STRING>() == 16);
