//! Kinds: what blocks have in common that were allocated at one site and lie alike. The ledger names a block's kind by a
//! number; a call finds its own by one look into a table, without a lock.
//!
//! A kind stays until the books are closed. The tables are arrays of references that grow by being copied, under the
//! lock; the old ones stay as well, since somebody may be reading them.

use core::panic::Location;
use core::ptr::{self, NonNull};

use crate::block::{Features, KINDS_MAX};
use crate::site::{Key, SiteRef};
use crate::slab::{CHUNK_HEAD, Chunks, Slab};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering};

/// A kind of blocks.
pub(crate) struct Kind {
    key: Key,
    features: Features,
    number: usize,
    site: SiteRef,
}

impl Kind {
    #[inline]
    fn is(&self, key: &Key, features: Features) -> bool {
        ptr::eq(self.key.location, key.location)
            && self.features == features
            && self.key.tag == key.tag
            && self.key.function == key.function
            && self.key.pool == key.pool
            && self.key.list == key.list
    }

    #[inline]
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    #[inline]
    pub(crate) fn features(&self) -> Features {
        self.features
    }

    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    #[inline]
    pub(crate) fn site(&self) -> &SiteRef {
        &self.site
    }
}

/// Where the search for a kind begins.
#[inline]
fn hash(key: &Key, features: Features) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let location = ptr::from_ref::<Location<'static>>(key.location).addr() as u64;
    let mixed = location ^ u64::from(key.tag.0).rotate_left(32) ^ features.0 ^ (key.pool as u64) << 56;
    (mixed.wrapping_mul(GOLDEN) >> 40) as usize
}

type Reference = AtomicPtr<Kind>;

/// References that the first array has.
#[cfg(not(loom))]
const FIRST: usize = 64;
#[cfg(loom)]
const FIRST: usize = 2;

/// An array of references in memory of its own: this, and they after it.
#[repr(C, align(16))]
struct Array {
    length: AtomicUsize,
}

/// References in an array that grows.
struct References {
    first: [Reference; FIRST],
    /// Null while the first one is in use.
    array: AtomicPtr<Array>,
}

impl References {
    const EMPTY: Self = Self {
        first: [const { AtomicPtr::new(ptr::null_mut()) }; FIRST],
        array: AtomicPtr::new(ptr::null_mut()),
    };

    /// The array as it is now. Its length is a power of two.
    #[inline]
    fn all(&self) -> &[Reference] {
        // Acquire pairs with the Release in `adopt`.
        let array = self.array.load(Ordering::Acquire);
        if array.is_null() {
            return &self.first;
        }
        // SAFETY: `adopt` has put a length there, and so many references behind; they stay until the books are closed.
        unsafe {
            // Relaxed: written before the array was made known.
            let length = (*array).length.load(Ordering::Relaxed);
            core::slice::from_raw_parts(array.add(1).cast(), length)
        }
    }

    /// How much memory an array of twice the length takes.
    fn next_bytes(&self) -> usize {
        CHUNK_HEAD + size_of::<Array>() + 2 * self.all().len() * size_of::<Reference>()
    }

    /// Makes another array known.
    ///
    /// # Safety
    ///
    /// `memory` is zeroed, aligned to 16 bytes, [`next_bytes`](Self::next_bytes) long but for a chunk's head, and stays until
    /// the books are closed.
    unsafe fn adopt(&self, memory: NonNull<u8>, fill: impl FnOnce(&[Reference])) {
        let array = memory.cast::<Array>().as_ptr();
        let length = 2 * self.all().len();
        // SAFETY: the memory is long enough; zeros are references to nothing.
        let all = unsafe {
            // Relaxed: nobody knows of it yet.
            (*array).length.store(length, Ordering::Relaxed);
            core::slice::from_raw_parts(array.add(1).cast(), length)
        };
        fill(all);
        // Release pairs with the Acquire in `all`.
        self.array.store(array, Ordering::Release);
    }

    fn clear(&self) {
        // Relaxed (both): nobody is inside.
        self.first.iter().for_each(|reference| reference.store(ptr::null_mut(), Ordering::Relaxed));
        self.array.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

#[inline]
fn follow(reference: &Reference) -> Option<&Kind> {
    // Acquire pairs with the Release in `Kinds::add`.
    // SAFETY: kinds stay until the books are closed, and what is referred to is one.
    unsafe { reference.load(Ordering::Acquire).as_ref() }
}

/// All kinds.
pub(crate) struct Kinds {
    /// By number.
    numbered: References,
    /// By hash, with gaps: at most half of it is in use.
    hashed: References,
}

/// What belongs to the kinds and is only used under the lock.
pub(crate) struct Store {
    kinds: Slab<Kind>,
    arrays: Chunks,
    count: usize,
}

impl Store {
    pub(crate) const EMPTY: Self = Self { kinds: Slab::EMPTY, arrays: Chunks::EMPTY, count: 0 };
}

/// Memory that kinds need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Kinds(usize),
    Numbered(usize),
    Hashed(usize),
    /// There is none: all numbers are given.
    Numbers,
}

impl Kinds {
    pub(crate) const EMPTY: Self = Self { numbered: References::EMPTY, hashed: References::EMPTY };

    /// The kind of a block, if there was one before.
    #[inline]
    pub(crate) fn find(&self, key: &Key, features: Features) -> Option<&Kind> {
        let all = self.hashed.all();
        let mut place = hash(key, features);
        loop {
            place &= all.len().wrapping_sub(1);
            let kind = follow(all.get(place)?)?;
            if kind.is(key, features) {
                return Some(kind);
            }
            place += 1;
        }
    }

    /// The kind of that number.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<&Kind> {
        follow(self.numbered.all().get(number)?)
    }

    /// Makes a kind, which there was not before. Under the lock.
    pub(crate) fn add(
        &self,
        store: &mut Store,
        key: &Key,
        features: Features,
        site: SiteRef,
    ) -> Result<&Kind, Needs> {
        let number = store.count;
        let (numbered, hashed) = (self.numbered.all(), self.hashed.all());
        if number >= KINDS_MAX {
            return Err(Needs::Numbers);
        }
        if number >= numbered.len() {
            return Err(Needs::Numbered(self.numbered.next_bytes()));
        }
        if number >= hashed.len() / 2 {
            return Err(Needs::Hashed(self.hashed.next_bytes()));
        }
        let kind = Kind { key: *key, features, number, site };
        let kind = store.kinds.insert(kind).ok_or_else(|| Needs::Kinds(store.kinds.wants()))?;
        store.count += 1;
        // Release (also in `put`) pairs with the Acquire in `follow`.
        if let Some(place) = numbered.get(number) {
            place.store(kind.as_ptr(), Ordering::Release);
        }
        put(hashed, kind);
        // SAFETY: kinds stay until the books are closed.
        Ok(unsafe { kind.as_ref() })
    }

    /// Takes memory in, unless it is no longer what is wanted: then it is returned. Under the lock.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes, zeroed, and as long as `needs` says.
    pub(crate) unsafe fn adopt(
        &self,
        store: &mut Store,
        needs: Needs,
        memory: NonNull<u8>,
    ) -> Option<NonNull<u8>> {
        match needs {
            // SAFETY: handed on.
            Needs::Kinds(bytes) => unsafe { store.kinds.adopt(memory, bytes) },
            Needs::Numbered(bytes) if bytes == self.numbered.next_bytes() => {
                // SAFETY: the memory is the caller's; and so the rest of it, which is as long as is wanted.
                unsafe {
                    let memory = store.arrays.adopt(memory);
                    self.numbered.adopt(memory, |all| {
                        for (new, old) in all.iter().zip(self.numbered.all()) {
                            // Relaxed (both): the new array is made known later, the old one changes under the lock.
                            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
                        }
                    });
                }
                None
            }
            Needs::Hashed(bytes) if bytes == self.hashed.next_bytes() => {
                // SAFETY: as above.
                unsafe {
                    let memory = store.arrays.adopt(memory);
                    self.hashed.adopt(memory, |all| {
                        for old in self.hashed.all() {
                            // Relaxed: as above.
                            if let Some(kind) = NonNull::new(old.load(Ordering::Relaxed)) {
                                put(all, kind);
                            }
                        }
                    });
                }
                None
            }
            _ => Some(memory),
        }
    }

    /// Forgets every kind and hands over their memory. Only when nobody is inside.
    pub(crate) fn detach(&self, store: &mut Store) -> [Chunks; 2] {
        self.numbered.clear();
        self.hashed.clear();
        store.count = 0;
        [store.kinds.detach(), store.arrays.detach()]
    }
}

/// Puts a kind where [`Kinds::find`] finds it: there is a gap.
fn put(all: &[Reference], kind: NonNull<Kind>) {
    // SAFETY: a kind is there until the books are closed.
    let Kind { key, features, .. } = unsafe { kind.as_ref() };
    let first = hash(key, *features);
    for step in 0..all.len() {
        let Some(place) = all.get(first.wrapping_add(step) & all.len().wrapping_sub(1)) else { return };
        // Relaxed: only changed under the lock, which is held.
        if place.load(Ordering::Relaxed).is_null() {
            // Release pairs with the Acquire in `follow`.
            return place.store(kind.as_ptr(), Ordering::Release);
        }
    }
}
