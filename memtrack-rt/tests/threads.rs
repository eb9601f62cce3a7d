//! Many threads at once: counts exact at the end, and every report adds up while they run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;

mod desk;
use desk::{NON_PAGED, PAGED, allocate, free, tracker};

const THREADS: usize = 4;
const ROUNDS: usize = 20_000;

#[test]
fn counts_are_exact_when_blocks_change_threads() {
    let tracker = tracker();
    let freed = AtomicU64::new(0);
    thread::scope(|scope| {
        let (mut senders, receivers): (Vec<_>, Vec<_>) =
            (0..THREADS).map(|_| mpsc::channel::<usize>()).unzip();
        senders.rotate_left(1);
        for (thread, (sender, receiver)) in senders.into_iter().zip(receivers).enumerate() {
            let (tracker, freed) = (&tracker, &freed);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let address = (thread * ROUNDS + round + 1) * 128;
                    let flags = if round % 3 == 0 { PAGED } else { NON_PAGED };
                    allocate(tracker, flags, 1 + round % 100, thread as u32, address);
                    if round % 10 != 0 {
                        sender.send(address).unwrap();
                    }
                    for address in receiver.try_iter() {
                        free(tracker, address);
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                drop(sender);
                for address in receiver {
                    free(tracker, address);
                    freed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let stats = tracker.stats();
    let kept = (THREADS * ROUNDS / 10) as u64;
    assert_eq!(stats.curr_blocks(), kept);
    assert_eq!(freed.into_inner(), (THREADS * ROUNDS) as u64 - kept);
    assert_eq!(stats.nonpaged.total_blocks + stats.paged.total_blocks, (THREADS * ROUNDS) as u64);
    assert_eq!((stats.foreign_frees, stats.vanished_blocks, stats.unrecorded_blocks), (0, 0, 0));
    let bytes: u64 =
        (0..ROUNDS).step_by(10).map(|round| 1 + (round % 100) as u64).sum::<u64>() * THREADS as u64;
    assert_eq!(stats.curr_bytes(), bytes);
    let by_site: u64 = tracker.sites().map(|site| site.figures.curr_bytes).sum();
    assert_eq!(by_site, bytes);
    assert_eq!(tracker.finish("Threads"), stats);
}

#[test]
fn the_most_is_32_blocks_a_door_too_low_at_most() {
    const BLOCKS: usize = 1000;
    const DOORS: u64 = 17;
    for _ in 0..50 {
        let tracker = tracker();
        let all_are_there = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (tracker, all_are_there) = (&tracker, &all_are_there);
                scope.spawn(move || {
                    let addresses = || (1..=BLOCKS).map(|block| (thread * BLOCKS + block) * 128);
                    addresses().for_each(|address| allocate(tracker, NON_PAGED, 3, 1, address));
                    all_are_there.wait();
                    addresses().for_each(|address| free(tracker, address));
                });
            }
        });
        let truth = (THREADS * BLOCKS) as u64;
        let figures = tracker.stats().nonpaged;
        assert!(figures.max_blocks <= truth && figures.max_blocks + 32 * DOORS >= truth, "{figures:?}");
        assert!(figures.max_bytes <= 3 * truth && figures.max_bytes + 96 * DOORS >= 3 * truth, "{figures:?}");
        assert_eq!(figures.curr_blocks, 0);
    }
}

/// The numbers in a line, in order.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[test]
fn reports_add_up_while_others_allocate() {
    let tracker = tracker();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (tracker, done) = (&tracker, &done);
            scope.spawn(move || {
                let mut round = 0;
                while !done.load(Ordering::Relaxed) {
                    let address = 0x1000 + (thread * 64 + round % 64) * 64;
                    allocate(tracker, NON_PAGED, 1 + round % 50, (round % 7) as u32, address);
                    free(tracker, address);
                    allocate(tracker, PAGED, 3, 9, address);
                    round += 1;
                }
            });
        }
        for _ in 0..200 {
            tracker.report("Busy");
        }
        done.store(true, Ordering::Relaxed);
    });
    let lines = tracker.platform().take_lines();
    let mut sum = (0, 0);
    let mut reports = 0;
    for line in &lines {
        if line.starts_with("memtrack: report") {
            sum = (0, 0);
        } else if line.starts_with("memtrack: site") {
            let numbers = numbers(line);
            sum = (sum.0 + numbers[0], sum.1 + numbers[1]);
        } else if line.starts_with("memtrack: outstanding") {
            let numbers = numbers(line);
            assert_eq!(sum, (numbers[0], numbers[1]), "{line}");
            assert_eq!(numbers[4] + numbers[6], numbers[0], "{line}");
            assert_eq!(numbers[5] + numbers[7], numbers[1], "{line}");
            reports += 1;
        }
    }
    assert_eq!(reports, 200);
    tracker.finish("Busy");
}

#[test]
fn finish_beside_allocations_loses_nothing() {
    let tracker = tracker();
    let outstanding = AtomicU64::new(0);
    let foreign = AtomicU64::new(0);
    let running = AtomicU64::new(3);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (tracker, running) = (&tracker, &running);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let address = (thread * ROUNDS + round + 1) * 16;
                    allocate(tracker, NON_PAGED, 1, 1, address);
                    if round % 2 == 0 {
                        free(tracker, address);
                    }
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        loop {
            let last = running.load(Ordering::Acquire) == 0;
            let stats = tracker.finish("Rude");
            outstanding.fetch_add(stats.curr_blocks(), Ordering::Relaxed);
            foreign.fetch_add(stats.foreign_frees, Ordering::Relaxed);
            if last {
                break;
            }
        }
    });
    let kept = (3 * ROUNDS / 2) as u64;
    assert_eq!(outstanding.into_inner() - foreign.into_inner(), kept);
    assert_eq!(tracker.platform().held(), 0);
}
