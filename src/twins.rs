//! The kernel's pool functions as memtrack's own, tracked, over the binding that a feature chose.

/// Everything of the binding's `ntddk`, and in place of its pool functions ones that are tracked, whose blocks have this
/// guard. What is named here hides what the glob brings in.
macro_rules! twins {
    ($guard:expr) => {
        use memtrack_rt::{Function, Location};

        #[cfg(feature = "sim")]
        use crate::binding::EX_POOL_PRIORITY;
        pub use crate::binding::ntddk::*;
        use crate::binding::{
            NTSTATUS, PALLOCATE_FUNCTION, PALLOCATE_FUNCTION_EX, PCPOOL_EXTENDED_PARAMETER, PFREE_FUNCTION,
            PFREE_FUNCTION_EX, PLOOKASIDE_LIST_EX, PNPAGED_LOOKASIDE_LIST, POOL_FLAGS, POOL_TYPE,
            PPAGED_LOOKASIDE_LIST, PVOID, SIZE_T, ULONG, USHORT,
        };

        functions! { $guard;
            allocate ExAllocatePool2(Flags: POOL_FLAGS, NumberOfBytes: SIZE_T, Tag: ULONG);
            allocate ExAllocatePool3(
                Flags: POOL_FLAGS,
                NumberOfBytes: SIZE_T,
                Tag: ULONG,
                ExtendedParameters: PCPOOL_EXTENDED_PARAMETER,
                ExtendedParametersCount: ULONG
            );
            allocate ExAllocatePoolWithQuota(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T);
            free ExFreePool(P: PVOID);
            free ExFreePoolWithTag(P: PVOID, Tag: ULONG);
            free ExFreePool2(
                P: PVOID,
                Tag: ULONG,
                ExtendedParameters: PCPOOL_EXTENDED_PARAMETER,
                ExtendedParametersCount: ULONG
            );
        }

        lists! { $guard;
            initialize ExInitializeNPagedLookasideList(
                Lookaside: PNPAGED_LOOKASIDE_LIST,
                Allocate: PALLOCATE_FUNCTION,
                Free: PFREE_FUNCTION,
                Flags: ULONG,
                Size: SIZE_T,
                Tag: ULONG,
                Depth: USHORT
            );
            initialize ExInitializePagedLookasideList(
                Lookaside: PPAGED_LOOKASIDE_LIST,
                Allocate: PALLOCATE_FUNCTION,
                Free: PFREE_FUNCTION,
                Flags: ULONG,
                Size: SIZE_T,
                Tag: ULONG,
                Depth: USHORT
            );
            initialize ExInitializeLookasideListEx(
                Lookaside: PLOOKASIDE_LIST_EX,
                Allocate: PALLOCATE_FUNCTION_EX,
                Free: PFREE_FUNCTION_EX,
                PoolType: POOL_TYPE,
                Flags: ULONG,
                Size: SIZE_T,
                Tag: ULONG,
                Depth: USHORT
            ) -> NTSTATUS;
            // Not every binding has these, nor every Windows: they are memtrack's own.
            entry allocate_from_list ExAllocateFromNPagedLookasideList(Lookaside: PNPAGED_LOOKASIDE_LIST) -> PVOID;
            entry allocate_from_list ExAllocateFromPagedLookasideList(Lookaside: PPAGED_LOOKASIDE_LIST) -> PVOID;
            entry allocate_from_list ExAllocateFromLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX) -> PVOID;
            entry free_to_list ExFreeToNPagedLookasideList(Lookaside: PNPAGED_LOOKASIDE_LIST, Entry: PVOID);
            entry free_to_list ExFreeToPagedLookasideList(Lookaside: PPAGED_LOOKASIDE_LIST, Entry: PVOID);
            entry free_to_list ExFreeToLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX, Entry: PVOID);
            whole delete_list ExDeleteNPagedLookasideList(Lookaside: PNPAGED_LOOKASIDE_LIST);
            whole delete_list ExDeletePagedLookasideList(Lookaside: PPAGED_LOOKASIDE_LIST);
            whole delete_list ExDeleteLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX);
            whole flush_list ExFlushLookasideListEx(Lookaside: PLOOKASIDE_LIST_EX);
        }

        // wdk-sys leaves these out, as deprecated, or as inline in the header.
        #[cfg(feature = "sim")]
        functions! { $guard;
            allocate ExAllocatePool(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T);
            allocate ExAllocatePoolWithTag(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T, Tag: ULONG);
            allocate ExAllocatePoolWithQuotaTag(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T, Tag: ULONG);
            allocate ExAllocatePoolWithTagPriority(
                PoolType: POOL_TYPE,
                NumberOfBytes: SIZE_T,
                Tag: ULONG,
                Priority: EX_POOL_PRIORITY
            );
            allocate ExAllocatePoolZero(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T, Tag: ULONG);
            allocate ExAllocatePoolUninitialized(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T, Tag: ULONG);
            allocate ExAllocatePoolQuotaZero(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T, Tag: ULONG);
            allocate ExAllocatePoolQuotaUninitialized(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T, Tag: ULONG);
            allocate ExAllocatePoolPriorityZero(
                PoolType: POOL_TYPE,
                NumberOfBytes: SIZE_T,
                Tag: ULONG,
                Priority: EX_POOL_PRIORITY
            );
            allocate ExAllocatePoolPriorityUninitialized(
                PoolType: POOL_TYPE,
                NumberOfBytes: SIZE_T,
                Tag: ULONG,
                Priority: EX_POOL_PRIORITY
            );
        }
    };
}

/// Functions of the kernel's names and parameters. Rust's own calling convention, because a caller's line is kept in no
/// other.
macro_rules! functions {
    ($guard:expr; $($door:ident $name:ident($($parameter:ident: $ty:ty),+);)*) => {
        $(functions! { @$door $guard; $name($($parameter: $ty),+) })*
    };
    (@allocate $guard:expr; $name:ident($($parameter:ident: $ty:ty),+)) => {
        #[doc = concat!("The kernel's `", stringify!($name), "`, tracked: the caller's line is the site.")]
        ///
        /// IRQL and result: as of the kernel's.
        ///
        /// # Safety
        ///
        /// As of the kernel's.
        #[inline]
        #[track_caller]
        pub unsafe fn $name($($parameter: $ty),+) -> PVOID {
            let here = Location::caller();
            crate::door::allocate(here, Function::$name, $guard, ($($parameter,)+), |($($parameter,)+)| {
                // SAFETY: the caller's promise; what memtrack changes of the arguments, the kernel takes as well.
                unsafe { crate::binding::ntddk::$name($($parameter),+) }
            })
        }
    };
    (@free $guard:expr; $name:ident($($parameter:ident: $ty:ty),+)) => {
        #[doc = concat!("The kernel's `", stringify!($name), "`, tracked.")]
        ///
        /// IRQL: as of the kernel's.
        ///
        /// # Safety
        ///
        /// As of the kernel's.
        #[inline]
        #[track_caller]
        pub unsafe fn $name($($parameter: $ty),+) {
            let here = Location::caller();
            crate::door::free(here, Function::$name, ($($parameter,)+), |($($parameter,)+)| {
                // SAFETY: the caller's promise; memtrack gives the address and the tag that the block has.
                unsafe { crate::binding::ntddk::$name($($parameter),+) }
            })
        }
    };
}

/// Functions of lookaside lists, in the same way.
macro_rules! lists {
    ($guard:expr;) => {};
    ($guard:expr; initialize $name:ident($($parameter:ident: $ty:ty),+) $(-> $result:ty)?; $($rest:tt)*) => {
        lists! {
            @function $name($($parameter: $ty),+) $(-> $result)?;
            initialize_list($guard,) by crate::binding::ntddk::$name
        }
        lists! { $guard; $($rest)* }
    };
    ($guard:expr; entry $door:ident $name:ident($($parameter:ident: $ty:ty),+) $(-> $result:ty)?; $($rest:tt)*) => {
        lists! {
            @function $name($($parameter: $ty),+) $(-> $result)?;
            $door() by crate::lookaside::$name
        }
        lists! { $guard; $($rest)* }
    };
    ($guard:expr; whole $door:ident $name:ident($($parameter:ident: $ty:ty),+) $(-> $result:ty)?; $($rest:tt)*) => {
        lists! {
            @function $name($($parameter: $ty),+) $(-> $result)?;
            $door() by crate::binding::ntddk::$name
        }
        lists! { $guard; $($rest)* }
    };
    (
        @function $name:ident($($parameter:ident: $ty:ty),+) $(-> $result:ty)?;
        $door:ident($($guard:expr,)?) by $kernel:path
    ) => {
        #[doc = concat!("The kernel's `", stringify!($name), "`, tracked: see [`lookaside`](crate::lookaside).")]
        ///
        /// IRQL and result: as of the kernel's.
        ///
        /// # Safety
        ///
        /// As of the kernel's.
        #[allow(clippy::too_many_arguments, reason = "the kernel's")]
        #[inline]
        #[track_caller]
        pub unsafe fn $name($($parameter: $ty),+) $(-> $result)? {
            let here = Location::caller();
            crate::door::$door(here, Function::$name, $($guard,)? ($($parameter,)+), |($($parameter,)+)| {
                // SAFETY: the caller's promise; a larger size is a size, too.
                unsafe { $kernel($($parameter),+) }
            }, |_| 0)
        }
    };
}
