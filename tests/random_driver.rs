//! A driver that makes no mistake, whatever it does, and hears nothing; and its twin, which makes exactly one, and
//! hears of exactly that.
//!
//! Runs are random. One that fails says its seed: `MEMTRACK_RANDOM_SEED` repeats it, as far as threads do not decide, and
//! `MEMTRACK_RANDOM_CASES` says how many runs there are otherwise.
#![cfg(not(any(feature = "off", feature = "release_off")))]
#![allow(clippy::undocumented_unsafe_blocks, reason = "driver code")]

use std::collections::HashMap;
use std::panic::Location;
use std::ptr::with_exposed_provenance_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, LazyLock, Mutex};
use std::thread;

use memtrack::{Figures, Function, Guard, Pool, Quarantine, Settings, Stats};
use memtrack_sim::{
    Allocation, DISPATCH_LEVEL, KIRQL, Machine, POOL_FLAG_CACHE_ALIGNED, POOL_FLAG_NON_PAGED,
    POOL_FLAG_NON_PAGED_EXECUTE, POOL_FLAG_PAGED, POOL_FLAG_RAISE_ON_FAILURE, POOL_FLAG_UNINITIALIZED,
    POOL_FLAGS, POOL_TYPE, PVOID, PoolKind, allocation_at, catch_raise, ntddk,
};

#[allow(dead_code, reason = "shared by tests, and more than this one needs")]
mod lines;

/// Numbers that are random enough, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Mostly what drivers ask for; at times round a page, and at times more than any quarantine holds.
    fn bytes(&mut self) -> usize {
        match self.below(60) {
            0 => self.between(4096 - 140, 4096 + 40),
            1 => 4096 * self.between(1, 5) - self.below(2) * self.below(40),
            2 => self.between(1, 20_000),
            3 => self.between(250_000, 600_000),
            _ => self.between(1, 600),
        }
    }
}

/// Runs `run` with as many seeds as were asked for, or as are `usual`.
fn with_seeds(usual: u64, run: impl Fn(u64)) {
    struct Named(u64);

    impl Drop for Named {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("to repeat this run: MEMTRACK_RANDOM_SEED={}", self.0);
            }
        }
    }

    let wish = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let seeds = match wish("MEMTRACK_RANDOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..wish("MEMTRACK_RANDOM_CASES").unwrap_or(usual),
    };
    for seed in seeds {
        let _named = Named(seed);
        run(seed);
    }
}

const ALLOCATING: [Function; 13] = [
    Function::ExAllocatePool,
    Function::ExAllocatePoolWithTag,
    Function::ExAllocatePoolWithQuota,
    Function::ExAllocatePoolWithQuotaTag,
    Function::ExAllocatePoolWithTagPriority,
    Function::ExAllocatePool2,
    Function::ExAllocatePool3,
    Function::ExAllocatePoolZero,
    Function::ExAllocatePoolUninitialized,
    Function::ExAllocatePoolQuotaZero,
    Function::ExAllocatePoolQuotaUninitialized,
    Function::ExAllocatePoolPriorityZero,
    Function::ExAllocatePoolPriorityUninitialized,
];
const FREEING: [Function; 3] = [Function::ExFreePool, Function::ExFreePoolWithTag, Function::ExFreePool2];

const fn tag(text: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*text)
}

/// The system uses them, too.
const TAGS: [u32; 4] = [tag(b"Rand"), tag(b"Drv1"), tag(b"Xx 2"), tag(b"None")];
/// Nobody allocates under this one.
const STRANGE: u32 = tag(b"Huh?");

/// What somebody asks the kernel for.
#[derive(Clone, Copy, Debug)]
struct Request {
    function: Function,
    paged: bool,
    cache_aligned: bool,
    uninitialized: bool,
    /// A refusal is an exception, where the function can do that.
    raises: bool,
    bytes: usize,
    tag: u32,
    /// Extended parameters, where the function takes some.
    parameters: usize,
}

impl Request {
    fn random(random: &mut Random) -> Self {
        Self {
            function: random.pick(&ALLOCATING),
            paged: random.one_in(2),
            cache_aligned: random.one_in(8),
            uninitialized: random.one_in(3),
            raises: random.one_in(6),
            bytes: random.bytes(),
            tag: random.pick(&TAGS),
            parameters: random.below(3),
        }
    }

    fn is_flagged(&self) -> bool {
        matches!(self.function, Function::ExAllocatePool2 | Function::ExAllocatePool3)
    }

    fn is_untagged(&self) -> bool {
        matches!(self.function, Function::ExAllocatePool | Function::ExAllocatePoolWithQuota)
    }

    fn is_charged(&self) -> bool {
        self.function.name().contains("Quota")
    }

    fn flags(&self) -> POOL_FLAGS {
        let executable = self.bytes % 5 == 0;
        let pool = match self.paged {
            true => POOL_FLAG_PAGED,
            false if executable => POOL_FLAG_NON_PAGED_EXECUTE,
            false => POOL_FLAG_NON_PAGED,
        };
        let with = |yes, flag| if yes { flag } else { 0 };
        pool | with(self.cache_aligned, POOL_FLAG_CACHE_ALIGNED)
            | with(self.uninitialized, POOL_FLAG_UNINITIALIZED)
            | with(self.raises, POOL_FLAG_RAISE_ON_FAILURE)
    }

    fn pool_type(&self) -> POOL_TYPE {
        use memtrack_sim::_POOL_TYPE as Type;
        let pool = match (self.paged, self.cache_aligned) {
            (true, false) => Type::PagedPool,
            (true, true) => Type::PagedPoolCacheAligned,
            (false, false) if self.bytes % 2 == 0 => Type::NonPagedPool,
            (false, false) => Type::NonPagedPoolNx,
            (false, true) => Type::NonPagedPoolNxCacheAligned,
        };
        let habit = match (self.is_charged(), self.raises) {
            (true, false) => memtrack_sim::POOL_QUOTA_FAIL_INSTEAD_OF_RAISE,
            (false, true) => memtrack_sim::POOL_RAISE_IF_ALLOCATION_FAILURE,
            _ => 0,
        };
        pool | habit as POOL_TYPE
    }

    fn is_zeroed(&self) -> bool {
        if self.is_flagged() { !self.uninitialized } else { self.function.name().ends_with("Zero") }
    }

    fn alignment(&self) -> usize {
        match (self.bytes < 4096, self.cache_aligned) {
            (true, false) => 16,
            (true, true) => 64,
            (false, _) => 4096,
        }
    }

    /// The tag under which the kernel files the block.
    fn filed(&self) -> u32 {
        if self.is_untagged() { tag(b"None") } else { self.tag }
    }

    /// What the kernel gives of its pool, as `docs/detection.md` says.
    fn kernel_bytes(&self, guard: Guard) -> usize {
        match guard {
            Guard::None => self.bytes,
            Guard::Tail | Guard::Full => self.front(guard) + self.bytes.next_multiple_of(16) + 16,
        }
    }

    /// How much of that lies in front of the block.
    fn front(&self, guard: Guard) -> usize {
        let shortest = if self.cache_aligned { 128 } else { 16 };
        match guard {
            Guard::None | Guard::Tail => 0,
            Guard::Full if self.bytes + shortest > 4096 => 4096,
            Guard::Full => shortest,
        }
    }

    fn kind(&self) -> PoolKind {
        if self.paged { PoolKind::Paged } else { PoolKind::NonPaged }
    }

    /// This request at this place, as reports name it.
    fn named(&self, place: Place) -> String {
        let Self { function, paged, .. } = *self;
        let tag = self.filed().to_le_bytes();
        let (tag, pool) = (std::str::from_utf8(&tag).unwrap(), if paged { "Paged" } else { "NonPaged" });
        format!("{}:{}:{}  {function} '{tag}' {pool}", place.file(), place.line(), place.column())
    }
}

/// How a block is freed.
#[derive(Clone, Copy, Debug)]
struct Release {
    function: Function,
    tag: u32,
}

impl Release {
    /// A right way to free a block that is filed under `tag`.
    fn random(random: &mut Random, tag: u32) -> Self {
        Self { function: random.pick(&FREEING), tag: if random.one_in(3) { 0 } else { tag } }
    }

    /// This free at this place, as reports name it.
    fn named(&self, place: Place) -> String {
        format!("{}:{}:{} {}", place.file(), place.line(), place.column(), self.function)
    }
}

/// Where a call stands.
type Place = &'static Location<'static>;

/// Everything that a driver calls, once for each way to annotate it. All calls are at the caller's place.
macro_rules! code {
    ($($(#[$attribute:meta])* $name:ident)*) => {$(
        $(#[$attribute])*
        mod $name {
            use super::{Place, Release, Request, parameters};
            use memtrack::Function;
            use memtrack_sim::{PVOID, SIZE_T, ULONG, ntddk::*};

            #[track_caller]
            pub fn allocate(request: &Request) -> (PVOID, Place) {
                let (kind, flags, tag) = (request.pool_type(), request.flags(), request.tag);
                let (bytes, priority) = (request.bytes as SIZE_T, 16);
                let extended = &parameters()[..request.parameters];
                let block = unsafe {
                    match request.function {
                        Function::ExAllocatePool => ExAllocatePool(kind, bytes),
                        Function::ExAllocatePoolWithTag => ExAllocatePoolWithTag(kind, bytes, tag),
                        Function::ExAllocatePoolWithQuota => ExAllocatePoolWithQuota(kind, bytes),
                        Function::ExAllocatePoolWithQuotaTag => ExAllocatePoolWithQuotaTag(kind, bytes, tag),
                        Function::ExAllocatePoolWithTagPriority => {
                            ExAllocatePoolWithTagPriority(kind, bytes, tag, priority)
                        }
                        Function::ExAllocatePool2 => ExAllocatePool2(flags, bytes, tag),
                        Function::ExAllocatePool3 => {
                            ExAllocatePool3(flags, bytes, tag, extended.as_ptr(), extended.len() as ULONG)
                        }
                        Function::ExAllocatePoolZero => ExAllocatePoolZero(kind, bytes, tag),
                        Function::ExAllocatePoolUninitialized => ExAllocatePoolUninitialized(kind, bytes, tag),
                        Function::ExAllocatePoolQuotaZero => ExAllocatePoolQuotaZero(kind, bytes, tag),
                        Function::ExAllocatePoolQuotaUninitialized => {
                            ExAllocatePoolQuotaUninitialized(kind, bytes, tag)
                        }
                        Function::ExAllocatePoolPriorityZero => {
                            ExAllocatePoolPriorityZero(kind, bytes, tag, priority)
                        }
                        Function::ExAllocatePoolPriorityUninitialized => {
                            ExAllocatePoolPriorityUninitialized(kind, bytes, tag, priority)
                        }
                        other => unreachable!("{other} does not allocate"),
                    }
                };
                (block, std::panic::Location::caller())
            }

            #[track_caller]
            pub fn free(block: PVOID, release: Release) -> Place {
                let Release { function, tag } = release;
                unsafe {
                    match function {
                        Function::ExFreePool => ExFreePool(block),
                        Function::ExFreePoolWithTag => ExFreePoolWithTag(block, tag),
                        Function::ExFreePool2 => ExFreePool2(block, tag, std::ptr::null(), 0),
                        other => unreachable!("{other} does not free"),
                    }
                }
                std::panic::Location::caller()
            }
        }
    )*};
}

code! {
    #[memtrack::instrument] plain
    #[memtrack::instrument(guard = "tail")] tail
    #[memtrack::instrument(guard = "full")] full
    #[memtrack::instrument(guard = "none")] none
    #[memtrack::skip] system
    stranger
}

/// A priority and a NUMA node, which any kernel takes.
fn parameters() -> [memtrack_sim::POOL_EXTENDED_PARAMETER; 2] {
    use memtrack_sim::_POOL_EXTENDED_PARAMETER_TYPE as Type;
    let mut parameters = [memtrack_sim::POOL_EXTENDED_PARAMETER::default(); 2];
    parameters[0].__bindgen_anon_1.set_Type(Type::PoolExtendedParameterPriority as u64);
    parameters[0].__bindgen_anon_2.Priority = memtrack_sim::_EX_POOL_PRIORITY::HighPoolPriority;
    parameters[1].__bindgen_anon_1.set_Type(Type::PoolExtendedParameterNumaNode as u64);
    parameters[1].__bindgen_anon_2.PreferredNode = 1;
    parameters
}

/// One of the modules above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Plain,
    Tail,
    Full,
    None,
    /// `#[memtrack::skip]`.
    System,
    /// Without any attribute.
    Stranger,
}

/// The driver's own.
const OWN: [Code; 4] = [Code::Plain, Code::Tail, Code::Full, Code::None];
const FOREIGN: [Code; 2] = [Code::System, Code::Stranger];

impl Code {
    #[track_caller]
    fn allocate(self, request: &Request) -> (PVOID, Place) {
        match self {
            Self::Plain => plain::allocate(request),
            Self::Tail => tail::allocate(request),
            Self::Full => full::allocate(request),
            Self::None => none::allocate(request),
            Self::System => system::allocate(request),
            Self::Stranger => stranger::allocate(request),
        }
    }

    #[track_caller]
    fn free(self, block: PVOID, release: Release) -> Place {
        match self {
            Self::Plain => plain::free(block, release),
            Self::Tail => tail::free(block, release),
            Self::Full => full::free(block, release),
            Self::None => none::free(block, release),
            Self::System => system::free(block, release),
            Self::Stranger => stranger::free(block, release),
        }
    }

    /// Allocates a block that memtrack does not see, and that it can tell from the one that it has `seen` there.
    fn allocate_elsewhere(self, request: &Request, seen: impl Fn(usize) -> Option<u64>) -> Option<Block> {
        let request = Request { raises: false, ..*request };
        loop {
            let (address, site) = self.allocate(&request);
            if address.is_null() {
                return None;
            }
            let block = Block::new(address, &request, Guard::None, site).foreign();
            if seen(block.address).is_none_or(|seen| seen % 0x3FFF != block.number % 0x3FFF) {
                block.is_as_promised();
                block.fill();
                return Some(block);
            }
            self.free(address, Release { function: Function::ExFreePool, tag: 0 });
        }
    }

    /// What stands round the blocks that are allocated here.
    fn guard(self, chosen: Guard) -> Guard {
        match self {
            Self::Plain => chosen,
            Self::Tail => Guard::Tail,
            Self::Full => Guard::Full,
            Self::None | Self::System | Self::Stranger => Guard::None,
        }
    }
}

/// A level that this processor is at until this is dropped.
struct Level(KIRQL);

impl Level {
    fn raise(level: u32) -> Self {
        Self(unsafe { ntddk::KfRaiseIrql(level as KIRQL) })
    }

    /// Any at which this pool may be called.
    fn random(random: &mut Random, paged: bool) -> Self {
        let level = if paged { random.below(2) as u32 } else { random.pick(&[0, 0, 1, DISPATCH_LEVEL]) };
        Self::raise(level)
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        unsafe { ntddk::KeLowerIrql(self.0) };
    }
}

/// A block that somebody has.
#[derive(Clone, Copy, Debug)]
struct Block {
    address: usize,
    request: Request,
    guard: Guard,
    site: Place,
    /// Which allocation of the kernel's it is.
    number: u64,
    /// The system allocated it: memtrack has not seen it come.
    foreign: bool,
    /// The system may free it.
    movable: bool,
}

impl Block {
    fn new(address: PVOID, request: &Request, guard: Guard, site: Place) -> Self {
        let Allocation::Live(number) = allocation_at(address.wrapping_byte_sub(request.front(guard))) else {
            panic!("the kernel knows of no block at {address:?} for {request:?}");
        };
        let address = address.expose_provenance();
        Self { address, request: *request, guard, site, number, foreign: false, movable: false }
    }

    fn movable(self, movable: bool) -> Self {
        Self { movable, ..self }
    }

    fn foreign(self) -> Self {
        Self { foreign: true, movable: true, ..self }
    }

    /// Blocks are filled with so many bytes again and again; with which is the block's choice.
    const PATTERN: usize = 4096;

    fn pattern(&self) -> &'static [u8] {
        static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let mut random = Random(0);
            (0..2 * Block::PATTERN).map(|_| random.next() as u8).collect()
        });
        let start = (self.address / 16 + self.request.bytes * 7) % Self::PATTERN;
        &BYTES[start..start + Self::PATTERN]
    }

    fn pointer(&self) -> PVOID {
        with_exposed_provenance_mut(self.address)
    }

    fn contents(&self) -> &'static mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.pointer().cast(), self.request.bytes) }
    }

    /// Looks at a new block as somebody does who relies on all that is promised.
    fn is_as_promised(&self) {
        let bytes = self.request.bytes;
        assert_eq!(self.address % self.request.alignment(), 0, "{self:?}");
        assert!(bytes >= 4096 || self.address % 4096 + bytes <= 4096, "{self:?} crosses a page");
        if self.request.is_zeroed() {
            const ZEROS: [u8; 4096] = [0; 4096];
            assert!(self.contents().chunks(4096).all(|chunk| *chunk == ZEROS[..chunk.len()]), "{self:?}");
        }
    }

    /// Writes every byte.
    fn fill(&self) {
        for chunk in self.contents().chunks_mut(Self::PATTERN) {
            chunk.copy_from_slice(&self.pattern()[..chunk.len()]);
        }
    }

    /// Every byte that was written is still there.
    fn is_intact(&self) {
        let pattern = self.pattern();
        let intact = self.contents().chunks(Self::PATTERN).all(|chunk| *chunk == pattern[..chunk.len()]);
        assert!(intact, "{self:?} was written to");
    }

    fn write(&self, at: isize, bytes: &[u8]) {
        unsafe { self.pointer().cast::<u8>().offset(at).copy_from(bytes.as_ptr(), bytes.len()) };
    }

    fn kernel_bytes(&self) -> usize {
        self.request.kernel_bytes(self.guard)
    }

    /// Where it begins for the kernel.
    fn base(&self) -> usize {
        self.address - self.request.front(self.guard)
    }

    /// A request that the kernel answers with this block's address, once that is free: it keeps blocks of one class by
    /// themselves, and gives first what was freed last.
    fn successor(&self, random: &mut Random) -> Request {
        let taken = self.kernel_bytes().max(1);
        let bytes = match (taken < 4096, self.request.cache_aligned) {
            (true, true) => {
                random.between(taken.next_multiple_of(64) - 63, taken.next_multiple_of(64).min(4095))
            }
            (true, false) => random.between(taken.next_multiple_of(16) - 15, taken.next_multiple_of(16)),
            (false, _) => {
                let pages = taken.next_multiple_of(4096);
                random.between((pages - 4095).max(4096), pages)
            }
        };
        let tag = if random.one_in(2) { self.request.tag } else { random.pick(&TAGS) };
        Request { bytes, tag, function: random.pick(&ALLOCATING), ..self.request }
    }
}

fn figures(stats: &mut Stats, paged: bool) -> &mut Figures {
    if paged { &mut stats.paged } else { &mut stats.nonpaged }
}

/// What happens to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Allocated,
    /// By the driver.
    Freed,
    /// Freed by the system.
    Lost,
}

/// Which allocation memtrack saw last at an address. It tells one from the next 16,382, and not from the one after.
type Seen = HashMap<usize, u64>;

/// All that memtrack counts, kept by somebody who sees everything.
#[derive(Default)]
struct Model {
    stats: Stats,
    /// Blocks that the system freed, and which memtrack takes for the driver's until it sees their address again.
    ghosts: HashMap<usize, Block>,
    seen: Seen,
    /// Lines `exhausted` that were said.
    exhausted: u64,
}

impl Model {
    fn allocated(&mut self, block: &Block) {
        self.seen.insert(block.base(), block.number);
        if let Some(ghost) = self.ghosts.remove(&block.base()) {
            self.vanished(&ghost);
        }
        let figures = figures(&mut self.stats, block.request.paged);
        figures.curr_blocks += 1;
        figures.curr_bytes += block.request.bytes as u64;
        figures.total_blocks += 1;
        figures.total_bytes += block.request.bytes as u64;
        figures.max_blocks = figures.max_blocks.max(figures.curr_blocks);
        figures.max_bytes = figures.max_bytes.max(figures.curr_bytes);
    }

    fn vanished(&mut self, ghost: &Block) {
        self.leaves(ghost);
        self.stats.vanished_blocks += 1;
    }

    fn leaves(&mut self, block: &Block) {
        let figures = figures(&mut self.stats, block.request.paged);
        figures.curr_blocks -= 1;
        figures.curr_bytes -= block.request.bytes as u64;
    }

    fn freed(&mut self, block: &Block) {
        if !block.foreign {
            return self.leaves(block);
        }
        self.stats.foreign_frees += 1;
        if let Some(ghost) = self.ghosts.remove(&block.address) {
            self.vanished(&ghost);
        }
    }

    /// The system frees a block of the driver's.
    fn lost(&mut self, block: &Block) {
        if !block.foreign {
            self.ghosts.insert(block.address, *block);
        }
    }

    /// What several threads did at once. The kernel numbers its allocations, so that it is certain who came to an
    /// address after whom, and with it everything but the most that there ever was at one time.
    fn catch_up(&mut self, mut events: Vec<(Block, Event)>) {
        let before = self.stats;
        events.sort_by_key(|(block, event)| (block.number, *event));
        for (block, event) in &events {
            match event {
                Event::Allocated => self.allocated(block),
                Event::Freed => self.freed(block),
                Event::Lost => self.lost(block),
            }
        }
        let actual = memtrack::stats();
        for (before, now, actual) in [
            (before.nonpaged, &mut self.stats.nonpaged, actual.nonpaged),
            (before.paged, &mut self.stats.paged, actual.paged),
        ] {
            let blocks = now.total_blocks - before.total_blocks;
            let least = before.max_blocks.max(now.curr_blocks);
            let most = before.max_blocks.max(before.curr_blocks + blocks);
            assert!((least..=most).contains(&actual.max_blocks), "{before:?} {now:?} {actual:?}");
            let bytes = now.total_bytes - before.total_bytes;
            let least = before.max_bytes.max(now.curr_bytes);
            let most = before.max_bytes.max(before.curr_bytes + bytes);
            assert!((least..=most).contains(&actual.max_bytes), "{before:?} {now:?} {actual:?}");
            (now.max_blocks, now.max_bytes) = (actual.max_blocks, actual.max_bytes);
        }
    }

    /// Compares all figures. What is held is the quarantines' affair, up to their bounds.
    fn compare(&self, settings: Settings) {
        let actual = memtrack::stats();
        let mut expected = self.stats;
        (expected.held_blocks, expected.held_bytes) = (actual.held_blocks, actual.held_bytes);
        assert_eq!(actual, expected);
        let Settings { nonpaged, paged, .. } = settings;
        assert!(actual.held_blocks <= (nonpaged.blocks + paged.blocks) as u64, "{actual:?} {settings:?}");
        assert!(actual.held_bytes <= (nonpaged.bytes + paged.bytes) as u64, "{actual:?} {settings:?}");
    }
}

struct Driver<'m> {
    machine: &'m Machine,
    random: Random,
    settings: Settings,
    /// The driver's blocks, and those that the system gave it to free.
    blocks: Vec<Block>,
    model: Model,
    limits: [Option<u64>; 2],
}

fn settings(random: &mut Random) -> Settings {
    let bounds = [
        Quarantine::OFF,
        Quarantine::new(0, 20),
        Quarantine::new(2_000, 5),
        Quarantine::new(100_000, 50),
        Quarantine::default(),
    ];
    Settings::new()
        .guard(random.pick(&[Guard::Tail, Guard::Full, Guard::None]))
        .quarantine(Pool::NonPaged, random.pick(&bounds))
        .quarantine(Pool::Paged, random.pick(&bounds))
}

/// Lines that say nothing wrong of the driver.
const HARMLESS: [&str; 12] = [
    "exhausted ",
    "report of ",
    "site ",
    "outstanding ",
    "also ",
    "leaks of ",
    "leak ",
    "leaked ",
    "no leak: ",
    "Looker ",
    "   Current: ",
    "   Max: ",
];

impl<'m> Driver<'m> {
    fn new(machine: &'m Machine, seed: u64) -> Self {
        Self {
            machine,
            random: Random(seed),
            settings: Settings::new(),
            blocks: Vec::new(),
            model: Model::default(),
            limits: [None; 2],
        }
    }

    /// What the kernel has given and nobody has freed, the quarantines' part left out.
    fn in_use(&self, kind: PoolKind) -> u64 {
        let blocks = self.blocks.iter().filter(|block| block.request.kind() == kind);
        blocks.map(|block| block.kernel_bytes() as u64).sum()
    }

    fn limit(&self, kind: PoolKind) -> Option<u64> {
        self.limits[kind as usize]
    }

    fn set_limit(&mut self, kind: PoolKind, limit: Option<u64>) {
        self.limits[kind as usize] = limit;
        self.machine.set_pool_limit(kind, limit);
    }

    /// Asks for a block, and is refused exactly where it would be if nothing were held.
    #[track_caller]
    fn allocate(&mut self, code: Code, request: &Request) -> Option<Block> {
        let kind = request.kind();
        let before = self.machine.pool(kind);
        let fits = self.limit(kind).is_none_or(|limit| self.in_use(kind) + request.bytes as u64 <= limit);
        let given = {
            let _level = Level::random(&mut self.random, request.paged);
            if request.raises {
                catch_raise(|| code.allocate(request)).ok()
            } else {
                Some(code.allocate(request))
            }
        };
        let after = self.machine.pool(kind);
        let Some((address, site)) = given else {
            let most = before.bytes + request.kernel_bytes(Guard::Full) as u64;
            assert!(self.limit(kind).is_some_and(|limit| most > limit), "{request:?} raised for nothing");
            return None;
        };
        assert_eq!(!address.is_null(), fits, "{request:?} of {before:?}");
        if address.is_null() {
            self.model.stats.failures += 1;
            return None;
        }
        // Who was refused first has no guard.
        let second = after.refused > before.refused;
        let guard = if second { Guard::None } else { code.guard(self.settings.guard) };
        let movable = code.guard(self.settings.guard) != Guard::Full;
        let block = Block::new(address, request, guard, site).movable(movable);
        assert!(second || after.bytes - before.bytes == block.kernel_bytes() as u64, "{block:?} {after:?}");
        block.is_as_promised();
        block.fill();
        self.model.allocated(&block);
        self.blocks.push(block);
        Some(block)
    }

    fn allocate_at_random(&mut self) -> Option<Block> {
        let code = self.random.pick(&OWN);
        let request = Request::random(&mut self.random);
        self.allocate(code, &request)
    }

    /// The system allocates a block for the driver to free.
    fn allocate_in_the_system(&mut self, request: &Request) -> Option<Block> {
        let block =
            self.random.pick(&FOREIGN).allocate_elsewhere(request, |at| self.model.seen.get(&at).copied())?;
        self.blocks.push(block);
        Some(block)
    }

    /// Some block, which is the caller's from now on.
    fn take(&mut self) -> Option<Block> {
        let count = self.blocks.len();
        (count > 0).then(|| self.blocks.swap_remove(self.random.below(count)))
    }

    #[track_caller]
    fn free(&mut self, block: &Block) -> (Release, Place) {
        block.is_intact();
        let code = self.random.pick(&OWN);
        let release = Release::random(&mut self.random, block.request.filed());
        let _level = Level::random(&mut self.random, block.request.paged);
        let place = code.free(block.pointer(), release);
        self.model.freed(block);
        (release, place)
    }

    fn free_on_another_thread(&mut self, block: &Block) {
        block.is_intact();
        let code = self.random.pick(&OWN);
        let release = Release::random(&mut self.random, block.request.filed());
        thread::scope(|scope| {
            scope.spawn(|| code.free(block.pointer(), release));
        });
        self.model.freed(block);
    }

    /// The system frees a block, which may have been the driver's. Its address comes again, and again.
    fn free_in_the_system(&mut self, block: &Block) {
        let code = self.random.pick(&FOREIGN);
        block.is_intact();
        code.free(block.pointer(), Release::random(&mut self.random, block.request.filed()));
        self.model.lost(block);
        for _ in 0..self.random.below(3) {
            let request = block.successor(&mut self.random);
            let Some(successor) = self.allocate_in_the_system(&request) else { return };
            assert_eq!(successor.address, block.address, "{block:?} {successor:?}");
            match self.random.below(4) {
                // It stays, for the driver to free some time.
                0 => return,
                1 | 2 => {
                    self.blocks.pop();
                    self.free(&successor);
                }
                _ => {
                    self.blocks.pop();
                    successor.is_intact();
                    let release = Release::random(&mut self.random, successor.request.filed());
                    code.free(successor.pointer(), release);
                }
            }
        }
    }

    /// A longer or shorter block for an old one, with the same contents.
    fn reallocate(&mut self) {
        let Some(old) = self.take() else { return };
        // While this is under way the old one counts.
        self.blocks.push(old);
        let Some(new) = self.allocate_at_random() else { return };
        let both = old.request.bytes.min(new.request.bytes);
        new.contents()[..both].copy_from_slice(&old.contents()[..both]);
        let place = self.blocks.len() - 2;
        self.blocks.swap_remove(place);
        self.free(&old);
        assert_eq!(new.contents()[..both.min(Block::PATTERN)], old.pattern()[..both.min(Block::PATTERN)]);
        new.fill();
    }

    fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        memtrack::configure(settings);
    }

    fn limit_a_pool(&mut self) {
        let kind = self.random.pick(&[PoolKind::NonPaged, PoolKind::Paged]);
        let room = self.random.pick(&[200, 3_000, 100_000]);
        let limit = self.in_use(kind) + self.random.below(room) as u64;
        self.set_limit(kind, Some(limit));
    }

    fn lift_limits(&mut self) {
        self.set_limit(PoolKind::NonPaged, None);
        self.set_limit(PoolKind::Paged, None);
    }

    fn check(&mut self) {
        let _level = Level::random(&mut self.random, false);
        assert_eq!(memtrack::check(), 0);
    }

    /// All that memtrack said since it was asked last, without the marks of its records.
    fn lines(&self) -> Vec<String> {
        let lines = self.machine.take_output();
        let text = |line: &String| Some(line.strip_prefix("memtrack: ")?.rsplit_once(" #")?.0.to_owned());
        lines.iter().map(|line| text(line).unwrap_or_else(|| format!("not memtrack's: {line}"))).collect()
    }

    /// Nothing wrong was said, and each refusal as often as it should.
    fn hears_nothing(&mut self) {
        let lines = self.lines();
        let harmless = |line: &String| HARMLESS.iter().any(|start| line.starts_with(start));
        let complaints: Vec<&String> = lines.iter().filter(|line| !harmless(line)).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        self.model.exhausted += lines.iter().filter(|line| line.starts_with("exhausted ")).count() as u64;
        // The first refusal at each site, the second, the fourth, ...
        let due = |failures: u64| u64::from(u64::BITS - failures.leading_zeros());
        assert_eq!(self.model.exhausted, memtrack::sites().map(|site| due(site.failures)).sum::<u64>());
    }

    fn reports(&mut self) {
        self.hears_nothing();
        memtrack::report("Random");
        let lines = self.lines();
        let sites = memtrack::sites().count();
        assert_eq!(lines[0], "report of Random (format 2)");
        assert!(lines[1..=sites].iter().all(|line| line.starts_with("site ")), "{lines:#?}");
        assert_eq!(lines[sites + 1..], self.sums("outstanding "), "{lines:#?}");
    }

    fn prints_stats(&mut self) {
        self.hears_nothing();
        memtrack::print_stats("Random");
        let Stats { nonpaged, paged, .. } = self.model.stats;
        let said = [("Nonpaged", nonpaged), ("Paged", paged)].map(|(pool, figures)| {
            let Figures { curr_bytes, max_bytes, .. } = figures;
            format!("Random {pool} Memory Usage:\n   Current: {curr_bytes} bytes\n   Max: {max_bytes} bytes")
        });
        assert_eq!(self.lines().join("\n"), said.join("\n"));
    }

    /// The last lines of a report.
    fn sums(&self, verdict: &str) -> Vec<String> {
        let Stats { nonpaged, paged, .. } = self.model.stats;
        let sites = memtrack::sites().count();
        let leaking = self.outstanding_by_site().len();
        let both = amount(nonpaged.curr_blocks + paged.curr_blocks, nonpaged.curr_bytes + paged.curr_bytes);
        let mut lines = vec![format!(
            "{verdict}{both} at {leaking} of {}; NonPaged {}; Paged {}",
            some(sites as u64, "site"),
            amount(nonpaged.curr_blocks, nonpaged.curr_bytes),
            amount(paged.curr_blocks, paged.curr_bytes),
        )];
        let Stats { violations, failures, foreign_frees, vanished_blocks, .. } = self.model.stats;
        let held = if verdict.starts_with("outstanding") { memtrack::stats().held_blocks } else { 0 };
        let beside = [
            (violations, "violation"),
            (held, "held block"),
            (failures, "refusal"),
            (foreign_frees, "foreign free"),
            (vanished_blocks, "vanished block"),
        ];
        lines.extend(
            beside
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, noun)| format!("also {}", some(*count, noun))),
        );
        lines
    }

    /// What memtrack takes for outstanding, and how much of it, by the line that allocated it.
    fn outstanding_by_site(&self) -> HashMap<String, (u64, u64)> {
        let mut sites = HashMap::new();
        let own = self.blocks.iter().filter(|block| !block.foreign);
        for block in own.chain(self.model.ghosts.values()) {
            let site: &mut (u64, u64) = sites.entry(block.request.named(block.site)).or_default();
            *site = (site.0 + 1, site.1 + block.request.bytes as u64);
        }
        sites
    }

    /// All figures are right, and so is what memtrack takes of the pools.
    fn compare(&self) {
        self.model.compare(self.settings);
        let taken = [PoolKind::NonPaged, PoolKind::Paged].map(|kind| self.machine.pool(kind).bytes);
        let in_use = self.in_use(PoolKind::NonPaged) + self.in_use(PoolKind::Paged);
        assert_eq!(taken[0] + taken[1], in_use + memtrack::stats().held_bytes);
    }

    fn step(&mut self) {
        match self.random.below(200) {
            0..80 if self.blocks.len() < 80 => _ = self.allocate_at_random(),
            0..130 => {
                if let Some(block) = self.take() {
                    self.free(&block);
                }
            }
            130..136 => {
                if let Some(block) = self.take() {
                    self.free_on_another_thread(&block);
                }
            }
            136..144 => {
                let request = Request::random(&mut self.random);
                self.allocate_in_the_system(&request);
            }
            144..160 => match self.take() {
                Some(block) if block.movable => self.free_in_the_system(&block),
                Some(block) => _ = self.free(&block),
                None => {}
            },
            160..170 => self.reallocate(),
            170..174 => self.check(),
            174..178 => {
                let settings = settings(&mut self.random);
                self.configure(settings);
            }
            178..181 => self.limit_a_pool(),
            181..187 => self.lift_limits(),
            187 => self.reports(),
            188 => self.prints_stats(),
            189 => self.run_threads(),
            _ => self.compare(),
        }
    }

    fn steps(&mut self, batches: usize) {
        for _ in 0..batches {
            for _ in 0..60 {
                self.step();
            }
            self.hears_nothing();
            self.compare();
        }
    }

    /// Several threads do what a driver does, with blocks of their own and each other's, while one looks on.
    fn run_threads(&mut self) {
        self.lift_limits();
        let count = self.random.between(2, 3);
        let work = Work {
            blocks: Mutex::new(std::mem::take(&mut self.blocks)),
            events: Mutex::default(),
            seen: Mutex::new(std::mem::take(&mut self.model.seen)),
            guard: self.settings.guard,
        };
        let is_done = AtomicBool::new(false);
        let seeds: Vec<u64> = (0..=count).map(|_| self.random.next()).collect();
        let settings = thread::scope(|scope| {
            let looker = scope.spawn(|| look_on(Random(seeds[count]), self.settings, &is_done));
            let workers: Vec<_> =
                seeds[..count].iter().map(|seed| scope.spawn(|| work.run(Random(*seed)))).collect();
            let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            is_done.store(true, Ordering::Relaxed);
            let settings = looker.join().expect("who looks on sees nothing wrong");
            results.into_iter().for_each(|result| result.expect("a worker sees nothing wrong"));
            settings
        });
        self.settings = settings;
        self.blocks = work.blocks.into_inner().unwrap();
        self.model.seen = work.seen.into_inner().unwrap();
        self.model.catch_up(work.events.into_inner().unwrap());
        self.compare();
    }

    /// The driver is unloaded: every block that is still there is a leak, and after that somebody else's.
    fn finish(&mut self, first: &[String]) {
        self.hears_nothing();
        let verdict = if self.model.stats.nonpaged.curr_blocks + self.model.stats.paged.curr_blocks == 0 {
            "no leak: "
        } else {
            "leaked "
        };
        let sums = self.sums(verdict);
        let mut leaks: Vec<String> = (self.outstanding_by_site().iter())
            .map(|(site, (blocks, bytes))| format!("leak {}  {site}", amount(*blocks, *bytes)))
            .collect();
        leaks.sort();
        assert_eq!(memtrack::finish("Random"), self.model.stats);
        let mut lines = self.lines();
        assert_eq!(lines.drain(..first.len()).as_slice(), first);
        assert_eq!(lines.remove(0), "leaks of Random (format 2)");
        assert_eq!(lines.split_off(leaks.len()), sums);
        lines.sort();
        assert_eq!(lines, leaks);
        self.model = Model::default();
        for block in &mut self.blocks {
            *block = block.foreign();
        }
        self.compare();
        assert_eq!(memtrack::sites().count(), 0);
    }

    /// Frees everything, or everything but what will leak.
    fn unload(&mut self, leaks: bool) {
        let (leaked, freed) = self.blocks.drain(..).partition(|block| leaks && block.movable);
        self.blocks = leaked;
        for block in freed {
            self.free(&block);
        }
        self.check();
        self.compare();
    }
}

fn some(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn amount(blocks: u64, bytes: u64) -> String {
    format!("{} {}", some(blocks, "block"), some(bytes, "byte"))
}

/// What several threads work on.
struct Work {
    blocks: Mutex<Vec<Block>>,
    events: Mutex<Vec<(Block, Event)>>,
    seen: Mutex<Seen>,
    guard: Guard,
}

impl Work {
    fn run(&self, mut random: Random) {
        let mut mine = Vec::new();
        for _ in 0..random.between(20, 60) {
            match random.below(12) {
                0..5 => mine.push(self.allocate(&mut random)),
                5 => mine.extend(self.blocks.lock().unwrap().pop()),
                6 => {
                    if let Some(block) = mine.pop() {
                        self.blocks.lock().unwrap().push(block);
                    }
                }
                _ if mine.is_empty() => {}
                7 => {
                    let block = mine.swap_remove(random.below(mine.len()));
                    mine.extend(self.give_away(&mut random, block));
                }
                _ => {
                    let block = mine.swap_remove(random.below(mine.len()));
                    self.free(&mut random, &block);
                }
            }
        }
        self.blocks.lock().unwrap().append(&mut mine);
    }

    fn allocate(&self, random: &mut Random) -> Block {
        let code = random.pick(&OWN);
        let request = Request { raises: false, ..Request::random(random) };
        let (address, site) = {
            let _level = Level::random(random, request.paged);
            code.allocate(&request)
        };
        let guard = code.guard(self.guard);
        let block = Block::new(address, &request, guard, site).movable(guard != Guard::Full);
        block.is_as_promised();
        block.fill();
        self.seen.lock().unwrap().insert(block.base(), block.number);
        self.happens(&block, Event::Allocated);
        block
    }

    fn free(&self, random: &mut Random, block: &Block) {
        block.is_intact();
        let code = random.pick(&OWN);
        let release = Release::random(random, block.request.filed());
        let _level = Level::random(random, block.request.paged);
        code.free(block.pointer(), release);
        self.happens(block, Event::Freed);
    }

    /// The system frees a block, and has another one for it, perhaps at this very address.
    fn give_away(&self, random: &mut Random, block: Block) -> Option<Block> {
        if !block.movable {
            return Some(block);
        }
        block.is_intact();
        let code = random.pick(&FOREIGN);
        code.free(block.pointer(), Release::random(random, block.request.filed()));
        self.happens(&block, Event::Lost);
        let request = block.successor(random);
        code.allocate_elsewhere(&request, |at| self.seen.lock().unwrap().get(&at).copied())
    }

    fn happens(&self, block: &Block, event: Event) {
        self.events.lock().unwrap().push((*block, event));
    }
}

/// Checks, reports and chooses other quarantines until it is done. Returns what was chosen last.
fn look_on(mut random: Random, mut settings: Settings, is_done: &AtomicBool) -> Settings {
    while !is_done.load(Ordering::Relaxed) {
        match random.below(12) {
            0 => {
                settings = self::settings(&mut random).guard(settings.guard);
                memtrack::configure(settings);
            }
            1 => memtrack::report("Looker"),
            2 => memtrack::print_stats("Looker"),
            _ => {
                let _level = Level::random(&mut random, false);
                assert_eq!(memtrack::check(), 0);
            }
        }
        thread::yield_now();
    }
    memtrack::configure(settings);
    settings
}

#[test]
fn a_correct_driver_hears_nothing() {
    with_seeds(100, |seed| {
        let machine = Machine::boot();
        let mut driver = Driver::new(&machine, seed);
        assert_eq!(
            (memtrack::stats(), memtrack::sites().count()),
            (Stats::default(), 0),
            "a boot begins anew"
        );
        for _ in 0..driver.random.between(1, 3) {
            let batches = driver.random.between(1, 6);
            driver.steps(batches);
            if driver.random.one_in(3) {
                // Off goes the machine, with everything that there is.
                return;
            }
            let leaks = driver.random.one_in(2);
            driver.lift_limits();
            driver.unload(leaks);
            driver.finish(&[]);
        }
    });
}

/// Whatever threads are at when the driver finishes, nothing is lost: what is outstanding is a leak, and a foreign block
/// from then on.
#[test]
fn finish_beside_others_loses_nothing() {
    with_seeds(24, |seed| {
        let machine = Machine::boot();
        let mut random = Random(seed);
        let settings = settings(&mut random);
        memtrack::configure(settings.guard(Guard::Tail));
        let is_done = &AtomicBool::new(false);
        let work = |worker: u64| {
            let mut random = Random(seed << 1 | worker);
            let mut count = 0;
            while !is_done.load(Ordering::Relaxed) {
                let blocks: Vec<Block> = (0..random.below(8)).map(|_| allocate_kept(&mut random)).collect();
                count += blocks.len() as u64;
                for block in blocks {
                    block.is_intact();
                    let release = Release::random(&mut random, block.request.filed());
                    random.pick(&OWN).free(block.pointer(), release);
                }
            }
            count
        };
        let (mut given, mut left) = (0, Vec::new());
        thread::scope(|scope| {
            let workers = [0, 1].map(|worker| scope.spawn(move || work(worker)));
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    assert_eq!(memtrack::check(), 0);
                    thread::yield_now();
                }
            });
            for _ in 0..30 {
                left.push(memtrack::finish("Early"));
            }
            is_done.store(true, Ordering::Relaxed);
            given = workers.into_iter().map(|worker| worker.join().expect("nothing is wrong")).sum();
        });
        left.push(memtrack::finish("Late"));
        let sum = |of: fn(&Stats) -> u64| left.iter().map(of).sum::<u64>();
        assert_eq!(sum(|stats| stats.nonpaged.total_blocks + stats.paged.total_blocks), given);
        assert_eq!(sum(|stats| stats.foreign_frees), sum(Stats::curr_blocks), "{left:#?}");
        assert_eq!(sum(|stats| stats.violations + stats.vanished_blocks + stats.unrecorded_blocks), 0);
        assert_eq!(machine.pool(PoolKind::NonPaged).blocks + machine.pool(PoolKind::Paged).blocks, 0);
    });
}

/// A block that may be freed after its driver has finished.
fn allocate_kept(random: &mut Random) -> Block {
    let code = random.pick(&[Code::Plain, Code::Tail, Code::None]);
    let request = Request { raises: false, ..Request::random(random) };
    let (address, site) = code.allocate(&request);
    let block = Block::new(address, &request, Guard::Tail, site);
    block.is_as_promised();
    block.fill();
    block
}

#[derive(Clone, Copy, Debug)]
enum Mistake {
    Overrun,
    Underrun,
    WriteAfterFree(Caught),
    DoubleFree,
    DoubleFreeOfWhatWasNotHeld,
    InnerFree,
    WrongTag,
    NoBytes,
    PagedRequest,
    PagedFree,
    TwoAtOnce,
}

/// How a write to a freed block comes to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caught {
    Check,
    Configure,
    Finish,
    /// By a free that makes the block leave.
    Free,
    /// By a request that is refused at first.
    Request,
}

const MISTAKES: [Mistake; 15] = [
    Mistake::Overrun,
    Mistake::Underrun,
    Mistake::WriteAfterFree(Caught::Check),
    Mistake::WriteAfterFree(Caught::Configure),
    Mistake::WriteAfterFree(Caught::Finish),
    Mistake::WriteAfterFree(Caught::Free),
    Mistake::WriteAfterFree(Caught::Request),
    Mistake::DoubleFree,
    Mistake::DoubleFreeOfWhatWasNotHeld,
    Mistake::InnerFree,
    Mistake::WrongTag,
    Mistake::NoBytes,
    Mistake::PagedRequest,
    Mistake::PagedFree,
    Mistake::TwoAtOnce,
];

/// Neither what guards nor what freed blocks are filled with.
const WRITTEN: u8 = b'!';

/// What a report says of `bytes` bytes that were written from `at` on.
fn changed(at: isize, bytes: usize, expected: impl Fn(isize) -> u8) -> String {
    let shown = bytes.min(16);
    let more = if bytes > shown { format!(" and {} more", bytes - shown) } else { String::new() };
    let expected: String = (at..).take(shown).map(|at| format!(" {:02X}", expected(at))).collect();
    format!("; bytes {at:+}:{}{more} (expected{expected})", format!(" {WRITTEN:02X}").repeat(shown))
}

impl Block {
    /// A block as reports name it.
    fn named(&self) -> String {
        format!("a {}-byte block  {}", self.request.bytes, self.request.named(self.site))
    }

    /// Writes where the block is not, and says what a report says of that.
    fn write_outside(&self, at: isize, bytes: usize) -> String {
        self.write(at, &vec![WRITTEN; bytes]);
        let guard = |at| 0xB0 | (self.address.wrapping_add_signed(at) & 0xF) as u8;
        changed(at, bytes, guard)
    }

    /// Writes where the block was, and says what a report says of that.
    fn write_inside(&self, at: usize, bytes: usize) -> String {
        self.write(at as isize, &vec![WRITTEN; bytes]);
        changed(at as isize, bytes, |_| 0xDF)
    }
}

impl Driver<'_> {
    /// A block that a mistake is made with: one that the driver has anyway, or a new one. It is not the driver's to
    /// free by chance any more.
    #[track_caller]
    fn victim(&mut self, fits: impl Fn(&Block) -> bool) -> Block {
        let known = self.blocks.iter().position(|block| !block.foreign && fits(block));
        if let Some(known) = known.filter(|_| self.random.one_in(2)) {
            return self.blocks.swap_remove(known);
        }
        let place = Location::caller();
        loop {
            let code = self.random.pick(&OWN);
            let request = Request { raises: false, ..Request::random(&mut self.random) };
            let block = self.allocate(code, &request).expect("there is no limit");
            assert_eq!((block.site.file(), block.site.line()), (file!(), place.line()));
            if fits(&block) {
                return self.blocks.pop().expect("it was the last one");
            }
        }
    }

    /// A right way to free a block, from any code.
    fn release(&mut self, block: &Block) -> (Code, Release) {
        (self.random.pick(&OWN), Release::random(&mut self.random, block.request.filed()))
    }

    /// Makes a mistake, and returns the lines that must be said of it, and no other: by now, or by `finish` where that
    /// is who finds it.
    fn err(&mut self, mistake: Mistake) -> Vec<String> {
        match mistake {
            Mistake::Overrun => {
                let block = self.victim(|block| block.guard != Guard::None);
                let bytes = block.request.bytes;
                let length = 1 + self.random.below(bytes.next_multiple_of(16) + 16 - bytes);
                let changed = block.write_outside(bytes as isize, length);
                let right_of = format!("overrun {} right of {}", some(length as u64, "byte"), block.named());
                vec![right_of, self.finds_damage(&block, &changed)]
            }
            Mistake::Underrun => {
                let block = self.victim(|block| block.guard == Guard::Full);
                let length = 1 + self.random.below(block.request.front(block.guard).min(40));
                let changed = block.write_outside(-(length as isize), length);
                let left_of = format!("underrun {} left of {}", some(length as u64, "byte"), block.named());
                vec![left_of, self.finds_damage(&block, &changed)]
            }
            Mistake::WriteAfterFree(caught) => self.write_after_free(caught),
            Mistake::DoubleFree => {
                self.configure(Settings::new().guard(self.settings.guard));
                let block = self.victim(|block| block.kernel_bytes() < 100_000);
                self.free_twice("double free of", &block)
            }
            Mistake::DoubleFreeOfWhatWasNotHeld => {
                self.configure(Settings::new().quarantines(Quarantine::new(100, 3)));
                let block = self.victim(|block| block.kernel_bytes() > 100);
                self.free_twice("freed before, or a reused address:", &block)
            }
            Mistake::InnerFree => {
                if self.random.one_in(2) {
                    self.crowd();
                }
                let block = self.victim(|block| block.request.bytes > 1);
                let into = self.random.between(1, block.request.bytes - 1);
                let (code, release) = self.release(&block);
                let (place, line) = (code.free(block.pointer().wrapping_byte_add(into), release), line!());
                assert_eq!(place.line(), line);
                self.blocks.push(block);
                vec![
                    format!("free {} into {}", some(into as u64, "byte"), block.named()),
                    format!("  freed at {}; not passed on", release.named(place)),
                ]
            }
            Mistake::WrongTag => {
                let block = self.victim(|block| !block.request.is_untagged());
                let (code, _) = self.release(&block);
                let release = Release { function: self.random.pick(&FREEING[1..]), tag: STRANGE };
                let _level = Level::random(&mut self.random, block.request.paged);
                let (place, line) = (code.free(block.pointer(), release), line!());
                assert_eq!(place.line(), line);
                self.model.freed(&block);
                vec![
                    format!("wrong tag 'Huh?' for {}", block.named()),
                    format!("  freed at {}; freed with its own tag", release.named(place)),
                ]
            }
            Mistake::NoBytes => self.ask_for_nothing(),
            Mistake::PagedRequest => self.ask_for_paged_memory_too_high(),
            Mistake::PagedFree => {
                let block = self.victim(|block| block.request.paged);
                let (code, release) = self.release(&block);
                let place = {
                    let _level = Level::raise(DISPATCH_LEVEL);
                    code.free(block.pointer(), release)
                };
                self.model.freed(&block);
                // The next call below lets it go, if it would not be held anyway.
                assert_eq!(memtrack::check(), 0);
                vec![
                    format!("paged free at IRQL 2 of {}", block.named()),
                    format!("  freed at {}; held until paged pool may be freed", release.named(place)),
                ]
            }
            Mistake::TwoAtOnce => self.free_twice_at_once(),
        }
    }

    /// Allocates so many small blocks that nobody looks at each of them.
    fn crowd(&mut self) {
        for bytes in 1..600 {
            let request =
                Request { bytes: 1 + bytes % 40, raises: false, ..Request::random(&mut self.random) };
            self.allocate(Code::Plain, &request);
        }
    }

    /// A check finds a damaged block, or its own free. Returns the line that says so.
    fn finds_damage(&mut self, block: &Block, changed: &str) -> String {
        if self.random.one_in(2) {
            assert_eq!(memtrack::check(), 1);
            assert_eq!(memtrack::check(), 1, "broken still, and said already");
            self.free(block);
            format!("  caught by check{changed}")
        } else {
            let ((release, place), line) = (self.free(block), line!());
            assert_eq!(place.line(), line);
            format!("  caught at {}{changed}", release.named(place))
        }
    }

    fn write_after_free(&mut self, caught: Caught) -> Vec<String> {
        let few = Quarantine::new(50_000, self.random.between(1, 12));
        self.configure(Settings::new().guard(self.settings.guard).quarantines(few));
        let block = self.victim(|block| block.kernel_bytes() < 20_000);
        let ((release, place), line) = (self.free(&block), line!());
        assert_eq!(place.line(), line);
        let (at, changed) = self.write_to_what_was(&block);
        let found = match caught {
            Caught::Check => {
                assert_eq!(memtrack::check(), 1);
                assert_eq!(memtrack::check(), 1, "broken still, and said already");
                self.configure(self.settings.quarantines(Quarantine::OFF));
                "by check".to_owned()
            }
            Caught::Configure => {
                self.configure(self.settings.quarantines(Quarantine::OFF));
                "by configure".to_owned()
            }
            Caught::Finish => "by finish".to_owned(),
            Caught::Free => format!("at {} as it left the quarantine", self.push_out(&block)),
            Caught::Request => {
                let kind = block.request.kind();
                let request = Request {
                    paged: block.request.paged,
                    raises: false,
                    ..Request::random(&mut self.random)
                };
                self.set_limit(kind, Some(self.in_use(kind) + request.bytes as u64));
                let (block, line) = (self.allocate(Code::Tail, &request), line!());
                let site = block.expect("there is just as much as was asked for").site;
                assert_eq!(site.line(), line);
                self.lift_limits();
                let asked = Release { function: request.function, tag: 0 };
                format!("at {} as it left the quarantine", asked.named(site))
            }
        };
        vec![
            format!("write after free at {at:+} of {}", block.named()),
            format!("  freed at {}", release.named(place)),
            format!("  caught {found}{changed}"),
        ]
    }

    /// Writes to a freed block, or to its guards. Returns where, and what a report says of that.
    fn write_to_what_was(&mut self, block: &Block) -> (isize, String) {
        let bytes = block.request.bytes;
        match (self.random.below(4), block.guard) {
            (0, Guard::Full) => (-3, block.write_outside(-3, 1 + self.random.below(3))),
            (1, Guard::Full | Guard::Tail) => {
                let at = bytes + self.random.below(10);
                (at as isize, block.write_outside(at as isize, 1 + self.random.below(6)))
            }
            _ => {
                let at = self.random.below(bytes);
                let length = 1 + self.random.below((bytes - at).min(20));
                (at as isize, block.write_inside(at, length))
            }
        }
    }

    /// Frees other blocks until a freed one has left the quarantine. Returns the free that did it.
    fn push_out(&mut self, freed: &Block) -> String {
        let of_its_pool =
            Request { function: Function::ExAllocatePool2, cache_aligned: false, ..freed.request };
        let small = Request { bytes: 10, raises: false, ..of_its_pool };
        loop {
            // In two places, so that the line must name the right one.
            let filler = self.allocate_beside(&small);
            let (release, place) = self.free(&filler);
            if memtrack::stats().violations > 0 {
                return release.named(place);
            }
            let filler = self.allocate_beside(&small);
            let (release, place) = self.free(&filler);
            if memtrack::stats().violations > 0 {
                return release.named(place);
            }
        }
    }

    /// A block that the driver keeps to itself.
    fn allocate_beside(&mut self, request: &Request) -> Block {
        self.allocate(Code::Full, request).expect("there is no limit");
        self.blocks.pop().expect("it was the last one")
    }

    fn free_twice(&mut self, what: &str, block: &Block) -> Vec<String> {
        let ((release, place), line) = (self.free(block), line!());
        assert_eq!(place.line(), line);
        let (code, again) = self.release(block);
        let _level = Level::random(&mut self.random, block.request.paged);
        let second = code.free(block.pointer(), again);
        vec![
            format!("{what} {}", block.named()),
            format!("  freed at {}", release.named(place)),
            format!("  freed again at {}; not passed on", again.named(second)),
        ]
    }

    fn ask_for_nothing(&mut self) -> Vec<String> {
        let request = Request { bytes: 0, raises: false, ..Request::random(&mut self.random) };
        let code = self.random.pick(&OWN);
        let site = if request.is_flagged() {
            let (block, site) = code.allocate(&request);
            assert!(block.is_null(), "as without memtrack");
            self.model.stats.failures += 1;
            site
        } else {
            self.allocate(code, &request).expect("there is no limit").site
        };
        let asked = Release { function: request.function, tag: 0 };
        vec![
            format!("request of 0 bytes  {}", request.named(site)),
            format!("  asked at {}; passed on", asked.named(site)),
        ]
    }

    fn ask_for_paged_memory_too_high(&mut self) -> Vec<String> {
        let request = Request { paged: true, ..Request::random(&mut self.random) };
        let code = self.random.pick(&OWN);
        let (address, site) = {
            let _level = Level::raise(DISPATCH_LEVEL);
            code.allocate(&request)
        };
        let guard = code.guard(self.settings.guard);
        let nonpaged = Request { paged: false, ..request };
        let block = Block::new(address, &nonpaged, guard, site).movable(guard != Guard::Full);
        block.is_as_promised();
        block.fill();
        self.model.allocated(&block);
        self.blocks.push(block);
        let asked = Release { function: request.function, tag: 0 };
        let bytes = some(request.bytes as u64, "byte");
        vec![
            format!("paged request of {bytes} at IRQL 2  {}", request.named(site)),
            format!("  asked at {}; given nonpaged pool instead", asked.named(site)),
        ]
    }

    /// Two threads free one block at the same moment: one does, and the other is told.
    fn free_twice_at_once(&mut self) -> Vec<String> {
        let (what, bounds) = if self.random.one_in(2) {
            ("double free of", Quarantine::new(100_000, 10))
        } else {
            ("freed before, or a reused address:", Quarantine::new(0, 10))
        };
        self.configure(Settings::new().quarantines(bounds));
        let block = self.victim(|block| block.kernel_bytes() < 20_000);
        let frees = [self.release(&block), self.release(&block)];
        let barrier = Barrier::new(2);
        let places = thread::scope(|scope| {
            let free = |(code, release): (Code, Release)| {
                let (barrier, block) = (&barrier, &block);
                scope.spawn(move || {
                    barrier.wait();
                    code.free(block.pointer(), release)
                })
            };
            frees.map(free).map(|thread| thread.join().expect("nothing stops it"))
        });
        self.model.freed(&block);
        let frees = [frees[0].1.named(places[0]), frees[1].1.named(places[1])];
        let lines = |first: &str, second: &str| {
            vec![
                format!("{what} {}", block.named()),
                format!("  freed at {first}"),
                format!("  freed again at {second}; not passed on"),
            ]
        };
        let said = self.machine.output();
        let is_first = said.iter().any(|line| line.contains(&format!("  freed at {} #", frees[0])));
        if is_first { lines(&frees[0], &frees[1]) } else { lines(&frees[1], &frees[0]) }
    }
}

#[test]
fn its_twin_hears_of_its_one_mistake() {
    with_seeds(12 * MISTAKES.len() as u64, |seed| {
        let machine = Machine::boot();
        let mut driver = Driver::new(&machine, seed);
        let mistake = MISTAKES[seed as usize % MISTAKES.len()];
        driver.steps(2);
        driver.lift_limits();
        driver.hears_nothing();
        if let Mistake::WriteAfterFree(Caught::Finish) = mistake {
            driver.unload(false);
            let expected = driver.err(mistake);
            driver.hears_nothing();
            driver.model.stats.violations += 1;
            return driver.finish(&expected);
        }
        let expected = driver.err(mistake);
        driver.model.stats.violations += 1;
        let said = lines::said(&machine);
        let (exhausted, said): (Vec<_>, _) =
            said.into_iter().partition(|line| line.starts_with("exhausted 0 "));
        driver.model.exhausted += exhausted.len() as u64;
        assert_eq!(said, expected, "{mistake:?}");
        driver.steps(2);
        driver.lift_limits();
        driver.unload(false);
        driver.finish(&[]);
    });
}
