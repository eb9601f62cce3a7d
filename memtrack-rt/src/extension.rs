//! Extended parameters, which ExAllocatePool3 and ExFreePool2 take.

use core::ptr;

use crate::arguments::Arguments;
use crate::pool::Function;

/// What the extended parameters of a call make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// There are none.
    None,
    /// There are some, of which none matters here.
    Plain,
    /// The block is a secure pool's: only the kernel writes to it.
    Secure,
    /// There are some that cannot be read, or that may make it a secure pool's.
    Unknown,
}

impl Extension {
    /// Reads the list that stands at `place` among the arguments, with its length behind it.
    #[inline]
    pub(crate) fn of(function: Function, arguments: &impl Arguments, place: usize) -> Self {
        if !function.is_extended() {
            return Self::None;
        }
        let size = |word: Option<u64>| word.and_then(|word| usize::try_from(word).ok());
        Self::read(size(arguments.word(place)), size(arguments.word(place + 1)))
    }

    /// `POOL_EXTENDED_PARAMETER` of `wdm.h` is 16 bytes long and begins with its type, in eight bits, and a ninth that
    /// says whether a kernel which does not know the type may go on without.
    fn read(list: Option<usize>, count: Option<usize>) -> Self {
        const LENGTH: usize = 16;
        const TYPE: u64 = 0xFF;
        const SECURE_POOL: u64 = 2;
        const OPTIONAL: u64 = 1 << 8;
        // There are three types of parameters; no call has more than some of each.
        const MANY: usize = 16;

        match (list, count) {
            (_, Some(0)) => Self::None,
            (Some(list), Some(count)) if list != 0 && list % align_of::<u64>() == 0 && count <= MANY => {
                let mut extension = Self::Plain;
                for place in 0..count {
                    let parameter = ptr::with_exposed_provenance::<u64>(list.wrapping_add(place * LENGTH));
                    // SAFETY: the driver hands so many parameters to the kernel, which is about to read them.
                    let head = unsafe { parameter.read() };
                    if head & TYPE == SECURE_POOL {
                        extension = if head & OPTIONAL == 0 { Self::Secure } else { Self::Unknown };
                    }
                }
                extension
            }
            _ => Self::Unknown,
        }
    }
}
