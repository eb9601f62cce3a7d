//! Many threads that allocate and free, beside checks, changes of the bounds, reports and the end: every block goes
//! back to its pool exactly once, and nobody says a word.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use memtrack_rt::{Function, Guard, Location, Pool as Kind, Quarantine, Settings, Tracker};

mod desk;
#[path = "desk/pool.rs"]
mod pool;
use desk::{Calls, Desk, NON_PAGED, PAGED, at_irql};
use pool::Pool;

/// A generator that needs no seed from outside.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end) as usize
    }
}

fn allocate(tracker: &Tracker<Desk>, pool: &'static Pool, paged: bool, bytes: usize) -> usize {
    let arguments = (if paged { PAGED } else { NON_PAGED }, bytes, 1_u32);
    let guard = [None, Some(Guard::None), Some(Guard::Tail), Some(Guard::Full)][bytes % 4];
    tracker.ask(Location::caller(), Function::ExAllocatePool2, guard, arguments, |(_, bytes, _)| {
        pool.give(bytes)
    })
}

macro_rules! stress {
    ($name:ident, $nonpaged:expr, $paged:expr) => {
        #[test]
        fn $name() {
            static POOL: Pool = Pool::new();
            let tracker = Tracker::new(Desk::default());
            tracker.configure(
                Settings::new().quarantine(Kind::NonPaged, $nonpaged).quarantine(Kind::Paged, $paged),
            );
            let free = |block: usize| {
                tracker.give(Location::caller(), Function::ExFreePool, (block,), |(block,)| POOL.take(block));
            };
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                let workers: Vec<_> = (1..=3)
                    .map(|seed| {
                        let (tracker, free) = (&tracker, &free);
                        scope.spawn(move || {
                            let mut random = Random(seed);
                            let mut blocks: Vec<(usize, bool)> = Vec::new();
                            for _ in 0..6_000 {
                                if blocks.len() < 20 || random.below(2) == 0 {
                                    let paged = random.below(2) == 0;
                                    let bytes = 1 + random.below(200) + random.below(50) / 49 * 5000;
                                    blocks.push((allocate(tracker, &POOL, paged, bytes), paged));
                                } else {
                                    let (block, paged) =
                                        blocks.swap_remove(random.below(blocks.len() as u64));
                                    if !paged && random.below(4) == 0 {
                                        at_irql(2, || free(block));
                                    } else {
                                        free(block);
                                    }
                                }
                            }
                            blocks.into_iter().for_each(|(block, _)| free(block));
                        })
                    })
                    .collect();
                let (tracker, done) = (&tracker, &done);
                scope.spawn(move || {
                    let mut round = 0_usize;
                    while !done.load(Ordering::Relaxed) {
                        match round % 4 {
                            0 => {
                                assert_eq!(at_irql(if round % 8 == 0 { 2 } else { 0 }, || tracker.check()), 0)
                            }
                            1 => tracker.report("Busy"),
                            2 => tracker.platform().refuse_memory(round % 16 == 2),
                            _ => drop(tracker.platform().take_lines()),
                        }
                        round += 1;
                    }
                    tracker.platform().refuse_memory(false);
                });
                workers.into_iter().for_each(|worker| worker.join().unwrap());
                done.store(true, Ordering::Relaxed);
            });
            let stats = tracker.stats();
            assert_eq!((stats.curr_blocks(), stats.violations), (0, 0));
            assert_eq!(stats.held_blocks, POOL.usage().0 as u64);
            tracker.finish("Stress");
            assert_eq!(POOL.usage(), (0, 0), "every block went back");
        }
    };
}

stress!(as_it_comes, Quarantine::default(), Quarantine::default());
stress!(off, Quarantine::OFF, Quarantine::OFF);
stress!(only_remembered, Quarantine::new(0, 10), Quarantine::new(0, 1));
stress!(one_block, Quarantine::new(1 << 20, 1), Quarantine::new(200, 100));
stress!(one_pool, Quarantine::new(3000, 7), Quarantine::OFF);

/// The driver's unload does not wait for its own threads: what they free meanwhile goes back all the same.
#[test]
fn finish_beside_frees_and_checks_gives_everything_back() {
    static POOL: Pool = Pool::new();
    let tracker = Tracker::new(Desk::default());
    let running = AtomicBool::new(true);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..10_000 {
                        // No front: a block that outlives its books goes back as the kernel gave it.
                        let arguments = (NON_PAGED, 1 + round % 100, 1_u32);
                        let (here, function) = (Location::caller(), Function::ExAllocatePool2);
                        let block =
                            tracker.ask(here, function, Some(Guard::Tail), arguments, |(_, bytes, _)| {
                                POOL.give(bytes)
                            });
                        tracker.give(here, Function::ExFreePool, (block,), |(block,)| POOL.take(block));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                tracker.finish("Rude");
            }
        });
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                assert_eq!(tracker.check(), 0);
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        running.store(false, Ordering::Relaxed);
    });
    assert_eq!(tracker.finish("Last").violations, 0);
    assert_eq!(POOL.usage(), (0, 0));
}

/// A function of the driver's own that frees a block by way of another one, again and again: each block that leaves the
/// quarantine puts one more into it.
#[test]
fn a_free_does_not_give_back_for_ever() {
    static POOL: Pool = Pool::new();
    static TRACKER: LazyLock<Tracker<Desk>> = LazyLock::new(|| Tracker::new(Desk::default()));
    static ENDED: AtomicBool = AtomicBool::new(false);
    static GONE: AtomicUsize = AtomicUsize::new(0);
    fn free(block: usize) {
        TRACKER.give(Location::caller(), Function::ExFreePool, (block,), |(block,)| {
            POOL.take(block);
            GONE.fetch_add(1, Ordering::Relaxed);
            if !ENDED.load(Ordering::Relaxed) {
                free(allocate(&TRACKER, &POOL, false, 40));
            }
        });
    }
    TRACKER.configure(Settings::new().quarantines(Quarantine::new(1000, 1)));
    for _ in 0..3 {
        free(allocate(&TRACKER, &POOL, false, 40));
    }
    let gone = GONE.load(Ordering::Relaxed);
    assert!((2..1000).contains(&gone), "{gone}");
    ENDED.store(true, Ordering::Relaxed);
    free(allocate(&TRACKER, &POOL, false, 40));
    assert_eq!(TRACKER.stats().held_blocks, 1, "the next free gives back what was left");
    assert_eq!(TRACKER.finish("Frees").curr_blocks(), 0);
    assert_eq!(POOL.usage(), (0, 0));
}
