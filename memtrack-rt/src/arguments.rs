//! The arguments of a driver's call, as they pass through the runtime on their way to the kernel.

use core::mem::{ManuallyDrop, MaybeUninit, needs_drop};
use core::ptr;

use crate::word;

/// The arguments of one call: a tuple of whatever types the driver's binding gives them.
///
/// What is read as a number, and what may be changed, is decided type by type: see `word.rs`.
pub trait Arguments: Sized {
    /// The argument at `place`, from 0, as a number; `None` where it is not one, or there is none.
    #[doc(hidden)]
    fn word(&self, place: usize) -> Option<u64>;

    /// Changes the argument at `place`; false, and nothing changed, where its type does not take that number.
    #[doc(hidden)]
    fn set(&mut self, place: usize, word: u64) -> bool;

    /// Changes the first argument, which holds the address of a block, into another address.
    #[doc(hidden)]
    fn set_block(&mut self, address: usize) -> bool;

    /// The same arguments for a second call, where none of them is ever dropped.
    #[doc(hidden)]
    fn again(&self) -> Option<ManuallyDrop<Self>>;

    /// Whether [`of_free`](Self::of_free) can make such arguments.
    #[doc(hidden)]
    const REMADE: bool;

    /// The arguments of a free: the block, the tag, and zeros.
    #[doc(hidden)]
    fn of_free(address: usize, tag: u32) -> Option<Self>;
}

macro_rules! arguments {
    ($($count:literal: $first:ident $($rest:ident $place:tt)*;)*) => {$(
        impl<$first, $($rest),*> Arguments for ($first, $($rest,)*) {
            #[inline]
            fn word(&self, place: usize) -> Option<u64> {
                match place {
                    0 => word::word(&self.0),
                    $($place => word::word(&self.$place),)*
                    _ => None,
                }
            }

            #[inline]
            fn set(&mut self, place: usize, word: u64) -> bool {
                match place {
                    0 => word::set(&mut self.0, word),
                    $($place => word::set(&mut self.$place, word),)*
                    _ => false,
                }
            }

            #[inline]
            fn set_block(&mut self, address: usize) -> bool {
                word::set_address(&mut self.0, address)
            }

            #[inline]
            fn again(&self) -> Option<ManuallyDrop<Self>> {
                // SAFETY: `self` is readable. Nothing of it is ever dropped, so that a copy of its bits is as good as the
                // value once the first call is over: the kernel keeps none of its arguments.
                (!needs_drop::<Self>()).then(|| unsafe { ptr::read(ptr::from_ref(self).cast()) })
            }

            const REMADE: bool =
                word::takes_address::<$first>() $(&& word::takes_any::<$rest>())* && !needs_drop::<Self>();

            #[inline]
            fn of_free(address: usize, tag: u32) -> Option<Self> {
                if !Self::REMADE || address == 0 {
                    return None;
                }
                let mut made = MaybeUninit::<Self>::zeroed();
                let place = made.as_mut_ptr();
                // SAFETY: the place is as large as the first argument, which holds an address.
                let block = unsafe { &mut *(&raw mut (*place).0).cast::<MaybeUninit<usize>>() };
                block.write(address);
                // SAFETY: the first argument holds addresses and now has one; of the others any number is a value,
                // and so is zero.
                let mut made = unsafe { made.assume_init() };
                // The tag is the one argument after the block that matters; a free without one has none.
                ($count < 2 || made.set(1, tag.into())).then_some(made)
            }
        }
    )*};
}

arguments! {
    1: A;
    2: A B 1;
    3: A B 1 C 2;
    4: A B 1 C 2 D 3;
    5: A B 1 C 2 D 3 E 4;
    7: A B 1 C 2 D 3 E 4 F 5 G 6;
    8: A B 1 C 2 D 3 E 4 F 5 G 6 H 7;
}
