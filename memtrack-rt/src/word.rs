//! Arguments and results of a driver's own binding, read as numbers.
//!
//! Bindings differ: a size comes as `u32`, `u64`, `usize`; a pool type as an integer, an enum or a newtype; a
//! pointer as `*mut c_void`, `*mut u8`, `NonNull<u8>`, even `u64`. Whatever the type, what the kernel's calling
//! convention carries is one register, and that register is what is read here.

use core::mem::{align_of, size_of};
use core::ptr;

/// The value as the kernel's calling convention would carry it, zero extended; `None` where it is not one
/// integer, enum or pointer (a slice, a `Result` with a payload, a unit).
///
/// A type counts as one when it is 1, 2, 4 or 8 bytes long and aligned to its size: then one primitive field fills
/// it, unless it is a union or says `repr(align)`. Such a thing is no argument of a pool function; where a driver has
/// one nevertheless, the number is whatever the kernel would read.
pub(crate) fn word<T>(value: &T) -> Option<u64> {
    if size_of::<T>() != align_of::<T>() {
        return None;
    }
    let bytes = ptr::from_ref(value);
    // SAFETY (all four reads): `value` is readable for its own size and aligned to it, as the integer is. Its bytes
    // are initialised, as far as no type can say: it is about to be passed, or was just returned, in one register of
    // the kernel's calling convention, which is an integer, an enum or a pointer; and a field of such a type, as
    // long as it is aligned, leaves no byte of the whole to padding.
    match size_of::<T>() {
        // SAFETY: see above.
        1 => Some(u64::from(unsafe { bytes.cast::<u8>().read() })),
        // SAFETY: see above.
        2 => Some(u64::from(unsafe { bytes.cast::<u16>().read() })),
        // SAFETY: see above.
        4 => Some(u64::from(unsafe { bytes.cast::<u32>().read() })),
        // SAFETY: see above.
        8 => Some(unsafe { bytes.cast::<u64>().read() }),
        _ => None,
    }
}

/// The value as an address or a size of this machine; `None` where it is not one, or does not fit.
pub(crate) fn size<T>(value: &T) -> Option<usize> {
    word(value).and_then(|word| usize::try_from(word).ok())
}

#[cfg(test)]
mod tests {
    use core::ffi::c_void;
    use core::num::NonZeroU64;
    use core::ptr::{self, NonNull};

    use super::*;

    #[test]
    fn whatever_one_register_carries_is_read() {
        #[repr(i32)]
        #[allow(dead_code)]
        enum PoolType {
            NonPaged = 0,
            NonPagedNx = 512,
        }
        #[repr(transparent)]
        struct Flags(u64);

        assert_eq!(word(&7_u8), Some(7));
        assert_eq!(word(&7_u16), Some(7));
        assert_eq!(word(&512_i32), Some(512));
        assert_eq!(word(&-1_i32), Some(0xFFFF_FFFF));
        assert_eq!(word(&usize::MAX), Some(u64::MAX));
        assert_eq!(word(&PoolType::NonPagedNx), Some(512));
        assert_eq!(word(&Flags(0x40)), Some(0x40));
        assert_eq!(word(&NonZeroU64::MIN), Some(1));
        assert_eq!(word(&ptr::without_provenance_mut::<c_void>(0x1000)), Some(0x1000));
        assert_eq!(word(&NonNull::<u8>::dangling()), Some(1));
        assert_eq!(word(&None::<NonNull<u8>>), Some(0));
        assert_eq!(word(&Err::<NonNull<u8>, ()>(())), Some(0));
    }

    #[test]
    fn what_is_wider_or_padded_is_not() {
        assert_eq!(word(&()), None);
        assert_eq!(word(&"text"), None);
        assert_eq!(word(&(1_u8, 2_u16)), None);
        assert_eq!(word(&Some(1_u32)), None);
        assert_eq!(word(&1_u128), None);
    }
}
