//! `UNICODE_STRING`s with buffers of their own: duplicated, joined, upper-cased, freed. A driver makes symbolic links.

#[allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod wdk_sys {
    pub type PWSTR = *mut u16;
    pub type PVOID = *mut core::ffi::c_void;

    #[repr(C)]
    pub struct _UNICODE_STRING {
        pub Length: u16,
        pub MaximumLength: u16,
        pub Buffer: PWSTR,
    }
    pub type UNICODE_STRING = _UNICODE_STRING;

    #[repr(i32)]
    #[derive(Clone, Copy)]
    pub enum _POOL_TYPE {
        PagedPool = 1,
    }

    pub mod ntddk {
        use super::{_POOL_TYPE as POOL_TYPE, PVOID};

        pub unsafe extern "C" fn ExAllocatePoolWithTag(_: POOL_TYPE, bytes: u64, _: u32) -> PVOID {
            crate::host::allocate(bytes)
        }
        pub unsafe extern "C" fn ExFreePool(block: PVOID) {
            crate::host::release(block);
        }
    }
}

memtrack::instrument_items! {
    #![instrument(guard = "full")]

    use core::ptr::null_mut;
    use core::slice;
    use wdk_sys::_POOL_TYPE::PagedPool;
    use wdk_sys::{UNICODE_STRING, ntddk};

    const TAG: u32 = u32::from_le_bytes(*b"UStr");

    /// A string of the driver's.
    struct OwnedString(UNICODE_STRING);

    impl OwnedString {
        fn with_room(units: usize) -> Option<Self> {
            let bytes = u16::try_from(2 * units).ok()?;
            let buffer = match bytes {
                0 => null_mut(),
                bytes => unsafe { /*@*/ntddk::ExAllocatePoolWithTag(PagedPool, bytes.into(), TAG) }.cast::<u16>(),
            };
            let string = UNICODE_STRING { Length: 0, MaximumLength: bytes, Buffer: buffer };
            (bytes == 0 || !buffer.is_null()).then_some(Self(string))
        }

        fn joined(parts: &[&[u16]]) -> Option<Self> {
            let mut whole = Self::with_room(parts.iter().map(|part| part.len()).sum())?;
            for part in parts {
                unsafe {
                    let end = whole.0.Buffer.byte_add(whole.0.Length.into());
                    end.copy_from_nonoverlapping(part.as_ptr(), part.len());
                }
                whole.0.Length += u16::try_from(size_of_val(*part)).ok()?;
            }
            Some(whole)
        }

        fn units(&self) -> &[u16] {
            let UNICODE_STRING { Length, Buffer, .. } = self.0;
            if Buffer.is_null() { &[] } else { unsafe { slice::from_raw_parts(Buffer, usize::from(Length / 2)) } }
        }

        fn upper(&self) -> Option<Self> {
            let upper = self.duplicate()?;
            for unit in unsafe { slice::from_raw_parts_mut(upper.0.Buffer, self.units().len()) } {
                if let Ok(byte) = u8::try_from(*unit) {
                    *unit = byte.to_ascii_uppercase().into();
                }
            }
            Some(upper)
        }

        fn duplicate(&self) -> Option<Self> {
            Self::joined(&[self.units()])
        }

        /// The buffer becomes the I/O manager's.
        fn into_raw(self) -> UNICODE_STRING {
            let UNICODE_STRING { Length, MaximumLength, Buffer } = core::mem::ManuallyDrop::new(self).0;
            UNICODE_STRING { Length, MaximumLength, Buffer }
        }
    }

    impl Drop for OwnedString {
        fn drop(&mut self) {
            if !self.0.Buffer.is_null() {
                unsafe { ntddk::ExFreePool(self.0.Buffer.cast()) }
            }
        }
    }

    pub fn drive() {
        let [prefix, name]: [Vec<u16>; 2] = [r"\??\", "Port1"].map(|text| text.encode_utf16().collect());
        let link = OwnedString::joined(&[&prefix, &name]).unwrap();
        let upper = link.duplicate().and_then(|copy| copy.upper()).unwrap();
        assert_eq!(String::from_utf16_lossy(upper.units()), r"\??\PORT1");
        assert!(OwnedString::joined(&[]).unwrap().units().is_empty());
        assert!(OwnedString::with_room(8000).is_none() && OwnedString::with_room(40_000).is_none());
        let given_away = link.into_raw();
        assert_eq!((given_away.Length, given_away.MaximumLength), (18, 18));
    }
}
