//! The tracker: the books, the doors and the lock on the way to them, and what may be asked of them. What a tracked call
//! does stands in `request.rs` and `release.rs`, what a check does in `sweep.rs`.
//!
//! There are two books, of which one is open. To close it the other is opened; calls that are under way end in the one that
//! they began in, and nobody waits but who closes it.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::block::Live;
use crate::book::Book;
use crate::books::{Books, Closed, Common, Locked};
use crate::closing::Closing;
use crate::doors::{Doors, Inside};
use crate::guard::{Body, Guard};
use crate::platform::{DISPATCH_LEVEL, Irql, Platform, SpinLock, Tenant};
use crate::pool::Pool;
use crate::report;
use crate::settings::{Policy, Settings};
use crate::shortage::Shortage;
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
// An untouched one is all zeros, but for the platform: so a driver's image has no copy of it.
pub struct Tracker<P: Platform> {
    platform: P,
    sink: Sink,
    guard: AtomicU8,
    policy: AtomicU8,
    /// Whether somebody is giving back what the quarantines hold beyond their bounds, nonpaged and paged.
    parting: [AtomicU8; 2],
    /// Whether freed blocks are neither held nor remembered, in any pool.
    holds_nothing: AtomicBool,
    /// Somebody is closing a book.
    closing: AtomicBool,
    /// Which of the books is open.
    open: AtomicUsize,
    doors: Doors,
    lock: SpinLock,
    common: UnsafeCell<Common>,
    books: [Volume; 2],
}

/// A book, and what of it is under the lock.
struct Volume {
    book: Book,
    locked: UnsafeCell<Locked>,
}

impl Volume {
    const EMPTY: Self = Self { book: Book::EMPTY, locked: UnsafeCell::new(Locked::EMPTY) };
}

// SAFETY: what is not atomic is reached under the lock alone (`Tracker::with`), or once nobody else can
// (`Tracker::closed`); the rest is shared by nature: the platform is `Sync` by its trait, the sink and the lock are atomics.
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
            holds_nothing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            doors: Doors::new(),
            lock: SpinLock::new(),
            common: UnsafeCell::new(Common { chosen: None, walks: 0 }),
            books: [Volume::EMPTY; 2],
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
        // Relaxed: under the lock; see `holds`.
        self.with(|books| {
            books.common.chosen = Some([settings.nonpaged, settings.paged]);
            let holds_nothing = settings.nonpaged.blocks == 0 && settings.paged.blocks == 0;
            self.holds_nothing.store(holds_nothing, Ordering::Relaxed);
        });
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
    /// A block that is freed later, in spite of all, counts as foreign. It waits for a check that is under way, for calls that
    /// are, and for another `finish`; calls do not wait for it.
    ///
    /// IRQL <= APC_LEVEL; a driver calls it at the end of its unload routine. At DISPATCH_LEVEL it leaves behind what
    /// the quarantine of paged pool holds, and says so; and where it has interrupted a call, it says what is outstanding, and
    /// closes nothing.
    pub fn finish(&self, name: &str) -> Stats {
        let Some(closing) = self.close(Caught::By("finish")) else {
            let stats = self.stats();
            report::unfinished(&self.out(), name, &stats);
            return stats;
        };
        let closed = closing.closed();
        report::leaks(&self.out(), name, &closed.stats, closed.sites.iter(), closed.lists.undeleted());
        let stats = closed.stats;
        drop(closing);
        self.take_apart(closed);
        stats
    }

    /// Begins afresh without a word: what was in the books is of no interest any more, nor what was held.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub fn forget(&self) {
        if let Some(closing) = Closing::begin(self) {
            self.with(|books| closing.open_the_other(books));
            self.take_apart(closing.closed());
        }
    }

    fn take_apart(&self, closed: Closed) {
        let Closed { sites, lists, memory, single, .. } = closed;
        let chunks = sites.into_memory().into_iter().chain([lists.into_memory()]).chain(memory);
        chunks.for_each(|memory| self.give_back(memory));
        for memory in single.into_iter().flatten() {
            // SAFETY: it came from this platform, and nobody uses it any more.
            unsafe { self.platform.free(memory) };
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
        let body = live.body(address);
        match live.stamp() {
            0 => Tenant::Unknown,
            stamp => match self.platform.tenant(body.base(), stamp) {
                // Who writes in front of a block beyond its guard breaks what the kernel tells blocks by. Where all who free
                // such a block are annotated, its tail says that it is still there.
                // SAFETY: a machine that does not vouch has just looked in front of the block, which lies in one page.
                Tenant::Another if self.is_hidden(&body) && unsafe { body.is_tail_signed() } => {
                    Tenant::Unknown
                }
                tenant => tenant,
            },
        }
    }

    /// Whether a block has guards on both sides, on a machine that tells blocks by what stands in front of them.
    fn is_hidden(&self, body: &Body) -> bool {
        body.layout.front() > 0 && !self.platform.vouches()
    }

    /// Whether the guards of a block can be read.
    pub(crate) fn is_within_reach(&self, body: &Body) -> bool {
        body.edges().into_iter().all(|address| self.platform.is_mapped(address))
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
            self.with(|books| books.violation());
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
            let filled = self.with(|books| {
                let stats = books.stats();
                snapshot.fill(stats, books.sites().count(), books.sites().iter())
            });
            if filled {
                return Some(snapshot);
            }
        }
        None
    }

    /// Does `change` to the books, bringing memory for as long as they ask for some; `None` if the machine has
    /// none left.
    pub(crate) fn persist<R>(
        &self,
        mut change: impl FnMut(&mut Books<'_>) -> Result<R, Shortage>,
    ) -> Option<R> {
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
        let Some(bytes) = shortage.bytes() else { return false };
        let Some(memory) = self.platform.allocate(bytes) else { return false };
        // SAFETY: the platform gave the memory to us, as long as we asked.
        unsafe { memory.write_bytes(0, bytes) };
        // SAFETY: it is ours, aligned, as long as we asked, and zeroed.
        if let Some(spare) = self.with(|books| unsafe { books.adopt(shortage, memory) }) {
            // SAFETY: the books did not want it, so it is still only ours.
            unsafe { self.platform.free(spare) };
        }
        true
    }

    /// Gives memory back that may still be read by who is inside now, when they have left; or keeps it for later.
    pub(crate) fn give_back_unused(&self, memory: Chunks) {
        if memory.is_empty() {
            return;
        }
        if self.others_leave_soon() {
            self.give_back(memory);
        } else {
            self.with(|books| books.retire(memory));
        }
    }

    /// Goes in through a door, and does something with the book that is open.
    #[inline]
    pub(crate) fn within<R>(&self, work: impl FnOnce(&Book, &Inside<'_>) -> R) -> R {
        let inside = self.doors.enter(|| self.platform.processor());
        work(&self.volume(self.opened()).book, &inside)
    }

    /// Does something with the books under the lock: the only way to what is not atomic in them.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Books<'_>) -> R) -> R {
        let _held = Held::new(&self.platform, &self.lock);
        // SAFETY: the lock is held until the end of this function.
        unsafe { self.with_volume(self.opened(), work) }
    }

    /// The book that is open. Only inside, or under the lock.
    #[inline]
    fn opened(&self) -> usize {
        // SeqCst pairs with `Closing::open_the_other`, by way of the doors; as an Acquire, too: the book is as new.
        self.open.load(Ordering::SeqCst)
    }

    #[inline]
    fn volume(&self, number: usize) -> &Volume {
        let [first, _] = &self.books;
        if number == 0 { first } else { self.second() }
    }

    // Out of line, so that nothing waits for the number of the first one: it is guessed.
    #[cold]
    #[inline(never)]
    fn second(&self) -> &Volume {
        let [_, second] = &self.books;
        second
    }

    /// # Safety
    ///
    /// The lock is held.
    unsafe fn with_volume<R>(&self, number: usize, work: impl FnOnce(&mut Books<'_>) -> R) -> R {
        let volume = self.volume(number);
        // SAFETY: the lock is held, so no other reference exists: nobody reaches what is under it but through here, and
        // `work` has no way to come here again (it is handed the books alone, and every caller lets go of them before it
        // calls the tracker or the kernel); but for `Closing`, which reaches the other volume's.
        let (locked, common) = unsafe { (&mut *volume.locked.get(), &mut *self.common.get()) };
        let processor = self.platform.processor();
        work(&mut Books { book: &volume.book, doors: &self.doors, processor, inside: None, locked, common })
    }

    /// The part under the lock of the book that is not open, of which nobody has heard since it was closed. Only by the one
    /// closing that is under way, under the lock.
    pub(crate) fn with_closed<R>(&self, number: usize, work: impl FnOnce(&mut Locked) -> R) -> R {
        // SAFETY: nobody is in that volume: the last closing has seen all leave, and this one has not opened it yet.
        work(unsafe { &mut *self.volume(number).locked.get() })
    }

    /// Takes what is in the book that is not open any more. Only by the one closing that is under way, when all have left.
    pub(crate) fn take_closed(&self, number: usize) -> Closed {
        let _held = Held::new(&self.platform, &self.lock);
        // SAFETY: the lock is held until the end of this function.
        unsafe { self.with_volume(number, |books| books.close()) }
    }

    pub(crate) fn doors(&self) -> &Doors {
        &self.doors
    }

    pub(crate) fn open(&self) -> &AtomicUsize {
        &self.open
    }

    pub(crate) fn closing(&self) -> &AtomicBool {
        &self.closing
    }

    /// Whether freed blocks may be held or remembered: then a free takes the lock.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        // Relaxed: the bounds themselves are read under the lock; a free beside a change of them is before or after it.
        !self.holds_nothing.load(Ordering::Relaxed)
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

    // Out of line, for the frame of who prints it.
    #[inline(never)]
    fn next(&mut self) -> Option<SiteStats> {
        let site = self.tracker.with(|books| books.sites().nth(self.next))?;
        self.next += 1;
        Some(site)
    }
}
