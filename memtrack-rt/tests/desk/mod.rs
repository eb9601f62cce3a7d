//! A platform for tests: real memory, a real lock, and a witness of every rule that the runtime must keep.
#![allow(dead_code, unreachable_pub, reason = "shared by several tests, none of which uses all of it")]

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memtrack_rt::{
    Arguments, Function, Guard, Irql, LINE_MAX, Location, Platform, Pool, Quarantine, Settings, SpinLock,
    Tag, Tenant, Tracker,
};

thread_local! {
    static HOLDS_A_LOCK: Cell<bool> = const { Cell::new(false) };
    static IRQL: Cell<Irql> = const { Cell::new(0) };
    /// A thread stands for a processor.
    static PROCESSOR: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::SeqCst)
    };
}

/// Does something at another level.
pub fn at_irql<R>(irql: Irql, act: impl FnOnce() -> R) -> R {
    let before = IRQL.replace(irql);
    let result = act();
    IRQL.set(before);
    result
}

#[derive(Default)]
pub struct Desk {
    lines: Mutex<Vec<String>>,
    memory: Mutex<BTreeMap<usize, usize>>,
    most_memory: AtomicUsize,
    refuses: AtomicBool,
    /// Whether a block without a stamp may be somebody else's.
    doubts: AtomicBool,
    /// Addresses from here on have no memory; 0 for none.
    ends_at: AtomicUsize,
    /// What the machine knows of who lives where: the stamps of blocks, 0 for nobody.
    tenants: Mutex<BTreeMap<usize, u16>>,
    breaks: AtomicUsize,
    bugchecks: Mutex<Vec<([usize; 4], String)>>,
}

impl Desk {
    pub const fn new() -> Self {
        Self {
            lines: Mutex::new(Vec::new()),
            memory: Mutex::new(BTreeMap::new()),
            most_memory: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            doubts: AtomicBool::new(false),
            ends_at: AtomicUsize::new(0),
            tenants: Mutex::new(BTreeMap::new()),
            breaks: AtomicUsize::new(0),
            bugchecks: Mutex::new(Vec::new()),
        }
    }

    pub fn refuse_memory(&self, refuse: bool) {
        self.refuses.store(refuse, Ordering::SeqCst);
    }

    /// From now on a block without a stamp may be somebody else's.
    pub fn doubt(&self) {
        self.doubts.store(true, Ordering::SeqCst);
    }

    /// From now on there is no memory from this address on.
    pub fn ends_at(&self, address: usize) {
        self.ends_at.store(address, Ordering::SeqCst);
    }

    /// Bytes that the runtime holds.
    pub fn held(&self) -> usize {
        self.memory.lock().unwrap().values().sum()
    }

    pub fn most_held(&self) -> usize {
        self.most_memory.load(Ordering::SeqCst)
    }

    pub fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    /// From now on `stamp` lives at `block`, or nobody where it is 0.
    pub fn moves_in(&self, block: usize, stamp: u16) {
        self.tenants.lock().unwrap().insert(block, stamp);
    }

    pub fn breaks(&self) -> usize {
        self.breaks.load(Ordering::SeqCst)
    }

    pub fn take_bugchecks(&self) -> Vec<([usize; 4], String)> {
        std::mem::take(&mut self.bugchecks.lock().unwrap())
    }

    fn holds_no_lock() {
        assert!(!HOLDS_A_LOCK.get(), "a lock is held across a call of the kernel");
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.held(), 0, "the runtime kept memory");
        }
    }
}

// SAFETY: the lock is a compare-and-swap lock; the memory is the allocator's own.
unsafe impl Platform for Desk {
    fn print(&self, line: &CStr) {
        Self::holds_no_lock();
        let bytes = line.to_bytes();
        assert!(bytes.len() <= LINE_MAX, "{} bytes: {line:?}", bytes.len());
        let text = std::str::from_utf8(bytes).expect("a line is cut between characters");
        let text = text.strip_suffix('\n').expect("a line ends");
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{2028}'), "one line is one line: {text:?}");
        self.lines.lock().unwrap().push(text.to_owned());
    }

    fn acquire(&self, lock: &SpinLock) -> Irql {
        Self::holds_no_lock();
        // Acquire pairs with the Release store in `release`.
        while lock.word().compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
        HOLDS_A_LOCK.set(true);
        let before = IRQL.replace(2);
        assert!(before <= 2, "a spin lock is taken at IRQL {before}");
        before
    }

    unsafe fn release(&self, lock: &SpinLock, irql: Irql) {
        IRQL.set(irql);
        HOLDS_A_LOCK.set(false);
        // Release pairs with the Acquire in `acquire`.
        lock.word().store(0, Ordering::Release);
    }

    fn irql(&self) -> Irql {
        IRQL.get()
    }

    fn processor(&self) -> usize {
        PROCESSOR.with(|number| *number)
    }

    fn stamp(&self, block: usize, _: Pool) -> u16 {
        Self::holds_no_lock();
        self.tenants.lock().unwrap().get(&block).copied().unwrap_or(0)
    }

    fn tenant(&self, block: usize, stamp: u16) -> Tenant {
        Self::holds_no_lock();
        match self.tenants.lock().unwrap().get(&block) {
            None => Tenant::Unknown,
            Some(0) => Tenant::Nobody,
            Some(lives) if *lives == stamp => Tenant::Same,
            Some(_) => Tenant::Another,
        }
    }

    fn vouches(&self) -> bool {
        !self.doubts.load(Ordering::SeqCst)
    }

    fn is_mapped(&self, address: usize) -> bool {
        Self::holds_no_lock();
        let end = self.ends_at.load(Ordering::SeqCst);
        end == 0 || address < end
    }

    fn break_in(&self) {
        Self::holds_no_lock();
        self.breaks.fetch_add(1, Ordering::SeqCst);
    }

    fn bugcheck(&self, parameters: [usize; 4], line: &CStr) {
        Self::holds_no_lock();
        assert_eq!(parameters[2], line.as_ptr().addr(), "the third parameter is the text");
        self.bugchecks.lock().unwrap().push((parameters, line.to_str().unwrap().to_owned()));
    }

    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        Self::holds_no_lock();
        assert_ne!(bytes, 0);
        if self.refuses.load(Ordering::SeqCst) {
            return None;
        }
        // SAFETY: the layout is not empty.
        let block = NonNull::new(unsafe { alloc(layout(bytes)) }).expect("the host has memory");
        // SAFETY: the block is `bytes` long. What was there before must not matter.
        unsafe { block.write_bytes(0xA5, bytes) };
        let mut memory = self.memory.lock().unwrap();
        memory.insert(block.as_ptr() as usize, bytes);
        self.most_memory.fetch_max(memory.values().sum(), Ordering::SeqCst);
        Some(block)
    }

    unsafe fn free(&self, memory: NonNull<u8>) {
        Self::holds_no_lock();
        let bytes =
            self.memory.lock().unwrap().remove(&(memory.as_ptr() as usize)).expect("memory of this desk");
        // SAFETY: the block is that long.
        unsafe { memory.write_bytes(0x5A, bytes) };
        // SAFETY: the block was allocated by this layout, and is forgotten.
        unsafe { dealloc(memory.as_ptr(), layout(bytes)) };
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 16).expect("a layout of the host's")
}

/// A driver's calls. What tests call the kernel gives memory of that length, and frees what it is told to.
pub trait Calls {
    fn ask<A: Arguments, R>(
        &self,
        here: &'static Location<'static>,
        function: Function,
        guard: Option<Guard>,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R;

    fn give<A: Arguments, R>(
        &self,
        here: &'static Location<'static>,
        function: Function,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R;
}

impl Calls for Tracker<Desk> {
    fn ask<A: Arguments, R>(
        &self,
        here: &'static Location<'static>,
        function: Function,
        guard: Option<Guard>,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        // SAFETY: see the trait.
        unsafe { self.allocate(here, function, guard, arguments, kernel) }
    }

    fn give<A: Arguments, R>(
        &self,
        here: &'static Location<'static>,
        function: Function,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        // SAFETY: see the trait.
        unsafe { self.free(here, function, arguments, kernel) }
    }
}

/// A tracker of blocks that are only addresses: nothing is written to them.
pub fn tracker() -> Tracker<Desk> {
    let tracker = Tracker::new(Desk::default());
    tracker.configure(Settings::new().guard(Guard::None).quarantines(Quarantine::OFF));
    tracker
}

/// What a tracked call of `ExAllocatePool2` does, the kernel answering with `address`.
#[track_caller]
pub fn allocate(tracker: &Tracker<Desk>, flags: u64, bytes: usize, tag: u32, address: usize) {
    let arguments = (flags, bytes, tag);
    let given =
        tracker.ask(Location::caller(), Function::ExAllocatePool2, None, arguments, |(_, asked, _)| {
            assert_eq!(asked, bytes);
            address
        });
    assert_eq!(given, address);
}

/// What a tracked call of `ExFreePool` does.
#[track_caller]
pub fn free(tracker: &Tracker<Desk>, address: usize) {
    tracker.give(Location::caller(), Function::ExFreePool, (address,), |(freed,)| assert_eq!(freed, address));
}

pub fn tag(index: u32) -> Tag {
    Tag(u32::from_le_bytes(*b"Aaaa") + (index % 26) + ((index / 26 % 26) << 8) + ((index / 676 % 26) << 16))
}

pub const NON_PAGED: u64 = 0x40;
pub const PAGED: u64 = 0x100;
