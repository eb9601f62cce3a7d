//! Guards: signed bytes round a block, and poison in one that was freed.
//!
//! Every guard byte is told by its own address, so that a run of equal bytes, such as a fill that went too far,
//! cannot pass for a guard.

use core::mem::size_of;
use core::ptr;

use crate::pool::{Function, PAGE};

/// What memtrack signs round a block, to find overruns and underruns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Guard {
    /// 16 to 31 bytes behind the block, from its last byte on. The driver has the kernel's own pointer.
    #[default]
    Tail,
    /// Nothing: the kernel is asked for what the driver asked for.
    None,
    /// The tail, and signed bytes in front: 16, or as many as keep the block's page or cache line. The pointer is
    /// not the kernel's: whoever frees such a block must be annotated, and must do so before the books are closed.
    Full,
}

impl Guard {
    /// By number: what is chosen unless somebody chooses is zero, see [`Tracker`](crate::Tracker).
    pub(crate) const ALL: [Self; 3] = [Self::Tail, Self::None, Self::Full];
}

/// At least so many bytes behind a block are signed.
const TAIL: usize = 16;
/// What the kernel rounds sizes to, and aligns blocks to.
pub(crate) const GRANULE: usize = 16;
/// No cache line that Windows runs on is longer: 64 bytes on x64, up to 128 on ARM64.
const CACHE_LINE: usize = 128;

/// How a block lies in what the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Which of `FRONTS` lies in front of the block.
    front: u8,
    pub(crate) tail: bool,
}

const FRONTS: [usize; 4] = [0, GRANULE, CACHE_LINE, PAGE];

impl Layout {
    pub(crate) const BARE: Self = Self { front: 0, tail: false };

    pub(crate) const fn from_parts(front: u8, tail: bool) -> Self {
        Self { front: front & 3, tail }
    }

    pub(crate) const fn front_code(self) -> u8 {
        self.front
    }

    /// The layout that `guard` asks for, of a block of `bytes` bytes that `function` takes from the pool of that
    /// word; `None` where there are not so many numbers.
    pub(crate) fn of(guard: Guard, bytes: usize, function: Function, pool: u64) -> Option<Self> {
        Self::with_total(guard, bytes, function, pool).map(|(layout, _)| layout)
    }

    /// The same, and how many bytes the kernel is to be asked for.
    #[inline]
    pub(crate) fn with_total(
        guard: Guard,
        bytes: usize,
        function: Function,
        pool: u64,
    ) -> Option<(Self, usize)> {
        let layout = match guard {
            Guard::None => Self::BARE,
            Guard::Tail => Self { front: 0, tail: true },
            Guard::Full => {
                Self { front: Self::front_for(bytes, function.is_cache_aligned(pool)), tail: true }
            }
        };
        layout.total(bytes).map(|total| (layout, total))
    }

    /// A block of a page or more begins on a page, and a shorter one lies in one page: with the guard, too.
    fn front_for(bytes: usize, cache_aligned: bool) -> u8 {
        let shortest = if cache_aligned { 2 } else { 1 };
        if bytes > PAGE - FRONTS[shortest] { 3 } else { shortest as u8 }
    }

    /// Bytes in front of the block.
    pub(crate) fn front(self) -> usize {
        FRONTS[usize::from(self.front & 3)]
    }

    /// Bytes from the start of a block of `bytes` to the end of its guard.
    fn signed(self, bytes: usize) -> Option<usize> {
        if !self.tail {
            return Some(bytes);
        }
        Some(bytes.checked_add(GRANULE - 1)? & !(GRANULE - 1)).and_then(|rounded| rounded.checked_add(TAIL))
    }

    /// What the kernel is asked for.
    pub(crate) fn total(self, bytes: usize) -> Option<usize> {
        self.signed(bytes)?.checked_add(self.front())
    }
}

const PATTERN: [u8; 32] = {
    let mut pattern = [0; 32];
    let mut place = 0;
    while place < pattern.len() {
        // Neither text nor a small number nor all ones.
        pattern[place] = 0xB0 | (place as u8 & 0xF);
        place += 1;
    }
    pattern
};

/// The guard byte of an address.
fn expected(address: usize) -> u8 {
    PATTERN[address & 0xF]
}

/// The guard bytes of sixteen addresses, as they lie in memory.
#[inline]
fn expected_word(address: usize) -> u128 {
    let start = address & 0xF;
    // SAFETY: `start` is at most 15, and the pattern is as long as 15 and 16 at least.
    unsafe { PATTERN.as_ptr().add(start).cast::<u128>().read_unaligned() }
}

const POISON: u8 = 0xDF;

/// Bytes that are not what they were left as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// How far the first of them lies from the block's start.
    pub(crate) first: isize,
    /// How far the one after the last of them lies from the block's start.
    pub(crate) end: isize,
    /// What was found from the first on, and what should have been there.
    pub(crate) found: [u8; Damage::SHOWN],
    pub(crate) expected: [u8; Damage::SHOWN],
}

impl Damage {
    /// So many bytes of it are shown at most.
    pub(crate) const SHOWN: usize = 16;

    pub(crate) fn bytes(&self) -> usize {
        self.end.wrapping_sub(self.first).unsigned_abs()
    }

    pub(crate) fn shown(&self) -> usize {
        self.bytes().min(Self::SHOWN)
    }
}

/// What is wrong with the guards of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wounds {
    pub(crate) behind: Option<Damage>,
    pub(crate) before: Option<Damage>,
}

impl Wounds {
    pub(crate) const NONE: Self = Self { behind: None, before: None };

    pub(crate) fn any(&self) -> bool {
        self.behind.is_some() || self.before.is_some()
    }
}

/// A block in memory: where it begins, how long the driver wanted it, and how it is guarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    pub(crate) address: usize,
    pub(crate) bytes: usize,
    pub(crate) layout: Layout,
}

impl Body {
    /// Where the kernel's block begins.
    pub(crate) fn base(&self) -> usize {
        self.address.wrapping_sub(self.layout.front())
    }

    /// Where the guard behind the block ends. That there is such a number was seen when the layout was chosen.
    #[inline]
    fn end(&self) -> usize {
        let end = self.address.wrapping_add(self.bytes);
        if !self.layout.tail {
            return end;
        }
        self.address.wrapping_add((self.bytes.wrapping_add(GRANULE - 1) & !(GRANULE - 1)).wrapping_add(TAIL))
    }

    /// Addresses in all pages that guards are in.
    pub(crate) fn edges(&self) -> [usize; 3] {
        [self.base(), self.address.wrapping_add(self.bytes), self.end().wrapping_sub(1)]
    }

    /// Whether the guard behind the block is as it was signed.
    ///
    /// # Safety
    ///
    /// As for [`is_intact`](Self::is_intact).
    pub(crate) unsafe fn is_tail_signed(&self) -> bool {
        // SAFETY: the caller's block is there; the range is within it.
        self.layout.tail && unsafe { is_short_signed(self.address.wrapping_add(self.bytes), self.end()) }
    }

    /// Whether something of the guard behind the block is left: more than chance leaves.
    ///
    /// # Safety
    ///
    /// As for [`is_intact`](Self::is_intact).
    #[cold]
    pub(crate) unsafe fn is_signed_in_part(&self) -> bool {
        const MORE_THAN_CHANCE: usize = 4;
        let tail = self.address.wrapping_add(self.bytes)..self.end();
        // SAFETY: the caller's block is there; the byte is within it.
        let is_signed = |address: &usize| unsafe { pointer(*address).read_volatile() } == expected(*address);
        tail.filter(is_signed).count() >= MORE_THAN_CHANCE
    }

    /// Writes the guards.
    ///
    /// # Safety
    ///
    /// The kernel's block is ours or the caller's alone, and as long as the layout says; it may be touched at this
    /// IRQL.
    #[inline]
    pub(crate) unsafe fn sign(&self) {
        if self.layout.tail {
            // SAFETY: the tail is within the kernel's block.
            unsafe { sign_short(self.address.wrapping_add(self.bytes), self.end()) };
        }
        if self.layout.front() > 0 {
            // SAFETY: so is the front.
            unsafe { sign(self.base(), self.address) };
        }
    }

    /// Takes the signature in front back: what the kernel zeroed is zero again.
    ///
    /// # Safety
    ///
    /// As for [`sign`](Self::sign).
    pub(crate) unsafe fn clear_front(&self) {
        // SAFETY: the front is within the kernel's block.
        unsafe { pointer(self.base()).write_bytes(0, self.layout.front()) };
    }

    /// Whether the guards are as they were signed.
    ///
    /// # Safety
    ///
    /// The kernel's block is there, as long as the layout says, and may be touched at this IRQL.
    #[inline]
    pub(crate) unsafe fn is_intact(&self) -> bool {
        let tail = self.address.wrapping_add(self.bytes);
        // SAFETY: the caller's block is there; both ranges are within it.
        (!self.layout.tail || unsafe { is_short_signed(tail, self.end()) })
            // SAFETY: as above.
            && (self.layout.front() == 0 || unsafe { is_signed(self.base(), self.address) })
    }

    /// What is wrong with the guards.
    ///
    /// # Safety
    ///
    /// As for [`is_intact`](Self::is_intact).
    #[inline(never)]
    pub(crate) unsafe fn wounds(&self) -> Wounds {
        // SAFETY: handed on.
        if unsafe { self.is_intact() } {
            return Wounds::NONE;
        }
        let tail = self.address.wrapping_add(self.bytes);
        let end = if self.layout.tail { self.end() } else { tail };
        Wounds {
            // SAFETY: the caller's block is there; both ranges are within it.
            behind: unsafe { self.damage(tail, end, expected) },
            // SAFETY: as above.
            before: unsafe { self.damage(self.base(), self.address, expected) },
        }
    }

    /// Fills the block with poison, and signs the guards anew.
    ///
    /// # Safety
    ///
    /// As for [`sign`](Self::sign).
    pub(crate) unsafe fn poison(&self) {
        // SAFETY: the block is within the kernel's.
        unsafe { pointer(self.address).write_bytes(POISON, self.bytes) };
        // SAFETY: handed on.
        unsafe { self.sign() };
    }

    /// What was written to the block or its guards since it was poisoned.
    ///
    /// # Safety
    ///
    /// As for [`is_intact`](Self::is_intact).
    pub(crate) unsafe fn inspect_poison(&self) -> Option<Damage> {
        // SAFETY: the block is there, and the range is the block.
        if unsafe { self.is_intact() && is_poisoned(self.address, self.bytes) } {
            return None;
        }
        // SAFETY: as above.
        let Wounds { behind, before } = unsafe { self.wounds() };
        let end = self.address.wrapping_add(self.bytes);
        // SAFETY: as above.
        before.or(unsafe { self.damage(self.address, end, |_| POISON) }).or(behind)
    }

    /// The damage between two addresses.
    ///
    /// # Safety
    ///
    /// There is memory between them, which may be touched at this IRQL.
    #[cold]
    unsafe fn damage(&self, from: usize, to: usize, expected: impl Fn(usize) -> u8) -> Option<Damage> {
        // SAFETY: the caller's memory reaches so far; somebody may be writing to it, whose bug this is.
        let found = |address: usize| unsafe { pointer(address).read_volatile() };
        let wrong = |address: &usize| found(*address) != expected(*address);
        let first = (from..to).find(wrong)?;
        let end = (first..to).rev().find(wrong)?.wrapping_add(1);
        let mut damage = Damage {
            first: first.wrapping_sub(self.address) as isize,
            end: end.wrapping_sub(self.address) as isize,
            found: [0; Damage::SHOWN],
            expected: [0; Damage::SHOWN],
        };
        for (place, address) in (first..end).enumerate().take(Damage::SHOWN) {
            damage.found[place & 0xF] = found(address);
            damage.expected[place & 0xF] = expected(address);
        }
        Some(damage)
    }
}

/// The kernel's memory is reached by the address that the driver holds.
fn pointer(address: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(address)
}

const WORD: usize = size_of::<u128>();

/// Signs sixteen bytes.
///
/// # Safety
///
/// They are writable memory.
#[inline]
unsafe fn sign_word(word: usize) {
    // SAFETY: the caller's promise.
    unsafe { pointer(word).cast::<u128>().write_unaligned(expected_word(word)) };
}

/// What is not as it was signed, of sixteen bytes.
///
/// # Safety
///
/// They are readable memory.
#[inline]
unsafe fn wrong_in(word: usize) -> u128 {
    // SAFETY: the caller's promise.
    unsafe { pointer(word).cast::<u128>().read_unaligned() ^ expected_word(word) }
}

/// Signs 16 to 32 bytes by two words, which may overlap: each byte is told by its address alone.
///
/// # Safety
///
/// `from..to` is writable memory, so long.
#[inline]
unsafe fn sign_short(from: usize, to: usize) {
    // SAFETY: both words lie within the range.
    unsafe {
        sign_word(from);
        sign_word(to.wrapping_sub(WORD));
    }
}

/// # Safety
///
/// `from..to` is writable memory, a multiple of 16 bytes.
unsafe fn sign(from: usize, to: usize) {
    for word in (from..to).step_by(WORD) {
        // SAFETY: the word lies within the range.
        unsafe { sign_word(word) };
    }
}

/// # Safety
///
/// `from..to` is readable memory, of 16 to 32 bytes.
#[inline]
unsafe fn is_short_signed(from: usize, to: usize) -> bool {
    // SAFETY: both words lie within the range.
    unsafe { wrong_in(from) | wrong_in(to.wrapping_sub(WORD)) == 0 }
}

/// # Safety
///
/// `from..to` is readable memory, a multiple of 16 bytes.
unsafe fn is_signed(from: usize, to: usize) -> bool {
    // SAFETY: the word lies within the range.
    (from..to).step_by(WORD).all(|word| unsafe { wrong_in(word) == 0 })
}

/// # Safety
///
/// `bytes` bytes from `address` are readable memory.
unsafe fn is_poisoned(address: usize, bytes: usize) -> bool {
    const POISONED: u64 = u64::from_ne_bytes([POISON; 8]);
    /// As long as a compiler needs to use the processor's wide registers.
    type Line = [u64; 8];
    if bytes < size_of::<Line>() {
        // SAFETY: the byte lies within the block.
        return (0..bytes).all(|place| unsafe { pointer(address.wrapping_add(place)).read() } == POISON);
    }
    let mut wrong = Line::default();
    let mut look = |place: usize| {
        // SAFETY: the line lies within the block.
        let line = unsafe { pointer(address.wrapping_add(place)).cast::<Line>().read_unaligned() };
        for (wrong, word) in wrong.iter_mut().zip(line) {
            *wrong |= word ^ POISONED;
        }
    };
    // The last line may overlap the one before: all bytes are alike.
    let last = bytes - size_of::<Line>();
    let mut place = 0;
    while place < last {
        look(place);
        place += size_of::<Line>();
    }
    look(last);
    wrong == [0; 8]
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;

    use super::*;

    const FUNCTION: Function = Function::ExAllocatePool2;
    const ALIGNED: u64 = 0x48;

    #[repr(C, align(4096))]
    struct Memory([u8; 4 * PAGE]);

    fn body(memory: &mut Memory, guard: Guard, bytes: usize, pool: u64) -> Body {
        let layout = Layout::of(guard, bytes, FUNCTION, pool).unwrap();
        let base = ptr::from_mut(memory).expose_provenance();
        Body { address: base + layout.front(), bytes, layout }
    }

    #[test]
    fn a_block_keeps_its_alignment_and_its_page() {
        for bytes in 0..2 * PAGE {
            for (pool, alignment) in [(0x40, 16), (ALIGNED, 64)] {
                for guard in Guard::ALL {
                    let layout = Layout::of(guard, bytes, FUNCTION, pool).unwrap();
                    let total = layout.total(bytes).unwrap();
                    // A kernel's block of a page or more begins on a page, any other lies within one.
                    let bases = [0, PAGE - total.min(PAGE).next_multiple_of(alignment)];
                    for base in bases.into_iter().filter(|base| *base == 0 || total < PAGE) {
                        let start = base + layout.front();
                        assert_eq!(start % alignment, 0, "{bytes} {layout:?}");
                        assert!(bytes < PAGE || start % PAGE == 0, "{bytes} {layout:?}");
                        let last = start + bytes.max(1) - 1;
                        assert!(bytes >= PAGE || start / PAGE == last / PAGE, "{bytes} {layout:?}");
                    }
                    assert_eq!(guard != Guard::None, total >= bytes + 16, "{bytes} {layout:?}");
                }
            }
        }
    }

    #[test]
    fn a_size_never_wraps() {
        for bytes in usize::MAX - PAGE - 64..=usize::MAX {
            for guard in [Guard::Tail, Guard::Full] {
                if let Some(layout) = Layout::of(guard, bytes, FUNCTION, 0x40) {
                    assert!(layout.total(bytes).unwrap() > bytes);
                }
            }
            assert_eq!(Layout::of(Guard::None, bytes, FUNCTION, 0x40), Some(Layout::BARE));
        }
        assert_eq!(Layout::of(Guard::Tail, usize::MAX, FUNCTION, 0x40), None);
    }

    #[test]
    fn any_byte_beyond_either_end_is_seen_and_none_within() {
        let mut memory = Box::new(Memory([0; 4 * PAGE]));
        for bytes in [0, 1, 15, 16, 17, 61, 64, 100, 4080, 4096, 5000] {
            for guard in [Guard::Tail, Guard::Full] {
                memory.0.fill(0);
                let body = body(&mut memory, guard, bytes, 0x40);
                // SAFETY: the memory is this test's, and longer than the longest body.
                unsafe {
                    body.sign();
                    pointer(body.address).write_bytes(0x11, bytes);
                    assert!(body.is_intact() && body.wounds() == Wounds::NONE);
                    for address in (body.base()..body.address).chain(body.address + bytes..body.end()) {
                        let before = pointer(address).read();
                        pointer(address).write(before ^ 1);
                        assert!(!body.is_intact());
                        let Wounds { behind, before: front } = body.wounds();
                        assert_eq!(behind.is_some(), address > body.address || bytes == 0 && front.is_none());
                        let damage = behind.or(front).expect("a changed byte is seen");
                        let place = address.wrapping_sub(body.address) as isize;
                        assert_eq!((damage.first, damage.end, damage.shown()), (place, place + 1, 1));
                        assert_eq!((damage.found[0], damage.expected[0]), (before ^ 1, before));
                        pointer(address).write(before);
                    }
                    assert!(body.is_intact());
                }
                let end = body.end() - memory.0.as_ptr().addr();
                assert!(memory.0[end..].iter().all(|byte| *byte == 0), "nothing is written beyond the guard");
            }
        }
    }

    #[test]
    fn any_byte_written_to_poison_is_seen() {
        let mut memory = Box::new(Memory([0; 4 * PAGE]));
        for bytes in [0, 1, 7, 8, 9, 61, 64] {
            let body = body(&mut memory, Guard::Full, bytes, 0x40);
            // SAFETY: the memory is this test's, and longer than the longest body.
            unsafe {
                body.poison();
                assert_eq!(body.inspect_poison(), None);
                for address in body.base()..body.end() {
                    let before = pointer(address).read();
                    pointer(address).write(!before);
                    let place = address.wrapping_sub(body.address) as isize;
                    assert_eq!(body.inspect_poison().map(|damage| damage.first), Some(place));
                    pointer(address).write(before);
                }
            }
        }
    }
}
