//! Lookaside lists: what they keep, count and give back, and how deep they become.

mod common;

use std::{
    mem::{MaybeUninit, offset_of},
    ptr::null_mut,
    sync::atomic::{AtomicU32, Ordering},
};

use common::{DISPATCH, TAG, at, bad_pool_caller, kernel};
use memtrack_sim::{_POOL_TYPE::*, ntddk::*, *};

/// A list's figures, in the order in which they lie in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    allocates: u32,
    allocate_misses: u32,
    frees: u32,
    free_misses: u32,
}

/// The three kinds of list as one, so that a test can try a rule with each.
///
/// A list lives in a box, whose memory stays: what the kernel was told must stay where it is.
#[derive(Clone, Copy, Debug)]
enum List {
    NPaged(PNPAGED_LOOKASIDE_LIST),
    Paged(PPAGED_LOOKASIDE_LIST),
    Ex(PLOOKASIDE_LIST_EX),
}

fn boxed<T: Default>() -> *mut T {
    Box::leak(Box::default())
}

impl List {
    /// Memory for one list of each kind.
    fn blanks() -> [Self; 3] {
        [Self::NPaged(boxed()), Self::Paged(boxed()), Self::Ex(boxed())]
    }

    /// One list of each kind, with the pool's functions.
    fn each(bytes: u64) -> [Self; 3] {
        let lists = Self::blanks();
        lists.iter().for_each(|list| list.initialize(0, bytes));
        lists
    }

    fn initialize(self, flags: u32, bytes: u64) {
        match self {
            Self::NPaged(list) => {
                kernel!(ExInitializeNPagedLookasideList(list, None, None, flags, bytes, TAG, 0));
            }
            Self::Paged(list) => {
                kernel!(ExInitializePagedLookasideList(list, None, None, flags, bytes, TAG, 0));
            }
            Self::Ex(list) => {
                let pool = NonPagedPoolNx | flags as POOL_TYPE;
                let status = kernel!(ExInitializeLookasideListEx(list, None, None, pool, 0, bytes, TAG, 0));
                assert_eq!(status, STATUS_SUCCESS);
            }
        }
    }

    fn allocate(self) -> PVOID {
        match self {
            Self::NPaged(list) => kernel!(ExAllocateFromNPagedLookasideList(list)),
            Self::Paged(list) => kernel!(ExAllocateFromPagedLookasideList(list)),
            Self::Ex(list) => kernel!(ExAllocateFromLookasideListEx(list)),
        }
    }

    fn free(self, entry: PVOID) {
        match self {
            Self::NPaged(list) => kernel!(ExFreeToNPagedLookasideList(list, entry)),
            Self::Paged(list) => kernel!(ExFreeToPagedLookasideList(list, entry)),
            Self::Ex(list) => kernel!(ExFreeToLookasideListEx(list, entry)),
        }
    }

    fn delete(self) {
        match self {
            Self::NPaged(list) => kernel!(ExDeleteNPagedLookasideList(list)),
            Self::Paged(list) => kernel!(ExDeletePagedLookasideList(list)),
            Self::Ex(list) => kernel!(ExDeleteLookasideListEx(list)),
        }
    }

    /// The fields, which lie at the same offsets in all kinds.
    fn fields(self) -> PGENERAL_LOOKASIDE_POOL {
        match self {
            Self::NPaged(list) => list.cast(),
            Self::Paged(list) => list.cast(),
            Self::Ex(list) => list.cast(),
        }
    }

    /// A copy of the fields.
    fn read(self) -> GENERAL_LOOKASIDE_POOL {
        // SAFETY: the boxes stay, and every union's bits are those of a number.
        unsafe { self.fields().read() }
    }

    fn figures(self) -> Figures {
        let fields = self.read();
        // SAFETY: every union's bits are those of a number.
        unsafe {
            Figures {
                allocates: fields.TotalAllocates,
                allocate_misses: fields.__bindgen_anon_2.AllocateMisses,
                frees: fields.TotalFrees,
                free_misses: fields.__bindgen_anon_3.FreeMisses,
            }
        }
    }

    /// How many free entries the list keeps.
    fn kept(self) -> u16 {
        kernel!(ExQueryDepthSList(self.fields().cast()))
    }

    fn depth(self) -> u16 {
        self.read().Depth
    }

    fn link(self) -> PLIST_ENTRY {
        self.fields().wrapping_byte_add(offset_of!(GENERAL_LOOKASIDE_POOL, ListEntry)).cast()
    }

    /// Allocates so many entries at once and frees them.
    fn use_at_once(self, entries: usize) {
        let entries: Vec<_> = (0..entries).map(|_| self.allocate()).collect();
        entries.into_iter().for_each(|entry| self.free(entry));
    }

    /// Allocates an entry and frees it, so many times.
    fn use_in_turn(self, times: usize) {
        (0..times).for_each(|_| self.use_at_once(1));
    }

    fn pool(self) -> PoolKind {
        if matches!(self, Self::Paged(_)) { PoolKind::Paged } else { PoolKind::NonPaged }
    }
}

fn corrupt(list: List) -> BugCheck {
    let parameters = [3, list.link().addr() as u64, 0, 0];
    BugCheck { code: KERNEL_SECURITY_CHECK_FAILURE, parameters }
}

#[test]
fn the_types_lie_in_memory_as_in_the_kernel() {
    // Field by field the library itself asserts it.
    assert_eq!((size_of::<GENERAL_LOOKASIDE>(), align_of::<GENERAL_LOOKASIDE>()), (128, 64));
    assert_eq!((size_of::<NPAGED_LOOKASIDE_LIST>(), align_of::<NPAGED_LOOKASIDE_LIST>()), (128, 64));
    assert_eq!((size_of::<PAGED_LOOKASIDE_LIST>(), align_of::<PAGED_LOOKASIDE_LIST>()), (128, 64));
    assert_eq!((size_of::<GENERAL_LOOKASIDE_POOL>(), align_of::<GENERAL_LOOKASIDE_POOL>()), (96, 16));
    assert_eq!((size_of::<LOOKASIDE_LIST_EX>(), align_of::<LOOKASIDE_LIST_EX>()), (96, 16));
    assert_eq!(offset_of!(NPAGED_LOOKASIDE_LIST, L.ListEntry), 64);
    assert_eq!(offset_of!(LOOKASIDE_LIST_EX, L.Future), 88);
}

#[test]
fn a_list_begins_empty() {
    let _machine = Machine::boot();
    for list in List::each(100) {
        let fields = list.read();
        assert_eq!((fields.Depth, fields.MaximumDepth), (4, 256));
        assert_eq!((fields.Tag, fields.Size), (TAG, 100));
        assert_eq!(list.figures(), Figures::default());
        assert_eq!(list.kept(), 0);
        assert_ne!(fields.ListEntry.Flink, null_mut());
        // SAFETY: both are functions' addresses.
        unsafe {
            assert!(fields.__bindgen_anon_4.Allocate.is_some() && fields.__bindgen_anon_5.Free.is_some());
        }
    }
}

#[test]
fn the_type_is_the_pool_and_the_flags() {
    let _machine = Machine::boot();
    let [npaged, paged, ex] = List::blanks();
    npaged.initialize(POOL_NX_ALLOCATION | POOL_RAISE_IF_ALLOCATION_FAILURE, 32);
    assert_eq!(npaged.read().Type, NonPagedPoolNx | 16);
    paged.initialize(POOL_RAISE_IF_ALLOCATION_FAILURE, 32);
    assert_eq!(paged.read().Type, PagedPool | 16);
    let List::Ex(list) = ex else { unreachable!() };
    let initialize = |pool, flags| {
        let status = kernel!(ExInitializeLookasideListEx(list, None, None, pool, flags, 32, TAG, 0));
        (status, ex.read().Type)
    };
    assert_eq!(initialize(PagedPool, 0), (STATUS_SUCCESS, PagedPool));
    assert_eq!(
        initialize(NonPagedPoolNx, EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL),
        (STATUS_SUCCESS, 512 | 16)
    );
    assert_eq!(initialize(PagedPool, EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE), (STATUS_SUCCESS, 1 | 8));
    for flags in [3, 4, 5, u32::MAX] {
        assert_eq!(initialize(NonPagedPool, flags).0, STATUS_INVALID_PARAMETER_5, "{flags}");
    }
    assert_eq!(initialize(NonPagedPoolMustSucceed, 0).0, STATUS_INVALID_PARAMETER_4);
    assert_eq!(ex.read().Type, 1 | 8, "what fails leaves the list alone");
}

#[test]
fn a_size_has_room_for_a_link() {
    let _machine = Machine::boot();
    for (bytes, size) in [(0, 8), (1, 8), (7, 8), (8, 8), (9, 9), (5000, 5000)] {
        for list in List::each(bytes) {
            assert_eq!(list.read().Size, size);
            list.delete();
        }
    }
}

#[test]
fn entries_come_from_the_lists_pool() {
    let machine = Machine::boot();
    for list in List::each(100) {
        let before = machine.pool(list.pool()).bytes;
        let entry = list.allocate();
        assert_eq!(machine.pool(list.pool()).bytes, before + 100);
        kernel!(ExFreePoolWithTag(entry, TAG));
    }
}

#[test]
fn the_entry_freed_last_is_allocated_first() {
    let machine = Machine::boot();
    for list in List::each(100) {
        let entries = [(); 3].map(|()| list.allocate());
        let blocks = machine.pool(list.pool()).total_blocks;
        entries.into_iter().for_each(|entry| list.free(entry));
        assert_eq!(list.kept(), 3);
        let mut again = [(); 3].map(|()| list.allocate());
        again.reverse();
        assert_eq!(again, entries);
        assert_eq!(machine.pool(list.pool()).total_blocks, blocks, "the pool was not asked");
        let expected = Figures { allocates: 6, allocate_misses: 3, frees: 3, free_misses: 0 };
        assert_eq!(list.figures(), expected);
    }
}

#[test]
fn a_list_keeps_as_many_as_its_depth() {
    let machine = Machine::boot();
    for list in List::each(100) {
        let before = machine.pool(list.pool()).blocks;
        list.use_at_once(10);
        assert_eq!((list.kept(), machine.pool(list.pool()).blocks), (4, before + 4));
        let expected = Figures { allocates: 10, allocate_misses: 10, frees: 10, free_misses: 6 };
        assert_eq!(list.figures(), expected);
        list.use_at_once(10);
        let expected = Figures { allocates: 20, allocate_misses: 16, frees: 20, free_misses: 12 };
        assert_eq!(list.figures(), expected);
        list.delete();
    }
}

#[test]
fn deleting_gives_all_free_entries_back() {
    let machine = Machine::boot();
    for list in List::each(100) {
        list.use_at_once(10);
        list.delete();
        assert_eq!(machine.pool(list.pool()).blocks, 0);
        assert_eq!(list.kept(), 0);
        assert_eq!(list.figures().frees, 10, "deleting is no free");
    }
}

#[test]
fn an_entry_that_is_allocated_outlives_its_list() {
    let machine = Machine::boot();
    for list in List::each(100) {
        let entry = list.allocate();
        list.delete();
        assert_eq!(machine.pool(list.pool()).blocks, 1);
        kernel!(ExFreePoolWithTag(entry, TAG));
    }
}

#[test]
fn flushing_empties_a_list_that_stays() {
    let machine = Machine::boot();
    let [_, _, ex] = List::each(100);
    let List::Ex(list) = ex else { unreachable!() };
    ex.use_at_once(3);
    kernel!(ExFlushLookasideListEx(list));
    assert_eq!((ex.kept(), machine.pool(PoolKind::NonPaged).blocks), (0, 0));
    kernel!(ExFlushLookasideListEx(list));
    ex.use_at_once(3);
    assert_eq!(ex.kept(), 3);
    assert_eq!(ex.figures().allocates, 6);
    ex.delete();
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

#[test]
fn a_list_without_memory_gives_null() {
    let machine = Machine::boot();
    for list in List::each(100) {
        list.use_at_once(1);
        machine.set_pool_limit(list.pool(), Some(machine.pool(list.pool()).bytes));
        let kept = list.allocate();
        assert!(!kept.is_null(), "what is kept needs no memory");
        assert!(list.allocate().is_null());
        let expected = Figures { allocates: 3, allocate_misses: 2, frees: 1, free_misses: 0 };
        assert_eq!(list.figures(), expected);
        list.free(kept);
        machine.set_pool_limit(list.pool(), None);
    }
}

#[test]
fn a_list_may_raise_where_there_is_no_memory() {
    let machine = Machine::boot();
    machine.set_pool_limit(PoolKind::NonPaged, Some(0));
    machine.set_pool_limit(PoolKind::Paged, Some(0));
    for list in List::blanks() {
        list.initialize(POOL_RAISE_IF_ALLOCATION_FAILURE, 100);
        let raised = catch_raise(|| list.allocate()).unwrap_err();
        assert_eq!(raised.status, STATUS_INSUFFICIENT_RESOURCES);
        let expected = Figures { allocates: 1, allocate_misses: 1, ..Figures::default() };
        assert_eq!(list.figures(), expected);
    }
    let list = boxed();
    let flags = EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL;
    kernel!(ExInitializeLookasideListEx(list, None, None, PagedPool, flags, 100, TAG, 0));
    assert!(catch_raise(|| kernel!(ExAllocateFromLookasideListEx(list))).is_err());
}

#[test]
fn the_pools_own_bugchecks_can_be_caught() {
    let _machine = Machine::boot();
    for list in List::each(100) {
        let entries = [(); 5].map(|()| list.allocate());
        list.free(entries[0]);
        list.free(entries[0]);
        let stop = catch_bugcheck(|| list.delete());
        let twice = bad_pool_caller([0x07, 0, TAG.into(), common::address(entries[0])]);
        assert_eq!(stop, Err(twice));
    }
}

static MADE: AtomicU32 = AtomicU32::new(0);
static FREED: AtomicU32 = AtomicU32::new(0);

fn made_and_freed() -> [u32; 2] {
    [MADE.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed)]
}

unsafe extern "C" fn make(pool: POOL_TYPE, bytes: SIZE_T, tag: ULONG) -> PVOID {
    assert_eq!((pool & PagedPool, bytes, tag), (pool, 40, TAG));
    MADE.fetch_add(1, Ordering::Relaxed);
    kernel!(ExAllocatePoolWithTag(pool, bytes, tag))
}

unsafe extern "C" fn unmake(entry: PVOID) {
    FREED.fetch_add(1, Ordering::Relaxed);
    kernel!(ExFreePoolWithTag(entry, TAG));
}

#[test]
fn callbacks_are_called_for_what_the_list_does_not_keep() {
    let machine = Machine::boot();
    let (npaged, paged) = (boxed(), boxed());
    kernel!(ExInitializeNPagedLookasideList(npaged, Some(make), Some(unmake), 0, 40, TAG, 0));
    kernel!(ExInitializePagedLookasideList(paged, Some(make), Some(unmake), 0, 40, TAG, 0));
    for list in [List::NPaged(npaged), List::Paged(paged)] {
        let [made, freed] = made_and_freed();
        list.use_at_once(6);
        assert_eq!(made_and_freed(), [made + 6, freed + 2]);
        list.use_at_once(4);
        assert_eq!(made_and_freed(), [made + 6, freed + 2]);
        list.delete();
        assert_eq!(made_and_freed(), [made + 6, freed + 6]);
        assert_eq!(machine.pool(list.pool()).blocks, 0);
    }
}

/// A list with what its owner keeps beside it, as the documentation has it.
#[repr(C)]
#[derive(Default)]
struct Owner {
    list: LOOKASIDE_LIST_EX,
    pool: POOL_TYPE,
    made: u32,
    freed: u32,
}

unsafe extern "C" fn make_ex(pool: POOL_TYPE, bytes: SIZE_T, tag: ULONG, list: PLOOKASIDE_LIST_EX) -> PVOID {
    // SAFETY: the list is an owner's first field.
    let owner = unsafe { &mut *list.cast::<Owner>() };
    owner.pool = pool;
    owner.made += 1;
    kernel!(ExAllocatePoolWithQuotaTag(pool, bytes, tag))
}

unsafe extern "C" fn unmake_ex(entry: PVOID, list: PLOOKASIDE_LIST_EX) {
    // SAFETY: the list is an owner's first field.
    let owner = unsafe { &mut *list.cast::<Owner>() };
    owner.freed += 1;
    kernel!(ExFreePoolWithTag(entry, TAG));
}

#[test]
fn callbacks_of_an_extended_list_get_the_list() {
    let machine = Machine::boot();
    let owner: *mut Owner = boxed();
    let list = owner.cast();
    let flags = EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE;
    let status = kernel!(ExInitializeLookasideListEx(
        list,
        Some(make_ex),
        Some(unmake_ex),
        PagedPool,
        flags,
        40,
        TAG,
        0
    ));
    assert_eq!(status, STATUS_SUCCESS);
    List::Ex(list).use_at_once(6);
    machine.set_pool_limit(PoolKind::Paged, Some(4 * 40));
    List::Ex(list).use_in_turn(1);
    let kept = [(); 4].map(|()| List::Ex(list).allocate());
    assert!(List::Ex(list).allocate().is_null(), "the quota's function does not raise");
    kept.into_iter().for_each(|entry| List::Ex(list).free(entry));
    List::Ex(list).delete();
    // SAFETY: nobody else uses the owner.
    let owner = unsafe { owner.read() };
    assert_eq!((owner.pool, owner.made, owner.freed), (PagedPool | 8, 7, 6));
    let expected = Figures { allocates: 12, allocate_misses: 7, frees: 11, free_misses: 2 };
    assert_eq!(List::Ex(list).figures(), expected);
    assert_eq!(machine.pool(PoolKind::Paged).blocks, 0);
}

unsafe extern "C" fn refuse(_pool: POOL_TYPE, _bytes: SIZE_T, _tag: ULONG) -> PVOID {
    null_mut()
}

#[test]
fn a_callback_may_refuse() {
    let _machine = Machine::boot();
    let npaged = boxed();
    kernel!(ExInitializeNPagedLookasideList(npaged, Some(refuse), None, 0, 40, TAG, 0));
    let list = List::NPaged(npaged);
    assert!(list.allocate().is_null());
    assert!(list.allocate().is_null());
    let expected = Figures { allocates: 2, allocate_misses: 2, ..Figures::default() };
    assert_eq!(list.figures(), expected);
    list.delete();
}

#[test]
fn the_functions_that_stand_for_the_pool_can_be_called() {
    let machine = Machine::boot();
    let [npaged, _, ex] = List::each(100);
    // SAFETY: each list's kind tells which members stand in it.
    unsafe {
        let fields = npaged.read();
        let entry = fields.__bindgen_anon_4.Allocate.unwrap()(NonPagedPool, 100, TAG);
        assert_eq!(machine.pool(PoolKind::NonPaged).bytes, 100);
        fields.__bindgen_anon_5.Free.unwrap()(entry);
        let List::Ex(list) = ex else { unreachable!() };
        let fields = ex.read();
        let entry = fields.__bindgen_anon_4.AllocateEx.unwrap()(NonPagedPool, 100, TAG, list);
        assert_eq!(machine.pool(PoolKind::NonPaged).bytes, 100);
        fields.__bindgen_anon_5.FreeEx.unwrap()(entry, list);
    }
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

#[test]
fn deleting_twice_stops_the_machine() {
    let machine = Machine::boot();
    for list in List::each(100) {
        list.delete();
        assert_eq!(catch_bugcheck(|| list.delete()), Err(corrupt(list)));
        list.initialize(0, 100);
        list.delete();
    }
    let line = "bugcheck 0x00000139 KERNEL_SECURITY_CHECK_FAILURE (0x3, ";
    assert!(machine.output()[0].starts_with(line), "{:?}", machine.output());
}

#[test]
fn deleting_what_was_never_initialized_stops_the_machine() {
    let _machine = Machine::boot();
    for list in List::blanks() {
        assert_eq!(catch_bugcheck(|| list.delete()), Err(corrupt(list)), "zeros");
    }
    let mut garbage = MaybeUninit::<NPAGED_LOOKASIDE_LIST>::uninit();
    let list = List::NPaged(garbage.as_mut_ptr());
    // SAFETY: the memory is the test's own, and as long.
    unsafe { garbage.as_mut_ptr().write_bytes(FRESH_BYTE, 1) };
    let stop = catch_bugcheck(|| list.delete());
    // The type is garbage as well, but says «paged», which is allowed here.
    assert_eq!(stop, Err(corrupt(list)));
}

#[test]
fn using_what_was_never_initialized_stops_the_machine() {
    let _machine = Machine::boot();
    let status = i64::from(STATUS_ACCESS_VIOLATION) as u64;
    let no_callback = BugCheck { code: KMODE_EXCEPTION_NOT_HANDLED, parameters: [status, 0, 8, 0] };
    for list in List::blanks() {
        assert_eq!(catch_bugcheck(|| list.allocate()), Err(no_callback));
        let mut entry = SLIST_ENTRY::default();
        let entry = (&raw mut entry).cast();
        assert_eq!(catch_bugcheck(|| list.free(entry)), Err(no_callback), "a depth of zero keeps nothing");
    }
    let null = List::NPaged(null_mut());
    let no_list = BugCheck { code: KMODE_EXCEPTION_NOT_HANDLED, parameters: [status, 0, 1, 0] };
    assert_eq!(catch_bugcheck(|| null.initialize(0, 10)), Err(no_list));
    assert_eq!(catch_bugcheck(|| null.allocate()), Err(no_list));
    assert_eq!(catch_bugcheck(|| null.delete()), Err(no_list));
}

#[test]
fn links_that_were_written_over_stop_the_machine() {
    let machine = Machine::boot();
    let wild: PLIST_ENTRY = std::ptr::without_provenance_mut(0xFFFF_F800_0000_0010);
    for list in List::each(100) {
        list.use_at_once(2);
        let LIST_ENTRY { Flink, Blink } = list.read().ListEntry;
        for broken in [
            LIST_ENTRY { Flink: wild, Blink },
            LIST_ENTRY { Flink, Blink: wild },
            LIST_ENTRY { Flink: null_mut(), Blink: null_mut() },
            LIST_ENTRY { Flink: list.link(), Blink },
        ] {
            // SAFETY: the list is the test's own; the kernel compares the links before it follows them.
            unsafe { *list.link() = broken };
            assert_eq!(catch_bugcheck(|| list.delete()), Err(corrupt(list)));
            machine.pass_tuning_period();
        }
        // SAFETY: as above.
        unsafe { *list.link() = LIST_ENTRY { Flink, Blink } };
        list.delete();
        assert_eq!(machine.pool(list.pool()).blocks, 0);
    }
}

/// Takes an entry out of the ring that it is in, as the kernel's `RemoveEntryList` does.
///
/// # Safety
///
/// It is in one.
unsafe fn remove_entry_list(entry: PLIST_ENTRY) {
    // SAFETY: the caller's promise.
    unsafe {
        let LIST_ENTRY { Flink, Blink } = *entry;
        assert_eq!(((*Flink).Blink, (*Blink).Flink), (entry, entry));
        (*Blink).Flink = Flink;
        (*Flink).Blink = Blink;
    }
}

#[test]
fn a_list_that_is_linked_to_itself_is_deleted_harmlessly() {
    let machine = Machine::boot();
    for list in List::each(100) {
        list.use_at_once(4);
        // SAFETY: the list is in a ring, and then in one of its own.
        unsafe {
            remove_entry_list(list.link());
            *list.link() = LIST_ENTRY { Flink: list.link(), Blink: list.link() };
        }
        list.use_at_once(40);
        machine.pass_tuning_period();
        assert_eq!(list.depth(), 4, "it is not tuned");
        list.delete();
        assert_eq!(machine.pool(list.pool()).blocks, 0);
        list.delete();
    }
    // One that the kernel never saw.
    let [list, ..] = List::blanks();
    // SAFETY: the list is the test's own.
    unsafe { *list.link() = LIST_ENTRY { Flink: list.link(), Blink: list.link() } };
    list.delete();
}

#[test]
fn a_lists_link_is_in_a_ring_with_the_kernel() {
    let _machine = Machine::boot();
    for list in List::each(100) {
        let LIST_ENTRY { Flink, Blink } = list.read().ListEntry;
        assert_ne!(Flink, list.link());
        // SAFETY: the list is linked.
        unsafe { assert_eq!(((*Flink).Blink, (*Blink).Flink), (list.link(), list.link())) };
    }
}

#[test]
fn a_list_of_another_machine_is_unknown() {
    let [npaged, ..] = List::blanks();
    {
        let _machine = Machine::boot();
        npaged.initialize(0, 100);
    }
    let machine = Machine::boot();
    machine.pass_tuning_period();
    assert_eq!(catch_bugcheck(|| npaged.delete()), Err(corrupt(npaged)));
}

#[test]
fn each_pool_has_its_level() {
    let _machine = Machine::boot();
    let [npaged, paged, ex] = List::each(100);
    let paged_ex = List::Ex(boxed());
    let List::Ex(list) = paged_ex else { unreachable!() };
    at(DISPATCH, || {
        // Where a list of paged entries is made does not matter: its memory is nonpaged.
        kernel!(ExInitializeLookasideListEx(list, None, None, PagedPool, 0, 100, TAG, 0));
        for list in [npaged, ex] {
            list.initialize(0, 100);
            list.use_at_once(6);
            list.delete();
        }
        let paging = BugCheck { code: IRQL_NOT_LESS_OR_EQUAL, parameters: [0, 2, 8, 0] };
        for list in [paged, paged_ex] {
            assert_eq!(catch_bugcheck(|| list.allocate()), Err(paging));
            assert_eq!(catch_bugcheck(|| list.free(null_mut())), Err(paging));
            assert_eq!(catch_bugcheck(|| list.delete()), Err(paging));
            assert_eq!(list.figures(), Figures::default());
        }
        assert_eq!(catch_bugcheck(|| paged.initialize(0, 100)), Err(paging));
        assert_eq!(catch_bugcheck(|| kernel!(ExFlushLookasideListEx(list))), Err(paging));
    });
    at(1, || {
        for list in [paged, paged_ex] {
            list.use_at_once(6);
            list.delete();
        }
        paged.initialize(0, 100);
    });
    for list in [npaged, ex] {
        at(3, || {
            let parameters = [list.fields().addr() as u64, 3, 1, 0];
            let too_high = BugCheck { code: IRQL_NOT_LESS_OR_EQUAL, parameters };
            assert_eq!(catch_bugcheck(|| list.initialize(0, 100)), Err(too_high));
            assert_eq!(catch_bugcheck(|| list.allocate()), Err(too_high));
            assert_eq!(catch_bugcheck(|| list.free(null_mut())), Err(too_high));
            assert_eq!(catch_bugcheck(|| list.delete()), Err(too_high));
        });
    }
}

#[test]
fn misses_make_a_list_deeper_up_to_its_maximum() {
    let machine = Machine::boot();
    for list in List::each(100) {
        let mut depths = vec![list.depth()];
        for _ in 0..20 {
            list.use_at_once(400);
            machine.pass_tuning_period();
            depths.push(list.depth());
        }
        assert!(depths.is_sorted(), "{depths:?}");
        assert_eq!(depths[..3], [4, 34, 64]);
        assert_eq!(depths.last(), Some(&256));
        let fields = list.read();
        assert_eq!(fields.LastTotalAllocates, fields.TotalAllocates);
        // SAFETY: a number.
        let last = unsafe { fields.__bindgen_anon_6.LastAllocateMisses };
        assert_eq!(last, list.figures().allocate_misses);
        list.delete();
    }
}

#[test]
fn growth_follows_the_share_of_misses() {
    let machine = Machine::boot();
    let grown = |hits: usize, misses: usize| {
        let [list, ..] = List::each(100);
        list.use_at_once(1);
        machine.pass_tuning_period();
        let kept = list.allocate();
        machine.pass_tuning_period();
        list.free(kept);
        list.use_in_turn(hits);
        // One more entry than misses: the list keeps one.
        list.use_at_once(misses + 1);
        machine.pass_tuning_period();
        let depth = list.depth();
        list.delete();
        depth - 4
    };
    assert_eq!(grown(995, 4), 0, "4 of 1,000 is few: the depth is the smallest already");
    assert_eq!(grown(994, 5), 5, "5 of 1,000");
    assert_eq!(grown(899, 100), 5 + 12, "a tenth of 252, halved");
    assert_eq!(grown(799, 200), 30, "a fifth: 5 and 25");
    assert_eq!(grown(0, 24), 30, "24 of 25");
    assert_eq!(grown(0, 23), 0, "24 allocations are too few to tell");
}

#[test]
fn a_list_that_is_deep_enough_becomes_less_deep() {
    let machine = Machine::boot();
    let [list, ..] = List::each(100);
    for _ in 0..3 {
        list.use_at_once(400);
        machine.pass_tuning_period();
    }
    let deep = list.depth();
    assert!(deep > 60);
    list.use_in_turn(1000);
    machine.pass_tuning_period();
    assert_eq!(list.depth(), deep - 1, "no misses");
    list.use_in_turn(24);
    machine.pass_tuning_period();
    assert_eq!(list.depth(), deep - 11, "hardly used");
    for _ in 0..20 {
        machine.pass_tuning_period();
    }
    assert_eq!(list.depth(), 4, "idle");
    let kept = list.kept();
    assert!(kept > 4, "what was kept stays");
    list.use_at_once(1);
    assert_eq!(list.kept(), kept - 1, "and goes as it is used");
    list.use_in_turn(1000);
    machine.pass_tuning_period();
    assert_eq!(list.depth(), 4, "no misses, and no less than 4");
    list.delete();
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

#[test]
fn a_list_in_a_block_that_was_freed_is_forgotten() {
    let machine = Machine::boot();
    let bytes = size_of::<LOOKASIDE_LIST_EX>() as u64;
    let allocate = || kernel!(ExAllocatePool2(POOL_FLAG_NON_PAGED, 16 + bytes, TAG));
    let block = allocate();
    let list = List::Ex(block.wrapping_byte_add(16).cast());
    list.initialize(0, 100);
    list.use_at_once(40);
    machine.pass_tuning_period();
    assert_eq!(list.depth(), 34, "a list in a block is tuned");
    kernel!(ExFreePool(block));
    assert_eq!(allocate(), block);
    common::fill(block, 0x5A, 16 + bytes as usize);
    machine.pass_tuning_period();
    assert_eq!(common::contents(block, 112), [0x5A; 112], "somebody else's now");
    // And it may be a list's again.
    list.initialize(0, 100);
    list.use_at_once(40);
    machine.pass_tuning_period();
    assert_eq!(list.depth(), 34);
    list.delete();
}

#[test]
fn a_list_whose_memory_is_gone_harms_no_other() {
    let _machine = Machine::boot();
    let before = boxed::<NPAGED_LOOKASIDE_LIST>();
    List::NPaged(before).initialize(0, 100);
    let mut gone = Box::new(NPAGED_LOOKASIDE_LIST::default());
    List::NPaged(&raw mut *gone).initialize(0, 100);
    let [after, ..] = List::each(100);
    // As if something else lay there now.
    // SAFETY: the box is the test's own.
    unsafe { (&raw mut *gone).write_bytes(0x5A, 1) };
    List::NPaged(before).delete();
    after.delete();
    let [new, ..] = List::each(100);
    new.delete();
    // SAFETY: as above.
    let bytes = unsafe { (&raw const *gone).cast::<[u8; 128]>().read() };
    assert_eq!(bytes, [0x5A; 128]);
}

/// Whose address threads may share: a list needs no lock round it.
#[derive(Clone, Copy)]
struct Shared(List);

// SAFETY: lists are for any number of threads, which is what the test finds out.
unsafe impl Sync for Shared {}

#[test]
fn threads_share_a_list_and_its_figures_are_exact() {
    const THREADS: u32 = 2;
    const TIMES: u32 = 50_000;
    let machine = Machine::boot();
    for list in List::each(64) {
        let shared = &Shared(list);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let list = shared.0;
                    for round in 0..TIMES {
                        let (one, two) = (list.allocate(), list.allocate());
                        common::fill(one, thread as u8, 64);
                        common::fill(two, round as u8, 64);
                        assert_eq!(common::contents(one, 64), [thread as u8; 64]);
                        list.free(one);
                        list.free(two);
                    }
                });
            }
            for _ in 0..200 {
                machine.pass_tuning_period();
                std::thread::yield_now();
            }
        });
        let figures = list.figures();
        assert_eq!((figures.allocates, figures.frees), (2 * THREADS * TIMES, 2 * THREADS * TIMES));
        let kept = u32::from(list.kept());
        assert_eq!(figures.allocate_misses - figures.free_misses, kept);
        assert_eq!(machine.pool(list.pool()).blocks, kept.into());
        assert!((4..=256).contains(&list.depth()));
        list.delete();
        assert_eq!(machine.pool(list.pool()).blocks, 0);
    }
}
