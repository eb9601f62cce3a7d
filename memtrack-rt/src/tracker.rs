//! The tracker: one lock, the books behind it, and what a tracked call tells them.

use core::cell::UnsafeCell;
use core::panic::Location;

use crate::books::{Books, Closed, Shortage};
use crate::platform::{Irql, Platform, SpinLock};
use crate::pool::{Function, Pool, Tag};
use crate::report;
use crate::sink::{Out, Sink};
use crate::site::Key;
use crate::slab::Chunks;
use crate::snapshot::Snapshot;
use crate::stats::{SiteStats, Stats};
use crate::word;

/// How often a call that needs memory tries again when other processors use up what it brought.
const PATIENCE: usize = 16;

/// Keeps the books of one driver: meant to be a `static`.
///
/// ```
/// # use core::{ffi::CStr, ptr::NonNull};
/// # use memtrack_rt::{Function, Irql, Location, Platform, SpinLock, Tracker};
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
/// # }
/// static TRACKER: Tracker<Desk> = Tracker::new(Desk);
///
/// let (flags, bytes, tag) = (0x40_u64, 512_u64, u32::from_le_bytes(*b"Fmon"));
/// let request = TRACKER.request(Location::caller(), Function::ExAllocatePool2, &flags, &bytes, &tag);
/// let block = core::ptr::without_provenance_mut::<u8>(0x1000); // what the kernel gave
/// request.granted(&block);
///
/// assert_eq!(TRACKER.stats().nonpaged.curr_bytes, 512);
/// let outstanding = TRACKER.finish("Filemon"); // names this file and line
/// assert_eq!(outstanding.curr_blocks(), 1);
/// ```
pub struct Tracker<P: Platform> {
    platform: P,
    sink: Sink,
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
        Self { platform, sink: Sink::new(), lock: SpinLock::new(), books: UnsafeCell::new(Books::EMPTY) }
    }

    /// The platform under it.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Opens a request: `function` is about to be called at `location` with these arguments, each of whatever
    /// type the driver's binding gives it (a function without a tag passes `&()`).
    ///
    /// Nothing is written down before [`Request::granted`]: a kernel that raises instead of returning leaves
    /// the books as they were.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn request<A, B, C>(
        &self,
        location: &'static Location<'static>,
        function: Function,
        pool: &A,
        bytes: &B,
        tag: &C,
    ) -> Request<'_, P> {
        let tag = word::word(tag).and_then(|word| u32::try_from(word).ok()).map_or(Tag::NONE, Tag);
        let key = Key { location, function, tag, pool: function.pool(word::word(pool)) };
        Request { tracker: self, key, bytes: word::size(bytes) }
    }

    /// The driver is about to free `block`. Called before the kernel is: afterwards the address may be
    /// somebody else's already.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn release<A>(&self, block: &A) {
        let address = word::size(block).unwrap_or(0);
        self.with(|books| books.freed(address));
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
            Some(snapshot) => report::report(&self.out(), name, &snapshot.stats, snapshot.sites()),
            None => report::report_unsorted(&self.out(), name, &self.stats(), self.sites()),
        }
    }

    /// Prints what is still outstanding as leaks, gives the tracker's own memory back and begins afresh.
    /// Returns the figures as they stood.
    ///
    /// A block that is freed later, in spite of all, counts as foreign.
    ///
    /// IRQL <= DISPATCH_LEVEL; a driver calls it at the end of its unload routine.
    pub fn finish(&self, name: &str) -> Stats {
        let Closed { stats, sites, ledger_memory } = self.with(Books::close);
        report::leaks(&self.out(), name, &stats, sites.iter());
        self.give_back(sites.into_memory());
        ledger_memory.into_iter().for_each(|memory| self.give_back(memory));
        stats
    }

    /// Begins afresh without a word: what was in the books is of no interest any more.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn forget(&self) {
        let Closed { sites, ledger_memory, .. } = self.with(Books::close);
        self.give_back(sites.into_memory());
        ledger_memory.into_iter().for_each(|memory| self.give_back(memory));
    }

    fn out(&self) -> Out<'_, P> {
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
    fn persist<R>(&self, mut change: impl FnMut(&mut Books) -> Result<R, Shortage>) -> Option<R> {
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
    fn bring(&self, shortage: Shortage) -> bool {
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
    fn with<R>(&self, work: impl FnOnce(&mut Books) -> R) -> R {
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

/// A call that is on its way to the kernel.
#[must_use = "tell it what the kernel gave"]
pub struct Request<'t, P: Platform> {
    tracker: &'t Tracker<P>,
    key: Key,
    bytes: Option<usize>,
}

impl<P: Platform> Request<'_, P> {
    /// The kernel returned `block`: null is a refusal, anything else a live block.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn granted<R>(self, block: &R) {
        match (word::size(block), self.bytes) {
            (Some(0), _) => self.refused(),
            (Some(address), Some(bytes)) if self.key.pool != Pool::Unknown => self.record(address, bytes),
            (address, _) => self.unrecorded(address),
        }
    }

    fn record(&self, address: usize, bytes: usize) {
        match self.tracker.persist(|books| books.allocated(&self.key, address, bytes)) {
            Some(None) => {}
            Some(Some(wish)) => {
                self.tracker.bring(wish);
            }
            None => self.unrecorded(Some(address)),
        }
    }

    #[cold]
    #[inline(never)]
    fn unrecorded(&self, address: Option<usize>) {
        self.tracker.with(|books| books.unrecorded(&self.key, address));
    }

    /// Counts the refusal, and says the first at a site and each doubling of their number.
    #[cold]
    #[inline(never)]
    fn refused(&self) {
        let refusal = self.tracker.persist(|books| books.refused(&self.key));
        let among_all = || self.tracker.with(Books::refused_nowhere);
        if refusal.unwrap_or_else(among_all).is_power_of_two() {
            self.exhausted(refusal);
        }
    }

    #[cold]
    #[inline(never)]
    fn exhausted(&self, refusal: Option<u64>) {
        let out = self.tracker.out();
        let site = self.key.untouched();
        match refusal {
            Some(refusal) => {
                let said = self.tracker.with(|books| books.exhaustion(self.key.pool));
                report::exhausted(&out, self.bytes, &site, refusal, &said);
            }
            None => report::exhausted_nowhere(&out, self.bytes, &site),
        }
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
