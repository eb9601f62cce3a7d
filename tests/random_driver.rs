//! A driver that makes no mistake, whatever it does, and hears nothing; and its twin, who makes one, and hears that.
//!
//! Runs are random and can be repeated: a failing one says its seed. `MEMTRACK_RUNS` sets how many there are.
#![cfg(not(any(feature = "off", feature = "release_off")))]
#![allow(clippy::undocumented_unsafe_blocks, reason = "driver code")]

use std::collections::HashMap;
use std::ptr::with_exposed_provenance_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use memtrack::{Figures, Guard, Pool, Quarantine, Settings};
use memtrack_sim::{DISPATCH_LEVEL, Machine, PVOID, PoolKind, ntddk};

mod lines;
use lines::{here, said, without_columns};

/// Runs of each kind: twice as many as there are mistakes.
fn runs() -> u64 {
    std::env::var("MEMTRACK_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(22)
}

/// A generator of numbers that are random enough, from a seed.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn size(&mut self) -> usize {
        match self.below(40) {
            0 => 4096 - 20 + self.below(40),
            1 => 1 + self.below(20_000),
            2 => 300_000 + self.below(300_000), // more than is ever held
            _ => 1 + self.below(600),
        }
    }
}

const TAGS: [u32; 3] =
    [u32::from_le_bytes(*b"Aaaa"), u32::from_le_bytes(*b"Bbbb"), u32::from_le_bytes(*b"Cccc")];

/// A call of one of the kernel's functions.
#[derive(Clone, Copy, Debug)]
struct Call {
    function: usize,
    paged: bool,
    cache_aligned: bool,
    bytes: usize,
    tag: u32,
}

impl Call {
    const FUNCTIONS: usize = 11;

    fn random(random: &mut Random) -> Self {
        let tag = TAGS[random.below(TAGS.len())];
        let (function, paged) = (random.below(Self::FUNCTIONS), random.one_in(2));
        Self { function, paged, cache_aligned: random.one_in(10), bytes: random.size(), tag }
    }

    fn zeroes(self) -> bool {
        self.function < 3
    }

    /// The tag under which the kernel files the block.
    fn filed(self) -> u32 {
        if self.function == 3 { u32::from_le_bytes(*b"None") } else { self.tag }
    }
}

/// Everything a driver calls, once for each guard; `system` is code that is not annotated.
macro_rules! code {
    ($($(#[$attribute:meta])* $name:ident)*) => {$(
        $(#[$attribute])*
        mod $name {
            use super::Call;
            use memtrack_sim::ntddk::*;
            use memtrack_sim::*;

            #[track_caller]
            pub fn allocate(call: Call) -> PVOID {
                let Call { function, paged, cache_aligned, bytes, tag } = call;
                let aligned = if cache_aligned { POOL_FLAG_CACHE_ALIGNED } else { 0 };
                let flags = aligned | if paged { POOL_FLAG_PAGED } else { POOL_FLAG_NON_PAGED };
                let kind = if paged { 1 } else { 512 } | if cache_aligned { 4 } else { 0 };
                let mut parameter = POOL_EXTENDED_PARAMETER::default();
                parameter.__bindgen_anon_1.set_Type(1);
                parameter.__bindgen_anon_2.Priority = 16;
                let bytes = bytes as SIZE_T;
                unsafe {
                    match function {
                        0 => ExAllocatePool2(flags, bytes, tag),
                        1 => ExAllocatePool3(flags, bytes, tag, &parameter, 1),
                        2 => ExAllocatePoolZero(kind, bytes, tag),
                        3 => ExAllocatePool(kind, bytes),
                        4 => ExAllocatePoolWithTag(kind, bytes, tag),
                        5 => ExAllocatePoolWithQuotaTag(kind | 8, bytes, tag),
                        6 => ExAllocatePoolWithTagPriority(kind, bytes, tag, 16),
                        7 => ExAllocatePoolUninitialized(kind, bytes, tag),
                        8 => ExAllocatePoolQuotaUninitialized(kind | 8, bytes, tag),
                        9 => ExAllocatePoolPriorityUninitialized(kind, bytes, tag, 16),
                        _ => ExAllocatePool3(flags | POOL_FLAG_UNINITIALIZED, bytes, tag, std::ptr::null(), 0),
                    }
                }
            }

            /// Frees by the function of that number.
            #[track_caller]
            pub fn free(block: PVOID, function: usize, tag: u32) {
                unsafe {
                    match function % 4 {
                        0 => ExFreePool(block),
                        1 => ExFreePoolWithTag(block, 0),
                        2 => ExFreePoolWithTag(block, tag),
                        _ => ExFreePool2(block, tag, std::ptr::null(), 0),
                    }
                }
            }
        }
    )*};
}

code! {
    #[memtrack::instrument] plain
    #[memtrack::instrument(guard = "tail")] tail
    #[memtrack::instrument(guard = "full")] full
    #[memtrack::instrument(guard = "none")] none
    #[allow(dead_code)] system
}

type Allocate = fn(Call) -> PVOID;
type Free = fn(PVOID, usize, u32);

const ALLOCATES: [Allocate; 4] = [plain::allocate, tail::allocate, none::allocate, full::allocate];
const FREES: [Free; 4] = [plain::free, tail::free, none::free, full::free];

/// A block that the driver has.
#[derive(Clone, Copy, Debug)]
struct Block {
    address: usize,
    call: Call,
    /// The system allocated it: memtrack has not seen it come.
    foreign: bool,
    /// The system may free it.
    movable: bool,
}

impl Block {
    /// How far the kernel's block begins before the driver's.
    fn front(&self) -> usize {
        let shortest = if self.call.cache_aligned { 128 } else { 16 };
        match self.movable {
            true => 0,
            false if self.call.bytes > 4096 - shortest => 4096,
            false => shortest,
        }
    }

    fn pointer(&self) -> *mut u8 {
        with_exposed_provenance_mut(self.address)
    }

    fn contents(&self) -> &'static mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.call.bytes) }
    }

    fn byte(&self, place: usize) -> u8 {
        (self.address / 16 + place * 7 + self.call.bytes) as u8
    }

    /// Looks at a new block as a driver that relies on everything, and writes all of it.
    fn begin(&self) {
        let Call { bytes, cache_aligned, .. } = self.call;
        let alignment = if bytes >= 4096 {
            4096
        } else if cache_aligned {
            64
        } else {
            16
        };
        assert_eq!(self.address % alignment, 0, "{self:?}");
        assert!(bytes >= 4096 || self.address % 4096 + bytes <= 4096, "{self:?} crosses a page");
        assert!(!self.call.zeroes() || self.contents().iter().all(|byte| *byte == 0), "{self:?}");
        for (place, byte) in self.contents().iter_mut().enumerate() {
            *byte = self.byte(place);
        }
    }

    /// What was written is still there.
    fn end(&self) {
        assert!(
            self.contents().iter().enumerate().all(|(place, byte)| *byte == self.byte(place)),
            "{self:?}"
        );
    }
}

/// What memtrack should count.
#[derive(Default)]
struct Model {
    figures: [Figures; 2],
    foreign_frees: u64,
    vanished: u64,
    failures: u64,
    /// Blocks that the system freed and memtrack still believes in, by address: pool and size.
    ghosts: HashMap<usize, (bool, usize)>,
}

impl Model {
    fn pool(&mut self, paged: bool) -> &mut Figures {
        &mut self.figures[usize::from(paged)]
    }

    fn allocated(&mut self, block: &Block) {
        self.vanishes(block.address);
        self.vanishes(block.address - block.front());
        let figures = self.pool(block.call.paged);
        figures.curr_blocks += 1;
        figures.curr_bytes += block.call.bytes as u64;
        figures.total_blocks += 1;
        figures.total_bytes += block.call.bytes as u64;
        figures.max_blocks = figures.max_blocks.max(figures.curr_blocks);
        figures.max_bytes = figures.max_bytes.max(figures.curr_bytes);
    }

    fn freed(&mut self, paged: bool, bytes: usize) {
        let figures = self.pool(paged);
        figures.curr_blocks -= 1;
        figures.curr_bytes -= bytes as u64;
    }

    fn vanishes(&mut self, address: usize) {
        if let Some((paged, bytes)) = self.ghosts.remove(&address) {
            self.freed(paged, bytes);
            self.vanished += 1;
        }
    }

    fn compare(&self) {
        let stats = memtrack::stats();
        assert_eq!([stats.nonpaged, stats.paged], self.figures);
        assert_eq!(
            (stats.foreign_frees, stats.vanished_blocks, stats.failures, stats.unrecorded_blocks),
            (self.foreign_frees, self.vanished, self.failures, 0)
        );
    }
}

struct Driver<'m> {
    machine: &'m Machine,
    random: Random,
    blocks: Vec<Block>,
    model: Model,
}

fn settings(random: &mut Random) -> Settings {
    let quarantine = |random: &mut Random| match random.below(5) {
        0 => Quarantine::OFF,
        1 => Quarantine::new(0, 20),
        2 => Quarantine::new(2000, 5),
        3 => Quarantine::new(1 << 20, 50),
        _ => Quarantine::default(),
    };
    let guard = [Guard::Tail, Guard::Tail, Guard::None][random.below(3)];
    Settings::new()
        .guard(guard)
        .quarantine(Pool::NonPaged, quarantine(random))
        .quarantine(Pool::Paged, quarantine(random))
}

fn at_irql<R>(irql: u32, act: impl FnOnce() -> R) -> R {
    let before = unsafe { ntddk::KfRaiseIrql(irql as u8) };
    let result = act();
    unsafe { ntddk::KeLowerIrql(before) };
    result
}

impl<'m> Driver<'m> {
    fn new(machine: &'m Machine, seed: u64) -> Self {
        Self { machine, random: Random(seed), blocks: Vec::new(), model: Model::default() }
    }

    /// DISPATCH_LEVEL now and then, where the pool allows it.
    fn irql(&mut self, paged: bool) -> u32 {
        if !paged && self.random.one_in(4) { DISPATCH_LEVEL } else { self.random.below(2) as u32 }
    }

    fn allocate(&mut self) -> Option<Block> {
        let call = Call::random(&mut self.random);
        let who = self.random.below(4);
        let irql = self.irql(call.paged);
        let address = at_irql(irql, || ALLOCATES[who](call)).expose_provenance();
        if address == 0 {
            self.model.failures += 1;
            return None;
        }
        let block = Block { address, call, foreign: false, movable: who != 3 };
        self.model.allocated(&block);
        block.begin();
        self.blocks.push(block);
        Some(block)
    }

    fn allocate_in_the_system(&mut self, call: Call) {
        let address = system::allocate(call).expose_provenance();
        if address != 0 {
            let block = Block { address, call, foreign: true, movable: true };
            block.begin();
            self.blocks.push(block);
        }
    }

    fn free(&mut self, block: Block) {
        block.end();
        let (who, function) = (self.random.below(4), self.random.below(4));
        let irql = self.irql(block.call.paged);
        at_irql(irql, || FREES[who](block.pointer().cast(), function, block.call.filed()));
        if block.foreign {
            self.model.foreign_frees += 1;
            self.model.vanishes(block.address);
        } else {
            self.model.freed(block.call.paged, block.call.bytes);
        }
    }

    fn free_in_the_system(&mut self, block: Block) {
        block.end();
        system::free(block.pointer().cast(), 0, 0);
        if !block.foreign {
            self.model.ghosts.insert(block.address, (block.call.paged, block.call.bytes));
        }
    }

    fn take(&mut self) -> Option<Block> {
        let count = self.blocks.len();
        (count > 0).then(|| self.blocks.swap_remove(self.random.below(count)))
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 => _ = self.allocate(),
            40..75 => {
                if let Some(block) = self.take() {
                    self.free(block);
                }
            }
            75..80 => {
                let call = Call::random(&mut self.random);
                self.allocate_in_the_system(call);
            }
            80..86 => {
                if let Some(block) = self.take() {
                    if !block.movable {
                        return self.free(block);
                    }
                    self.free_in_the_system(block);
                    // What comes next has its address, if it is as long as ours was to the kernel, or nearly so.
                    let longer = block.call.bytes + self.random.below(32);
                    let call = Call { bytes: longer, ..block.call };
                    let tag = TAGS[self.random.below(TAGS.len())];
                    self.allocate_in_the_system(Call { tag, ..call });
                }
            }
            // By hand, as ExReallocatePool would be if there were one.
            86..90 => {
                let Some(old) = self.take() else { return };
                match self.allocate() {
                    Some(new) => {
                        let bytes = old.call.bytes.min(new.call.bytes);
                        unsafe { new.pointer().copy_from_nonoverlapping(old.pointer(), bytes) };
                        new.begin_again();
                        self.free(old);
                    }
                    None => self.blocks.push(old),
                }
            }
            90..94 => {
                if let Some(block) = self.take() {
                    block.end();
                    thread::scope(|scope| {
                        scope.spawn(|| tail::free(block.pointer().cast(), 0, 0));
                    });
                    if block.foreign {
                        self.model.foreign_frees += 1;
                        self.model.vanishes(block.address);
                    } else {
                        self.model.freed(block.call.paged, block.call.bytes);
                    }
                }
            }
            94..96 => assert_eq!(at_irql(self.random.below(3) as u32, memtrack::check), 0),
            96 => {
                let settings = settings(&mut self.random);
                memtrack::configure(settings);
            }
            97 => {
                let kind = [PoolKind::NonPaged, PoolKind::Paged][self.random.below(2)];
                let limit = self.machine.pool(kind).bytes / 2 + self.random.below(100_000) as u64;
                self.machine.set_pool_limit(kind, self.random.one_in(2).then_some(limit));
            }
            98 => memtrack::report("Random"),
            _ => self.model.compare(),
        }
    }

    /// Everything that the driver has is freed; what the system freed, memtrack still takes for outstanding.
    fn unload(mut self) {
        while let Some(block) = self.take() {
            self.free(block);
        }
        self.model.compare();
        assert_eq!(memtrack::stats().curr_blocks(), self.model.ghosts.len() as u64);
    }
}

impl Block {
    /// The block's contents are the driver's to change.
    fn begin_again(&self) {
        for (place, byte) in self.contents().iter_mut().enumerate() {
            *byte = self.byte(place);
        }
    }
}

/// Runs `run` with many seeds, and names the one that fails.
fn with_seeds(run: impl Fn(u64)) {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    for seed in 0..runs() {
        let _seed = Seed(seed);
        run(seed);
    }
}

/// Lines that the run asks for, or that are no complaint.
fn is_asked_for(line: &str) -> bool {
    ["report of", "site ", "outstanding ", "also ", "exhausted ", "leaks of", "leak ", "leaked ", "no leak: "]
        .iter()
        .any(|start| line.starts_with(start))
}

fn texts(machine: &Machine) -> Vec<String> {
    let lines = machine.take_output();
    let text = |line: &String| Some(line.strip_prefix("memtrack: ")?.rsplit_once(" #")?.0.to_owned());
    lines.iter().map(|line| text(line).unwrap_or_else(|| format!("? {line}"))).collect()
}

#[track_caller]
fn is_silent(machine: &Machine) {
    let lines: Vec<String> = texts(machine)
        .into_iter()
        .filter(|line| !is_asked_for(line) && !line.starts_with("memtrack+"))
        .collect();
    assert_eq!(lines, [] as [&str; 0]);
    assert_eq!(memtrack::stats().violations, 0);
}

#[test]
fn a_correct_driver_hears_nothing() {
    with_seeds(|seed| {
        let machine = Machine::boot();
        let mut driver = Driver::new(&machine, seed);
        for _ in 0..1000 {
            driver.step();
        }
        let finishes = driver.random.one_in(2);
        driver.unload();
        assert_eq!(memtrack::check(), 0);
        is_silent(&machine);
        if finishes {
            memtrack::finish("Random");
            assert_eq!(machine.pool(PoolKind::NonPaged).blocks + machine.pool(PoolKind::Paged).blocks, 0);
            is_silent(&machine);
        }
    });
}

/// Several drivers' worth of threads, each with blocks of its own and some that it hands on.
#[test]
fn correct_threads_hear_nothing() {
    with_seeds(|seed| {
        let machine = Machine::boot();
        memtrack::configure(settings(&mut Random(seed)));
        let done = AtomicBool::new(false);
        let (sender, receiver) = std::sync::mpsc::channel::<Block>();
        let receiver = &std::sync::Mutex::new(receiver);
        let totals: Vec<(u64, u64)> = thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|thread| {
                    let sender = sender.clone();
                    scope.spawn(move || {
                        let mut random = Random(seed * 31 + thread);
                        let (mut blocks, mut total) = (Vec::new(), (0, 0));
                        let free = |random: &mut Random, block: Block| {
                            block.end();
                            let irql = if block.call.paged { 0 } else { random.below(3) as u32 };
                            let (who, how) = (random.below(4), random.below(4));
                            at_irql(irql, || FREES[who](block.pointer().cast(), how, block.call.filed()));
                        };
                        for _ in 0..400 {
                            let call = Call::random(&mut random);
                            let address = ALLOCATES[random.below(4)](call).expose_provenance();
                            let block = Block { address, call, foreign: false, movable: false };
                            block.begin();
                            total = (total.0 + 1, total.1 + call.bytes as u64);
                            match random.below(3) {
                                0 => sender.send(block).unwrap(),
                                1 => free(&mut random, block),
                                _ => blocks.push(block),
                            }
                            let handed = receiver.lock().unwrap().try_recv();
                            if let Ok(block) = handed {
                                free(&mut random, block);
                            }
                        }
                        blocks.into_iter().for_each(|block| free(&mut random, block));
                        total
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(memtrack::check(), 0);
                }
            });
            let totals = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
            done.store(true, Ordering::Relaxed);
            for block in receiver.lock().unwrap().try_iter() {
                block.end();
                plain::free(block.pointer().cast(), 0, 0);
            }
            totals
        });
        let stats = memtrack::stats();
        let total = |of: fn(&Figures) -> u64| of(&stats.nonpaged) + of(&stats.paged);
        assert_eq!(total(|figures| figures.total_blocks), totals.iter().map(|total| total.0).sum::<u64>());
        assert_eq!(total(|figures| figures.total_bytes), totals.iter().map(|total| total.1).sum::<u64>());
        assert_eq!((stats.curr_blocks(), stats.foreign_frees, stats.vanished_blocks), (0, 0, 0));
        memtrack::finish("Threads");
        assert_eq!(machine.pool(PoolKind::NonPaged).blocks + machine.pool(PoolKind::Paged).blocks, 0);
        is_silent(&machine);
    });
}

const PLAIN: Call = Call { function: 0, paged: false, cache_aligned: false, bytes: 61, tag: TAGS[0] };
const SITE: &str = "ExAllocatePool2 'Aaaa'";

/// Makes mistake number `mistake`, and returns the lines that memtrack must say, columns left out.
fn mistake(mistake: usize, random: &mut Random) -> Vec<String> {
    let bytes = 1 + random.below(600);
    let nonpaged = Call { bytes, ..PLAIN };
    let paged = Call { paged: true, ..nonpaged };
    let write = |block: PVOID, at: isize, byte: u8| unsafe { block.cast::<u8>().offset(at).write(byte) };
    match mistake {
        0 => {
            let by = random.below(16);
            let (block, site) = (tail::allocate(nonpaged), here());
            write(block, (bytes + by) as isize, b'!');
            let (_, free) = (plain::free(block, 0, 0), here());
            let unit = if by == 0 { "byte" } else { "bytes" };
            vec![
                format!("overrun {} {unit} right of a {bytes}-byte block  {site}  {SITE} NonPaged", by + 1),
                format!(
                    "  caught at {free} ExFreePool; bytes +{}: 21 (expected B{:X})",
                    bytes + by,
                    (block.addr() + bytes + by) % 16
                ),
            ]
        }
        1 => {
            let by = 1 + random.below(16);
            let (block, site) = (full::allocate(paged), here());
            write(block, -(by as isize), b'!');
            let (_, free) = (plain::free(block, 2, TAGS[0]), here());
            let unit = if by == 1 { "byte" } else { "bytes" };
            vec![
                format!("underrun {by} {unit} left of a {bytes}-byte block  {site}  {SITE} Paged"),
                format!(
                    "  caught at {free} ExFreePoolWithTag; bytes -{by}: 21 (expected B{:X})",
                    (block.addr() - by) % 16
                ),
            ]
        }
        2 => {
            let (block, site) = (tail::allocate(nonpaged), here());
            let (_, free) = (none::free(block, 0, 0), here());
            let at = random.below(bytes);
            write(block, at as isize, b'!');
            assert_eq!(memtrack::check(), 1);
            vec![
                format!("write after free at +{at} of a {bytes}-byte block  {site}  {SITE} NonPaged"),
                format!("  freed at {free} ExFreePool"),
                format!("  caught by check; bytes +{at}: 21 (expected DF)"),
            ]
        }
        3 => {
            let (block, site) = (plain::allocate(paged), here());
            let (_, free) = (full::free(block, 3, TAGS[0]), here());
            let (_, again) = (tail::free(block, 0, 0), here());
            vec![
                format!("double free of a {bytes}-byte block  {site}  {SITE} Paged"),
                format!("  freed at {free} ExFreePool2"),
                format!("  freed again at {again} ExFreePool; not passed on"),
            ]
        }
        4 => {
            let call = Call { bytes: 1 << 20, ..nonpaged };
            let (block, site) = (plain::allocate(call), here());
            let (_, free) = (plain::free(block, 0, 0), here());
            let (_, again) = (tail::free(block, 0, 0), here());
            vec![
                format!("freed before, or a reused address: a 1048576-byte block  {site}  {SITE} NonPaged"),
                format!("  freed at {free} ExFreePool"),
                format!("  freed again at {again} ExFreePool; not passed on"),
            ]
        }
        5 => {
            let into = 1 + random.below(bytes);
            let bytes = bytes + 1;
            let (block, site) = (plain::allocate(Call { bytes, ..nonpaged }), here());
            let (_, free) = (plain::free(block.wrapping_byte_add(into), 0, 0), here());
            plain::free(block, 0, 0);
            let unit = if into == 1 { "byte" } else { "bytes" };
            vec![
                format!("free {into} {unit} into a {bytes}-byte block  {site}  {SITE} NonPaged"),
                format!("  freed at {free} ExFreePool; not passed on"),
            ]
        }
        6 => {
            let (block, site) = (none::allocate(paged), here());
            let (_, free) = (plain::free(block, 2, TAGS[1]), here());
            vec![
                format!("wrong tag 'Bbbb' for a {bytes}-byte block  {site}  {SITE} Paged"),
                format!("  freed at {free} ExFreePoolWithTag; freed with its own tag"),
            ]
        }
        7 => {
            let call = Call { function: 4, bytes: 0, ..PLAIN };
            let (block, site) = (plain::allocate(call), here());
            plain::free(block, 0, 0);
            vec![
                format!("request of 0 bytes  {site}  ExAllocatePoolWithTag 'Aaaa' NonPaged"),
                format!("  asked at {site} ExAllocatePoolWithTag; passed on"),
            ]
        }
        8 => {
            let (block, site) = at_irql(DISPATCH_LEVEL, || (tail::allocate(paged), here()));
            plain::free(block, 0, 0);
            let unit = if bytes == 1 { "byte" } else { "bytes" };
            vec![
                format!("paged request of {bytes} {unit} at IRQL 2  {site}  {SITE} Paged"),
                format!("  asked at {site} ExAllocatePool2; given nonpaged pool instead"),
            ]
        }
        9 => {
            let (block, site) = (full::allocate(paged), here());
            let (_, free) = at_irql(DISPATCH_LEVEL, || (plain::free(block, 0, 0), here()));
            vec![
                format!("paged free at IRQL 2 of a {bytes}-byte block  {site}  {SITE} Paged"),
                format!("  freed at {free} ExFreePool; held until paged pool may be freed"),
            ]
        }
        _ => {
            let (block, site) = (tail::allocate(nonpaged), here());
            let address = block.expose_provenance();
            let barrier = std::sync::Barrier::new(2);
            let free = || {
                barrier.wait();
                let block = with_exposed_provenance_mut(address);
                (plain::free(block, 0, 0), here()).1
            };
            let place = thread::scope(|scope| {
                let threads = [scope.spawn(free), scope.spawn(free)];
                threads.map(|thread| thread.join().unwrap())
            });
            vec![
                format!("double free of a {bytes}-byte block  {site}  {SITE} NonPaged"),
                format!("  freed at {} ExFreePool", place[0]),
                format!("  freed again at {} ExFreePool; not passed on", place[1]),
            ]
        }
    }
}

const MISTAKES: u64 = 11;

#[test]
fn its_twin_hears_of_its_one_mistake() {
    with_seeds(|seed| {
        let machine = Machine::boot();
        let mut driver = Driver::new(&machine, seed);
        for _ in 0..300 {
            driver.step();
        }
        is_silent(&machine);
        // What the mistake needs: pool, and a quarantine that holds.
        for kind in [PoolKind::NonPaged, PoolKind::Paged] {
            machine.set_pool_limit(kind, None);
        }
        memtrack::configure(Settings::new());
        let expected = mistake((seed % MISTAKES) as usize, &mut driver.random);
        let lines: Vec<String> = said(&machine).iter().map(|line| without_columns(line)).collect();
        assert_eq!(lines, expected);
        memtrack::configure(Settings::new().quarantines(Quarantine::OFF));
        assert_eq!((memtrack::stats().violations, memtrack::check()), (1, 0));
        memtrack::finish("Twin");
        assert!(texts(&machine).iter().all(|line| is_asked_for(line)));
    });
}
