//! The tracker: one lock, the books behind it, and what may be asked of them. What a tracked call does stands in
//! `request.rs` and `release.rs`, what a check does in `sweep.rs`.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::block::Live;
use crate::books::{Books, Closed, Shortage};
use crate::guard::Guard;
use crate::platform::{DISPATCH_LEVEL, Irql, Platform, SpinLock, Tenant};
use crate::pool::Pool;
use crate::report;
use crate::settings::{Policy, Settings};
use crate::sink::{Out, Sink};
use crate::slab::Chunks;
use crate::snapshot::Snapshot;
use crate::stats::{ListStats, SiteStats, Stats};
use crate::violation::{Case, Caught};

/// How often a call that needs memory tries again when other processors use up what it brought.
const PATIENCE: usize = 16;

/// Keeps the books of one driver: meant to be a `static`.
///
/// ```
/// # use core::{ffi::CStr, ptr::NonNull};
/// # use memtrack_rt::{Function, Guard, Irql, Location, Platform, SpinLock, Tracker};
/// # struct Desk;
/// # // SAFETY: the tracker is used by one thread; the memory is the allocator's.
/// # unsafe impl Platform for Desk {
/// #     fn print(&self, line: &CStr) { print!("{}", line.to_str().unwrap()); }
/// #     fn acquire(&self, _: &SpinLock) -> Irql { 0 }
/// #     unsafe fn release(&self, _: &SpinLock, _: Irql) {}
/// #     fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
/// #         NonNull::new(Vec::leak(vec![0_u128; bytes.div_ceil(16)]).as_mut_ptr().cast())
/// #     }
/// #     unsafe fn free(&self, _: NonNull<u8>) {}
/// #     fn irql(&self) -> Irql { 0 }
/// #     fn break_in(&self) {}
/// #     fn bugcheck(&self, _: [usize; 4], line: &CStr) { panic!("{line:?}") }
/// # }
/// # fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> *mut u8 { Vec::leak(vec![0_u8; bytes as usize]).as_mut_ptr() }
/// static TRACKER: Tracker<Desk> = Tracker::new(Desk);
///
/// let arguments = (0x40_u64, 512_u64, u32::from_le_bytes(*b"Fmon"));
/// let (here, function) = (Location::caller(), Function::ExAllocatePool2);
/// // SAFETY: this is the kernel's function.
/// let block = unsafe {
///     TRACKER.allocate(here, function, None, arguments, |(flags, bytes, tag)| ExAllocatePool2(flags, bytes, tag))
/// };
/// # let _ = block;
///
/// assert_eq!(TRACKER.stats().nonpaged.curr_bytes, 512);
/// let outstanding = TRACKER.finish("Filemon"); // names this file and line
/// assert_eq!(outstanding.curr_blocks(), 1);
/// ```
pub struct Tracker<P: Platform> {
    platform: P,
    sink: Sink,
    guard: AtomicU8,
    policy: AtomicU8,
    /// Whether somebody is giving back what the quarantines hold beyond their bounds, nonpaged and paged.
    parting: [AtomicU8; 2],
    lock: SpinLock,
    books: UnsafeCell<Books>,
}

// SAFETY: the books are reached under the lock alone (`Tracker::with`), the rest is shared by nature: the
// platform is `Sync` by its trait, the sink and the lock are atomics.
unsafe impl<P: Platform> Sync for Tracker<P> {}
// SAFETY: the books' pointers lead into memory of the platform's, which belongs to no thread.
unsafe impl<P: Platform + Send> Send for Tracker<P> {}

impl<P: Platform> Tracker<P> {
    /// Empty books over `platform`.
    pub const fn new(platform: P) -> Self {
        let Settings { guard, policy, .. } = Settings::new();
        Self {
            platform,
            sink: Sink::new(),
            guard: AtomicU8::new(guard as u8),
            policy: AtomicU8::new(policy as u8),
            parting: [AtomicU8::new(0), AtomicU8::new(0)],
            lock: SpinLock::new(),
            books: UnsafeCell::new(Books::EMPTY),
        }
    }

    /// The platform under it.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Chooses guards, quarantines and policy. What the quarantines hold beyond their new bounds leaves.
    ///
    /// IRQL <= DISPATCH_LEVEL; blocks of paged pool leave below that.
    pub fn configure(&self, settings: Settings) {
        // Relaxed (both): either choice stands for itself, and no memory hangs on it.
        self.guard.store(settings.guard as u8, Ordering::Relaxed);
        self.policy.store(settings.policy as u8, Ordering::Relaxed);
        self.with(|books| books.set_bounds(settings.nonpaged, settings.paged));
        self.keep_bounds(Caught::By("configure"));
    }

    /// All figures, read at one moment.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn stats(&self) -> Stats {
        self.with(|books| books.stats())
    }

    /// Every site, in the order of their first call. Each is read when it is asked for.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn sites(&self) -> Sites<'_, P> {
        Sites { tracker: self, next: 0 }
    }

    /// Every lookaside list that a tracked call initialised, the newest first. Each is read when it is asked for.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn lists(&self) -> impl Iterator<Item = ListStats> {
        let mut place = 0;
        core::iter::from_fn(move || {
            let list = self.with(|books| books.nth_list(place))?;
            place += 1;
            Some(list)
        })
    }

    /// Prints the current and the maximum usage of each pool, six lines.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn print_stats(&self, name: &str) {
        let stats = self.stats();
        report::print_stats(&self.out(), name, &stats);
    }

    /// Prints every site, the one with the most bytes outstanding first, and the sums.
    ///
    /// All lines show one moment. For that the report takes some nonpaged memory for as long as it runs; where
    /// there is none it still prints every site, and says what it could not do.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn report(&self, name: &str) {
        match self.snapshot() {
            Some(snapshot) => {
                report::report(&self.out(), name, &snapshot.stats, snapshot.sites(), self.lists());
            }
            None => report::report_unsorted(&self.out(), name, &self.stats(), self.sites(), self.lists()),
        }
    }

    /// Empties the quarantines, prints what is still outstanding as leaks, gives the tracker's own memory back and
    /// begins afresh. Returns the figures as they stood.
    ///
    /// A block that is freed later, in spite of all, counts as foreign. It waits for a check that is under way.
    ///
    /// IRQL <= APC_LEVEL; a driver calls it at the end of its unload routine. At DISPATCH_LEVEL it leaves behind what
    /// the quarantine of paged pool holds, and says so.
    pub fn finish(&self, name: &str) -> Stats {
        let closed = self.close(Caught::By("finish"));
        report::leaks(&self.out(), name, &closed.stats, closed.sites.iter(), closed.lists.undeleted());
        let stats = closed.stats;
        self.take_apart(closed);
        stats
    }

    /// Begins afresh without a word: what was in the books is of no interest any more, nor what was held.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn forget(&self) {
        let closed = self.with(Books::close);
        self.take_apart(closed);
    }

    fn take_apart(&self, closed: Closed) {
        self.give_back(closed.sites.into_memory());
        self.give_back(closed.lists.into_memory());
        closed.ledger_memory.into_iter().for_each(|memory| self.give_back(memory));
        for ring in closed.rings.into_iter().flatten() {
            // SAFETY: the ring came from this platform, and the quarantine does not use it any more.
            unsafe { self.platform.free(ring) };
        }
    }

    pub(crate) fn parting(&self, pool: Pool) -> &AtomicU8 {
        let [nonpaged, paged] = &self.parting;
        if matches!(pool, Pool::Paged) { paged } else { nonpaged }
    }

    /// The guard of blocks for which none is named.
    pub(crate) fn guard(&self) -> Guard {
        // Relaxed: see `configure`.
        let chosen = usize::from(self.guard.load(Ordering::Relaxed));
        Guard::ALL.get(chosen).copied().unwrap_or_default()
    }

    /// Who lives where this block was written down.
    pub(crate) fn tenant(&self, address: usize, live: Live) -> Tenant {
        match live.stamp() {
            0 => Tenant::Unknown,
            stamp => self.platform.tenant(live.body(address).base(), stamp),
        }
    }

    /// Whether this block is where it was written down, as far as the machine can tell.
    pub(crate) fn is_there(&self, address: usize, live: Live) -> bool {
        matches!(self.tenant(address, live), Tenant::Same | Tenant::Unknown)
    }

    /// Says what a driver did, counts it, and does what its author chose for such a case.
    #[cold]
    #[inline(never)]
    pub(crate) fn violated(&self, case: &Case) {
        if self.platform.irql() <= DISPATCH_LEVEL {
            self.with(Books::violation);
        }
        report::violation(&self.out(), case);
        // Relaxed: see `configure`.
        let chosen = usize::from(self.policy.load(Ordering::Relaxed));
        match Policy::ALL.get(chosen).copied().unwrap_or_default() {
            Policy::Report => {}
            Policy::Break => self.platform.break_in(),
            Policy::BugCheck => report::bugcheck(&self.out(), case),
        }
    }

    pub(crate) fn out(&self) -> Out<'_, P> {
        self.sink.to(&self.platform)
    }

    fn give_back(&self, memory: Chunks) {
        for chunk in memory {
            // SAFETY: the chunk came from this platform, and what lived in it was taken out of the books.
            unsafe { self.platform.free(chunk) };
        }
    }

    fn snapshot(&self) -> Option<Snapshot<'_, P>> {
        for _ in 0..PATIENCE {
            let count = self.with(|books| books.sites().count());
            let mut snapshot = Snapshot::with_room(&self.platform, count)?;
            let filled =
                self.with(|books| snapshot.fill(books.stats(), books.sites().count(), books.sites().iter()));
            if filled {
                return Some(snapshot);
            }
        }
        None
    }

    /// Does `change` to the books, bringing memory for as long as they ask for some; `None` if the machine has
    /// none left.
    pub(crate) fn persist<R>(&self, mut change: impl FnMut(&mut Books) -> Result<R, Shortage>) -> Option<R> {
        for _ in 0..PATIENCE {
            match self.with(&mut change) {
                Ok(done) => return Some(done),
                Err(shortage) => {
                    if !self.bring(shortage) {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Brings memory to where it is short; false if the machine has none.
    pub(crate) fn bring(&self, shortage: Shortage) -> bool {
        let Some(memory) = self.platform.allocate(shortage.bytes()) else { return false };
        // SAFETY: the platform gave the memory to us, as long as we asked.
        unsafe { memory.write_bytes(0, shortage.bytes()) };
        // SAFETY: it is ours, aligned, as long as we asked, and zeroed.
        if let Some(spare) = self.with(|books| unsafe { books.adopt(shortage, memory) }) {
            // SAFETY: the books did not want it, so it is still only ours.
            unsafe { self.platform.free(spare) };
        }
        true
    }

    /// The only way to the books.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Books) -> R) -> R {
        let _held = Held::new(&self.platform, &self.lock);
        // SAFETY: the lock is held until the end of this function, so no other reference to the books exists:
        // nobody reaches them but through here, and `work` has no way to come here again (it is handed the
        // books alone, and every caller in this file lets go of them before it calls the tracker or the kernel).
        work(unsafe { &mut *self.books.get() })
    }
}

impl<P: Platform> Drop for Tracker<P> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The lock while it is held.
struct Held<'a, P: Platform> {
    platform: &'a P,
    lock: &'a SpinLock,
    irql: Irql,
}

impl<'a, P: Platform> Held<'a, P> {
    fn new(platform: &'a P, lock: &'a SpinLock) -> Self {
        Self { platform, lock, irql: platform.acquire(lock) }
    }
}

impl<P: Platform> Drop for Held<'_, P> {
    fn drop(&mut self) {
        // SAFETY: `new` acquired the lock and got this IRQL for it.
        unsafe { self.platform.release(self.lock, self.irql) };
    }
}

/// Every site of a tracker, in the order of their first call.
pub struct Sites<'t, P: Platform> {
    tracker: &'t Tracker<P>,
    next: usize,
}

impl<P: Platform> Iterator for Sites<'_, P> {
    type Item = SiteStats;

    fn next(&mut self) -> Option<SiteStats> {
        let site = self.tracker.with(|books| books.sites().iter().nth(self.next).copied())?;
        self.next += 1;
        Some(site)
    }
}
