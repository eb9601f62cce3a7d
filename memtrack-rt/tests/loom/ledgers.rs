//! The ledger beside itself. The lock stands for the tracker's: growth, walks, pins and spots are under it, and so is a second
//! try of what did not come off without it.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Arc;

use loom::sync::{Mutex, MutexGuard};
use loom::thread;

use crate::ledger::{Bucket, Cursor, Entry, Inserted, Ledger, Removed};
use crate::{every_order, orders};

/// Addresses of blocks, in the order of a walk. The first table has room for two of them. In all tables here `A` and `B`
/// belong into the same bucket, and from the second one on `C` into the next.
const A: usize = 0x1E10;
const B: usize = 0x1520;
const C: usize = 0x1BF0;

struct Desk {
    ledger: Ledger,
    lock: Mutex<()>,
    tables: std::sync::Mutex<Vec<(*mut u8, Layout)>>,
}

// SAFETY: the ledger is shared by nature.
unsafe impl Sync for Desk {}
// SAFETY: as above.
unsafe impl Send for Desk {}

impl Desk {
    fn with(blocks: &[(usize, u64)]) -> Arc<Self> {
        let desk = Self { ledger: Ledger::EMPTY, lock: Mutex::new(()), tables: Default::default() };
        for &(address, state) in blocks {
            assert_eq!(desk.ledger.insert(address, state), Inserted::Done);
        }
        Arc::new(desk)
    }

    /// The same in the second table.
    fn grown(blocks: &[(usize, u64)]) -> Arc<Self> {
        let desk = Self::with(&[]);
        desk.grow();
        for &(address, state) in blocks {
            desk.insert(address, state);
        }
        desk
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap()
    }

    /// What an allocation does: without the lock, unless that does not come off.
    fn insert(&self, address: usize, state: u64) {
        if !self.ledger.is_moving() && self.ledger.insert(address, state) == Inserted::Done {
            return;
        }
        let _held = self.lock();
        while self.ledger.insert(address, state) != Inserted::Done {
            self.grow_under_the_lock();
        }
    }

    fn grow(&self) {
        let _held = self.lock();
        self.grow_under_the_lock();
    }

    fn grow_under_the_lock(&self) {
        if !self.ledger.is_moving() {
            self.adopt();
        }
        while self.ledger.is_moving() && !self.ledger.migrate(1) {
            thread::yield_now();
        }
    }

    /// The same as it is done beside calls: a bucket at a time.
    fn grow_step_by_step(&self) {
        {
            let _held = self.lock();
            self.adopt();
        }
        loop {
            let _held = self.lock();
            if self.ledger.migrate(1) || !self.ledger.is_moving() {
                return;
            }
            thread::yield_now();
        }
    }

    fn adopt(&self) {
        let length = self.ledger.next_length();
        let layout = Layout::array::<Bucket>(length).unwrap();
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        // SAFETY: zeros are empty buckets, and they stay until the desk goes.
        assert!(unsafe { self.ledger.adopt(memory.cast(), length) });
        self.tables.lock().unwrap().push((memory, layout));
    }

    /// What a free does; the state that the block had.
    fn remove(&self, address: usize) -> Option<u64> {
        match self.ledger.remove(address) {
            Removed::Live(state) => Some(state),
            Removed::Nothing => None,
            Removed::Special => {
                let _held = self.lock();
                let spot = self.ledger.spot(address)?;
                let state = spot.entry().state;
                spot.remove();
                Some(state)
            }
        }
    }

    fn state(&self, address: usize) -> Option<u64> {
        self.ledger.get(address).map(|entry| entry.state)
    }

    /// Every block, in the walk's order, each step under the lock.
    fn walk(&self) -> Vec<Entry> {
        let mut cursor = Cursor::default();
        std::iter::from_fn(|| {
            let _held = self.lock();
            self.ledger.next(&mut cursor)
        })
        .collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for (memory, layout) in self.tables.get_mut().unwrap().drain(..) {
            // SAFETY: the table was allocated so, and nobody uses the desk any more.
            unsafe { dealloc(memory, layout) };
        }
    }
}

fn count(entries: &[Entry], address: usize) -> usize {
    entries.iter().filter(|entry| entry.address == address).count()
}

/// Does two things at once.
fn both(desk: &Arc<Desk>, one: fn(&Desk), other: fn(&Desk)) {
    let theirs = desk.clone();
    let one = thread::spawn(move || one(&theirs));
    other(desk);
    one.join().unwrap();
}

/// Does three things at once.
fn all(desk: &Arc<Desk>, one: fn(&Desk), other: fn(&Desk), third: fn(&Desk)) {
    let theirs = desk.clone();
    let one = thread::spawn(move || one(&theirs));
    both(desk, other, third);
    one.join().unwrap();
}

#[test]
fn of_two_removals_one_wins() {
    every_order(|| {
        let desk = Desk::with(&[(A, 1)]);
        let other = desk.clone();
        let theirs = thread::spawn(move || other.ledger.remove(A));
        let mut removed = [desk.ledger.remove(A), theirs.join().unwrap()];
        removed.sort_by_key(|removed| *removed == Removed::Nothing);
        assert_eq!(removed, [Removed::Live(1), Removed::Nothing]);
        assert_eq!(desk.state(A), None);
    });
}

#[test]
fn blocks_come_and_go_beside_each_other() {
    fn come_and_go(desk: &Desk, address: usize, state: u64) {
        assert_eq!(desk.ledger.insert(address, state), Inserted::Done);
        assert_eq!(desk.state(address), Some(state));
        assert_eq!(desk.ledger.insert(address, 9), Inserted::Occupied);
        assert_eq!(desk.ledger.remove(address), Removed::Live(state));
        assert_eq!(desk.ledger.remove(address), Removed::Nothing);
    }
    orders(2, || {
        let desk = Desk::with(&[]);
        both(&desk, |desk| come_and_go(desk, A, 1), |desk| come_and_go(desk, B, 2));
        assert_eq!(desk.walk(), []);
    });
}

#[test]
fn a_block_far_from_its_bucket_is_found() {
    orders(4, || {
        let desk = Desk::with(&[(A, 1), (B, 2)]);
        both(
            &desk,
            |desk| {
                assert_eq!(desk.ledger.remove(A), Removed::Live(1));
                assert_eq!(desk.ledger.insert(C, 3), Inserted::Done);
            },
            |desk| {
                assert_eq!(desk.state(B), Some(2));
                assert_eq!(desk.ledger.remove(B), Removed::Live(2));
            },
        );
        assert_eq!(desk.state(C), Some(3));
        assert_eq!(desk.ledger.insert(A, 1), Inserted::Done);
        assert_eq!(desk.ledger.insert(B, 2), Inserted::Full);
    });
}

#[test]
fn of_three_blocks_two_find_room() {
    orders(1, || {
        fn try_one(desk: &Desk, address: usize) {
            match desk.ledger.insert(address, address as u64) {
                Inserted::Done => assert_eq!(desk.state(address), Some(address as u64)),
                other => assert_eq!(other, Inserted::Full),
            }
        }
        let desk = Desk::with(&[]);
        all(&desk, |desk| try_one(desk, A), |desk| try_one(desk, B), |desk| try_one(desk, C));
        assert_eq!(desk.walk().len(), 2);
    });
}

#[test]
fn no_state_is_taken_for_that_of_another_block() {
    every_order(|| {
        let desk = Desk::with(&[(A, 1)]);
        both(
            &desk,
            |desk| {
                assert_eq!(desk.ledger.remove(A), Removed::Live(1));
                assert_eq!(desk.ledger.insert(B, 2), Inserted::Done);
            },
            |desk| {
                assert!(matches!(desk.state(A), None | Some(1)));
                assert!(matches!(desk.state(B), None | Some(2)));
            },
        );
    });
}

#[test]
fn a_block_is_there_while_it_is_moved() {
    orders(3, || {
        let desk = Desk::with(&[(A, 1)]);
        both(&desk, Desk::grow, |desk| {
            assert_eq!(desk.state(A), Some(1));
            assert_eq!(desk.state(C), None);
        });
        assert_eq!((desk.state(A), desk.state(C)), (Some(1), None));
    });
}

#[test]
fn a_block_is_removed_while_it_is_moved() {
    orders(3, || {
        let desk = Desk::with(&[(A, 1)]);
        both(&desk, Desk::grow, |desk| {
            assert_eq!(desk.ledger.remove(A), Removed::Live(1));
            assert_eq!(desk.ledger.remove(A), Removed::Nothing);
        });
        assert_eq!(desk.walk(), []);
        assert!(!desk.ledger.is_moving());
    });
}

#[test]
fn of_two_removals_beside_growth_one_wins() {
    orders(1, || {
        let desk = Desk::with(&[(A, 1)]);
        desk.adopt();
        let (grower, other) = (desk.clone(), desk.clone());
        let growth = thread::spawn(move || grower.grow());
        let theirs = thread::spawn(move || other.ledger.remove(A));
        let mut removed = [desk.ledger.remove(A), theirs.join().unwrap()];
        removed.sort_by_key(|removed| *removed == Removed::Nothing);
        assert_eq!(removed, [Removed::Live(1), Removed::Nothing]);
        growth.join().unwrap();
        assert_eq!(desk.walk(), []);
    });
}

#[test]
fn a_block_is_inserted_beside_growth() {
    orders(2, || {
        let desk = Desk::with(&[(A, 1)]);
        both(&desk, Desk::grow, |desk| {
            desk.insert(B, 2);
            assert_eq!(desk.state(B), Some(2));
        });
        assert_eq!((desk.state(A), desk.state(B)), (Some(1), Some(2)));
        assert_eq!(desk.walk().len(), 2);
    });
}

#[test]
fn an_address_comes_again_beside_growth() {
    orders(2, || {
        let desk = Desk::with(&[(A, 1)]);
        both(&desk, Desk::grow, |desk| {
            assert_eq!(desk.remove(A), Some(1));
            desk.insert(A, 2);
            assert_eq!(desk.remove(A), Some(2));
        });
        assert_eq!(desk.walk(), []);
    });
}

#[test]
fn blocks_come_and_go_beside_growth() {
    orders(1, || {
        let desk = Desk::with(&[(A, 1), (B, 2)]);
        desk.adopt();
        all(
            &desk,
            Desk::grow,
            |desk| {
                assert_eq!(desk.remove(A), Some(1));
                desk.insert(A, 3);
            },
            |desk| assert_eq!(desk.remove(B), Some(2)),
        );
        assert_eq!((desk.state(A), desk.state(B)), (Some(3), None));
    });
}

#[test]
fn who_finds_no_room_makes_some() {
    orders(1, || {
        let desk = Desk::with(&[(A, 1)]);
        all(
            &desk,
            |desk| desk.insert(B, 2),
            |desk| desk.insert(C, 3),
            |desk| assert_eq!(desk.state(A), Some(1)),
        );
        assert_eq!((desk.state(A), desk.state(B), desk.state(C)), (Some(1), Some(2), Some(3)));
        assert_eq!(desk.walk().len(), 3);
    });
}

#[test]
fn a_walk_shows_what_is_there_beside_calls() {
    orders(3, || {
        let desk = Desk::grown(&[(A, 1), (B, 2)]);
        both(
            &desk,
            |desk| {
                assert_eq!(desk.remove(A), Some(1));
                desk.insert(C, 3);
            },
            |desk| {
                let seen = desk.walk();
                assert_eq!(count(&seen, B), 1);
                assert!(count(&seen, A) <= 1 && count(&seen, C) <= 1);
            },
        );
    });
}

#[test]
fn a_walk_shows_what_is_there_beside_growth() {
    orders(3, || {
        let desk = Desk::with(&[(A, 1), (B, 2)]);
        both(&desk, Desk::grow_step_by_step, |desk| {
            assert_eq!(desk.walk().iter().map(|entry| entry.state).collect::<Vec<_>>(), [1, 2]);
        });
    });
}

#[test]
fn a_walk_shows_what_is_there_beside_calls_and_growth() {
    orders(1, || {
        let desk = Desk::with(&[(A, 1), (B, 2)]);
        all(
            &desk,
            Desk::grow_step_by_step,
            |desk| {
                assert_eq!(desk.remove(A), Some(1));
                desk.insert(A, 3);
            },
            |desk| {
                let seen = desk.walk();
                assert_eq!(count(&seen, B), 1);
                assert!(count(&seen, A) <= 1);
            },
        );
    });
}

#[test]
fn a_pinned_block_stays_or_was_gone_before() {
    every_order(|| {
        let desk = Desk::with(&[(A, 1)]);
        both(
            &desk,
            |desk| {
                let held = desk.lock();
                let Some(state) = desk.ledger.pin(A) else { return };
                assert_eq!(state, 1);
                assert_eq!(desk.ledger.pin(A), None);
                drop(held);
                let _held = desk.lock();
                desk.ledger.unpin(A, 5);
            },
            |desk| assert!(matches!(desk.remove(A), Some(1 | 5))),
        );
        assert_eq!(desk.walk(), []);
    });
}

#[test]
fn a_pinned_block_has_one_state_or_the_other() {
    every_order(|| {
        let desk = Desk::with(&[(A, 1)]);
        both(
            &desk,
            |desk| {
                let _held = desk.lock();
                assert_eq!(desk.ledger.pin(A), Some(1));
                desk.ledger.unpin(A, 5);
            },
            |desk| assert!(matches!(desk.state(A), Some(1 | 5))),
        );
        assert_eq!(desk.state(A), Some(5));
    });
}

#[test]
fn who_takes_a_block_has_it_alone() {
    every_order(|| {
        let desk = Desk::with(&[(A, 1)]);
        let other = desk.clone();
        let theirs = thread::spawn(move || other.ledger.remove(A));
        let ours = {
            let _held = desk.lock();
            desk.ledger.spot(A).map(|spot| {
                assert_eq!(spot.entry().state, 1);
                spot.remove();
            })
        };
        assert_eq!(theirs.join().unwrap() == Removed::Live(1), ours.is_none());
        assert_eq!(desk.walk(), []);
    });
}

#[test]
fn a_block_that_was_freed_is_not_freed_again() {
    every_order(|| {
        let desk = Desk::with(&[(A, 1)]);
        let other = desk.clone();
        let theirs = thread::spawn(move || other.ledger.remove(A));
        let ours = {
            let _held = desk.lock();
            desk.ledger.spot(A).map(|spot| spot.put(7, true, false))
        };
        match (theirs.join().unwrap(), ours) {
            (Removed::Live(1), None) => assert_eq!(desk.walk(), []),
            (Removed::Nothing | Removed::Special, Some(())) => {
                let freed = Entry { address: A, state: 7, is_freed: true, is_pinned: false };
                assert_eq!(desk.ledger.get(A), Some(freed));
            }
            others => panic!("{others:?}"),
        }
    });
}
