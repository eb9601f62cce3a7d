//! The ledger beside a plain map: whatever is done to both, they say the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

#[path = "../src/sync.rs"]
mod sync;

#[allow(
    dead_code,
    clippy::declare_interior_mutable_const,
    reason = "the model uses most of it, and a ledger is a constant"
)]
#[path = "../src/ledger.rs"]
mod ledger;

use ledger::{Bucket, Cursor, Entry, Inserted, Ledger, Removed};

/// Buckets as the platform gives them: zeros.
#[repr(C, align(128))]
#[derive(Clone, Copy)]
struct Memory([u64; 16]);

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(usize, u64),
    Remove(usize),
    Get(usize),
    Pin(usize),
    Unpin(usize, u64),
    Free(usize, u64),
    Take(usize),
    PutBack(usize),
    Grow,
    Migrate(usize),
    Next,
    Clear,
}

/// Addresses of the kernel's and of the user's half: some that are close to each other, and anything at all.
fn address() -> impl Strategy<Value = usize> {
    prop_oneof![
        12 => (1_usize..400).prop_map(|block| block * 16),
        3 => (0_usize..64).prop_map(|block| 0xFFFF_8000_0000_0000 | (block * 0x1000)),
        1 => any::<usize>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        40 => (address(), any::<u64>()).prop_map(|(address, state)| Insert(address, state)),
        12 => address().prop_map(Remove),
        6 => address().prop_map(Get),
        4 => address().prop_map(Pin),
        4 => (address(), any::<u64>()).prop_map(|(address, state)| Unpin(address, state)),
        4 => (address(), any::<u64>()).prop_map(|(address, state)| Free(address, state)),
        3 => address().prop_map(Take),
        2 => address().prop_map(PutBack),
        2 => Just(Grow),
        8 => (1_usize..20).prop_map(Migrate),
        8 => Just(Next),
        1 => Just(Clear),
    ]
}

/// The ledger, the map, and a walk that goes on while both change.
struct Both {
    ledger: Ledger,
    map: BTreeMap<usize, Entry>,
    tables: Vec<Vec<Memory>>,
    cursor: Cursor,
    /// What the walk must still show, because it was there when the walk began, and what it has shown.
    expected: Vec<usize>,
    shown: Vec<usize>,
}

impl Both {
    fn new() -> Self {
        Self {
            ledger: Ledger::EMPTY,
            map: BTreeMap::new(),
            tables: Vec::new(),
            cursor: Cursor::default(),
            expected: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn grow(&mut self) {
        let length = self.ledger.next_length();
        let mut memory = vec![Memory([0; 16]); length];
        let was_moving = self.ledger.is_moving();
        // SAFETY: zeros are empty buckets, as many as are wanted, and they stay as long as the ledger.
        let adopted = unsafe { self.ledger.adopt(memory.as_mut_ptr().cast::<Bucket>(), length) };
        assert_eq!(adopted, !was_moving);
        self.tables.push(memory);
    }

    fn gone(&mut self, address: usize) {
        self.map.remove(&address);
        self.expected.retain(|other| *other != address);
    }

    fn insert(&mut self, address: usize, state: u64) {
        // The five highest bits are not kept: they must be as the one below them is, and not all others zero.
        let highest = address >> 58;
        let has_words = (highest == 0 || highest == 0x3F) && address << 5 != 0;
        match self.ledger.insert(address, state) {
            Inserted::Done => {
                let entry = Entry { address, state, is_freed: false, is_pinned: false };
                assert_eq!(self.map.insert(address, entry), None);
                assert!(has_words);
            }
            Inserted::Occupied => assert!(self.map.contains_key(&address)),
            Inserted::NoAddress => assert!(!has_words, "{address:#x}"),
            Inserted::Full => {
                assert!(!self.map.contains_key(&address));
                // Seven blocks a bucket, sixteen buckets: a fuller one is no accident.
                assert!(self.map.len() * 4 > self.ledger.room() || self.ledger.is_moving());
            }
        }
    }

    fn take(&mut self, step: Step) {
        let known = |address| self.map.get(address).copied();
        match step {
            Step::Insert(address, state) => self.insert(address, state),
            Step::Remove(address) => match (self.ledger.remove(address), known(&address)) {
                (Removed::Live(state), Some(entry)) => {
                    assert_eq!(entry, Entry { address, state, is_freed: false, is_pinned: false });
                    self.gone(address);
                }
                (Removed::Special, Some(entry)) => assert!(entry.is_freed || entry.is_pinned),
                (removed, known) => assert_eq!((removed, known), (Removed::Nothing, None)),
            },
            Step::Get(address) => assert_eq!(self.ledger.get(address), known(&address)),
            Step::Pin(address) => {
                let free = known(&address).filter(|entry| !entry.is_freed && !entry.is_pinned);
                assert_eq!(self.ledger.pin(address), free.map(|entry| entry.state));
                self.map.entry(address).and_modify(|entry| entry.is_pinned |= !entry.is_freed);
            }
            Step::Unpin(address, state) => {
                self.ledger.unpin(address, state);
                if known(&address).is_some_and(|entry| entry.is_pinned) {
                    self.map.insert(address, Entry { address, state, is_freed: false, is_pinned: false });
                }
            }
            Step::Free(address, state) => {
                let spot = self.ledger.spot(address);
                assert_eq!(spot.as_ref().map(ledger::Spot::entry), known(&address));
                if let Some(spot) = spot {
                    spot.put(state, true, false);
                    self.map.insert(address, Entry { address, state, is_freed: true, is_pinned: false });
                }
            }
            Step::Take(address) => {
                let spot = self.ledger.spot(address);
                assert_eq!(spot.as_ref().map(ledger::Spot::entry), known(&address));
                if let Some(spot) = spot {
                    assert_eq!(self.ledger.get(address), None);
                    spot.remove();
                    self.gone(address);
                }
            }
            Step::PutBack(address) => {
                if let Some(spot) = self.ledger.spot(address) {
                    spot.put_back();
                }
                assert_eq!(self.ledger.get(address), known(&address));
            }
            Step::Grow => self.grow(),
            Step::Migrate(buckets) => {
                let done = self.ledger.migrate(buckets);
                assert!(!done || !self.ledger.is_moving());
            }
            Step::Next => self.next(),
            Step::Clear => {
                self.ledger.clear();
                self.map.clear();
                self.tables.clear();
                (self.cursor, self.expected, self.shown) = Default::default();
            }
        }
    }

    fn next(&mut self) {
        if self.shown.is_empty() {
            self.expected = self.map.keys().copied().collect();
        }
        match self.ledger.next(&mut self.cursor) {
            Some(entry) => {
                assert_eq!(Some(&entry), self.map.get(&entry.address));
                assert!(!self.shown.contains(&entry.address), "shown twice");
                self.shown.push(entry.address);
            }
            None => {
                self.expected.retain(|address| !self.shown.contains(address));
                assert_eq!(self.expected, [], "there all the while, and not shown");
                (self.cursor, self.shown) = Default::default();
            }
        }
    }

    fn agree(&self) {
        let mut cursor = Cursor::default();
        let mut walked: Vec<Entry> = std::iter::from_fn(|| self.ledger.next(&mut cursor)).collect();
        walked.sort_by_key(|entry| entry.address);
        assert_eq!(walked, self.map.values().copied().collect::<Vec<_>>());
        assert!(walked.iter().all(|entry| self.ledger.get(entry.address) == Some(*entry)));
    }
}

proptest! {
    #[test]
    fn the_ledger_is_a_map(steps in prop::collection::vec(step(), 1..1500)) {
        let mut both = Both::new();
        for step in steps {
            both.take(step);
        }
        both.agree();
        while both.ledger.is_moving() {
            both.ledger.migrate(usize::MAX);
        }
        both.agree();
    }
}
