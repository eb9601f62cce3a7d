//! Links: the rings and chains that the kernel's lists are made of.

use core::ptr;

/// A link of a ring: of each list's head, and of each structure in it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct _LIST_ENTRY {
    /// The next link.
    pub Flink: *mut _LIST_ENTRY,
    /// The link before.
    pub Blink: *mut _LIST_ENTRY,
}
/// A link of a ring.
pub type LIST_ENTRY = _LIST_ENTRY;
/// Where a link of a ring is kept.
pub type PLIST_ENTRY = *mut LIST_ENTRY;

impl Default for _LIST_ENTRY {
    fn default() -> Self {
        Self { Flink: ptr::null_mut(), Blink: ptr::null_mut() }
    }
}

/// A link of a chain.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct _SINGLE_LIST_ENTRY {
    /// The next link, or NULL.
    pub Next: *mut _SINGLE_LIST_ENTRY,
}
/// A link of a chain.
pub type SINGLE_LIST_ENTRY = _SINGLE_LIST_ENTRY;
/// Where a link of a chain is kept.
pub type PSINGLE_LIST_ENTRY = *mut SINGLE_LIST_ENTRY;

impl Default for _SINGLE_LIST_ENTRY {
    fn default() -> Self {
        Self { Next: ptr::null_mut() }
    }
}

const _: () = assert!(size_of::<LIST_ENTRY>() == 16 && align_of::<LIST_ENTRY>() == 8);
const _: () = assert!(core::mem::offset_of!(LIST_ENTRY, Flink) == 0);
const _: () = assert!(core::mem::offset_of!(LIST_ENTRY, Blink) == 8);
const _: () = assert!(size_of::<SINGLE_LIST_ENTRY>() == 8 && align_of::<SINGLE_LIST_ENTRY>() == 8);
