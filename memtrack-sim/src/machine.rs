//! A machine: one boot of the simulated kernel, for one test at a time.

use core::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    debug, irql,
    lookaside::{self, Tuned},
    pool::{self, PoolKind, PoolUsage, Pools},
};

/// Whose turn it is to run a machine. The process has one set of pools, as a computer has.
static TURN: Mutex<()> = Mutex::new(());

/// The number of the machine that runs: 0 for the default one.
static RUNNING: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static RUNNING_HERE: Cell<bool> = const { Cell::new(false) };
}

/// A running machine with empty pools, whose debug output is collected.
///
/// There is one at a time in a process: tests that boot one wait for each other. Dropping it switches it
/// off, and with it goes all memory that its pools hold, live blocks and freed ones alike. A test that
/// failed has dropped its machine by then, so that the next one starts clean.
///
/// Threads that the test starts share the machine, each at `PASSIVE_LEVEL` to begin with. They have to end
/// before it does: their pointers into its pools die with it. [`std::thread::scope`] sees to that, since a
/// `Machine` can be lent to a scope's threads and cannot be sent away.
///
/// What was allocated before the boot is set aside: it stays where it is, and can be freed again after the
/// machine is switched off. While it runs, such an address is unknown to it, and freeing it is a bugcheck.
///
/// ```
/// use memtrack_sim::{Machine, PoolKind, _POOL_TYPE, ntddk::ExAllocatePool};
///
/// let machine = Machine::boot();
/// assert!(unsafe { !ExAllocatePool(_POOL_TYPE::PagedPool, 100).is_null() });
/// assert_eq!(machine.pool(PoolKind::Paged).blocks, 1); // a leak, which a test would assert against
/// ```
#[derive(Debug)]
pub struct Machine {
    aside: Aside,
    _turn: MutexGuard<'static, ()>,
}

/// The default machine's pools and lookaside lists while another machine runs.
struct Aside(Option<(Pools, Tuned)>);

impl core::fmt::Debug for Aside {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("the default machine")
    }
}

/// A number that tells the machines of this process apart: 0 while the default machine runs, another one for each
/// that was booted. What keeps books about blocks, as a driver's statics do, starts new ones when it changes.
#[must_use]
pub fn running() -> u64 {
    // Acquire pairs with the Release in `Machine::boot` and in its drop: who sees the number sees the pools.
    RUNNING.load(Ordering::Acquire)
}

impl Machine {
    /// Switches a machine on, after waiting for the one that is running.
    ///
    /// The calling thread is at `PASSIVE_LEVEL` afterwards, wherever an earlier test left it.
    ///
    /// # Panics
    ///
    /// Where the calling thread runs a machine already: it would wait for itself.
    #[must_use = "the machine is switched off when this is dropped"]
    pub fn boot() -> Self {
        assert!(!RUNNING_HERE.get(), "this thread is running a machine already: drop that one first");
        // A test that failed while its machine ran has poisoned the turn, and has put everything back all
        // the same.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        RUNNING_HERE.set(true);
        irql::set(irql::PASSIVE);
        debug::start_capture();
        let aside = Aside(Some((pool::replace(Pools::new()), lookaside::replace(Tuned::new()))));
        // Relaxed: the turn is ours, and only the number must differ.
        static BOOTS: AtomicU64 = AtomicU64::new(0);
        let number = BOOTS.fetch_add(1, Ordering::Relaxed) + 1;
        // Release pairs with the Acquire in `running`.
        RUNNING.store(number, Ordering::Release);
        Self { aside, _turn: turn }
    }

    /// What was printed since the boot, or since [`take_output`](Self::take_output), line by line.
    ///
    /// A line counts once its newline was printed. Bugchecks are in it, too.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        debug::lines()
    }

    /// Returns the [`output`](Self::output) and forgets it.
    pub fn take_output(&self) -> Vec<String> {
        debug::take_lines()
    }

    /// Whether to print the output as well, which a machine does not unless it is told to.
    pub fn echo(&self, on: bool) {
        debug::set_echo(on);
    }

    /// Sets how many bytes may be allocated from a pool at one time. What is allocated already stays so.
    pub fn set_pool_limit(&self, kind: PoolKind, bytes: Option<u64>) {
        pool::set_limit(kind, bytes);
    }

    /// Lets a period of the balance set manager pass, which on Windows is a second long: each lookaside list gets a
    /// new depth, by what was allocated from it since the last period.
    ///
    /// - A list from which fewer than 25 entries were allocated loses 10 of its depth.
    /// - Where fewer than 5 of 1,000 allocations found no free entry, it loses 1.
    /// - Otherwise it grows: by 5, and by half of that share of what is left up to its `MaximumDepth`; by 30 at most.
    ///
    /// A depth stays between 4 and `MaximumDepth`. `LastTotalAllocates` and `LastAllocateMisses` become the figures of
    /// this moment. Free entries beyond a depth that shrank stay until they are allocated, or the list is flushed.
    ///
    /// Other threads may use the lists meanwhile. A list is forgotten when it is deleted, when it was taken out of the
    /// ring that its `ListEntry` is in, and when it lay in a block of pool that was freed since. Any other must still
    /// be there, as whoever initialized it has promised.
    ///
    /// ```
    /// use memtrack_sim::{Machine, NPAGED_LOOKASIDE_LIST, ntddk::*};
    ///
    /// let machine = Machine::boot();
    /// let mut list = NPAGED_LOOKASIDE_LIST::default();
    /// unsafe {
    ///     ExInitializeNPagedLookasideList(&mut list, None, None, 0, 100, u32::from_ne_bytes(*b"Test"), 0);
    ///     let entries = [(); 25].map(|()| ExAllocateFromNPagedLookasideList(&mut list));
    ///     machine.pass_tuning_period(); // all of them had to be made
    ///     assert_eq!(list.L.Depth, 4 + 30);
    ///     entries.map(|entry| ExFreeToNPagedLookasideList(&mut list, entry));
    ///     ExDeleteNPagedLookasideList(&mut list);
    /// }
    /// ```
    pub fn pass_tuning_period(&self) {
        lookaside::pass_period();
    }

    /// How full a pool is.
    #[must_use]
    pub fn pool(&self, kind: PoolKind) -> PoolUsage {
        pool::usage(kind)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some((pools, lists)) = self.aside.0.take() {
            // Release pairs with the Acquire in `running`.
            RUNNING.store(0, Ordering::Release);
            // What was the machine's own is dropped here, outside the locks that guarded it. The lists go first: some
            // may lie in the pools.
            drop(lookaside::replace(lists));
            drop(pool::replace(pools));
        }
        debug::stop_capture();
        irql::set(irql::PASSIVE);
        RUNNING_HERE.set(false);
    }
}
