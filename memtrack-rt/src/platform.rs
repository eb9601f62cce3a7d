//! The machine as the runtime sees it. Whatever differs between kernels stands behind this one trait.

use core::ffi::CStr;
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;

use crate::pool::Pool;

/// An interrupt request level, as `KIRQL` has it.
pub type Irql = u8;

/// The level of spin locks and the dispatcher. At this level and above paged memory may not be touched, and above it
/// there is no pool.
pub(crate) const DISPATCH_LEVEL: Irql = 2;

/// What a machine says of the block at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// It is the one that was asked for.
    Same,
    /// It is another one, which was allocated later.
    Another,
    /// No block lives there any more.
    Nobody,
    /// The machine cannot tell.
    Unknown,
}

/// A spin lock of the machine: one word, zero while free, which only [`Platform::acquire`] and
/// [`Platform::release`] touch. It is laid out as a `KSPIN_LOCK`.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct SpinLock(AtomicUsize);

impl SpinLock {
    /// A lock that nobody holds.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// The word itself, for the machine's own lock functions.
    #[must_use]
    pub fn word(&self) -> &AtomicUsize {
        &self.0
    }
}

/// What the runtime asks of a kernel.
///
/// # Safety
///
/// The runtime's memory safety rests on an implementation:
/// - [`acquire`](Self::acquire) excludes every other holder of the same lock until
///   [`release`](Self::release), and what one holder wrote is seen by the next;
/// - [`allocate`](Self::allocate) returns memory that nothing else uses until [`free`](Self::free);
/// - [`tenant`](Self::tenant) says [`Same`](Tenant::Same) of no other block than the one that was stamped so.
///
/// None of the functions may come back into the tracker that called it.
pub unsafe trait Platform: Sync {
    /// Sends one line, newline included, to the debugger. It is text, never a format.
    ///
    /// Called with no lock held, at IRQL <= DISPATCH_LEVEL; above, only for a driver's call that is a mistake there.
    fn print(&self, line: &CStr);

    /// Takes `lock`, raising to DISPATCH_LEVEL so that nothing on this processor can come between; returns
    /// the IRQL to go back to. Called at IRQL <= DISPATCH_LEVEL.
    fn acquire(&self, lock: &SpinLock) -> Irql;

    /// Gives `lock` back and returns to `irql`.
    ///
    /// # Safety
    ///
    /// The caller holds `lock`, and `irql` is what [`acquire`](Self::acquire) returned for it.
    unsafe fn release(&self, lock: &SpinLock, irql: Irql);

    /// Nonpaged memory for the tracker's own tables, `bytes` long (never zero) and aligned to 16 bytes;
    /// `None` where the machine has none. Its contents are arbitrary. It must not be tracked itself.
    ///
    /// Called at IRQL <= DISPATCH_LEVEL, with no lock held.
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>>;

    /// The current IRQL. Called at any.
    fn irql(&self) -> Irql;

    /// The number of the processor that this runs on, from 0. Calls on processors of different numbers do not share cache
    /// lines, once they have met; whoever is at it may be moved to another processor at any time.
    ///
    /// A machine that does not say is one processor to the tracker. Called at IRQL <= DISPATCH_LEVEL.
    #[inline]
    fn processor(&self) -> usize {
        0
    }

    /// A number that tells the block which the kernel has just given from `pool`, on this thread, from later ones at its
    /// address; 0 where the machine has none. Thirteen bits of it are kept.
    ///
    /// Called at IRQL <= DISPATCH_LEVEL, with no lock held.
    fn stamp(&self, _block: usize, _pool: Pool) -> u16 {
        0
    }

    /// Whether a block without a stamp is taken for the one that was written down. Where it is not, it is neither held nor looked
    /// at before it is freed: code that is not annotated may have freed it, and its memory may be gone, or somebody else's.
    fn vouches(&self) -> bool {
        true
    }

    /// Whether there is memory at `address` that may be read, and is not out on a disk.
    ///
    /// Called at IRQL <= DISPATCH_LEVEL, with no lock held.
    fn is_mapped(&self, _address: usize) -> bool {
        true
    }

    /// Who lives at `block` now: the one that was stamped `stamp`, or another? It is not asked of blocks that have no
    /// stamp; and with `u16::MAX`, which is no block's, it is asked whether anybody begins there.
    ///
    /// Blocks may be freed by code that is not annotated, and their addresses handed out again; a tracker that
    /// asks is not fooled. Where the answer is [`Unknown`](Tenant::Unknown), it takes the block for the one it knows.
    ///
    /// Called at IRQL <= DISPATCH_LEVEL, with no lock held.
    fn tenant(&self, _block: usize, _stamp: u16) -> Tenant {
        Tenant::Unknown
    }

    /// Breaks into a debugger, if one is attached. Called when [`print`](Self::print) is.
    fn break_in(&self);

    /// Stops the machine with the code [`BUGCHECK`](crate::BUGCHECK) and these parameters. `line` is the report's
    /// first line, which the third one is the address of. A simulated machine may unwind instead; one that returns
    /// lets the driver go on.
    ///
    /// Called at any IRQL, with no lock held.
    fn bugcheck(&self, parameters: [usize; 4], line: &CStr);

    /// Gives back what [`allocate`](Self::allocate) returned.
    ///
    /// Called at IRQL <= DISPATCH_LEVEL, with no lock held.
    ///
    /// # Safety
    ///
    /// `memory` came from this platform's `allocate` and was not given back before; nobody uses it any more.
    unsafe fn free(&self, memory: NonNull<u8>);
}
