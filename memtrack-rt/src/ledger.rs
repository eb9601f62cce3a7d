//! The ledger: which blocks are live, and which were freed lately, found by the address that the driver holds.
//!
//! It is a hash table that grows one bucket at a time (linear hashing), so that no single allocation pays for
//! moving many blocks while the lock is held. Each block costs one [`Entry`] of 32 bytes, and buckets between 8
//! and 16 more; with the slab's idle quarter that stays below 64 bytes a block.

use core::mem::size_of;
use core::ptr::{self, NonNull};

use crate::block::{Standing, State};
use crate::site::SiteRef;
use crate::slab::{CHUNK_HEAD, Chunks, Slab};

/// What the ledger knows of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it was allocated; its function, tag and pool stand there too.
    pub(crate) site: SiteRef,
    pub(crate) state: State,
}

impl Block {
    /// Whether it is live, and begins behind a guard.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(self.state.standing(), Standing::Live(live) if live.body(0).layout.front() > 0)
    }
}

#[derive(Clone, Copy)]
struct Entry {
    address: usize,
    block: Block,
    next: Option<NonNull<Entry>>,
}

const _: () = assert!(size_of::<Entry>() <= 32, "an entry and its buckets must stay below 64 bytes a block");

type Bucket = Option<NonNull<Entry>>;

/// Buckets that are there from the start.
const FIRST: usize = 64;
/// Segment `n` holds as many buckets as the first ones and all segments before it together.
const SEGMENTS: usize = 32;

/// What came of putting a block in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It stands in the ledger, and `replaced` is the block that stood at its address before.
    Done { replaced: Option<Block> },
    /// The ledger needs so many bytes of memory first: bring them to [`Ledger::adopt_entries`].
    NeedsMemory(usize),
}

pub(crate) struct Ledger {
    entries: Slab<Entry>,
    first: [Bucket; FIRST],
    /// Segments 1, 2, … each in memory of its own; null where not there yet.
    segments: [*mut Bucket; SEGMENTS],
    segment_memory: Chunks,
    /// Buckets that have memory.
    buckets_held: usize,
    /// Buckets in use: at least `FIRST`, at most `buckets_held`.
    buckets: usize,
    /// As many ones as it takes to count the buckets in use.
    mask: usize,
    blocks: usize,
    /// How many walks are under way.
    walks: usize,
}

/// How far a walk through the ledger has come.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursor {
    bucket: usize,
    address: usize,
}

impl Ledger {
    pub(crate) const EMPTY: Self = Self {
        entries: Slab::EMPTY,
        first: [None; FIRST],
        segments: [ptr::null_mut(); SEGMENTS],
        segment_memory: Chunks::EMPTY,
        buckets_held: FIRST,
        buckets: FIRST,
        mask: FIRST - 1,
        blocks: 0,
        walks: 0,
    };

    /// Writes down that `block` lives at `address`.
    pub(crate) fn insert(&mut self, address: usize, block: Block) -> Inserted {
        let bucket = self.bucket(self.index(address));
        // SAFETY: the bucket lies in memory of the ledger's.
        let first = unsafe { *bucket };
        if let Some(mut entry) = find(first, address) {
            // SAFETY: entries in a bucket are live, and `&mut self` makes this the only way to them.
            let known = unsafe { &mut entry.as_mut().block };
            return Inserted::Done { replaced: Some(core::mem::replace(known, block)) };
        }
        let Some(entry) = self.entries.insert(Entry { address, block, next: first }) else {
            return Inserted::NeedsMemory(self.entries.wants());
        };
        // SAFETY: as above; the entry's `next` is what stood there.
        unsafe { *bucket = Some(entry) };
        self.blocks += 1;
        if self.blocks > self.buckets && self.buckets < self.buckets_held && self.walks == 0 {
            self.split();
        }
        Inserted::Done { replaced: None }
    }

    /// The block that starts at `address`.
    pub(crate) fn find(&mut self, address: usize) -> Option<&mut Block> {
        let bucket = self.bucket(self.index(address));
        // SAFETY: the bucket lies in memory of the ledger's.
        let entry = find(unsafe { *bucket }, address)?;
        // SAFETY: entries in a bucket are live, and `&mut self` makes this the only way to them.
        Some(unsafe { &mut (*entry.as_ptr()).block })
    }

    /// The next block after `cursor`, in an order that growth of the table does not change while it is walked (see
    /// [`walk`](Self::walk)): each block that is there all the while comes once.
    pub(crate) fn next(&mut self, cursor: &mut Cursor) -> Option<(usize, Block)> {
        while cursor.bucket < self.buckets {
            let bucket = self.bucket(cursor.bucket);
            // SAFETY: the bucket lies in memory of the ledger's.
            let mut link = unsafe { *bucket };
            let mut next: Option<(usize, Block)> = None;
            while let Some(entry) = link {
                // SAFETY: entries of a chain are live.
                let Entry { address, block, next: further } = unsafe { *entry.as_ptr() };
                if address > cursor.address && next.is_none_or(|(least, _)| address < least) {
                    next = Some((address, block));
                }
                link = further;
            }
            if let Some((address, _)) = next {
                cursor.address = address;
                return next;
            }
            *cursor = Cursor { bucket: cursor.bucket + 1, address: 0 };
        }
        None
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Counts one more walk, or one less. While there is any, the table does not grow.
    pub(crate) fn walk(&mut self, begins: bool) {
        self.walks = if begins { self.walks.saturating_add(1) } else { self.walks.saturating_sub(1) };
    }

    /// Whether a walk is under way.
    pub(crate) fn is_walked(&self) -> bool {
        self.walks > 0
    }

    /// Strikes the block at `address` out and returns it; `None` if no block starts there.
    pub(crate) fn remove(&mut self, address: usize) -> Option<Block> {
        let mut spot = self.spot(address)?;
        let block = *spot.block();
        spot.remove();
        Some(block)
    }

    /// The place of the block that starts at `address`: to be looked at, changed, or struck out.
    #[inline]
    pub(crate) fn spot(&mut self, address: usize) -> Option<Spot<'_>> {
        let mut link = self.bucket(self.index(address));
        loop {
            // SAFETY: `link` is a bucket or the `next` of a live entry, and `&mut self` makes it ours.
            let entry = unsafe { *link }?;
            // SAFETY: entries in a bucket are live.
            if unsafe { (*entry.as_ptr()).address } == address {
                return Some(Spot { ledger: self, link, entry });
            }
            // SAFETY: the entry is live; only the place of its link is taken.
            link = unsafe { &raw mut (*entry.as_ptr()).next };
        }
    }

    /// How much memory the next segment of buckets takes, when one is due; the ledger works without it, but
    /// its chains grow.
    pub(crate) fn wants_buckets(&self) -> Option<usize> {
        let due = self.blocks >= self.buckets_held && self.blocks & (self.buckets_held - 1) == 0;
        let room = self.next_segment() < SEGMENTS;
        (due && room).then(|| self.next_segment_bytes())
    }

    /// Takes memory for entries in, unless another processor brought some in the meantime: then it is
    /// returned.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes and `bytes` long, which
    /// [`NeedsMemory`](Inserted::NeedsMemory) asked for.
    pub(crate) unsafe fn adopt_entries(&mut self, memory: NonNull<u8>, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: handed on.
        unsafe { self.entries.adopt(memory, bytes) }
    }

    /// Takes memory for buckets in, unless it is no longer what is wanted: then it is returned.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes and `bytes` long, which
    /// [`wants_buckets`](Self::wants_buckets) asked for. It is zeroed, and so holds empty buckets: the larger it is,
    /// the less there is time to empty them under the lock.
    pub(crate) unsafe fn adopt_buckets(&mut self, memory: NonNull<u8>, bytes: usize) -> Option<NonNull<u8>> {
        let segment = self.next_segment();
        if segment >= SEGMENTS || bytes != self.next_segment_bytes() {
            return Some(memory);
        }
        // SAFETY: the memory is the caller's alone and longer than a head.
        let buckets: NonNull<Bucket> = unsafe { self.segment_memory.adopt(memory) }.cast();
        let count = FIRST << (segment - 1);
        self.segments[segment % SEGMENTS] = buckets.as_ptr();
        self.buckets_held += count;
        None
    }

    /// Strikes everything out and hands over the memory that it took.
    pub(crate) fn detach(&mut self) -> [Chunks; 2] {
        self.first.fill(None);
        self.segments.fill(ptr::null_mut());
        self.buckets_held = FIRST;
        self.buckets = FIRST;
        self.mask = FIRST - 1;
        self.blocks = 0;
        [self.entries.detach(), self.segment_memory.detach()]
    }

    /// Puts an entry at the head of its bucket.
    fn link(&mut self, entry: NonNull<Entry>) {
        // SAFETY: the entry is live and ours.
        let address = unsafe { (*entry.as_ptr()).address };
        let bucket = self.bucket(self.index(address));
        // SAFETY: the bucket lies in memory of the ledger's; the entry is live and in no chain.
        unsafe {
            (*entry.as_ptr()).next = *bucket;
            *bucket = Some(entry);
        }
    }

    /// Puts one more bucket to use, and moves to it what now belongs there: all from one older bucket.
    fn split(&mut self) {
        let older = self.buckets - (1 << log2(self.buckets));
        let bucket = self.bucket(older);
        self.buckets += 1;
        self.mask = self.buckets.next_power_of_two() - 1;
        // SAFETY: the bucket lies in memory of the ledger's.
        let mut next = unsafe { bucket.replace(None) };
        while let Some(entry) = next {
            // SAFETY: entries of a chain are live.
            next = unsafe { (*entry.as_ptr()).next };
            self.link(entry);
        }
    }

    /// The bucket that `address` belongs to: by as many bits of its hash as there are buckets in use, by one
    /// bit less where that bucket is not in use yet.
    fn index(&self, address: usize) -> usize {
        let index = hash(address) & self.mask;
        if index < self.buckets { index } else { index & (self.mask >> 1) }
    }

    fn bucket(&mut self, index: usize) -> *mut Bucket {
        if index < FIRST {
            return &raw mut self.first[index];
        }
        let segment = log2(index / FIRST) + 1;
        let start = FIRST << (segment - 1);
        // SAFETY: `index` is below `buckets_held`, so its segment is there and is `start` buckets long.
        unsafe { self.segments[segment % SEGMENTS].add(index - start) }
    }

    fn next_segment(&self) -> usize {
        log2(self.buckets_held / FIRST) + 1
    }

    fn next_segment_bytes(&self) -> usize {
        self.buckets_held * size_of::<Bucket>() + CHUNK_HEAD
    }
}

/// Where a block stands in the ledger.
pub(crate) struct Spot<'l> {
    ledger: &'l mut Ledger,
    link: *mut Bucket,
    entry: NonNull<Entry>,
}

impl Spot<'_> {
    pub(crate) fn block(&mut self) -> &mut Block {
        // SAFETY: the entry is live, and the ledger is borrowed for as long as this place is.
        unsafe { &mut (*self.entry.as_ptr()).block }
    }

    pub(crate) fn remove(self) {
        // SAFETY: as above; the link leads to this entry, which is no longer reached once the link is past it.
        unsafe { *self.link = (*self.entry.as_ptr()).next };
        // SAFETY: the entry came from this slab and nothing points to it any more.
        unsafe { self.ledger.entries.remove(self.entry) };
        self.ledger.blocks -= 1;
    }
}

/// The entry of `address` in the chain that begins with `first`.
fn find(first: Bucket, address: usize) -> Bucket {
    let mut next = first;
    while let Some(entry) = next {
        // SAFETY: entries of a chain are live.
        let Entry { address: found, next: further, .. } = unsafe { *entry.as_ptr() };
        if found == address {
            return Some(entry);
        }
        next = further;
    }
    None
}

/// The logarithm of what is never zero here, without the library's panic for when it is.
fn log2(number: usize) -> usize {
    (usize::BITS - 1).wrapping_sub(number.leading_zeros()) as usize
}

/// Pool addresses differ in their middle bits; a multiplication by the golden ratio spreads them.
fn hash(address: usize) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    ((address as u64).wrapping_mul(GOLDEN) >> 32) as usize
}
