//! SLISTs: a header of 16 bytes, and entries that begin with a link.

use core::{mem::offset_of, ptr};

use super::ULONG64;

/// How an entry of an SLIST begins.
#[repr(C)]
#[repr(align(16))]
#[derive(Clone, Copy, Debug)]
pub struct _SLIST_ENTRY {
    /// The entry that was pushed before, or NULL.
    pub Next: *mut _SLIST_ENTRY,
}
/// How an entry of an SLIST begins.
pub type SLIST_ENTRY = _SLIST_ENTRY;
/// Where an entry of an SLIST is kept.
pub type PSLIST_ENTRY = *mut SLIST_ENTRY;

impl Default for _SLIST_ENTRY {
    fn default() -> Self {
        Self { Next: ptr::null_mut() }
    }
}

/// The head of an SLIST.
///
/// ```
/// use memtrack_sim::{SLIST_ENTRY, SLIST_HEADER, ntddk::*};
///
/// let (mut head, mut entry) = (SLIST_HEADER::default(), SLIST_ENTRY::default());
/// unsafe {
///     InitializeSListHead(&mut head);
///     ExpInterlockedPushEntrySList(&mut head, &mut entry);
///     assert_eq!(head.HeaderX64.Depth(), 1);
///     assert_eq!(ExpInterlockedPopEntrySList(&mut head), &raw mut entry);
/// }
/// ```
#[repr(C)]
#[repr(align(16))]
#[derive(Clone, Copy)]
pub union _SLIST_HEADER {
    /// The header as two words.
    pub __bindgen_anon_1: _SLIST_HEADER__bindgen_ty_1,
    /// The header as its fields.
    pub HeaderX64: _SLIST_HEADER__bindgen_ty_2,
}
/// The head of an SLIST.
pub type SLIST_HEADER = _SLIST_HEADER;
/// Where the head of an SLIST is kept.
pub type PSLIST_HEADER = *mut SLIST_HEADER;

impl Default for _SLIST_HEADER {
    fn default() -> Self {
        Self { __bindgen_anon_1: _SLIST_HEADER__bindgen_ty_1::default() }
    }
}

/// An SLIST's header as two words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct _SLIST_HEADER__bindgen_ty_1 {
    /// Depth and sequence.
    pub Alignment: ULONG64,
    /// The first entry's address.
    pub Region: ULONG64,
}

/// An SLIST's header as its fields: four bit fields in 128 bits.
#[repr(C)]
#[repr(align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub struct _SLIST_HEADER__bindgen_ty_2 {
    words: [ULONG64; 2],
}

impl _SLIST_HEADER__bindgen_ty_2 {
    const DEPTH_BITS: u32 = 16;
    const DEPTH: ULONG64 = (1 << Self::DEPTH_BITS) - 1;
    const RESERVED_BITS: u32 = 4;
    const RESERVED: ULONG64 = (1 << Self::RESERVED_BITS) - 1;

    /// How many entries there are.
    #[must_use]
    pub const fn Depth(&self) -> ULONG64 {
        self.words[0] & Self::DEPTH
    }

    /// Sets what [`Depth`](Self::Depth) reads.
    pub const fn set_Depth(&mut self, value: ULONG64) {
        self.words[0] = (self.words[0] & !Self::DEPTH) | (value & Self::DEPTH);
    }

    /// A number that changes with each push.
    #[must_use]
    pub const fn Sequence(&self) -> ULONG64 {
        self.words[0] >> Self::DEPTH_BITS
    }

    /// Sets what [`Sequence`](Self::Sequence) reads.
    pub const fn set_Sequence(&mut self, value: ULONG64) {
        self.words[0] = (self.words[0] & Self::DEPTH) | (value << Self::DEPTH_BITS);
    }

    /// Zero.
    #[must_use]
    pub const fn Reserved(&self) -> ULONG64 {
        self.words[1] & Self::RESERVED
    }

    /// Sets what [`Reserved`](Self::Reserved) reads.
    pub const fn set_Reserved(&mut self, value: ULONG64) {
        self.words[1] = (self.words[1] & !Self::RESERVED) | (value & Self::RESERVED);
    }

    /// The first entry's address without its last four bits, which are zeros.
    #[must_use]
    pub const fn NextEntry(&self) -> ULONG64 {
        self.words[1] >> Self::RESERVED_BITS
    }

    /// Sets what [`NextEntry`](Self::NextEntry) reads.
    pub const fn set_NextEntry(&mut self, value: ULONG64) {
        self.words[1] = (self.words[1] & Self::RESERVED) | (value << Self::RESERVED_BITS);
    }
}

const _: () = assert!(size_of::<SLIST_ENTRY>() == 16 && align_of::<SLIST_ENTRY>() == 16);
const _: () = assert!(offset_of!(SLIST_ENTRY, Next) == 0);
const _: () = assert!(size_of::<SLIST_HEADER>() == 16 && align_of::<SLIST_HEADER>() == 16);
const _: () = assert!(offset_of!(SLIST_HEADER, __bindgen_anon_1) == 0);
const _: () = assert!(offset_of!(SLIST_HEADER, HeaderX64) == 0);
const _: () = assert!(offset_of!(_SLIST_HEADER__bindgen_ty_1, Alignment) == 0);
const _: () = assert!(offset_of!(_SLIST_HEADER__bindgen_ty_1, Region) == 8);
const _: () = assert!(size_of::<_SLIST_HEADER__bindgen_ty_2>() == 16);
