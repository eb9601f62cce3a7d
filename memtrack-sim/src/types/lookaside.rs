//! Lookaside lists: an SLIST of free entries, where more come from, and the figures.

use super::{LIST_ENTRY, POOL_TYPE, PVOID, SINGLE_LIST_ENTRY, SIZE_T, SLIST_HEADER, ULONG, USHORT};

// `extern "C"`, and not `extern "C-unwind"` as the kernel's functions: a driver's callbacks are, and do not coerce.

/// Makes an entry of a lookaside list: pool type, size, tag.
pub type ALLOCATE_FUNCTION = Option<unsafe extern "C" fn(POOL_TYPE, SIZE_T, ULONG) -> PVOID>;
/// Makes an entry of a lookaside list: pool type, size, tag.
pub type PALLOCATE_FUNCTION = ALLOCATE_FUNCTION;
/// Frees an entry of a lookaside list.
pub type FREE_FUNCTION = Option<unsafe extern "C" fn(PVOID)>;
/// Frees an entry of a lookaside list.
pub type PFREE_FUNCTION = FREE_FUNCTION;
/// Makes an entry of a lookaside list: pool type, size, tag, list.
pub type ALLOCATE_FUNCTION_EX =
    Option<unsafe extern "C" fn(POOL_TYPE, SIZE_T, ULONG, PLOOKASIDE_LIST_EX) -> PVOID>;
/// Makes an entry of a lookaside list: pool type, size, tag, list.
pub type PALLOCATE_FUNCTION_EX = ALLOCATE_FUNCTION_EX;
/// Frees an entry of a lookaside list: entry, list.
pub type FREE_FUNCTION_EX = Option<unsafe extern "C" fn(PVOID, PLOOKASIDE_LIST_EX)>;
/// Frees an entry of a lookaside list: entry, list.
pub type PFREE_FUNCTION_EX = FREE_FUNCTION_EX;

/// Declares a union whose default is its first field's, which is zeros.
macro_rules! union {
    (
        $(#[$meta:meta])*
        $name:ident {
            $(#[$first_meta:meta])* $first:ident: $first_type:ty,
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub union $name {
            $(#[$first_meta])* pub $first: $first_type,
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $first: <$first_type>::default() }
            }
        }
    };
}

/// Declares the fields that all lookaside lists have. There are two structures of them, which differ in their
/// alignment, and bindgen gives each one unions of its own.
macro_rules! general_lookaside {
    (
        $(#[$meta:meta])*
        $name:ident {
            $heads:ident, $allocate_misses:ident, $free_misses:ident, $allocate:ident, $free:ident, $last_misses:ident
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Default)]
        pub struct $name {
            /// The entries that are free.
            pub __bindgen_anon_1: $heads,
            /// How many free entries to keep.
            pub Depth: USHORT,
            /// How large `Depth` may become.
            pub MaximumDepth: USHORT,
            /// How often an entry was asked for.
            pub TotalAllocates: ULONG,
            /// How often one had to be made.
            pub __bindgen_anon_2: $allocate_misses,
            /// How often an entry was given back.
            pub TotalFrees: ULONG,
            /// How often one was not kept.
            pub __bindgen_anon_3: $free_misses,
            /// The pool of the entries, and the flags that came with it.
            pub Type: POOL_TYPE,
            /// The entries' tag.
            pub Tag: ULONG,
            /// The entries' size in bytes.
            pub Size: ULONG,
            /// What makes an entry.
            pub __bindgen_anon_4: $allocate,
            /// What frees one.
            pub __bindgen_anon_5: $free,
            /// The kernel's link to the list.
            pub ListEntry: LIST_ENTRY,
            /// `TotalAllocates` at the end of the last period.
            pub LastTotalAllocates: ULONG,
            /// `AllocateMisses` at the end of the last period.
            pub __bindgen_anon_6: $last_misses,
            /// Reserved.
            pub Future: [ULONG; 2],
        }

        union! {
            /// The entries that are free.
            #[repr(align(16))]
            $heads {
                /// As an SLIST, which a driver's lists have.
                ListHead: SLIST_HEADER,
                /// As a chain, which some of the system's own have.
                SingleListHead: SINGLE_LIST_ENTRY,
            }
        }
        union! {
            /// How often there was no free entry, or how often there was one.
            $allocate_misses {
                /// How often there was none: what is counted here.
                AllocateMisses: ULONG,
                /// How often there was one, in some of the system's own lists.
                AllocateHits: ULONG,
            }
        }
        union! {
            /// How often an entry was not kept, or how often it was.
            $free_misses {
                /// How often one was not kept: what is counted here.
                FreeMisses: ULONG,
                /// How often one was, in some of the system's own lists.
                FreeHits: ULONG,
            }
        }
        union! {
            /// What makes an entry.
            $allocate {
                /// In a [`LOOKASIDE_LIST_EX`].
                AllocateEx: PALLOCATE_FUNCTION_EX,
                /// In the other lists.
                Allocate: PALLOCATE_FUNCTION,
            }
        }
        union! {
            /// What frees an entry.
            $free {
                /// In a [`LOOKASIDE_LIST_EX`].
                FreeEx: PFREE_FUNCTION_EX,
                /// In the other lists.
                Free: PFREE_FUNCTION,
            }
        }
        union! {
            /// The second field as it was at the end of the last period.
            $last_misses {
                /// Of `AllocateMisses`.
                LastAllocateMisses: ULONG,
                /// Of `AllocateHits`.
                LastAllocateHits: ULONG,
            }
        }

        const _: () = {
            use core::mem::offset_of;
            assert!(offset_of!($name, __bindgen_anon_1.ListHead) == 0);
            assert!(offset_of!($name, __bindgen_anon_1.SingleListHead) == 0);
            assert!(offset_of!($name, Depth) == 16 && offset_of!($name, MaximumDepth) == 18);
            assert!(offset_of!($name, TotalAllocates) == 20);
            assert!(offset_of!($name, __bindgen_anon_2.AllocateMisses) == 24);
            assert!(offset_of!($name, __bindgen_anon_2.AllocateHits) == 24);
            assert!(offset_of!($name, TotalFrees) == 28);
            assert!(offset_of!($name, __bindgen_anon_3.FreeMisses) == 32);
            assert!(offset_of!($name, __bindgen_anon_3.FreeHits) == 32);
            assert!(offset_of!($name, Type) == 36 && offset_of!($name, Tag) == 40);
            assert!(offset_of!($name, Size) == 44);
            assert!(offset_of!($name, __bindgen_anon_4.AllocateEx) == 48);
            assert!(offset_of!($name, __bindgen_anon_4.Allocate) == 48);
            assert!(offset_of!($name, __bindgen_anon_5.FreeEx) == 56);
            assert!(offset_of!($name, __bindgen_anon_5.Free) == 56);
            assert!(offset_of!($name, ListEntry) == 64);
            assert!(offset_of!($name, LastTotalAllocates) == 80);
            assert!(offset_of!($name, __bindgen_anon_6.LastAllocateMisses) == 84);
            assert!(offset_of!($name, __bindgen_anon_6.LastAllocateHits) == 84);
            assert!(offset_of!($name, Future) == 88);
        };
    };
}

general_lookaside! {
    /// A lookaside list on cache lines of its own: its fields.
    #[repr(align(64))]
    _GENERAL_LOOKASIDE {
        _GENERAL_LOOKASIDE__bindgen_ty_1,
        _GENERAL_LOOKASIDE__bindgen_ty_2,
        _GENERAL_LOOKASIDE__bindgen_ty_3,
        _GENERAL_LOOKASIDE__bindgen_ty_4,
        _GENERAL_LOOKASIDE__bindgen_ty_5,
        _GENERAL_LOOKASIDE__bindgen_ty_6
    }
}
/// A lookaside list on cache lines of its own: its fields.
pub type GENERAL_LOOKASIDE = _GENERAL_LOOKASIDE;
/// Where a lookaside list's fields are kept.
pub type PGENERAL_LOOKASIDE = *mut GENERAL_LOOKASIDE;

general_lookaside! {
    /// A lookaside list that may share its cache lines: its fields.
    #[repr(align(16))]
    _GENERAL_LOOKASIDE_POOL {
        _GENERAL_LOOKASIDE_POOL__bindgen_ty_1,
        _GENERAL_LOOKASIDE_POOL__bindgen_ty_2,
        _GENERAL_LOOKASIDE_POOL__bindgen_ty_3,
        _GENERAL_LOOKASIDE_POOL__bindgen_ty_4,
        _GENERAL_LOOKASIDE_POOL__bindgen_ty_5,
        _GENERAL_LOOKASIDE_POOL__bindgen_ty_6
    }
}
/// A lookaside list that may share its cache lines: its fields.
pub type GENERAL_LOOKASIDE_POOL = _GENERAL_LOOKASIDE_POOL;
/// Where a lookaside list's fields are kept.
pub type PGENERAL_LOOKASIDE_POOL = *mut GENERAL_LOOKASIDE_POOL;

/// A lookaside list of nonpaged entries.
#[repr(C)]
#[repr(align(64))]
#[derive(Clone, Copy, Default)]
pub struct _NPAGED_LOOKASIDE_LIST {
    /// Its fields.
    pub L: GENERAL_LOOKASIDE,
}
/// A lookaside list of nonpaged entries.
pub type NPAGED_LOOKASIDE_LIST = _NPAGED_LOOKASIDE_LIST;
/// Where a lookaside list of nonpaged entries is kept.
pub type PNPAGED_LOOKASIDE_LIST = *mut NPAGED_LOOKASIDE_LIST;

/// A lookaside list of paged entries.
#[repr(C)]
#[repr(align(64))]
#[derive(Clone, Copy, Default)]
pub struct _PAGED_LOOKASIDE_LIST {
    /// Its fields.
    pub L: GENERAL_LOOKASIDE,
}
/// A lookaside list of paged entries.
pub type PAGED_LOOKASIDE_LIST = _PAGED_LOOKASIDE_LIST;
/// Where a lookaside list of paged entries is kept.
pub type PPAGED_LOOKASIDE_LIST = *mut PAGED_LOOKASIDE_LIST;

/// A lookaside list of entries from any pool, whose callbacks get the list.
#[repr(C)]
#[repr(align(16))]
#[derive(Clone, Copy, Default)]
pub struct _LOOKASIDE_LIST_EX {
    /// Its fields.
    pub L: GENERAL_LOOKASIDE_POOL,
}
/// A lookaside list of entries from any pool, whose callbacks get the list.
pub type LOOKASIDE_LIST_EX = _LOOKASIDE_LIST_EX;
/// Where a lookaside list of entries from any pool is kept.
pub type PLOOKASIDE_LIST_EX = *mut LOOKASIDE_LIST_EX;

const _: () = assert!(size_of::<GENERAL_LOOKASIDE>() == 128 && align_of::<GENERAL_LOOKASIDE>() == 64);
const _: () =
    assert!(size_of::<GENERAL_LOOKASIDE_POOL>() == 96 && align_of::<GENERAL_LOOKASIDE_POOL>() == 16);
const _: () = assert!(size_of::<NPAGED_LOOKASIDE_LIST>() == 128 && align_of::<NPAGED_LOOKASIDE_LIST>() == 64);
const _: () = assert!(size_of::<PAGED_LOOKASIDE_LIST>() == 128 && align_of::<PAGED_LOOKASIDE_LIST>() == 64);
const _: () = assert!(size_of::<LOOKASIDE_LIST_EX>() == 96 && align_of::<LOOKASIDE_LIST_EX>() == 16);
