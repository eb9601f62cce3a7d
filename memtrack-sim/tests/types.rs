//! The types and constants are as wide as `wdk-sys` makes them, which drivers' arithmetic depends on.

use memtrack_sim::*;

/// Compiles where the value has exactly this type.
fn is<T>(_: T) {}

#[test]
fn widths_are_those_of_windows() {
    is::<u64>(0 as SIZE_T);
    is::<u64>(0 as ULONG_PTR);
    is::<u64>(0 as KSPIN_LOCK);
    is::<u32>(0 as ULONG);
    is::<u16>(0 as USHORT);
    is::<u8>(0 as KIRQL);
    is::<i32>(0 as NTSTATUS);
    is::<u64>(POOL_FLAG_NON_PAGED);
    is::<i32>(_POOL_TYPE::NonPagedPoolNx);
    is::<POOL_TYPE>(_POOL_TYPE::PagedPool);
    is::<EX_POOL_PRIORITY>(_EX_POOL_PRIORITY::HighPoolPriority);
    is::<u32>(DISPATCH_LEVEL);
    is::<u32>(PAGE_SIZE);
    is::<*mut core::ffi::c_void>(core::ptr::null_mut() as PVOID);
    is::<i32>(STATUS_SUCCESS);
}

#[test]
fn statuses_are_sorted_by_their_two_highest_bits() {
    let sorted = |status| [NT_SUCCESS(status), NT_INFORMATION(status), NT_WARNING(status), NT_ERROR(status)];
    assert_eq!(sorted(STATUS_SUCCESS), [true, false, false, false]);
    assert_eq!(sorted(STATUS_PENDING), [true, false, false, false]);
    assert_eq!(sorted(0x4000_0001), [true, true, false, false]);
    assert_eq!(sorted(STATUS_BUFFER_OVERFLOW), [false, false, true, false]);
    assert_eq!(sorted(STATUS_INSUFFICIENT_RESOURCES), [false, false, false, true]);
    assert_eq!(STATUS_INSUFFICIENT_RESOURCES, -1_073_741_670);
    assert_eq!(STATUS_QUOTA_EXCEEDED, -1_073_741_756);
}
