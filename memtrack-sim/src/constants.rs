//! The constants that drivers use with the simulated functions, with the types that `wdk-sys` gives them.

use crate::types::{NTSTATUS, POOL_FLAGS};

/// First of the flags that the kernel must honour.
pub const POOL_FLAG_REQUIRED_START: POOL_FLAGS = 0x1;
/// Charge the current process's quota.
pub const POOL_FLAG_USE_QUOTA: POOL_FLAGS = 0x1;
/// Do not zero the block.
pub const POOL_FLAG_UNINITIALIZED: POOL_FLAGS = 0x2;
/// Use the session's pool: here, the ordinary one.
pub const POOL_FLAG_SESSION: POOL_FLAGS = 0x4;
/// Align the block to the cache's lines.
pub const POOL_FLAG_CACHE_ALIGNED: POOL_FLAGS = 0x8;
/// Reserved for the system.
pub const POOL_FLAG_RESERVED1: POOL_FLAGS = 0x10;
/// Raise where NULL would be returned.
pub const POOL_FLAG_RAISE_ON_FAILURE: POOL_FLAGS = 0x20;
/// Nonpaged pool from which no code runs.
pub const POOL_FLAG_NON_PAGED: POOL_FLAGS = 0x40;
/// Nonpaged pool from which code may run.
pub const POOL_FLAG_NON_PAGED_EXECUTE: POOL_FLAGS = 0x80;
/// Paged pool.
pub const POOL_FLAG_PAGED: POOL_FLAGS = 0x100;
/// Reserved for the system.
pub const POOL_FLAG_RESERVED2: POOL_FLAGS = 0x200;
/// Reserved for the system.
pub const POOL_FLAG_RESERVED3: POOL_FLAGS = 0x400;
/// Last of the flags that the kernel must honour.
pub const POOL_FLAG_REQUIRED_END: POOL_FLAGS = 0x8000_0000;
/// First of the flags that the kernel may ignore.
pub const POOL_FLAG_OPTIONAL_START: POOL_FLAGS = 0x1_0000_0000;
/// Use special pool.
pub const POOL_FLAG_SPECIAL_POOL: POOL_FLAGS = 0x1_0000_0000;
/// Last of the flags that the kernel may ignore.
pub const POOL_FLAG_OPTIONAL_END: POOL_FLAGS = 0x8000_0000_0000_0000;

/// In a pool type: return NULL where a function that charges quota would raise.
pub const POOL_QUOTA_FAIL_INSTEAD_OF_RAISE: u32 = 8;
/// In a pool type: raise where NULL would be returned.
pub const POOL_RAISE_IF_ALLOCATION_FAILURE: u32 = 16;
/// In a pool type: a hint that the block is seldom touched.
pub const POOL_COLD_ALLOCATION: u32 = 256;
/// In a pool type: no code runs from the block.
pub const POOL_NX_ALLOCATION: u32 = 512;
/// In a pool type: zero the block.
pub const POOL_ZERO_ALLOCATION: u32 = 1024;

/// Flag of `ExInitializeLookasideListEx`: raise where there is no memory for an entry.
pub const EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL: u32 = 1;
/// Flag of `ExInitializeLookasideListEx`: return NULL, even where entries are charged to a process.
pub const EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE: u32 = 2;
/// How deep a lookaside list may become.
pub const EX_MAXIMUM_LOOKASIDE_DEPTH_BASE: u32 = 256;
/// How deep the deepest lookaside list may become.
pub const EX_MAXIMUM_LOOKASIDE_DEPTH_LIMIT: u32 = 1024;
/// The size in bytes of the smallest entries that a lookaside list has: room for a link.
pub const LOOKASIDE_MINIMUM_BLOCK_SIZE: u32 = 8;

/// A page's size in bytes.
pub const PAGE_SIZE: u32 = 4096;
/// How many bits of an address lie within a page.
pub const PAGE_SHIFT: u32 = 12;

/// Where ordinary threads run.
pub const PASSIVE_LEVEL: u32 = 0;
/// The lowest level.
pub const LOW_LEVEL: u32 = 0;
/// Where asynchronous procedure calls run: the highest level at which memory may be paged in.
pub const APC_LEVEL: u32 = 1;
/// Where the scheduler, deferred procedure calls and holders of spin locks run.
pub const DISPATCH_LEVEL: u32 = 2;
/// The highest level.
pub const HIGH_LEVEL: u32 = 15;

/// The level of `DbgPrintEx` for errors.
pub const DPFLTR_ERROR_LEVEL: u32 = 0;
/// The level of `DbgPrintEx` for warnings.
pub const DPFLTR_WARNING_LEVEL: u32 = 1;
/// The level of `DbgPrintEx` for tracing.
pub const DPFLTR_TRACE_LEVEL: u32 = 2;
/// The level of `DbgPrintEx` for information, which is `DbgPrint`'s.
pub const DPFLTR_INFO_LEVEL: u32 = 3;

/// Declares a list of numbers with their kernel names, and a function that finds a number's name.
macro_rules! named {
    ($find:ident: $number:ty; $($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $number = $value;)*

        pub(crate) fn $find(number: $number) -> Option<&'static str> {
            [$((($name), stringify!($name)),)*].into_iter().find(|known| known.0 == number).map(|known| known.1)
        }
    };
}

const fn status(bits: u32) -> NTSTATUS {
    bits as NTSTATUS
}

named! { status_name: NTSTATUS;
    /// Done.
    STATUS_SUCCESS = 0;
    /// To be done later.
    STATUS_PENDING = status(0x0000_0103);
    /// An address is not a multiple of what it must be.
    STATUS_DATATYPE_MISALIGNMENT = status(0x8000_0002);
    /// More data than fits.
    STATUS_BUFFER_OVERFLOW = status(0x8000_0005);
    /// There are no more of them.
    STATUS_NO_MORE_ENTRIES = status(0x8000_001A);
    /// Not done.
    STATUS_UNSUCCESSFUL = status(0xC000_0001);
    /// Not written yet.
    STATUS_NOT_IMPLEMENTED = status(0xC000_0002);
    /// The size is not the structure's.
    STATUS_INFO_LENGTH_MISMATCH = status(0xC000_0004);
    /// Memory was touched that may not be.
    STATUS_ACCESS_VIOLATION = status(0xC000_0005);
    /// That handle is none.
    STATUS_INVALID_HANDLE = status(0xC000_0008);
    /// That argument is none.
    STATUS_INVALID_PARAMETER = status(0xC000_000D);
    /// There is no such device.
    STATUS_NO_SUCH_DEVICE = status(0xC000_000E);
    /// There is no such file.
    STATUS_NO_SUCH_FILE = status(0xC000_000F);
    /// The device does not do that.
    STATUS_INVALID_DEVICE_REQUEST = status(0xC000_0010);
    /// There is no virtual memory.
    STATUS_NO_MEMORY = status(0xC000_0017);
    /// Not allowed.
    STATUS_ACCESS_DENIED = status(0xC000_0022);
    /// The buffer is too small.
    STATUS_BUFFER_TOO_SMALL = status(0xC000_0023);
    /// There is no object of that name.
    STATUS_OBJECT_NAME_NOT_FOUND = status(0xC000_0034);
    /// There is an object of that name.
    STATUS_OBJECT_NAME_COLLISION = status(0xC000_0035);
    /// The process's share is used up.
    STATUS_QUOTA_EXCEEDED = status(0xC000_0044);
    /// There is no pool left.
    STATUS_INSUFFICIENT_RESOURCES = status(0xC000_009A);
    /// It is not ready.
    STATUS_DEVICE_NOT_READY = status(0xC000_00A3);
    /// It is not supported.
    STATUS_NOT_SUPPORTED = status(0xC000_00BB);
    /// The fourth argument is none.
    STATUS_INVALID_PARAMETER_4 = status(0xC000_00F2);
    /// The fifth argument is none.
    STATUS_INVALID_PARAMETER_5 = status(0xC000_00F3);
    /// It was called off.
    STATUS_CANCELLED = status(0xC000_0120);
    /// It is not there.
    STATUS_NOT_FOUND = status(0xC000_0225);
    /// A number does not fit.
    STATUS_INTEGER_OVERFLOW = status(0xC000_0095);
}

named! { bugcheck_name: u32;
    /// A function was called below `DISPATCH_LEVEL` that may not be.
    IRQL_NOT_DISPATCH_LEVEL = 0x8;
    /// The IRQL was raised to a lower level.
    IRQL_NOT_GREATER_OR_EQUAL = 0x9;
    /// The IRQL was lowered to a higher level, or pageable memory was wanted at a level that is too high.
    IRQL_NOT_LESS_OR_EQUAL = 0xA;
    /// A spin lock was taken twice by one processor.
    SPIN_LOCK_ALREADY_OWNED = 0xF;
    /// A spin lock was given back by someone who did not hold it.
    SPIN_LOCK_NOT_OWNED = 0x10;
    /// The pool's own records were overwritten.
    BAD_POOL_HEADER = 0x19;
    /// An exception that nobody handled.
    KMODE_EXCEPTION_NOT_HANDLED = 0x1E;
    /// Memory was touched that is not there.
    PAGE_FAULT_IN_NONPAGED_AREA = 0x50;
    /// The pool was asked for something that it does not do.
    BAD_POOL_CALLER = 0xC2;
    /// The driver verifier found a mistake.
    DRIVER_VERIFIER_DETECTED_VIOLATION = 0xC4;
    /// The pool was corrupted.
    DRIVER_CORRUPTED_EXPOOL = 0xC5;
    /// A driver touched pageable memory at a level that is too high.
    DRIVER_IRQL_NOT_LESS_OR_EQUAL = 0xD1;
    /// Someone stopped the machine on purpose.
    MANUALLY_INITIATED_CRASH = 0xE2;
    /// A processor stayed at `DISPATCH_LEVEL` for too long.
    DPC_WATCHDOG_VIOLATION = 0x133;
    /// The kernel found one of its structures corrupted.
    KERNEL_SECURITY_CHECK_FAILURE = 0x139;
}
