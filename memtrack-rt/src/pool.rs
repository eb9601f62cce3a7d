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
    /// Not at all: it frees.
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
}

impl Function {
    /// The pool that this function allocates from when its first argument is `word`.
    ///
    /// The bits are `wdm.h`'s: every paged `POOL_TYPE` is odd, and `POOL_FLAG_PAGED` is `0x100`.
    #[must_use]
    pub const fn pool(self, word: Option<u64>) -> Pool {
        const POOL_FLAG_PAGED: u64 = 0x100;
        let paged = match (self.names(), word) {
            (Names::Type, Some(word)) => word & 1 != 0,
            (Names::Flags, Some(word)) => word & POOL_FLAG_PAGED != 0,
            (Names::Nothing, _) | (_, None) => return Pool::Unknown,
        };
        if paged { Pool::Paged } else { Pool::NonPaged }
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
