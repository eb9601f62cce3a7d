//! The pools: who holds which block, and what is handed out next.
//!
//! Every address that was ever handed out stays in one map, marked live or free, until the machine is
//! switched off. That is what makes a second free of a block different from a free of a stranger's address.
//! Blocks of one class (rounded size, alignment, pool) share a shelf, and a shelf is a stack: what was
//! freed last is handed out first, because that is when a real machine's use-after-free hurts.
//!
//! One mutex guards it all. Nothing panics while it is held: each function here returns its verdict, and
//! callers turn it into a bugcheck after the lock is gone.

mod pages;

use std::{
    cell::Cell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{constants::PAGE_SIZE, irql, types::PVOID};
use pages::{Address, Pages};

/// What every byte of fresh memory holds that nobody asked to be zeroed.
pub const FRESH_BYTE: u8 = 0xCD;

/// The largest request that can succeed, in bytes: 1 GiB. A larger one gets NULL, however much the host has.
///
/// A length that underflowed should fail a test, not fill the memory of the machine that runs it.
pub const MAXIMUM_REQUEST: u64 = 1 << 30;

const PAGE: usize = PAGE_SIZE as usize;
const GRANULE: usize = 16;
const CACHE_LINE: usize = 64;

/// In a pool type: paged. The other pool types that the kernel has are combinations of these bits.
const PAGED_BIT: i32 = 1;
const MUST_SUCCEED_BIT: i32 = 2;
const CACHE_ALIGNED_BIT: i32 = 4;

/// One of the two pools. Executable and non-executable nonpaged pool are one here, and so is session pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Memory that is always there.
    NonPaged,
    /// Memory that may have been written to disk.
    Paged,
}

/// How full a pool is.
///
/// Bytes are the bytes that were asked for: what rounding wastes is not counted, so that a limit of 1,000
/// bytes lets exactly 1,000 through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolUsage {
    /// Blocks that are allocated now.
    pub blocks: u64,
    /// Bytes that are allocated now.
    pub bytes: u64,
    /// The most blocks that were allocated at one time.
    pub max_blocks: u64,
    /// The most bytes that were allocated at one time.
    pub max_bytes: u64,
    /// Allocations that succeeded, since the machine was booted.
    pub total_blocks: u64,
    /// Bytes of the allocations that succeeded, since the machine was booted.
    pub total_bytes: u64,
    /// Allocations that failed for want of memory, since the machine was booted.
    pub refused: u64,
    /// The most bytes that may be allocated at one time, where there is a limit.
    pub limit: Option<u64>,
}

impl PoolUsage {
    const EMPTY: Self = Self {
        blocks: 0,
        bytes: 0,
        max_blocks: 0,
        max_bytes: 0,
        total_blocks: 0,
        total_bytes: 0,
        refused: 0,
        limit: None,
    };

    fn admits(&self, bytes: u64) -> bool {
        let after = self.bytes.saturating_add(bytes);
        self.limit.is_none_or(|limit| after <= limit)
    }

    fn charge(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
        self.max_blocks = self.max_blocks.max(self.blocks);
        self.max_bytes = self.max_bytes.max(self.bytes);
        self.total_blocks += 1;
        self.total_bytes = self.total_bytes.saturating_add(bytes);
    }

    fn credit(&mut self, bytes: u64) {
        self.blocks -= 1;
        self.bytes -= bytes;
    }
}

/// What the machine that runs knows of an address: see [`allocation_at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// A block begins there, the so-many-th that was ever allocated in this process.
    Live(u64),
    /// A block began there, and is free.
    Free,
    /// No block ever began there.
    Unknown,
}

/// One block's stay at its address, for those who keep something in a block that is not theirs.
#[derive(Clone, Copy)]
pub(crate) struct Tenancy {
    block: usize,
    number: u64,
}

impl Tenancy {
    /// That of the block which `address` lies in, if it lies in one. This looks at all blocks.
    pub(crate) fn of(address: PVOID) -> Option<Self> {
        let inside = |start: usize, block: &Block| {
            block.live && (start as u64..start as u64 + block.bytes).contains(&(address.addr() as u64))
        };
        let pools = running();
        let (start, block) = pools.blocks.iter().find(|(start, block)| inside(**start, block))?;
        Some(Self { block: *start, number: block.number })
    }

    /// Whether the block was not freed since.
    pub(crate) fn lasts(self) -> bool {
        let pools = running();
        pools.blocks.get(&self.block).is_some_and(|block| block.live && block.number == self.number)
    }
}

/// What a caller wants, in the older functions' terms: the newer ones translate their flags.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) pool_type: i32,
    pub(crate) bytes: u64,
    pub(crate) tag: u32,
}

impl Request {
    pub(crate) fn kind(&self) -> PoolKind {
        kind_of(self.pool_type)
    }

    pub(crate) fn must_succeed(&self) -> bool {
        self.pool_type & MUST_SUCCEED_BIT != 0
    }
}

/// Why a block cannot be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No block begins there.
    Unknown,
    /// The block that begins there is free.
    Free { tag: u32 },
    /// The level is too high for the block's pool.
    Level { pool_type: i32 },
    /// The block was allocated under another tag.
    Tag { allocated: u32 },
}

/// The shelf that a block comes from and goes back to: its size rounded up, and in the low bits, which
/// rounding leaves free, its pool and alignment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Class(u64);

impl Class {
    const PAGED: u64 = 1;
    const CACHE_ALIGNED: u64 = 2;
    const FLAGS: u64 = GRANULE as u64 - 1;

    /// None where the request is larger than any that can succeed.
    fn of(request: &Request) -> Option<Self> {
        if request.bytes > MAXIMUM_REQUEST {
            return None;
        }
        let bytes = usize::try_from(request.bytes).ok()?;
        // A page or more is page aligned, which is aligned enough for any cache.
        let cache_aligned = bytes < PAGE && request.pool_type & CACHE_ALIGNED_BIT != 0;
        let unit = match (bytes < PAGE, cache_aligned) {
            (true, false) => GRANULE,
            (true, true) => CACHE_LINE,
            (false, _) => PAGE,
        };
        let mut class = bytes.max(1).next_multiple_of(unit) as u64;
        if cache_aligned {
            class |= Self::CACHE_ALIGNED;
        }
        if request.kind() == PoolKind::Paged {
            class |= Self::PAGED;
        }
        Some(Self(class))
    }

    fn bytes(self) -> usize {
        (self.0 & !Self::FLAGS) as usize
    }
}

/// The blocks of one class that can be handed out.
struct Shelf {
    class: Class,
    /// Freed blocks, the last one on top.
    freed: Vec<Address>,
    /// Where the uncut rest of the newest page begins, and how many blocks fit there.
    uncut: Option<(Address, usize)>,
}

struct Block {
    shelf: usize,
    pool_type: i32,
    tag: u32,
    bytes: u64,
    /// Which allocation of this process it came from.
    number: u64,
    live: bool,
}

/// Spreads addresses, of which the low bits and the high ones say little.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let product = number.wrapping_mul(GOLDEN);
        // The table takes the low bits, and a product's good bits are the high ones.
        self.0 = product ^ (product >> 32);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type ByAddress<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// Both pools of one machine, and the memory behind them.
pub(crate) struct Pools {
    blocks: ByAddress<usize, Block>,
    shelves: Vec<Shelf>,
    shelf_of: ByAddress<Class, usize>,
    memory: Vec<Pages>,
    nonpaged: PoolUsage,
    paged: PoolUsage,
}

thread_local! {
    /// The block that this thread was given last, and its number.
    static LATEST: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// The machine that is running: the default one, or the one that was booted.
static RUNNING: Mutex<Pools> = Mutex::new(Pools::new());

fn running() -> MutexGuard<'static, Pools> {
    // A panic elsewhere in the test leaves nothing half done here.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts `pools` in the running machine's place and returns what was there.
pub(crate) fn replace(pools: Pools) -> Pools {
    core::mem::replace(&mut *running(), pools)
}

pub(crate) fn usage(kind: PoolKind) -> PoolUsage {
    *running().usage(kind)
}

pub(crate) fn set_limit(kind: PoolKind, limit: Option<u64>) {
    running().usage(kind).limit = limit;
}

/// Tells the block at an address from those that were there before it and will be after it: what keeps books about
/// blocks can find out whether the one it knows is still there.
#[must_use]
pub fn allocation_at(address: PVOID) -> Allocation {
    match running().blocks.get(&address.addr()) {
        Some(block) if block.live => Allocation::Live(block.number),
        Some(_) => Allocation::Free,
        None => Allocation::Unknown,
    }
}

/// The number of the block at `address`, as [`allocation_at`] has it, if it is the one that the calling thread was
/// given last; 0 otherwise. This looks nothing up.
#[must_use]
pub fn latest_allocation(address: PVOID) -> u64 {
    let (latest, number) = LATEST.get();
    if latest == address.addr() { number } else { 0 }
}

/// Returns NULL where there is no memory for the request.
pub(crate) fn allocate(request: &Request) -> PVOID {
    running().allocate(request)
}

/// Frees the block that begins at `address`, under `tag` unless any tag will do.
pub(crate) fn free(address: PVOID, tag: Option<u32>) -> Result<(), Refusal> {
    running().free(address, tag)
}

pub(crate) const fn kind_of(pool_type: i32) -> PoolKind {
    if pool_type & PAGED_BIT == 0 { PoolKind::NonPaged } else { PoolKind::Paged }
}

/// The highest level at which a pool may be allocated from and freed to.
pub(crate) const fn ceiling(kind: PoolKind) -> u8 {
    match kind {
        PoolKind::NonPaged => irql::DISPATCH,
        PoolKind::Paged => irql::APC,
    }
}

impl Pools {
    pub(crate) const fn new() -> Self {
        Self {
            blocks: HashMap::with_hasher(BuildHasherDefault::new()),
            shelves: Vec::new(),
            shelf_of: HashMap::with_hasher(BuildHasherDefault::new()),
            memory: Vec::new(),
            nonpaged: PoolUsage::EMPTY,
            paged: PoolUsage::EMPTY,
        }
    }

    fn usage(&mut self, kind: PoolKind) -> &mut PoolUsage {
        match kind {
            PoolKind::NonPaged => &mut self.nonpaged,
            PoolKind::Paged => &mut self.paged,
        }
    }

    fn allocate(&mut self, request: &Request) -> PVOID {
        let kind = request.kind();
        let granted = self.usage(kind).admits(request.bytes);
        match Class::of(request).filter(|_| granted).and_then(|class| self.take(class, request)) {
            Some(address) => {
                self.usage(kind).charge(request.bytes);
                address.pointer()
            }
            None => {
                self.usage(kind).refused += 1;
                core::ptr::null_mut()
            }
        }
    }

    /// Hands out the next block of a class, or None where the host has no memory.
    fn take(&mut self, class: Class, request: &Request) -> Option<Address> {
        // Relaxed: the number must be nobody else's, and orders nothing.
        static ALLOCATIONS: AtomicU64 = AtomicU64::new(1);
        let number = ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let index = self.shelf(class);
        let address = match self.shelves[index].next() {
            Some(address) => address,
            None => self.stock(index)?,
        };
        let block = Block {
            shelf: index,
            pool_type: request.pool_type,
            tag: request.tag,
            bytes: request.bytes,
            number,
            live: true,
        };
        self.blocks.insert(address.number(), block);
        LATEST.set((address.number(), number));
        Some(address)
    }

    fn shelf(&mut self, class: Class) -> usize {
        *self.shelf_of.entry(class).or_insert_with(|| {
            self.shelves.push(Shelf { class, freed: Vec::new(), uncut: None });
            self.shelves.len() - 1
        })
    }

    /// Gets memory for an empty shelf and hands out the first block.
    fn stock(&mut self, index: usize) -> Option<Address> {
        let shelf = &mut self.shelves[index];
        let bytes = shelf.class.bytes();
        // Small blocks share a page and never cross its end, as the kernel promises.
        let pages = Pages::fresh(bytes.next_multiple_of(PAGE))?;
        shelf.uncut = Some((pages.start(), (PAGE / bytes).max(1)));
        self.memory.push(pages);
        shelf.next()
    }

    fn free(&mut self, address: PVOID, tag: Option<u32>) -> Result<(), Refusal> {
        let block = self.blocks.get_mut(&address.addr()).ok_or(Refusal::Unknown)?;
        if !block.live {
            return Err(Refusal::Free { tag: block.tag });
        }
        let (kind, bytes) = (kind_of(block.pool_type), block.bytes);
        if irql::current() > ceiling(kind) {
            return Err(Refusal::Level { pool_type: block.pool_type });
        }
        if tag.is_some_and(|tag| tag != block.tag) {
            return Err(Refusal::Tag { allocated: block.tag });
        }
        block.live = false;
        self.shelves[block.shelf].freed.push(Address::of(address));
        self.usage(kind).credit(bytes);
        Ok(())
    }
}

impl Shelf {
    fn next(&mut self) -> Option<Address> {
        if let Some(address) = self.freed.pop() {
            return Some(address);
        }
        let (address, blocks) = self.uncut.take()?;
        if blocks > 1 {
            self.uncut = Some((address.after(self.class.bytes()), blocks - 1));
        }
        Some(address)
    }
}
