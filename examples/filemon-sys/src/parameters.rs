//! Numbers from the registry key of the driver's service.

use core::mem::MaybeUninit;
use core::ptr::null_mut;

use wdk_sys::ntddk::{ZwClose, ZwOpenKey, ZwQueryValueKey};
use wdk_sys::{
    _KEY_VALUE_INFORMATION_CLASS, HANDLE, KEY_QUERY_VALUE, KEY_VALUE_PARTIAL_INFORMATION, NT_SUCCESS,
    OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PCUNICODE_STRING, ULONG, UNICODE_STRING,
};

/// As long as any name here.
const LONGEST_NAME: usize = 16;
/// The type of a 32-bit number: `REG_DWORD` of winnt.h.
const REG_DWORD: ULONG = 4;

/// The `REG_DWORD` of this name under `key`; 0 where there is none.
///
/// PASSIVE_LEVEL.
///
/// # Safety
///
/// `key` is the registry path that the system gave `DriverEntry`.
pub unsafe fn number(key: PCUNICODE_STRING, name: &str) -> u32 {
    let mut attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as ULONG,
        ObjectName: key.cast_mut(),
        Attributes: OBJ_KERNEL_HANDLE,
        RootDirectory: null_mut(),
        SecurityDescriptor: null_mut(),
        SecurityQualityOfService: null_mut(),
    };
    let mut handle = null_mut();
    // SAFETY: the caller's name, and locals.
    let status = unsafe { ZwOpenKey(&raw mut handle, KEY_QUERY_VALUE, &raw mut attributes) };
    if !NT_SUCCESS(status) {
        return 0;
    }
    let number = value(handle, name);
    // SAFETY: the handle was just opened.
    let _ = unsafe { ZwClose(handle) };
    number.unwrap_or(0)
}

fn value(key: HANDLE, name: &str) -> Option<u32> {
    let mut units = [0; LONGEST_NAME];
    let mut bytes = 0;
    for (unit, character) in units.iter_mut().zip(name.encode_utf16()) {
        *unit = character;
        bytes += 2;
    }
    let mut name = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: units.as_mut_ptr() };
    // Its last field is the first byte of the data: here is room for all four.
    let mut value = MaybeUninit::<KEY_VALUE_PARTIAL_INFORMATION>::zeroed();
    let mut length = 0;
    // SAFETY: a key's handle, and locals as long as they are said to be.
    let status = unsafe {
        ZwQueryValueKey(
            key,
            &raw mut name,
            _KEY_VALUE_INFORMATION_CLASS::KeyValuePartialInformation,
            value.as_mut_ptr().cast(),
            size_of_val(&value) as ULONG,
            &raw mut length,
        )
    };
    // SAFETY: the structure is one of numbers, zeroed before.
    let value = unsafe { value.assume_init() };
    if !NT_SUCCESS(status) || value.Type != REG_DWORD {
        return None;
    }
    // SAFETY: a `REG_DWORD` has four bytes of data, which the structure has room for.
    Some(unsafe { (&raw const value.Data).cast::<u32>().read_unaligned() })
}
