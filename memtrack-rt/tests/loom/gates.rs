//! The doors: who is behind one is alone there, and what nobody inside can have read of any more may be given back.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use crate::doors::{COLUMNS, Doors, STAIRS};
use crate::ledger::{Bucket, Inserted, Ledger, Removed};
use crate::sync::{AtomicUsize, GONE, Ordering};
use crate::{every_order, orders};

/// Doors, something that belongs to each, and two books of which one is open.
struct House {
    doors: Doors,
    columns: [UnsafeCell<usize>; COLUMNS],
    open: AtomicUsize,
    books: [UnsafeCell<usize>; 2],
}

// SAFETY: loom looks at who uses the cells when.
unsafe impl Sync for House {}
// SAFETY: as above.
unsafe impl Send for House {}

impl House {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            doors: Doors::new(),
            columns: core::array::from_fn(|_| UnsafeCell::new(0)),
            open: AtomicUsize::new(0),
            books: core::array::from_fn(|_| UnsafeCell::new(0)),
        })
    }

    /// What a call does: it counts behind its door, by plain stores.
    fn count(&self, processor: usize) {
        let inside = self.doors.enter(|| processor);
        assert_eq!(inside.is_shared(), inside.column() == STAIRS);
        if !inside.is_shared() {
            // SAFETY: nobody else is behind this door; loom looks.
            self.columns[inside.column()].with_mut(|column| unsafe { *column += 1 });
        }
    }

    /// A call that reads the book which is open.
    fn read(&self, processor: usize) {
        let _inside = self.doors.enter(|| processor);
        let open = self.open.load(Ordering::SeqCst);
        // SAFETY: who closes it waits for this call; loom looks.
        self.books[open].with(|book| unsafe { assert_eq!(*book, 0) });
    }

    fn everybody_leaves(&self) {
        for column in Doors::columns() {
            while !self.doors.is_empty(column) {
                thread::yield_now();
            }
        }
    }

    /// What a closing does.
    fn close(&self) {
        self.open.store(1, Ordering::SeqCst);
        self.everybody_leaves();
        // SAFETY: all have left; loom looks.
        self.books[0].with_mut(|book| unsafe { *book = 1 });
    }
}

#[test]
fn behind_a_door_one_is_alone() {
    every_order(|| {
        let house = House::new();
        let other = house.clone();
        let theirs = thread::spawn(move || other.count(1));
        house.count(0);
        theirs.join().unwrap();
        house.count(0);
        house.count(1);
        house.everybody_leaves();
    });
}

#[test]
fn behind_a_door_one_is_alone_among_three() {
    orders(2, || {
        let house = House::new();
        let threads = [1, 2].map(|processor| {
            let house = house.clone();
            thread::spawn(move || house.count(processor))
        });
        house.count(0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn nobody_reads_a_book_that_was_closed() {
    every_order(|| {
        let house = House::new();
        let other = house.clone();
        let theirs = thread::spawn(move || other.read(1));
        house.close();
        theirs.join().unwrap();
    });
}

#[test]
fn nobody_of_two_reads_a_book_that_was_closed() {
    orders(2, || {
        let house = House::new();
        let threads = [1, 2].map(|processor| {
            let house = house.clone();
            thread::spawn(move || house.read(processor))
        });
        house.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A ledger whose second table is full of what it has, and its memory.
struct Tables {
    doors: Doors,
    ledger: Ledger,
}

// SAFETY: the ledger is shared by nature.
unsafe impl Sync for Tables {}
// SAFETY: as above.
unsafe impl Send for Tables {}

/// Memory of a table of so many buckets: zeros.
fn buckets(length: usize) -> Vec<Room> {
    (0..length).map(|_| Room([0; size_of::<Bucket>()])).collect()
}

#[repr(align(128))]
#[allow(dead_code, reason = "it is read as buckets")]
struct Room([u8; size_of::<Bucket>()]);

const A: usize = 0x1E10;

fn nobody_reads_a_table_that_was_given_back(call: fn(&Ledger)) {
    orders(3, move || {
        let tables = Arc::new(Tables { doors: Doors::new(), ledger: Ledger::EMPTY });
        let ledger = &tables.ledger;
        let mut memory: Vec<Vec<Room>> = Vec::new();
        let mut grow = || {
            let length = ledger.next_length();
            memory.push(buckets(length));
            let table = memory.last_mut().unwrap().as_mut_ptr();
            // SAFETY: these are empty buckets; see below for how long they stay.
            assert!(unsafe { ledger.adopt(table.cast(), length) });
        };
        grow();
        assert!(ledger.migrate(usize::MAX));
        assert_eq!(ledger.insert(A, 1), Inserted::Done);
        grow();
        let other = tables.clone();
        let theirs = thread::spawn(move || {
            let _inside = other.doors.enter(|| 1);
            call(&other.ledger);
        });
        while !ledger.migrate(usize::MAX) {
            thread::yield_now();
        }
        for column in Doors::columns() {
            while !tables.doors.is_empty(column) {
                thread::yield_now();
            }
        }
        let retired = &mut memory[0];
        // SAFETY: the memory is as long. Who uses an atomic in it from here on is told.
        unsafe { retired.as_mut_ptr().cast::<u8>().write_bytes(GONE, size_of_val(&retired[..])) };
        theirs.join().unwrap();
    });
}

#[test]
fn nobody_looks_into_a_table_that_was_given_back() {
    nobody_reads_a_table_that_was_given_back(|ledger| {
        assert_eq!(ledger.get(A).map(|entry| entry.state), Some(1))
    });
}

#[test]
fn nobody_removes_from_a_table_that_was_given_back() {
    nobody_reads_a_table_that_was_given_back(|ledger| assert_eq!(ledger.remove(A), Removed::Live(1)));
}

#[test]
fn nobody_inserts_into_a_table_that_was_given_back() {
    nobody_reads_a_table_that_was_given_back(|ledger| {
        assert!(matches!(ledger.insert(0x1BF0, 2), Inserted::Done | Inserted::Full));
    });
}
