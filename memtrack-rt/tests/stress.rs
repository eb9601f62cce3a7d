//! Threads that allocate, free each other's blocks, free twice, report and check, all at once: afterwards every count is exact.
//!
//! `MEMTRACK_STRESS` says how many calls to make in each test, such as 100000000; by default some seconds' worth.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

mod desk;
use desk::{Desk, NON_PAGED, PAGED, allocate, free, tracker};
use memtrack_rt::{Pool, Tracker};

/// Threads that call, beside one that reads.
const THREADS: usize = 3;
/// Calls of each before all is looked at and begun anew.
const ROUND: usize = 50_000;
/// Blocks on their way from thread to thread.
const SHARED: usize = 4096;
/// Addresses that a kernel gives out to each thread at first.
const ADDRESSES: usize = 4096;

fn calls() -> usize {
    std::env::var("MEMTRACK_STRESS").map_or(600_000, |calls| calls.parse().expect("a number of calls"))
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// What a driver and its kernel know of it all.
struct World {
    tracker: Tracker<Desk>,
    /// Live blocks that any thread may take.
    shared: Vec<AtomicUsize>,
    /// An address that two threads free at the same time, and how many of them are done.
    duel: AtomicUsize,
    done: AtomicUsize,
    allocated: AtomicU64,
    bytes: AtomicU64,
    freed: AtomicU64,
    freed_bytes: AtomicU64,
    twice: AtomicU64,
}

/// A block's size, pool and tag are told by its address, so that whoever frees it knows what to expect.
fn bytes(address: usize) -> usize {
    1 + address / 128 % 100
}

fn is_paged(address: usize) -> bool {
    address / 128 % 3 == 0
}

impl World {
    fn allocate(&self, address: usize) {
        let flags = if is_paged(address) { PAGED } else { NON_PAGED };
        allocate(&self.tracker, flags, bytes(address), (address / 128 % 5) as u32, address);
        self.allocated.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes(address) as u64, Ordering::Relaxed);
    }

    fn free(&self, address: usize) {
        free(&self.tracker, address);
        self.freed.fetch_add(1, Ordering::Relaxed);
        self.freed_bytes.fetch_add(bytes(address) as u64, Ordering::Relaxed);
    }

    fn free_again(&self, address: usize) {
        free(&self.tracker, address);
        self.twice.fetch_add(1, Ordering::Relaxed);
    }

    /// Two free one block: this thread, and the next that comes by. Returns the address to whoever is the last.
    fn duel(&self, address: usize) -> Option<usize> {
        // One duel at a time. Release pairs with the Acquire of the other.
        if self.duel.compare_exchange(0, address, Ordering::Release, Ordering::Relaxed).is_err() {
            self.free(address);
            return Some(address);
        }
        self.free(address);
        self.leave_duel(address)
    }

    fn join_duel(&self) -> Option<usize> {
        // Acquire pairs with the Release in `duel`. The lowest bit says that somebody has joined.
        let address = self.duel.load(Ordering::Acquire);
        if address == 0 || address & 1 == 1 {
            return None;
        }
        self.duel.compare_exchange(address, address | 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
        self.free_again(address);
        self.leave_duel(address)
    }

    fn leave_duel(&self, address: usize) -> Option<usize> {
        // AcqRel: the last of the two comes after the other.
        if self.done.fetch_add(1, Ordering::AcqRel) == 0 {
            return None;
        }
        self.done.store(0, Ordering::Relaxed);
        // Release: the next duel begins after this one.
        self.duel.store(0, Ordering::Release);
        Some(address)
    }

    fn call(&self, random: &mut Random, addresses: &mut Vec<usize>) {
        addresses.extend(self.join_duel());
        let place = &self.shared[random.below(SHARED)];
        let mine = match random.below(8) {
            0..4 => addresses.pop().inspect(|address| self.allocate(*address)).unwrap_or_default(),
            _ => 0,
        };
        // AcqRel: a block comes with what was done to it.
        let theirs = place.swap(mine, Ordering::AcqRel);
        if theirs == 0 {
            return;
        }
        match random.below(40) {
            0 => {
                self.free(theirs);
                self.free_again(theirs);
                addresses.push(theirs);
            }
            1..4 => addresses.extend(self.duel(theirs)),
            _ => {
                self.free(theirs);
                addresses.push(theirs);
            }
        }
    }

    /// A round of one thread. Afterwards nobody waits for it.
    fn work(&self, seed: u64, addresses: &mut Vec<usize>) {
        let mut random = Random(seed);
        for _ in 0..ROUND {
            self.call(&mut random, addresses);
        }
    }

    /// What must hold when all is quiet.
    fn is_exact(&self) {
        let stats = self.tracker.stats();
        let now = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        assert_eq!(stats.curr_blocks(), now(&self.allocated) - now(&self.freed));
        assert_eq!(stats.curr_bytes(), now(&self.bytes) - now(&self.freed_bytes));
        assert_eq!(stats.nonpaged.total_blocks + stats.paged.total_blocks, now(&self.allocated));
        assert_eq!(stats.nonpaged.total_bytes + stats.paged.total_bytes, now(&self.bytes));
        assert_eq!(stats.foreign_frees, now(&self.twice));
        assert_eq!((stats.vanished_blocks, stats.unrecorded_blocks, stats.violations), (0, 0, 0));
        let live =
            || self.shared.iter().map(|place| place.load(Ordering::Relaxed)).filter(|place| *place != 0);
        for (pool, figures) in [(Pool::NonPaged, stats.nonpaged), (Pool::Paged, stats.paged)] {
            let of_pool = || live().filter(|address| is_paged(*address) == (pool == Pool::Paged));
            assert_eq!(figures.curr_blocks, of_pool().count() as u64);
            assert_eq!(figures.curr_bytes, of_pool().map(|address| bytes(address) as u64).sum::<u64>());
            for tag in 0..5 {
                let sites = self.tracker.sites().filter(|site| site.pool == pool && site.tag.0 == tag);
                let blocks: u64 = sites.map(|site| site.figures.curr_blocks).sum();
                let expected = of_pool().filter(|address| address / 128 % 5 == tag as usize).count();
                assert_eq!(blocks, expected as u64, "{pool} {tag}");
            }
        }
    }
}

/// The numbers in a line, in order.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Each report shows each site once, and adds up.
fn reports_add_up(lines: &[String]) {
    let (mut sum, mut places) = ((0, 0), Vec::new());
    for line in lines {
        if line.starts_with("memtrack: report") {
            (sum, places) = ((0, 0), Vec::new());
        } else if let Some(site) = line.strip_prefix("memtrack: site") {
            let numbers = numbers(site);
            sum = (sum.0 + numbers[0], sum.1 + numbers[1]);
            let place = site.split_once(".rs:").expect("a site has a place").1.to_owned();
            assert!(!places.contains(&place), "twice: {line}");
            places.push(place);
        } else if line.starts_with("memtrack: outstanding") {
            let numbers = numbers(line);
            assert_eq!(sum, (numbers[0], numbers[1]), "{line}");
        }
    }
}

#[test]
fn every_count_is_exact() {
    let rounds = calls().div_ceil(THREADS * ROUND);
    let mut addresses: Vec<Vec<usize>> = (0..THREADS)
        .map(|thread| (1..=ADDRESSES).map(|block| (thread * ADDRESSES + block) * 128).collect())
        .collect();
    for round in 0..rounds {
        let world = World {
            tracker: tracker(),
            shared: (0..SHARED).map(|_| AtomicUsize::new(0)).collect(),
            duel: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            allocated: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
            twice: AtomicU64::new(0),
        };
        let busy = AtomicBool::new(true);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..)
                .zip(&mut addresses)
                .map(|(thread, addresses)| {
                    let (world, seed) = (&world, round as u64 * 64 + thread);
                    scope.spawn(move || world.work(seed, addresses))
                })
                .collect();
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    let stats = world.tracker.stats();
                    for figures in [stats.nonpaged, stats.paged] {
                        assert!(figures.curr_blocks <= figures.max_blocks, "{figures:?}");
                        assert!(figures.curr_bytes <= figures.max_bytes, "{figures:?}");
                        assert!(figures.max_blocks <= figures.total_blocks, "{figures:?}");
                        assert!(figures.max_bytes <= figures.total_bytes, "{figures:?}");
                    }
                    world.tracker.report("Busy");
                    assert_eq!(world.tracker.check(), 0);
                    reports_add_up(&world.tracker.platform().take_lines());
                }
            });
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            busy.store(false, Ordering::Relaxed);
        });
        // A duel that nobody has joined.
        let lone = world.duel.load(Ordering::Relaxed);
        if lone != 0 {
            assert_eq!(world.done.load(Ordering::Relaxed), 1);
            addresses[0].push(lone);
        }
        world.is_exact();
        // What is left goes back in some other order, every second block now and the others as leaks.
        for place in world.shared.iter().step_by(2) {
            match place.swap(0, Ordering::Relaxed) {
                0 => {}
                address => {
                    world.free(address);
                    addresses[0].push(address);
                }
            }
        }
        world.is_exact();
        let stats = world.tracker.stats();
        assert_eq!(world.tracker.finish("Stress"), stats);
        assert_eq!(world.tracker.platform().held(), 0);
        addresses[0].extend(
            world.shared.iter().map(|place| place.load(Ordering::Relaxed)).filter(|address| *address != 0),
        );
        assert_eq!(addresses.iter().map(Vec::len).sum::<usize>(), THREADS * ADDRESSES, "an address is lost");
        addresses.rotate_left(1);
    }
}
