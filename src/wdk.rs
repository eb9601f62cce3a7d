//! The kernel that the feature `wdk` chooses: Windows's, through wdk-sys.

use core::ffi::CStr;
use core::ptr::{NonNull, null_mut, without_provenance, without_provenance_mut};
use core::sync::atomic::{AtomicU8, Ordering};

use memtrack_rt::{BUGCHECK, Irql, Platform, Pool, SpinLock, Tenant, Tracker};
use wdk_sys::{POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED, ntddk};

#[cfg(all(windows, not(target_arch = "x86_64")))]
compile_error!(
    "memtrack's feature `wdk` knows how x64 lays out lookaside lists and blocks of pool; other processors are not served yet"
);

pub struct Kernel;

// A `KSPIN_LOCK` is a pointer's size: see `agreement.rs`.
const _: () = assert!(size_of::<SpinLock>() == 8);

/// The tag of memtrack's own memory, as PoolMon shows it.
const TAG: u32 = u32::from_le_bytes(*b"Mtrk");

/// Who prints, and how urgently: `DPFLTR_IHVDRIVER_ID` and `DPFLTR_ERROR_LEVEL` of dpfilter.h. Since Vista the kernel
/// throws away what `DbgPrint` says, unless a registry value asks for it; errors it shows.
const COMPONENT: u32 = 77;
const LEVEL: u32 = 0;

const DISPATCH_LEVEL: Irql = 2;

const PAGE_BYTES: usize = 4096;
/// The kernel's head before each block of less than a page.
const HEAD_BYTES: usize = 16;
/// Where in it the block's tag stands.
const HEAD_TAG: usize = 4;
/// In a stamp: the block is in paged pool. What is below comes from its head.
const PAGED: u16 = 1 << 12;

/// A driver's statics are new whenever it is loaded.
pub fn load_anew(_: &Tracker<Kernel>) {}

/// What is known of heads: nothing yet, that blocks have them, or that they do not.
static HEADS: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const THERE: u8 = 1;
const ELSEWHERE: u8 = 2;

/// Whether blocks have the head that is known here. Its layout is in no header; the symbols have it as `_POOL_HEADER`:
/// sizes and pool in the first four bytes, then the tag. So a block is asked for, and looked at.
fn has_heads() -> bool {
    // Relaxed (both): the answer is always the same, and stands for itself.
    let known = HEADS.load(Ordering::Relaxed);
    if known != UNKNOWN {
        return known == THERE;
    }
    let Some(block) = Kernel.allocate(HEAD_BYTES) else { return false };
    let is_there = head_of(block.as_ptr().addr()).map(|head| {
        // SAFETY: the block has a head, in which this is the tag's place.
        unsafe { head.byte_add(HEAD_TAG).cast::<u32>().read_unaligned() == TAG }
    });
    // SAFETY: allocated above, and used by nobody.
    unsafe { Kernel.free(block) };
    if let Some(is_there) = is_there {
        HEADS.store(if is_there { THERE } else { ELSEWHERE }, Ordering::Relaxed);
    }
    is_there.unwrap_or(false)
}

/// Where the head of a block is, in the same page; none of a block of a page or more.
fn head_of(block: usize) -> Option<*const u8> {
    (block % PAGE_BYTES >= HEAD_BYTES).then(|| without_provenance(block - HEAD_BYTES))
}

/// What in a head says which block it is, in twelve bits, of which one is set: size, pool and tag, which stay while the
/// block lives.
///
/// # Safety
///
/// `head` is in memory that is there, and may be touched at this IRQL.
unsafe fn fingerprint(head: *const u8) -> u16 {
    // SAFETY: the caller's promise; eight bytes of sixteen. Another processor may be writing them, if the block is free.
    let word = unsafe { head.cast::<u64>().read_volatile() };
    // The first two bytes are about the block in front.
    let spread = (word >> 16).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (spread >> 52) as u16 | 1
}

/// What `__debugbreak` compiles to; the kit has it in no function that can be bound.
///
/// # Safety
///
/// Somebody answers it: without a debugger it stops the machine.
unsafe fn break_point() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; a debugger that goes on leaves all as it was.
    unsafe {
        core::arch::asm!("int 3", options(nomem, nostack));
    }
}

// SAFETY: the kernel's spin locks exclude and order, and neither they nor its debug output call a driver. The memory is
// the kernel's, of which nobody else knows. It is never said that the block at an address is the same, only that
// it is not.
unsafe impl Platform for Kernel {
    fn print(&self, line: &CStr) {
        // SAFETY: one string for one `%s`, both terminated by zero.
        unsafe { ntddk::DbgPrintEx(COMPONENT, LEVEL, c"%s".as_ptr(), line.as_ptr()) };
    }

    fn acquire(&self, lock: &SpinLock) -> Irql {
        // SAFETY: the word is a spin lock of one pointer's size, as a `KSPIN_LOCK` is, and lives as long as `lock`.
        unsafe { ntddk::KeAcquireSpinLockRaiseToDpc(lock.word().as_ptr().cast()) }
    }

    unsafe fn release(&self, lock: &SpinLock, irql: Irql) {
        // SAFETY: as above, and the caller holds the lock.
        unsafe { ntddk::KeReleaseSpinLock(lock.word().as_ptr().cast(), irql) };
    }

    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        let flags = POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED;
        // SAFETY: any size will do.
        NonNull::new(unsafe { ntddk::ExAllocatePool2(flags, bytes as u64, TAG) }.cast())
    }

    fn irql(&self) -> Irql {
        // SAFETY: may be called at any time.
        unsafe { ntddk::KeGetCurrentIrql() }
    }

    #[inline]
    fn processor(&self) -> usize {
        // SAFETY: may be called at any IRQL; nothing is written down.
        unsafe { ntddk::KeGetCurrentProcessorNumberEx(null_mut()) as usize }
    }

    fn stamp(&self, block: usize, pool: Pool) -> u16 {
        let is_paged = pool == Pool::Paged;
        if is_paged && self.irql() >= DISPATCH_LEVEL || !has_heads() {
            return 0;
        }
        head_of(block).map_or(0, |head| {
            // SAFETY: the kernel has just given the block to this thread, and its head lies in the same page.
            let fingerprint = unsafe { fingerprint(head) };
            fingerprint | if is_paged { PAGED } else { 0 }
        })
    }

    /// A block of a page or more has no head, and none has one where Driver Verifier gives it a page of its own.
    fn vouches(&self) -> bool {
        false
    }

    fn is_mapped(&self, address: usize) -> bool {
        // SAFETY: may be asked of any address, at IRQL <= DISPATCH_LEVEL.
        unsafe { ntddk::MmIsAddressValid(without_provenance_mut(address)) != 0 }
    }

    /// A block with another head is another one, and nonpaged pool that is not mapped is nobody's. More the kernel does not
    /// say: blocks of one size and tag come and go at one address.
    fn tenant(&self, block: usize, stamp: u16) -> Tenant {
        let is_paged = stamp & PAGED != 0;
        let Some(head) = head_of(block) else { return Tenant::Unknown };
        if stamp == u16::MAX || is_paged && self.irql() >= DISPATCH_LEVEL {
            return Tenant::Unknown;
        }
        // SAFETY: may be asked of any address, at IRQL <= DISPATCH_LEVEL.
        if unsafe { ntddk::MmIsAddressValid(head.cast_mut().cast()) } == 0 {
            // Paged pool may only be out.
            return if is_paged { Tenant::Unknown } else { Tenant::Nobody };
        }
        // SAFETY: the page is there, and of a pool that may be touched now.
        let fingerprint = unsafe { fingerprint(head) };
        if fingerprint == stamp & !PAGED { Tenant::Unknown } else { Tenant::Another }
    }

    fn break_in(&self) {
        // SAFETY: may be called at any time.
        if unsafe { ntddk::KdRefreshDebuggerNotPresent() } == 0 {
            // SAFETY: a debugger is attached, and answers.
            unsafe { break_point() };
        }
    }

    fn bugcheck(&self, [first, second, third, fourth]: [usize; 4], _: &CStr) {
        // SAFETY: may be called at any time.
        unsafe { ntddk::KeBugCheckEx(BUGCHECK, first as u64, second as u64, third as u64, fourth as u64) };
    }

    unsafe fn free(&self, memory: NonNull<u8>) {
        // SAFETY: the caller gives up a piece of `allocate`'s.
        unsafe { ntddk::ExFreePoolWithTag(memory.as_ptr().cast(), TAG) };
    }
}
