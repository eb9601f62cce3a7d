//! Pool functions: those of Windows 10 2004, which Wine's kernel lacks, and the others, so that each block lies as Windows
//! has it: one of less than a page behind a head of sizes, pool and tag, a larger one at the start of a page. The linker
//! takes these in place of imports.
//!
//! Wine's own functions give the memory. What drivers get from other functions of Wine's, such as the entries of
//! lookaside lists, must not be freed by these.

use core::ptr::null_mut;

use crate::ntddk::KeBugCheckEx;
use crate::{
    _POOL_TYPE, PCPOOL_EXTENDED_PARAMETER, POOL_FLAG_PAGED, POOL_FLAG_UNINITIALIZED, POOL_FLAGS, POOL_TYPE,
    PVOID, SIZE_T, ULONG,
};

const PAGE_BYTES: usize = 4096;

/// The bugcheck of a bad free, and its first parameter for a block of another tag.
const BAD_POOL_CALLER: ULONG = 0xC2;
const WRONG_TAG: u64 = 0xA;

/// Before each block.
#[repr(C)]
struct Head {
    /// What Windows knows of the block in front: nothing here.
    before: [u8; 2],
    /// In units of 16 bytes, the head's included.
    size: u8,
    pool: u8,
    tag: ULONG,
    /// What Wine gave.
    memory: PVOID,
}

// The build script's import library has Wine's functions under these names.
unsafe extern "C" {
    fn WineAllocatePool(PoolType: POOL_TYPE, NumberOfBytes: SIZE_T) -> PVOID;
    fn WineFreePool(P: PVOID);
}

fn allocate(pool: POOL_TYPE, bytes: SIZE_T, tag: ULONG) -> PVOID {
    let Ok(bytes) = usize::try_from(bytes) else { return null_mut() };
    let room = size_of::<Head>() + PAGE_BYTES;
    let Some(total) = bytes.checked_add(room) else { return null_mut() };
    // SAFETY: any size will do.
    let memory = unsafe { WineAllocatePool(pool, total as SIZE_T) };
    if memory.is_null() {
        return memory;
    }
    let first = memory.addr() + size_of::<Head>();
    let start = if bytes >= PAGE_BYTES {
        first.next_multiple_of(PAGE_BYTES)
    } else if first % PAGE_BYTES == 0 {
        first + size_of::<Head>()
    } else {
        first
    };
    let size = (bytes + size_of::<Head>()).div_ceil(16) as u8;
    let head = Head { before: [0; 2], size, pool: pool as u8, tag, memory };
    // SAFETY: the memory is as long as a head, the block, and a page, within which the block begins.
    unsafe {
        let block = memory.byte_add(start - memory.addr());
        block.cast::<Head>().sub(1).write(head);
        block
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ExAllocatePoolWithTag(pool: POOL_TYPE, bytes: SIZE_T, tag: ULONG) -> PVOID {
    allocate(pool, bytes, tag)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ExAllocatePoolWithQuota(pool: POOL_TYPE, bytes: SIZE_T) -> PVOID {
    allocate(pool, bytes, u32::from_le_bytes(*b"None"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ExAllocatePool2(flags: POOL_FLAGS, bytes: SIZE_T, tag: ULONG) -> PVOID {
    if bytes == 0 {
        return null_mut();
    }
    let pool = if flags & POOL_FLAG_PAGED == 0 { _POOL_TYPE::NonPagedPoolNx } else { _POOL_TYPE::PagedPool };
    let block = allocate(pool, bytes, tag);
    if !block.is_null() && flags & POOL_FLAG_UNINITIALIZED == 0 {
        // SAFETY: the block is new, and as long as it was asked to be.
        unsafe { block.cast::<u8>().write_bytes(0, bytes as usize) };
    }
    block
}

/// Without a secure pool the parameters are only wishes.
#[unsafe(no_mangle)]
unsafe extern "C" fn ExAllocatePool3(
    flags: POOL_FLAGS,
    bytes: SIZE_T,
    tag: ULONG,
    _: PCPOOL_EXTENDED_PARAMETER,
    _: ULONG,
) -> PVOID {
    // SAFETY: the caller's promise.
    unsafe { ExAllocatePool2(flags, bytes, tag) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ExFreePool(block: PVOID) {
    // SAFETY: the caller's promise: a block of these functions', which nobody uses any more.
    unsafe { WineFreePool((*block.cast::<Head>().sub(1)).memory) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ExFreePoolWithTag(block: PVOID, tag: ULONG) {
    // SAFETY: the caller's promise.
    unsafe {
        let allocated = (*block.cast::<Head>().sub(1)).tag;
        if tag != 0 && tag != allocated {
            KeBugCheckEx(BAD_POOL_CALLER, WRONG_TAG, block.addr() as u64, allocated.into(), tag.into());
        }
        ExFreePool(block);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ExFreePool2(block: PVOID, tag: ULONG, _: PCPOOL_EXTENDED_PARAMETER, _: ULONG) {
    // SAFETY: the caller's promise.
    unsafe { ExFreePoolWithTag(block, tag) };
}
