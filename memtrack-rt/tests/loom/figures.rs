//! Tallies: sums that are read beside calls are never below zero, and exact when all is quiet.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use crate::doors::{DOORS, Doors};
use crate::orders;
use crate::stats::Figures;
use crate::tally::{Apart, Column, Others, Tally};

struct Desk {
    doors: Doors,
    tally: Tally,
    others: Others,
    lock: Mutex<()>,
}

// SAFETY: atomics are shared by nature.
unsafe impl Sync for Desk {}
// SAFETY: as above.
unsafe impl Send for Desk {}

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            doors: Doors::new(),
            tally: Tally::ZERO,
            others: [const { Apart(Column::ZERO) }; DOORS - 1],
            lock: Mutex::new(()),
        })
    }

    fn allocate(&self, processor: usize, bytes: u64) {
        self.tally.allocated(bytes, Some(&self.others), &self.doors.enter(|| processor));
    }

    fn free(&self, processor: usize, bytes: u64) {
        self.tally.freed(bytes, Some(&self.others), &self.doors.enter(|| processor));
    }

    fn figures(&self) -> Figures {
        let figures = self.tally.figures(Some(&self.others));
        let Figures { curr_blocks, curr_bytes, max_blocks, max_bytes, total_blocks, total_bytes } = figures;
        // Below zero would be more than there ever was.
        assert!(curr_blocks <= total_blocks && curr_bytes <= total_bytes, "{figures:?}");
        assert!(curr_blocks <= max_blocks && curr_bytes <= max_bytes, "{figures:?}");
        assert!(max_blocks <= total_blocks && max_bytes <= total_bytes, "{figures:?}");
        figures
    }

    /// What a report does.
    fn read(&self) -> Figures {
        let _held = self.lock.lock().unwrap();
        if self.doors.gather() {
            self.tally.fold(Some(&self.others), &self.doors);
            self.doors.settle();
        }
        self.figures()
    }
}

#[test]
fn sums_are_exact_when_all_is_quiet() {
    orders(3, || {
        let desk = Desk::new();
        let other = desk.clone();
        let theirs = thread::spawn(move || {
            other.allocate(1, 10);
            other.free(1, 10);
            other.allocate(1, 3);
        });
        desk.allocate(0, 100);
        desk.free(0, 100);
        theirs.join().unwrap();
        let figures = desk.figures();
        assert_eq!((figures.curr_blocks, figures.curr_bytes), (1, 3));
        assert_eq!((figures.total_blocks, figures.total_bytes), (3, 113));
    });
}

#[test]
fn sums_are_never_below_zero() {
    orders(2, || {
        let desk = Desk::new();
        let (reader, freer) = (desk.clone(), desk.clone());
        let (sender, receiver) = loom::sync::mpsc::channel();
        let read = thread::spawn(move || _ = reader.figures());
        let freed = thread::spawn(move || {
            receiver.recv().unwrap();
            freer.free(1, 10);
        });
        desk.allocate(0, 10);
        sender.send(()).unwrap();
        read.join().unwrap();
        freed.join().unwrap();
        assert_eq!((desk.figures().curr_blocks, desk.figures().total_bytes), (0, 10));
    });
}

#[test]
fn the_most_is_never_more_than_there_was() {
    orders(2, || {
        let desk = Desk::new();
        desk.allocate(0, 100);
        desk.free(0, 100);
        let (reader, other) = (desk.clone(), desk.clone());
        let read = thread::spawn(move || assert!(reader.read().max_bytes <= 111));
        let theirs = thread::spawn(move || other.allocate(1, 10));
        desk.allocate(0, 1);
        read.join().unwrap();
        theirs.join().unwrap();
        let figures = desk.read();
        assert_eq!((figures.curr_blocks, figures.curr_bytes), (2, 11));
        // Never more than 100 bytes were there at one time.
        assert_eq!(figures.max_bytes, 100);
        assert!(figures.max_blocks <= 2);
    });
}
