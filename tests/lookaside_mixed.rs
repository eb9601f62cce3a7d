//! Lookaside lists that annotated code shares with code that is not annotated, lists made of lists, and what only looks like
//! one: correct drivers, which hear nothing and get what they would get without memtrack.
#![deny(warnings, unsafe_op_in_unsafe_fn, unused_unsafe, clippy::all, clippy::pedantic)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::wildcard_imports, clippy::unnecessary_box_returns)]
#![allow(clippy::cast_possible_truncation, non_snake_case)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use memtrack::{Quarantine, Settings};
use memtrack_sim::ntddk as plain;
use memtrack_sim::{Machine, NPAGED_LOOKASIDE_LIST, PVOID, PoolKind};

const TAG: u32 = u32::from_le_bytes(*b"Look");

type Place = *mut NPAGED_LOOKASIDE_LIST;

/// The annotated half of a driver; the other calls the kernel by `plain`.
#[memtrack::instrument]
mod driver {
    use super::{PVOID, Place, TAG};
    use memtrack_sim::ntddk::*;
    use memtrack_sim::{PALLOCATE_FUNCTION, PFREE_FUNCTION};

    pub fn make(list: Place, size: u64, depth: u16) {
        unsafe { ExInitializeNPagedLookasideList(list, None, None, 0, size, TAG, depth) }
    }
    pub fn make_of(list: Place, allocate: PALLOCATE_FUNCTION, free: PFREE_FUNCTION, depth: u16) {
        unsafe { ExInitializeNPagedLookasideList(list, allocate, free, 0, 64, TAG, depth) }
    }
    pub fn take(list: Place) -> PVOID {
        unsafe { ExAllocateFromNPagedLookasideList(list) }
    }
    pub fn give(list: Place, entry: PVOID) {
        unsafe { ExFreeToNPagedLookasideList(list, entry) }
    }
    pub fn delete(list: Place) {
        unsafe { ExDeleteNPagedLookasideList(list) }
    }
    pub fn allocate(bytes: u64) -> PVOID {
        unsafe { ExAllocatePool2(0x40, bytes, TAG) }
    }
    pub fn free(block: PVOID) {
        unsafe { ExFreePool(block) }
    }
}

/// Runs a correct driver with so many lists: no violation, nothing left in the pool, nothing outstanding but for what code
/// that is not annotated has freed.
fn correct<const LISTS: usize>(run: impl FnOnce(&Machine, [Place; LISTS])) {
    let machine = Machine::boot();
    memtrack::configure(Settings::new().quarantines(Quarantine::new(0, 64)));
    let mut lists: Vec<Box<NPAGED_LOOKASIDE_LIST>> = (0..LISTS).map(|_| Box::default()).collect();
    let places: Vec<Place> = lists.iter_mut().map(|list| &raw mut **list).collect();
    run(&machine, places.try_into().unwrap());
    let stats = memtrack::finish("mixed");
    assert_eq!(stats.violations, 0, "{:#?}", machine.output());
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0, "{:#?}", machine.output());
}

#[test]
fn others_may_take_what_was_given() {
    correct(|_, [list]| {
        driver::make(list, 64, 4);
        let entry = driver::take(list);
        driver::give(list, entry);
        let again = unsafe { plain::ExAllocateFromNPagedLookasideList(list) };
        assert_eq!(entry, again);
        driver::give(list, again);
        assert_eq!(unsafe { (*list).L.TotalFrees }, 2);
        driver::delete(list);
    });
}

#[test]
fn others_may_give_what_was_taken() {
    correct(|_, [list, other]| {
        for list in [list, other] {
            driver::make(list, 64, 1);
        }
        let entries = [driver::take(list), driver::take(list)];
        for entry in entries {
            unsafe { plain::ExFreeToNPagedLookasideList(list, entry) };
        }
        // The second one is the pool's again, and the pool gives it to others: as a block, ...
        let block = driver::allocate(64);
        driver::free(block);
        // ... and as an entry of another list, which annotated code gets to free.
        let moved = unsafe { plain::ExAllocateFromNPagedLookasideList(other) };
        driver::give(other, moved);
        assert_eq!(memtrack::check(), 0);
        driver::delete(list);
        driver::delete(other);
    });
}

#[test]
fn a_block_may_become_an_entry() {
    correct(|_, [list]| {
        memtrack::configure(Settings::new().guard(memtrack::Guard::None).quarantines(Quarantine::OFF));
        driver::make(list, 64, 4);
        let block = driver::allocate(64);
        unsafe { plain::ExFreePool(block) };
        let entry = unsafe { plain::ExAllocateFromNPagedLookasideList(list) };
        driver::give(list, entry);
        driver::delete(list);
    });
}

#[test]
fn others_may_delete_and_make_lists() {
    correct(|_, [list]| {
        for round in 0..3 {
            driver::make(list, 1024, 4);
            let entry = driver::take(list);
            driver::give(list, entry);
            unsafe { plain::ExDeleteNPagedLookasideList(list) };
            if round == 1 {
                // Another list at the same place, of shorter entries.
                unsafe { plain::ExInitializeNPagedLookasideList(list, None, None, 0, 32, TAG, 0) };
                let short = driver::take(list);
                driver::give(list, short);
                unsafe { plain::ExDeleteNPagedLookasideList(list) };
            }
        }
    });
}

thread_local! {
    static INNER: Cell<Place> = const { Cell::new(core::ptr::null_mut()) };
}

unsafe extern "C" fn take_inner(_: i32, _: u64, _: u32) -> PVOID {
    driver::take(INNER.get())
}

unsafe extern "C" fn give_inner(entry: PVOID) {
    driver::give(INNER.get(), entry);
}

unsafe extern "C" fn allocate_block(_: i32, bytes: u64, _: u32) -> PVOID {
    driver::allocate(bytes)
}

unsafe extern "C" fn free_block(entry: PVOID) {
    driver::free(entry);
}

#[test]
fn a_list_may_be_made_of_another() {
    correct(|_, [outer, inner]| {
        INNER.set(inner);
        driver::make(inner, 64, 8);
        driver::make_of(outer, Some(take_inner), Some(give_inner), 1);
        let entries = [driver::take(outer), driver::take(outer), driver::take(outer)];
        for entry in entries {
            driver::give(outer, entry);
        }
        driver::delete(outer);
        driver::delete(inner);
    });
}

#[test]
fn callbacks_may_free_what_others_give() {
    correct(|_, [list]| {
        driver::make_of(list, Some(allocate_block), Some(free_block), 1);
        let entries = [driver::take(list), driver::take(list)];
        for entry in entries {
            unsafe { plain::ExFreeToNPagedLookasideList(list, entry) };
        }
        driver::delete(list);
    });
}

#[test]
fn sizes_that_no_list_has_are_the_kernels_affair() {
    correct(|_, [list]| {
        for size in [u64::from(u32::MAX) - 3, 1 << 32 | 16, u64::MAX] {
            driver::make(list, size, 4);
            let entry = driver::take(list);
            if !entry.is_null() {
                driver::give(list, entry);
            }
            driver::delete(list);
        }
    });
}

#[test]
fn what_is_held_serves_a_list_that_is_refused() {
    let machine = Machine::boot();
    let mut list: Box<NPAGED_LOOKASIDE_LIST> = Box::default();
    let list = &raw mut *list;
    driver::make(list, 64, 4);
    let blocks: Vec<_> = (0..50).map(|_| driver::allocate(64)).collect();
    machine.set_pool_limit(PoolKind::NonPaged, Some(machine.pool(PoolKind::NonPaged).bytes));
    blocks.into_iter().for_each(driver::free);
    let entry = driver::take(list);
    assert!(!entry.is_null());
    driver::give(list, entry);
    driver::delete(list);
    assert_eq!(memtrack::finish("refused").violations, 0, "{:#?}", machine.output());
}

/// Functions of the kernel's names over something shorter than a list, and something longer with a list in it.
#[memtrack::instrument]
mod likenesses {
    use super::{PVOID, TAG, plain};
    use memtrack_sim::NPAGED_LOOKASIDE_LIST;

    #[repr(C)]
    pub struct Short {
        pub calls: u64,
        pub size: u64,
    }

    pub mod short {
        use super::Short;

        pub fn ExInitializeNPagedLookasideList(
            list: &mut Short,
            _: usize,
            _: usize,
            _: u32,
            size: u64,
            _: u32,
            _: u16,
        ) {
            list.calls += 1;
            list.size = size;
        }
        pub unsafe fn ExDeleteNPagedLookasideList(list: *mut Short) {
            unsafe { (*list).calls += 1 };
        }
    }

    pub struct Long {
        pub name: [u64; 16],
        pub list: NPAGED_LOOKASIDE_LIST,
    }

    pub mod long {
        use super::{Long, PVOID, plain};

        pub fn ExAllocateFromNPagedLookasideList(long: &mut Long) -> PVOID {
            unsafe { plain::ExAllocateFromNPagedLookasideList(&raw mut long.list) }
        }
        pub fn ExFreeToNPagedLookasideList(long: &mut Long, entry: PVOID) {
            unsafe { plain::ExFreeToNPagedLookasideList(&raw mut long.list, entry) }
        }
    }

    pub fn short(depth: u16) -> [Short; 3] {
        let mut lists = [(); 3].map(|()| Short { calls: 7, size: 7 });
        short::ExInitializeNPagedLookasideList(&mut lists[0], 0, 0, 0, 64, TAG, depth);
        unsafe { short::ExDeleteNPagedLookasideList(&raw mut lists[0]) };
        lists
    }

    pub fn long(long: &mut Long) -> PVOID {
        let entry = long::ExAllocateFromNPagedLookasideList(long);
        long::ExFreeToNPagedLookasideList(long, entry);
        entry
    }
}

#[test]
fn what_is_no_list_is_not_written_to() {
    correct(|_, []| {
        for depth in [0, 4] {
            let lists = likenesses::short(depth);
            assert_eq!(lists.each_ref().map(|list| list.calls), [9, 7, 7]);
            assert_eq!(lists.each_ref().map(|list| list.size), [64, 7, 7]);
        }
        let mut long = Box::new(likenesses::Long { name: [0; 16], list: NPAGED_LOOKASIDE_LIST::default() });
        unsafe { plain::ExInitializeNPagedLookasideList(&raw mut long.list, None, None, 0, 64, TAG, 0) };
        assert!(!likenesses::long(&mut long).is_null());
        unsafe { plain::ExDeleteNPagedLookasideList(&raw mut long.list) };
        assert!(long.name.iter().all(|word| *word == 0));
    });
}

/// Books may be closed while calls on lists are under way: the calls go on, and what they know of lists is forgotten.
#[test]
fn reports_may_end_the_books_at_any_time() {
    let machine = Machine::boot();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut list: Box<NPAGED_LOOKASIDE_LIST> = Box::default();
                let list = &raw mut *list;
                while !stop.load(Ordering::Relaxed) {
                    driver::make(list, 64, 4);
                    let entry = driver::take(list);
                    driver::give(list, entry);
                    driver::delete(list);
                }
            });
        }
        for _ in 0..2_000 {
            memtrack::finish("any time");
            machine.take_output();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(memtrack::finish("end").violations, 0, "{:#?}", machine.output());
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}
