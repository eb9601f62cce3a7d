//! Arguments of which the binding's signature says the type: `as _`, `.into()`, `zeroed()`, `?`, early returns. A
//! file system driver answers for directories.
#![allow(clippy::ptr_as_ptr, reason = "`as _` is what it is about")]

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    #[derive(Clone, Copy, Default)]
    #[repr(transparent)]
    pub struct Flags(pub u64);

    impl From<u32> for Flags {
        fn from(flags: u32) -> Self {
            Self(flags.into())
        }
    }

    pub unsafe fn ExAllocatePool2(_: Flags, bytes: u64, _: u32) -> *mut core::ffi::c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe fn ExFreePoolWithTag(block: *mut core::ffi::c_void, _: u32) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    use bindings::{ExAllocatePool2, ExFreePoolWithTag, Flags};
    use core::mem::zeroed;
    use core::num::TryFromIntError;
    use core::ptr::NonNull;

    const TAG: [u8; 4] = *b"Dirs";

    #[derive(Debug, PartialEq)]
    enum Refused {
        Length,
        Memory,
        Name,
    }

    impl From<TryFromIntError> for Refused {
        fn from(_: TryFromIntError) -> Self {
            Self::Length
        }
    }

    /// One name of a directory, in the order in which the disk has them.
    struct Entry {
        hash: u16,
        directory: bool,
    }

    unsafe fn entries(length: i32) -> Result<NonNull<Entry>, Refused> {
        let bytes = u16::try_from(length)?;
        let block = unsafe {
            /*@*/ExAllocatePool2(0x40_u32.into(), u64::try_from(size_of::<Entry>())? * u64::from(bytes), {
                if length == 0 {
                    return Err(Refused::Length);
                }
                u32::from_le_bytes(TAG)
            })
        };
        NonNull::new(block.cast()).ok_or(Refused::Memory)
    }

    unsafe fn name<'a>(parts: &[Option<&[u8]>]) -> Result<&'a mut [u8], Refused> {
        let length = |part: Option<&[u8]>| part.map(<[u8]>::len).ok_or(Refused::Name);
        unsafe {
            let text = NonNull::new(/*@*/ExAllocatePool2(
                zeroed(),
                parts.iter().copied().map(length).sum::<Result<usize, _>>()? as _,
                TAG.iter().rev().fold(Default::default(), |tag, byte| tag << 8 | u32::from(*byte)),
            ))
            .ok_or(Refused::Memory)?
            .cast();
            let mut end = text;
            for part in parts.iter().flatten() {
                end.copy_from_nonoverlapping(NonNull::from(*part).cast::<u8>(), part.len());
                end = end.add(part.len());
            }
            Ok(core::slice::from_raw_parts_mut(text.as_ptr(), end.addr().get() - text.addr().get()))
        }
    }

    fn marker(wanted: impl Into<Option<u8>>) -> Option<NonNull<u16>> {
        'found: {
            NonNull::new(unsafe {
                /*@*/ExAllocatePool2(Flags::default(), match wanted.into() {
                    Some(length) => length.into(),
                    None => break 'found None,
                }, u32::from_le_bytes(TAG))
            } as _)
        }
    }

    pub fn drive() {
        let tag = u32::from_le_bytes(TAG);
        unsafe {
            let found = entries(3).unwrap();
            found.write(Entry { hash: 0x0BAD, directory: true });
            assert_eq!((found.as_ref().hash, found.as_ref().directory), (0x0BAD, true));
            ExFreePoolWithTag(found.as_ptr().cast(), tag);
            let refused = [-1, 0, 65_535].map(|length| entries(length).err());
            assert_eq!(refused, [Refused::Length, Refused::Length, Refused::Memory].map(Some));

            let long = name(&[Some(b"Program"), Some(b" "), Some(b"Files")]).unwrap();
            assert_eq!(long, b"Program Files");
            ExFreePoolWithTag(long.as_mut_ptr() as _, TAG.map(Into::into).iter().rev().fold(0, |tag, byte: &u32| {
                tag << 8 | byte
            }));
            assert_eq!(name(&[Some(b"a"), None]).err(), Some(Refused::Name));
            assert!(marker(None).is_none());
            marker(10).unwrap().write(1);
        }
    }
}
