//! A driver of which one half is annotated, and whose halves free each other's blocks.

use core::ptr::null_mut;

use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
use wdk_sys::{POOL_FLAG_NON_PAGED, PVOID};

const TAG: u32 = u32::from_le_bytes(*b"Part");
const ROUNDS: usize = 64;

/// Frees `block`, and allocates others until one stands at its address; null where none came to.
fn replaced(block: PVOID, bytes: u64) -> PVOID {
    let mut others = [null_mut(); ROUNDS];
    let mut found = null_mut();
    unsafe {
        ExFreePoolWithTag(block, TAG);
        for other in &mut others {
            *other = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG);
            if *other == block {
                found = *other;
                break;
            }
        }
        for other in others.into_iter().filter(|other| !other.is_null() && *other != found) {
            ExFreePoolWithTag(other, TAG);
        }
    }
    found
}

#[memtrack::instrument]
pub mod annotated {
    use wdk_sys::POOL_FLAG_NON_PAGED;
    use wdk_sys::ntddk::{DbgPrint, ExAllocatePool2, ExFreePoolWithTag};

    use super::{TAG, replaced};

    /// A block of 2,000 bytes goes to the other half, and a small one comes back, at the same address.
    pub fn run() {
        unsafe {
            let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2000, TAG);
            let other = replaced(block, 40);
            if other.is_null() {
                DbgPrint(c"exercise: the address did not come again\n".as_ptr());
                return;
            }
            let bytes = other.cast::<u8>();
            bytes.write_bytes(0x11, 40);
            DbgPrint(c"exercise: the address came again\n".as_ptr());
            ExFreePoolWithTag(other, TAG);
        }
        memtrack::check();
    }
}
