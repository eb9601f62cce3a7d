//! The ledger: which blocks are live, and which were freed lately, found by the address that the driver holds.
//!
//! It is a hash table of two-line buckets, in which blocks are written down, found and struck out without a lock. A block
//! stands in the bucket that its address hashes to, or where that is full in one of the next few: a look at an address
//! that is not there ends in the same few. A count in each bucket says how many blocks had to go further.
//!
//! # One slot, two words
//!
//! The first word of a slot is the block's address, and in bits which every address has alike ([`MARKS`]) what is done to
//! it. The second is its *state*, eight bytes that mean nothing here. Who wants to write a slot's state first makes the
//! first word [`CLAIMED`] or [`BUSY`], by a compare-and-swap, and who reads one looks at the first word before
//! and after. So no state is ever taken for that of another address; and of two that strike a block out, one does.
//!
//! # Growth
//!
//! A table that has become too small is followed by one of twice the size. New blocks stand in the new table; those of the old
//! one are moved, a few buckets at a time, under the tracker's lock, while others go on without it:
//!
//! | step | old slot | new slot | who strikes the block out meanwhile does so |
//! |---|---|---|---|
//! | 1 | block | free | in the old slot |
//! | 2 | block, `SHADOW` | free | in the old slot |
//! | 3 | block, `SHADOW` | block, `SHADOW` | in the old slot; then the mover takes the shadow back |
//! | 4 | block, `MOVED` | block, `SHADOW` | in the new slot, because it has seen `MOVED` |
//! | 5 | block, `MOVED` | block | in the new slot |
//! | 6 | sealed | block | in the new slot |
//!
//! The mark of step 2 is for an address that comes again meanwhile: who has struck the block out has seen the mark, and with
//! it that there is a new table. So the address is not written down in the old slot again, and the mover does not take
//! another block for the one whose state it has copied.
//!
//! So whoever looks into the old table first, and into the new one then, finds the block in one of them. A slot that
//! somebody is just writing is left for later; its bucket is done when all of its slots are.
//!
//! Tables are in the order of the blocks' hashes, whatever their size, which is how a walk goes on from where it was.

#[cfg(not(loom))]
use core::mem::size_of;
use core::ptr;

use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Blocks of a bucket.
#[cfg(not(loom))]
const SLOTS: usize = 7;
#[cfg(loom)]
const SLOTS: usize = 1;

/// How many buckets a block may stand in: that of its hash, and those after it.
#[cfg(not(loom))]
const WINDOW: usize = 16;
#[cfg(loom)]
const WINDOW: usize = 2;

/// Buckets of the first table, which is part of the ledger. A power of two.
#[cfg(not(loom))]
const FIRST: usize = 32;
#[cfg(loom)]
const FIRST: usize = 1;

/// A slot's word is the address, shifted by so many bits: the highest ones are alike in every address of a 64-bit processor.
const SHIFT: u32 = 5;
/// The bits that are free for that.
const MARKS: u64 = (1 << SHIFT) - 1;
/// Somebody is at it, for a moment. It is as good as gone.
const BUSY: u64 = 1;
/// Somebody reads it: it stays until they are done.
const PINNED: u64 = 1 << 1;
/// It stands in the next table.
const MOVED: u64 = 1 << 2;
/// It stands in this table if it is `MOVED` in the one before; in the one before, it is being moved.
const SHADOW: u64 = 1 << 3;
/// It was freed.
const FREED: u64 = 1 << 4;

/// No block, and soon one.
const CLAIMED: u64 = BUSY;
/// No block, and never again one.
const SEALED: u64 = MOVED;

/// An address as a slot has it; `None` for what is none.
#[inline]
fn word_of(address: usize) -> Option<u64> {
    let word = (address as u64) << SHIFT;
    (word != 0 && address_of(word) == address).then_some(word)
}

/// The address of a slot's word.
#[inline]
fn address_of(word: u64) -> usize {
    (word as i64 >> SHIFT) as usize
}

/// Two cache lines: one that is searched, and one that is read of what was found.
#[repr(C, align(128))]
pub(crate) struct Bucket {
    /// Blocks whose way to their place, from the bucket of their hash on, led over this one.
    passed: AtomicU32,
    words: [AtomicU64; SLOTS],
    /// Memory that is as long as what stands in front of it.
    _apart: u64,
    states: [AtomicU64; SLOTS],
}

/// Room for one block.
#[derive(Clone, Copy)]
struct Slot<'l> {
    word: &'l AtomicU64,
    state: &'l AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 128);

impl Slot<'_> {
    /// Puts a block there; false if the slot is not empty any more.
    #[inline]
    fn fill(self, word: u64, state: u64) -> bool {
        // Acquire pairs with the Release of who emptied the slot. A mover that comes by before seals the slot, one that
        // comes later sees the claim or the block.
        if self.word.compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        // Release pairs with the Acquire in `Place::state`; the word below orders it for everybody else.
        self.state.store(state, Ordering::Release);
        // Release pairs with the Acquire in `find`: who sees the address sees its state.
        self.word.store(word, Ordering::Release);
        true
    }

    /// Empties the slot, which is the caller's: it is `BUSY`.
    #[inline]
    fn empty(self) -> u64 {
        // Relaxed: the slot is the caller's, and its word orders it. The state stays: who reads it takes it for the one of the
        // block that has been here, until a Release store of another one says that it is not.
        let state = self.state.load(Ordering::Relaxed);
        // Release pairs with the Acquire of who claims it next.
        self.word.store(0, Ordering::Release);
        state
    }
}

impl Bucket {
    const EMPTY: Self = Self {
        passed: AtomicU32::new(0),
        words: [const { AtomicU64::new(0) }; SLOTS],
        _apart: 0,
        states: [const { AtomicU64::new(0) }; SLOTS],
    };

    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.words.iter().zip(&self.states).map(|(word, state)| Slot { word, state })
    }

    #[inline]
    fn slot(&self, place: usize) -> Option<Slot<'_>> {
        Some(Slot { word: self.words.get(place)?, state: self.states.get(place)? })
    }

    /// The first slot that is empty, and whether one has this address, with whatever marks. All are looked at, here and
    /// below, because a processor that guesses wrongly where to stop loses more time than that takes.
    #[inline]
    fn free(&self, word: u64) -> (Option<Slot<'_>>, bool) {
        let (mut free, mut has) = (SLOTS, false);
        for (place, slot) in self.words.iter().enumerate().rev() {
            // Acquire: as in `find`; who finds no room sees why.
            let seen = slot.load(Ordering::Acquire);
            has |= seen ^ word <= MARKS;
            if seen == 0 {
                free = place;
            }
        }
        (self.slot(free), has)
    }

    /// A slot with this address and no marks.
    #[inline]
    fn exact(&self, word: u64) -> Option<Slot<'_>> {
        let mut exact = SLOTS;
        for (place, slot) in self.words.iter().enumerate().rev() {
            // Relaxed: who takes the block out acquires it.
            if slot.load(Ordering::Relaxed) == word {
                exact = place;
            }
        }
        self.slot(exact)
    }

    /// The slot with this address, as `Table::find` says it.
    #[inline]
    fn find<'l>(&'l self, word: u64, window: &'l [Self], distance: usize) -> Option<Place<'l>> {
        self.slots().find_map(|slot| {
            // Acquire pairs with the Release of who put the block in.
            let seen = slot.word.load(Ordering::Acquire);
            (seen ^ word <= MARKS).then_some(Place { slot, seen, window, distance })
        })
    }

    /// Whether blocks may stand in buckets after this one whose way there led over it.
    #[inline]
    fn is_passed(&self) -> bool {
        // Relaxed: who has been given the block by the one that put it in sees what that one did before.
        self.passed.load(Ordering::Relaxed) != 0
    }
}

/// A table that is there for as long as somebody who has read of it is inside.
#[derive(Clone, Copy)]
struct Table<'l> {
    buckets: &'l [Bucket],
    /// What leaves the number of a bucket of half a hash.
    shift: u32,
}

/// Pool addresses differ in their middle bits; a multiplication by the golden ratio spreads them. No two have the same hash.
#[inline]
fn hash(word: u64) -> u64 {
    word.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl<'l> Table<'l> {
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> 1).wrapping_shr(self.shift) as usize
    }

    /// The bucket of a hash.
    #[inline]
    fn first(&self, hash: u64) -> &'l Bucket {
        // SAFETY: so many bits of a hash are left as it takes to number the buckets, the last few of the table apart.
        unsafe { self.buckets.get_unchecked(self.home(hash)) }
    }

    /// Where blocks of this hash may stand.
    #[inline]
    fn window(&self, hash: u64) -> &'l [Bucket] {
        let home = self.home(hash);
        self.buckets.get(home..home + WINDOW).unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.buckets.len() - (WINDOW - 1)
    }

    /// The slot with this address, where it is not on its way in, and the word that it has.
    // Out of line: calls that are in a hurry look into the bucket of the hash themselves.
    #[inline(never)]
    fn find(&self, word: u64, hash: u64) -> Option<Place<'l>> {
        let window = self.window(hash);
        let home = window.first()?;
        home.find(word, window, 0)
            .or_else(|| if home.is_passed() { find_further(window, word) } else { None })
    }
}

#[cold]
#[inline(never)]
fn find_further(window: &[Bucket], word: u64) -> Option<Place<'_>> {
    for (distance, bucket) in window.iter().enumerate() {
        let place = bucket.find(word, window, distance);
        if place.is_some() {
            return place;
        }
        if !bucket.is_passed() {
            break;
        }
    }
    None
}

/// Where a block stands, or stood a moment ago.
#[derive(Clone, Copy)]
struct Place<'l> {
    slot: Slot<'l>,
    /// The slot's word.
    seen: u64,
    window: &'l [Bucket],
    distance: usize,
}

impl Place<'_> {
    /// Changes the word, if it is still what was seen.
    #[inline]
    fn change(&mut self, word: u64) -> bool {
        // AcqRel: Acquire pairs with the Release that put the block in, so that its state is seen; Release with the next
        // Acquire of this word, in `find`.
        let changed =
            self.slot.word.compare_exchange(self.seen, word, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if changed {
            self.seen = word;
        }
        changed
    }

    /// Empties the slot, which is this one's: it is `BUSY`.
    #[inline]
    fn clear(&self) -> u64 {
        let state = self.slot.empty();
        if self.distance > 0 {
            self.unpass();
        }
        state
    }

    #[cold]
    fn unpass(&self) {
        pass(self.window, self.distance, false);
    }

    /// The state, if the slot has been this address's all the while.
    fn state(&self) -> Option<u64> {
        // Acquire: so that the second look at the word comes after it. Pairs with the Release in `Spot::put`.
        let state = self.slot.state.load(Ordering::Acquire);
        // Relaxed: it is the same word that was seen, or the state is of no use.
        (self.slot.word.load(Ordering::Relaxed) == self.seen).then_some(state)
    }
}

/// Counts a block that stands so far from the bucket of its hash, or one less.
fn pass(window: &[Bucket], distance: usize, more: bool) {
    for bucket in window.iter().take(distance) {
        // Relaxed: see `is_passed`.
        if more {
            bucket.passed.fetch_add(1, Ordering::Relaxed);
        } else {
            bucket.passed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What came of putting a block in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    Done,
    /// A block stands there already.
    Occupied,
    /// There is no room: bring the ledger memory.
    Full,
    /// The ledger has no words for such an address.
    NoAddress,
}

/// What came of striking a block out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It was live, and had this state.
    Live(u64),
    /// It was freed before, or somebody reads it: not without the lock.
    Special,
    Nothing,
}

/// A block as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) address: usize,
    pub(crate) state: u64,
    pub(crate) is_freed: bool,
    pub(crate) is_pinned: bool,
}

/// How far a walk through the ledger has come.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// The hash of the last block; no block has that of zero.
    hash: u64,
}

/// Which tables there are is read and written by SeqCst, as the doors are: who gives an old table's memory back has unnamed
/// it and then seen each door open, and who is inside has closed one and then read the names. Of such two, one sees what the
/// other did; less than SeqCst, of either, would not promise that.
pub(crate) struct Ledger {
    first: [Bucket; FIRST + WINDOW - 1],
    /// The table that new blocks stand in, with its shift in the lowest bits; zero is the first one.
    current: AtomicPtr<Bucket>,
    /// The one before it, in the same way, while blocks of it are still to be moved; `NONE` otherwise, and `FIRST_TABLE` for
    /// the first one.
    previous: AtomicPtr<Bucket>,
    /// How many buckets of the previous table are done. Only under the lock.
    done: AtomicUsize,
}

/// A table's shift, which fits into the bits that a bucket's alignment leaves; and the largest one, for a single bucket.
const SHIFT_MAX: u32 = 63;
/// All bits that the alignment leaves.
const NAME: usize = align_of::<Bucket>() - 1;
/// The name of the first table where it is the previous one. Its bits are no shift.
const FIRST_TABLE: *mut Bucket = ptr::without_provenance_mut(SHIFT_MAX as usize + 1);
/// No table. A ledger without blocks is all zeros, so that a driver's image has no copy of it.
const NONE: *mut Bucket = ptr::null_mut();

impl Ledger {
    pub(crate) const EMPTY: Self = Self {
        first: [const { Bucket::EMPTY }; FIRST + WINDOW - 1],
        current: AtomicPtr::new(ptr::null_mut()),
        previous: AtomicPtr::new(NONE),
        done: AtomicUsize::new(0),
    };

    #[inline]
    fn table(&self, named: *mut Bucket) -> Table<'_> {
        if named.is_null() || named == FIRST_TABLE {
            return Table { buckets: &self.first, shift: SHIFT_MAX - FIRST.ilog2() };
        }
        let shift = named.addr() as u32 & SHIFT_MAX;
        // SAFETY: `adopt` has made this name of a table of so many buckets, which the caller, who is inside, may read.
        let buckets = unsafe {
            core::slice::from_raw_parts(
                named.map_addr(|address| address & !NAME),
                (1 << (SHIFT_MAX - shift)) + WINDOW - 1,
            )
        };
        Table { buckets, shift }
    }

    /// The table before the current one, if blocks still stand there.
    #[inline]
    fn older(&self, previous: *mut Bucket) -> Option<Table<'_>> {
        (previous != NONE).then(|| self.table(previous))
    }

    /// Writes a block down, unless one stands at its address.
    #[inline(always)]
    pub(crate) fn insert(&self, address: usize, state: u64) -> Inserted {
        let Some(word) = word_of(address) else { return Inserted::NoAddress };
        let hash = hash(word);
        // SeqCst (both): as in `insert_anywhere`.
        let current = self.current.load(Ordering::SeqCst);
        if self.previous.load(Ordering::SeqCst) == NONE {
            let home = self.table(current).first(hash);
            let (free, has) = home.free(word);
            let is_free = !has && !home.is_passed();
            if is_free && free.is_some_and(|slot| slot.fill(word, state)) {
                return Inserted::Done;
            }
        }
        self.insert_anywhere(word, hash, state)
    }

    /// The same where the block may stand elsewhere than in the bucket of its hash.
    #[cold]
    #[inline(never)]
    fn insert_anywhere(&self, word: u64, hash: u64, state: u64) -> Inserted {
        loop {
            // SeqCst (both) pairs with `adopt`, `migrate` and, through the doors, with who gives an old table's memory back: see
            // `Ledger`. As an Acquire: the new table's memory is seen, and that the old one is named.
            let current = self.current.load(Ordering::SeqCst);
            let older = self.older(self.previous.load(Ordering::SeqCst));
            if older.is_some_and(|older| stands(older.find(word, hash))) {
                return Inserted::Occupied;
            }
            let window = self.table(current).window(hash);
            let (distance, slot) = match free_place(window, word) {
                Free::At(distance, slot) => (distance, slot),
                Free::Occupied => return Inserted::Occupied,
                // SeqCst: as above. The slots of a table that is not current any more are sealed.
                Free::Full if self.current.load(Ordering::SeqCst) == current => return Inserted::Full,
                Free::Full => continue,
            };
            if distance > 0 {
                pass(window, distance, true);
            }
            if slot.fill(word, state) {
                return Inserted::Done;
            }
            if distance > 0 {
                pass(window, distance, false);
            }
        }
    }

    /// Does something with the place of a block, as long as that says that it came too late.
    #[inline]
    fn at<'l, R>(&'l self, word: u64, mut act: impl FnMut(&mut Place<'l>) -> Option<R>) -> Option<R> {
        let hash = hash(word);
        loop {
            // SeqCst (both): as in `insert`.
            let current = self.current.load(Ordering::SeqCst);
            let previous = self.previous.load(Ordering::SeqCst);
            let mut place = self.older(previous).and_then(|older| older.find(word, hash));
            let is_moved = place.as_ref().is_some_and(|place| place.seen & MOVED != 0);
            if place.is_none() || is_moved {
                // A shadow counts only if what throws it is gone.
                let marks = if is_moved { MOVED } else { MOVED | SHADOW };
                place = self.table(current).find(word, hash).filter(|place| place.seen & marks == 0);
            }
            if let Some(mut place) = place {
                if place.seen & BUSY != 0 {
                    return None;
                }
                if let Some(done) = act(&mut place) {
                    return Some(done);
                }
                continue;
            }
            // It may have been moved from where it was not looked for yet. SeqCst (both): as above.
            let is_same = self.current.load(Ordering::SeqCst) == current
                && self.previous.load(Ordering::SeqCst) == previous;
            if is_same {
                return None;
            }
        }
    }

    /// The place of a block that stands in the bucket of its hash, while there is one table and nobody is at it.
    #[inline]
    fn at_home(&self, word: u64) -> Option<Place<'_>> {
        // SeqCst (both): as in `at`. What is in this table while no other is named before it is the block.
        let current = self.current.load(Ordering::SeqCst);
        if self.previous.load(Ordering::SeqCst) != NONE {
            return None;
        }
        let window = self.table(current).window(hash(word));
        window.first()?.find(word, window, 0).filter(|place| place.seen & (BUSY | MOVED | SHADOW) == 0)
    }

    /// Strikes a live block out.
    #[inline]
    pub(crate) fn remove(&self, address: usize) -> Removed {
        let Some(word) = word_of(address) else { return Removed::Nothing };
        // SeqCst (both): as in `at`.
        let current = self.current.load(Ordering::SeqCst);
        if self.previous.load(Ordering::SeqCst) == NONE {
            if let Some(slot) = self.table(current).first(hash(word)).exact(word) {
                // AcqRel: as in `Place::change`.
                if slot.word.compare_exchange(word, word | BUSY, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                {
                    return Removed::Live(slot.empty());
                }
            }
        }
        self.remove_anywhere(word)
    }

    /// The same where the block may stand elsewhere than in the bucket of its hash.
    #[cold]
    #[inline(never)]
    fn remove_anywhere(&self, word: u64) -> Removed {
        let removed = self.at(word, |place| {
            if place.seen & (PINNED | FREED) != 0 {
                return Some(Removed::Special);
            }
            place.change(word | BUSY).then(|| Removed::Live(place.clear()))
        });
        removed.unwrap_or(Removed::Nothing)
    }

    /// The block at `address`.
    #[inline(never)]
    pub(crate) fn get(&self, address: usize) -> Option<Entry> {
        let word = word_of(address)?;
        if let Some(entry) = self.at_home(word).and_then(|place| Some(place.entry(place.state()?))) {
            return Some(entry);
        }
        self.at(word, |place| Some(place.entry(place.state()?)))
    }

    /// Pins a live block that nobody has pinned, and returns its state. Only under the lock.
    pub(crate) fn pin(&self, address: usize) -> Option<u64> {
        let word = word_of(address)?;
        self.at(word, |place| {
            if place.seen & (PINNED | FREED) != 0 {
                return Some(None);
            }
            // Relaxed: while it is pinned its state is this one's, and the change has acquired it.
            place.change(word | PINNED).then(|| Some(place.slot.state.load(Ordering::Relaxed)))
        })
        .flatten()
    }

    /// Gives a block that was pinned another state, and lets go of it, unless it was freed meanwhile. Only under the lock.
    pub(crate) fn unpin(&self, address: usize, state: u64) {
        let Some(word) = word_of(address) else { return };
        self.at(word, |place| {
            if place.seen == word | PINNED {
                // Release pairs with the Acquire in `Place::state`.
                place.slot.state.store(state, Ordering::Release);
                place.change(word);
            }
            Some(())
        });
    }

    /// Takes the block at `address` to change it, live or freed. Only under the lock.
    #[inline(never)]
    pub(crate) fn spot(&self, address: usize) -> Option<Spot<'_>> {
        let word = word_of(address)?;
        if let Some(mut place) = self.at_home(word) {
            let before = place.seen;
            if place.change(word | BUSY) {
                return Some(Spot { place, before });
            }
        }
        self.at(word, |place| {
            let before = place.seen;
            place.change(word | BUSY).then_some(Spot { place: *place, before })
        })
    }

    /// Whether blocks are being moved: who writes one down should lend a hand, with the lock.
    #[inline]
    pub(crate) fn is_moving(&self) -> bool {
        // Relaxed: a hint.
        self.previous.load(Ordering::Relaxed) != NONE
    }

    /// How many blocks there is room for, as far as that can be used.
    pub(crate) fn room(&self) -> usize {
        // Acquire pairs with `adopt`.
        self.table(self.current.load(Ordering::Acquire)).count() * SLOTS
    }

    /// How many buckets the next table has.
    pub(crate) fn next_length(&self) -> usize {
        // Acquire pairs with `adopt`.
        self.table(self.current.load(Ordering::Acquire)).count() * 2 + WINDOW - 1
    }

    /// Takes memory in as a table of twice the size; false where that is no longer what is wanted. Only under the lock.
    ///
    /// # Safety
    ///
    /// `memory` holds so many empty buckets, and is the ledger's until [`migrate`](Self::migrate) is done with it, as the old
    /// table, or [`clear`](Self::clear).
    pub(crate) unsafe fn adopt(&self, memory: *mut Bucket, length: usize) -> bool {
        if self.is_moving() || length != self.next_length() {
            return false;
        }
        // Relaxed: only changed under the lock, which is held.
        let current = self.current.load(Ordering::Relaxed);
        let shift = self.table(current).shift - 1;
        self.done.store(0, Ordering::Relaxed);
        // SeqCst (both): see `Ledger`. As a Release: the old table is named before the new one is, so that nobody sees only the
        // new one, and its buckets are seen empty.
        self.previous.store(if current.is_null() { FIRST_TABLE } else { current }, Ordering::SeqCst);
        self.current.store(memory.map_addr(|address| address | shift as usize), Ordering::SeqCst);
        true
    }

    /// Moves the blocks of a few buckets to the new table. True when the old one is done with: its memory may be
    /// given back when nobody can be reading it any more. Only under the lock.
    pub(crate) fn migrate(&self, buckets: usize) -> bool {
        // Relaxed (all): only changed under the lock, which is held.
        let Some(old) = self.older(self.previous.load(Ordering::Relaxed)) else { return false };
        let new = self.table(self.current.load(Ordering::Relaxed));
        for _ in 0..buckets {
            let done = self.done.load(Ordering::Relaxed);
            let Some(bucket) = old.buckets.get(done) else { break };
            if !bucket.slots().all(|slot| moves(slot, &new)) {
                return false;
            }
            self.done.store(done + 1, Ordering::Relaxed);
        }
        if self.done.load(Ordering::Relaxed) < old.buckets.len() {
            return false;
        }
        // SeqCst: see `Ledger`. As a Release: who sees that there is no old table sees all blocks in the new one.
        self.previous.store(NONE, Ordering::SeqCst);
        true
    }

    /// The next block after `cursor`, in an order that growth does not change: each block that is there all the while
    /// comes once. Only under the lock.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Option<Entry> {
        // Relaxed (both): only changed under the lock, which is held.
        let new = self.table(self.current.load(Ordering::Relaxed));
        let old = self.older(self.previous.load(Ordering::Relaxed));
        for home in new.home(cursor.hash)..new.count() {
            let is_next = |hash: u64| hash > cursor.hash && new.home(hash) == home;
            let mut least = new.least(home, None, is_next);
            if let Some(old) = &old {
                least = old.least(home >> 1, least, is_next);
            }
            if let Some((hash, entry)) = least {
                cursor.hash = hash;
                return Some(entry);
            }
        }
        None
    }

    /// Strikes everything out; no table but the first is the ledger's any more. Only when nobody else is inside.
    pub(crate) fn clear(&self) {
        for bucket in &self.first {
            // Relaxed (all in here): nobody else is inside, and the doors order who was and who comes.
            bucket.passed.store(0, Ordering::Relaxed);
            for slot in bucket.slots() {
                slot.word.store(0, Ordering::Relaxed);
                slot.state.store(0, Ordering::Relaxed);
            }
        }
        self.current.store(ptr::null_mut(), Ordering::Relaxed);
        self.previous.store(NONE, Ordering::Relaxed);
    }
}

impl Table<'_> {
    /// The block with the least hash of those that belong into a bucket and are wanted, or `least`.
    #[inline(never)]
    fn least(
        &self,
        home: usize,
        mut least: Option<(u64, Entry)>,
        is_wanted: impl Fn(u64) -> bool,
    ) -> Option<(u64, Entry)> {
        let window = self.buckets.get(home..home + WINDOW).unwrap_or_default();
        for (distance, bucket) in window.iter().enumerate() {
            for slot in bucket.slots() {
                // Acquire: see `find`.
                let seen = slot.word.load(Ordering::Acquire);
                let hash = hash(seen & !MARKS);
                if seen & !MARKS == 0 || seen & (BUSY | MOVED | SHADOW) != 0 || !is_wanted(hash) {
                    continue;
                }
                let place = Place { slot, seen, window, distance };
                if let Some(state) = place.state().filter(|_| least.is_none_or(|(other, _)| hash < other)) {
                    least = Some((hash, place.entry(state)));
                }
            }
            if !bucket.is_passed() {
                break;
            }
        }
        least
    }
}

impl Place<'_> {
    fn entry(&self, state: u64) -> Entry {
        Entry {
            address: address_of(self.seen),
            state,
            is_freed: self.seen & FREED != 0,
            is_pinned: self.seen & PINNED != 0,
        }
    }
}

/// Whether a block stands at a place; where it was moved to another table, it does not stand here.
fn stands(place: Option<Place<'_>>) -> bool {
    place.is_some_and(|place| place.seen & (BUSY | MOVED) == 0)
}

/// Where a block may be put.
#[derive(Clone, Copy)]
enum Free<'l> {
    /// In this slot, so far from the bucket of its hash.
    At(usize, Slot<'l>),
    /// It stands there already.
    Occupied,
    Full,
}

/// The nearest free slot for a block.
fn free_place(window: &[Bucket], word: u64) -> Free<'_> {
    let mut free = Free::Full;
    for (distance, bucket) in window.iter().enumerate() {
        // What somebody is just striking out is gone.
        if bucket.find(word, window, distance).is_some_and(|place| place.seen & BUSY == 0) {
            return Free::Occupied;
        }
        if let (Free::Full, (Some(slot), _)) = (free, bucket.free(word)) {
            free = Free::At(distance, slot);
        }
        if !matches!(free, Free::Full) && !bucket.is_passed() {
            break;
        }
    }
    free
}

/// Moves what stands in an old slot to the new table; false if the slot must be looked at again.
fn moves(slot: Slot<'_>, new: &Table<'_>) -> bool {
    loop {
        // Acquire: as in `find`.
        let seen = slot.word.load(Ordering::Acquire);
        match seen {
            SEALED => return true,
            0 => {
                // Release: who finds the seal, and no room, sees that the table is not the current one. See `insert`.
                if slot.word.compare_exchange(0, SEALED, Ordering::Release, Ordering::Relaxed).is_ok() {
                    return true;
                }
            }
            _ if seen & BUSY != 0 => return false,
            _ => {
                if !move_one(slot, seen, new) {
                    return false;
                }
            }
        }
    }
}

/// Steps 2 to 6 of a move; false where there is no room.
fn move_one(slot: Slot<'_>, seen: u64, new: &Table<'_>) -> bool {
    let marked = seen | SHADOW;
    // Release pairs with the Acquire of who strikes the block out: they see that there is a new table. Acquire: its state is
    // seen.
    if slot.word.compare_exchange(seen, marked, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return true;
    }
    let window = new.window(hash(seen & !MARKS));
    let found = window.iter().enumerate().find_map(|(distance, bucket)| {
        // AcqRel: Acquire pairs with who emptied the slot.
        let claim = |slot: &Slot<'_>| {
            slot.word.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        bucket.slots().find(claim).map(|slot| (distance, slot))
    });
    let Some((distance, place)) = found else {
        // AcqRel: as above. It may have been struck out by now.
        _ = slot.word.compare_exchange(marked, seen, Ordering::AcqRel, Ordering::Relaxed);
        return false;
    };
    pass(window, distance, true);
    // Relaxed: the mark has acquired it; if the block is gone since, the change below fails. Release: as in `insert`.
    place.state.store(slot.state.load(Ordering::Relaxed), Ordering::Release);
    // Release pairs with the Acquire in `find`.
    place.word.store(marked, Ordering::Release);
    // Release: who sees `MOVED` sees the shadow.
    let moved = slot.word.compare_exchange(marked, seen | MOVED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if moved {
        // AcqRel: the state stays what it is; it may have been struck out by now. Pairs with the Acquire in `find`.
        _ = place.word.compare_exchange(marked, seen, Ordering::AcqRel, Ordering::Relaxed);
        // Release: who sees the seal sees the block in the new table.
        slot.word.store(SEALED, Ordering::Release);
    } else {
        // It was struck out meanwhile. Nobody takes a shadow of what was not moved.
        let place = Place { slot: place, seen: marked, window, distance };
        place.clear();
    }
    true
}

/// Where a block stands in the ledger. It is nobody else's until it is put back, or struck out.
pub(crate) struct Spot<'l> {
    place: Place<'l>,
    /// The word that the slot had.
    before: u64,
}

impl Spot<'_> {
    pub(crate) fn entry(&self) -> Entry {
        // Relaxed: the slot is this one's.
        let state = self.place.slot.state.load(Ordering::Relaxed);
        Place { seen: self.before, ..self.place }.entry(state)
    }

    pub(crate) fn remove(self) {
        self.place.clear();
    }

    /// Puts the block back as it was.
    pub(crate) fn put_back(self) {
        let Entry { state, is_freed, is_pinned, .. } = self.entry();
        self.put(state, is_freed, is_pinned);
    }

    /// Puts the block back, with this state.
    pub(crate) fn put(self, state: u64, is_freed: bool, is_pinned: bool) {
        let word = self.before & !MARKS;
        // Release pairs with the Acquire in `Place::state`.
        self.place.slot.state.store(state, Ordering::Release);
        let marks = if is_freed { FREED } else { 0 } | if is_pinned { PINNED } else { 0 };
        // Release: as in `insert`.
        self.place.slot.word.store(word | marks, Ordering::Release);
    }
}
