//! The pool as drivers speak of it: its kinds, its tags, and the functions that allocate from it and free to it.

use core::fmt;

/// The kind of pool that a block lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Pool {
    /// Always in memory; may be touched at any IRQL.
    NonPaged,
    /// May be paged out; touched below DISPATCH_LEVEL only.
    Paged,
    /// The call's pool argument could not be read as a number (a type of the driver's own, wider than a
    /// register). No block is ever recorded in it.
    Unknown,
}

impl Pool {
    /// The word that reports use: `NonPaged`, `Paged` or `Unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NonPaged => "NonPaged",
            Self::Paged => "Paged",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A pool tag: four characters, the first one in the lowest byte, as the kernel keeps them.
///
/// ```
/// let tag = memtrack_rt::Tag(u32::from_le_bytes(*b"Fmon"));
/// assert_eq!(tag.to_string(), "Fmon");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Tag(pub u32);

impl Tag {
    /// The tag under which the kernel files blocks of functions that take none.
    pub const NONE: Self = Self(u32::from_le_bytes(*b"None"));

    /// The characters in the order in which tools show them.
    #[must_use]
    pub const fn bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

/// How a function names the pool that it allocates from.
enum Names {
    /// `POOL_TYPE`, whose lowest bit says paged.
    Type,
    /// `POOL_FLAGS`, where POOL_FLAG_PAGED says paged.
    Flags,
    /// Not at all: it frees, or has a list.
    Nothing,
}

macro_rules! functions {
    ($($name:ident $names:ident $source:literal)*) => {
        /// The pool functions that memtrack tracks, under the kernel's own names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Function {
            $(#[doc = concat!("`", stringify!($name), "`, ", $source, ".")] $name,)*
        }

        impl Function {
            /// Every function, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kernel's name of it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            const fn names(self) -> Names {
                match self { $(Self::$name => Names::$names,)* }
            }
        }
    };
}

functions! {
    ExAllocatePool Type "exported by ntoskrnl, deprecated since Windows 2000"
    ExAllocatePoolWithTag Type "exported by ntoskrnl, deprecated since Windows 10 2004"
    ExAllocatePoolWithQuota Type "exported by ntoskrnl, raises when refused"
    ExAllocatePoolWithQuotaTag Type "exported by ntoskrnl, raises when refused"
    ExAllocatePoolWithTagPriority Type "exported by ntoskrnl"
    ExAllocatePool2 Flags "exported by ntoskrnl since Windows 10 2004"
    ExAllocatePool3 Flags "exported by ntoskrnl since Windows 10 2004"
    ExAllocatePoolZero Type "inline in wdm.h"
    ExAllocatePoolUninitialized Type "inline in wdm.h"
    ExAllocatePoolQuotaZero Type "inline in wdm.h, raises when refused"
    ExAllocatePoolQuotaUninitialized Type "inline in wdm.h, raises when refused"
    ExAllocatePoolPriorityZero Type "inline in wdm.h"
    ExAllocatePoolPriorityUninitialized Type "inline in wdm.h"
    ExFreePool Nothing "exported by ntoskrnl"
    ExFreePoolWithTag Nothing "exported by ntoskrnl"
    ExFreePool2 Nothing "exported by ntoskrnl since Windows 10 2004"
    ExInitializeNPagedLookasideList Nothing "exported by ntoskrnl"
    ExInitializePagedLookasideList Nothing "exported by ntoskrnl"
    ExInitializeLookasideListEx Nothing "exported by ntoskrnl"
    ExAllocateFromNPagedLookasideList Nothing "exported by ntoskrnl since Windows 11 22H2, inline in wdm.h before"
    ExAllocateFromPagedLookasideList Nothing "exported by ntoskrnl since Windows 11 22H2, inline in wdm.h before"
    ExAllocateFromLookasideListEx Nothing "exported by ntoskrnl since Windows 11 22H2, inline in wdm.h before"
    ExFreeToNPagedLookasideList Nothing "exported by ntoskrnl since Windows 11 22H2, inline in wdm.h before"
    ExFreeToPagedLookasideList Nothing "exported by ntoskrnl since Windows 11 22H2, inline in wdm.h before"
    ExFreeToLookasideListEx Nothing "exported by ntoskrnl since Windows 11 22H2, inline in wdm.h before"
    ExDeleteNPagedLookasideList Nothing "exported by ntoskrnl"
    ExDeletePagedLookasideList Nothing "exported by ntoskrnl"
    ExDeleteLookasideListEx Nothing "exported by ntoskrnl"
    ExFlushLookasideListEx Nothing "exported by ntoskrnl"
}

impl Function {
    /// The pool that this function allocates from when its first argument is `word`.
    ///
    /// The bits are `wdm.h`'s: every paged `POOL_TYPE` is odd, and `POOL_FLAG_PAGED` is `0x100`.
    #[must_use]
    pub const fn pool(self, word: Option<u64>) -> Pool {
        let paged = match (self.names(), word) {
            (Names::Type, Some(word)) => word & PAGED_TYPE != 0,
            (Names::Flags, Some(word)) => word & POOL_FLAG_PAGED != 0,
            (Names::Nothing, _) | (_, None) => return Pool::Unknown,
        };
        if paged { Pool::Paged } else { Pool::NonPaged }
    }
}

/// In a `POOL_TYPE`, and in `POOL_FLAGS`.
const PAGED_TYPE: u64 = 1;
const CACHE_ALIGNED_TYPE: u64 = 4;
const SESSION_TYPE: u64 = 32;
const NX_TYPE: u64 = 512;
const POOL_FLAG_SESSION: u64 = 0x4;
const POOL_FLAG_CACHE_ALIGNED: u64 = 0x8;
const POOL_FLAG_NON_PAGED: u64 = 0x40;
const POOL_FLAG_PAGED: u64 = 0x100;

/// The kernel's page, in bytes: on every processor that Windows 10 and later run on.
pub(crate) const PAGE: usize = 4096;

impl Function {
    /// Whether the pool argument asks for a cache line's alignment.
    pub(crate) const fn is_cache_aligned(self, word: u64) -> bool {
        match self.names() {
            Names::Type => word & CACHE_ALIGNED_TYPE != 0,
            Names::Flags => word & POOL_FLAG_CACHE_ALIGNED != 0,
            Names::Nothing => false,
        }
    }

    /// The pool argument that asks for nonpaged memory, not executable, instead of paged.
    pub(crate) const fn nonpaged_instead(self, word: u64) -> u64 {
        match self.names() {
            Names::Type => (word & !PAGED_TYPE) | NX_TYPE,
            Names::Flags => (word & !POOL_FLAG_PAGED) | POOL_FLAG_NON_PAGED,
            Names::Nothing => word,
        }
    }

    /// Whether a request for no bytes gets no block: the older functions give one of the smallest size.
    pub(crate) const fn refuses_nothing(self) -> bool {
        matches!(self, Self::ExAllocatePool2 | Self::ExAllocatePool3)
    }

    /// Whether the pool argument asks for a session pool, which only its own session can reach.
    pub(crate) const fn is_of_a_session(self, word: u64) -> bool {
        match self.names() {
            Names::Type => word & SESSION_TYPE != 0,
            Names::Flags => word & POOL_FLAG_SESSION != 0,
            Names::Nothing => false,
        }
    }

    /// Whether its last two arguments are extended parameters and their number.
    pub(crate) const fn is_extended(self) -> bool {
        matches!(self, Self::ExAllocatePool3 | Self::ExFreePool2)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonpaged_memory_is_asked_for_in_the_functions_own_words() {
        for function in Function::ALL.iter().filter(|function| !matches!(function.names(), Names::Nothing)) {
            for word in 0..0x400 {
                let instead = function.nonpaged_instead(word);
                assert_eq!(function.pool(Some(instead)), Pool::NonPaged, "{function} {word:#x}");
                assert_eq!(function.is_cache_aligned(instead), function.is_cache_aligned(word));
            }
        }
        assert_eq!(Function::ExAllocatePool2.nonpaged_instead(0x102), 0x42);
        assert_eq!(Function::ExAllocatePoolWithTag.nonpaged_instead(5), 516, "NonPagedPoolNxCacheAligned");
    }

    #[test]
    fn every_pool_type_of_the_header_is_told_apart() {
        let nonpaged = [0, 2, 4, 6, 32, 36, 512, 516, 544];
        let paged = [1, 5, 33, 37];
        for word in nonpaged {
            assert_eq!(Function::ExAllocatePoolWithTag.pool(Some(word)), Pool::NonPaged, "{word}");
        }
        for word in paged {
            assert_eq!(Function::ExAllocatePoolWithTag.pool(Some(word)), Pool::Paged, "{word}");
            assert_eq!(Function::ExAllocatePoolWithQuotaTag.pool(Some(word | 8)), Pool::Paged, "{word}");
        }
    }

    #[test]
    fn pool_flags_are_read_by_their_own_bit() {
        assert_eq!(Function::ExAllocatePool2.pool(Some(0x100)), Pool::Paged);
        assert_eq!(Function::ExAllocatePool3.pool(Some(0x102)), Pool::Paged);
        assert_eq!(Function::ExAllocatePool2.pool(Some(0x41)), Pool::NonPaged);
        assert_eq!(Function::ExAllocatePool2.pool(Some(0x80)), Pool::NonPaged);
        assert_eq!(Function::ExAllocatePool2.pool(None), Pool::Unknown);
    }
}
