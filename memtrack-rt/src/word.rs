//! Arguments and results of a driver's own binding, read as numbers.
//!
//! Bindings differ: a size comes as `u32`, `u64`, `usize`; a pool type as an integer, an enum or a newtype; a
//! pointer as `*mut c_void`, `*mut u8`, `NonNull<u8>`, even `u64`. Whatever the type, what the kernel's calling
//! convention carries is one register, and that register is what is read here.

use core::mem::{MaybeUninit, align_of, needs_drop, size_of};
use core::ptr;

/// The value as the kernel's calling convention would carry it, zero extended; `None` where it is not one
/// integer, enum or pointer (a slice, a `Result` with a payload, a unit).
///
/// A type counts as one when it is 1, 2, 4 or 8 bytes long and aligned to its size: then one primitive field fills
/// it, unless it is a union or says `repr(align)`. Such a thing is no argument of a pool function; where a driver has
/// one nevertheless, the number is whatever the kernel would read.
pub(crate) fn word<T>(value: &T) -> Option<u64> {
    if !is_register::<T>() {
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

/// Whether values of this type are read as numbers.
pub(crate) const fn is_register<T>() -> bool {
    size_of::<T>() == align_of::<T>() && matches!(size_of::<T>(), 1 | 2 | 4 | 8)
}

/// Whether any number of its size is a value of this type: an integer or a raw pointer, a newtype of one, an
/// `Option<NonNull<_>>`; and neither an enum nor a reference, whose missing values `Option` makes use of.
pub(crate) const fn takes_any<T>() -> bool {
    is_register::<T>() && size_of::<Option<T>>() > size_of::<T>() && !needs_drop::<T>()
}

/// Whether a value of this type can hold any address of a block: [`takes_any`], and what lacks a null or owns the block
/// besides.
pub(crate) const fn takes_address<T>() -> bool {
    is_register::<T>() && size_of::<T>() == size_of::<usize>()
}

/// Changes an argument into another number, where its type has room for that number and for any.
pub(crate) fn set<T>(value: &mut T, word: u64) -> bool {
    if !takes_any::<T>() || (size_of::<T>() < 8 && word >> (8 * size_of::<T>()) != 0) {
        return false;
    }
    // SAFETY: just checked: any number is a `T`.
    unsafe { write(value, word) };
    true
}

/// Changes a block's address, in an argument or a result that holds one, into another.
pub(crate) fn set_address<T>(value: &mut T, address: usize) -> bool {
    if !takes_address::<T>() || address == 0 {
        return false;
    }
    // SAFETY: what holds a block's address is an integer or some kind of pointer, and another address, not zero, is
    // a value of it. What owns its block owns the other one now, which is the same to its kernel.
    unsafe { write(value, address as u64) };
    true
}

/// # Safety
///
/// The low bytes of `word`, as many as a `T` has, are a `T`, which is a register.
unsafe fn write<T>(value: *mut T, word: u64) {
    // SAFETY (all four writes): `value` is writable for its own size and aligned to it, as the integer is.
    match size_of::<T>() {
        // SAFETY: see above.
        1 => unsafe { value.cast::<u8>().write(word as u8) },
        // SAFETY: see above.
        2 => unsafe { value.cast::<u16>().write(word as u16) },
        // SAFETY: see above.
        4 => unsafe { value.cast::<u32>().write(word as u32) },
        // SAFETY: see above.
        _ => unsafe { value.cast::<u64>().write(word) },
    }
}

/// Whether [`nothing`] can stand for a result of this type.
pub(crate) const fn has_nothing<R>() -> bool {
    // Nobody can make a value of an uninhabited type, and an `Option` of one is as small as it is.
    let unit = size_of::<R>() == 0 && size_of::<Option<R>>() > 0;
    (unit || takes_any::<R>()) && !needs_drop::<R>()
}

/// What a call returns that is not made: a unit, a zero, a null. `None` where the type has no such value.
pub(crate) fn nothing<R>() -> Option<R> {
    // SAFETY: just checked: either any number is an `R`, or it has one value, which has no bytes.
    has_nothing::<R>().then(|| unsafe { MaybeUninit::zeroed().assume_init() })
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
    fn only_what_takes_any_number_is_changed() {
        #[derive(Debug, PartialEq)]
        #[repr(i32)]
        #[allow(dead_code)]
        enum PoolType {
            NonPaged = 0,
            Paged = 1,
        }
        #[derive(Debug, PartialEq)]
        struct Bytes(u32);

        let mut bytes = Bytes(1);
        assert!(set(&mut bytes, 77) && bytes == Bytes(77));
        assert!(!set(&mut bytes, 1 << 32) && bytes == Bytes(77), "it does not fit");
        let mut pool = PoolType::Paged;
        assert!(!set(&mut pool, 0) && pool == PoolType::Paged);
        let mut layout = &1_u64;
        assert!(!set(&mut layout, 64) && *layout == 1);
        let mut size = NonZeroU64::MIN;
        assert!(!set(&mut size, 5) && size == NonZeroU64::MIN);

        let mut block = NonNull::<u8>::dangling();
        assert!(set_address(&mut block, 0x1000) && block.as_ptr().addr() == 0x1000);
        assert!(!set_address(&mut block, 0) && block.as_ptr().addr() == 0x1000);
        let mut block = ptr::null_mut::<c_void>();
        assert!(set_address(&mut block, 0x2000) && block.addr() == 0x2000);
        assert!(!set_address(&mut "text", 0x2000));
        assert!(!set_address(&mut 1_u32, 0x2000));
    }

    #[test]
    fn only_plain_results_are_made_up() {
        enum Never {}
        struct Token(#[allow(dead_code)] ());
        impl Drop for Token {
            fn drop(&mut self) {}
        }

        assert_eq!(nothing::<()>(), Some(()));
        assert_eq!(nothing::<i32>(), Some(0));
        assert_eq!(nothing::<*mut u8>(), Some(ptr::null_mut()));
        assert!(nothing::<Never>().is_none());
        assert!(nothing::<Token>().is_none());
        assert!(nothing::<NonNull<u8>>().is_none());
        assert!(nothing::<bool>().is_none());
        assert!(nothing::<Result<(), u32>>().is_none());
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
