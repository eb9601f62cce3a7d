//! The tracker's own memory: records of one kind, carved from chunks that the platform gave.
//!
//! A slab never asks for memory itself. It says that it has none, its owner lets go of the lock, asks the
//! platform, and comes back with a chunk.

use core::mem::{align_of, size_of};
use core::ptr::{self, NonNull};

/// The head of every piece of memory that the platform gave, so that it can be given back.
struct Chunk {
    next: Option<NonNull<Chunk>>,
}

/// Bytes that the head takes, so that what follows keeps the platform's 16-byte alignment.
pub(crate) const CHUNK_HEAD: usize = 16;
const _: () = assert!(size_of::<Chunk>() <= CHUNK_HEAD);

/// Memory of the platform's, last come first.
pub(crate) struct Chunks(Option<NonNull<Chunk>>);

impl Chunks {
    pub(crate) const EMPTY: Self = Self(None);

    /// Whether there is no memory in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes a piece of memory in and returns the part of it that may be used.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes and longer than [`CHUNK_HEAD`].
    pub(crate) unsafe fn adopt(&mut self, memory: NonNull<u8>) -> NonNull<u8> {
        let chunk = memory.cast::<Chunk>();
        // SAFETY: the memory is ours, aligned and long enough for a chunk's head.
        unsafe { chunk.write(Chunk { next: self.0 }) };
        self.0 = Some(chunk);
        // SAFETY: the memory is longer than its head.
        unsafe { memory.add(CHUNK_HEAD) }
    }

    /// How much memory a `T` takes that [`adopt_aligned`](Self::adopt_aligned) takes in.
    pub(crate) const fn room_for<T>() -> usize {
        CHUNK_HEAD + size_of::<T>() + align_of::<T>()
    }

    /// Takes a piece of memory in and returns the part of it that is aligned as a `T` is.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes and [`room_for`](Self::room_for) a `T`.
    pub(crate) unsafe fn adopt_aligned<T>(&mut self, memory: NonNull<u8>) -> NonNull<T> {
        // SAFETY: handed on.
        let room = unsafe { self.adopt(memory) };
        let gap = room.addr().get().wrapping_neg() & (align_of::<T>() - 1);
        // SAFETY: there is room for as much as an alignment, which is more than the gap.
        unsafe { room.add(gap) }.cast()
    }

    /// Hands over everything and is empty.
    pub(crate) fn detach(&mut self) -> Self {
        Self(self.0.take())
    }
}

impl Iterator for Chunks {
    type Item = NonNull<u8>;

    /// The next piece, as the platform gave it. It is the caller's now.
    fn next(&mut self) -> Option<NonNull<u8>> {
        let chunk = self.0?;
        // SAFETY: the chunk was adopted and not yet handed out, so its head still stands.
        self.0 = unsafe { chunk.as_ref() }.next;
        Some(chunk.cast())
    }
}

/// Records of one kind, which stay until all go. `T` needs no drop and an alignment of at most 16.
pub(crate) struct Slab<T> {
    chunks: Chunks,
    /// Where the next record goes: there is room for `left` of them from here on.
    fresh: *mut T,
    left: usize,
    /// All records that the chunks hold, used or not.
    capacity: usize,
}

impl<T> Slab<T> {
    const FITS: () = assert!(align_of::<T>() <= CHUNK_HEAD);

    pub(crate) const EMPTY: Self = {
        let () = Self::FITS;
        Self { chunks: Chunks::EMPTY, fresh: ptr::null_mut(), left: 0, capacity: 0 }
    };

    /// How much memory to bring when there is no record left: a page, or a quarter of what is held already,
    /// so that what lies idle stays in proportion.
    pub(crate) fn wants(&self) -> usize {
        const PAGE: usize = 4096;
        const MOST: usize = 1 << 20;
        let quarter = self.capacity.saturating_mul(size_of::<T>()) / 4;
        quarter.clamp(PAGE, MOST) & !(PAGE - 1)
    }

    /// Takes a piece of memory in, unless another processor brought some in the meantime: then it is returned.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's alone, aligned to 16 bytes and `bytes` long, a page at least.
    pub(crate) unsafe fn adopt(&mut self, memory: NonNull<u8>, bytes: usize) -> Option<NonNull<u8>> {
        if self.left > 0 {
            return Some(memory);
        }
        // SAFETY: handed on; a page is longer than the head.
        let room = unsafe { self.chunks.adopt(memory) };
        let records = (bytes - CHUNK_HEAD) / size_of::<T>();
        self.fresh = room.cast().as_ptr();
        self.left = records;
        self.capacity += records;
        None
    }

    /// Puts `record` into the slab; `None` when it has no room.
    pub(crate) fn insert(&mut self, record: T) -> Option<NonNull<T>> {
        self.left = self.left.checked_sub(1)?;
        let place = NonNull::new(self.fresh)?;
        // SAFETY: `left` records lay from `fresh` on, so the next one, or the end, is in the chunk.
        self.fresh = unsafe { self.fresh.add(1) };
        // SAFETY: the place is ours, and laid out for a `T`.
        unsafe { place.write(record) };
        Some(place)
    }

    /// Hands over all memory, and with it every record.
    pub(crate) fn detach(&mut self) -> Chunks {
        let chunks = self.chunks.detach();
        *self = Self::EMPTY;
        chunks
    }
}
