//! Lookaside lists: the depth that was asked for holds in every build; entries are tracked by line, and what would corrupt
//! a list is reported and does not reach it. `/*@*/` stands where an entry is taken.
#![deny(warnings, unsafe_op_in_unsafe_fn, unused_unsafe, clippy::all, clippy::pedantic)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    clippy::unnecessary_box_returns
)]
#![allow(clippy::range_plus_one, reason = "of a module that tests share")]

use std::thread;

use memtrack::{Function, Pool, Tag};
use memtrack_sim::{Machine, NPAGED_LOOKASIDE_LIST, PVOID, PoolKind};

#[allow(dead_code, reason = "shared by tests")]
mod lines;

const IS_OFF: bool = cfg!(any(feature = "off", all(feature = "release_off", not(debug_assertions))));
const TAG: u32 = u32::from_le_bytes(*b"Look");

/// A list as drivers have them: in memory of its own that stays where it is.
fn place() -> Box<NPAGED_LOOKASIDE_LIST> {
    Box::default()
}

/// Numbers that are no pattern.
struct Uneven(u64);

impl Uneven {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A driver with one list, by the attribute and the driver's own binding.
#[memtrack::instrument]
mod driver {
    use super::{NPAGED_LOOKASIDE_LIST, PVOID, TAG};
    use memtrack_sim::ntddk::{
        ExAllocateFromNPagedLookasideList, ExDeleteNPagedLookasideList, ExFreePool,
        ExFreeToNPagedLookasideList, ExInitializeNPagedLookasideList,
    };

    pub const SIZE: u64 = 61;

    pub fn load(list: &mut NPAGED_LOOKASIDE_LIST, depth: u16) {
        unsafe { ExInitializeNPagedLookasideList(list, None, None, 0, SIZE as _, TAG, depth) }
    }

    #[track_caller]
    pub fn take(list: &mut NPAGED_LOOKASIDE_LIST) -> PVOID {
        unsafe { ExAllocateFromNPagedLookasideList(list) }
    }

    #[track_caller]
    pub fn give(list: &mut NPAGED_LOOKASIDE_LIST, entry: PVOID) {
        unsafe { ExFreeToNPagedLookasideList(list, entry) }
    }

    #[track_caller]
    pub fn unload(list: &mut NPAGED_LOOKASIDE_LIST) {
        unsafe { ExDeleteNPagedLookasideList(list) }
    }

    #[track_caller]
    pub fn free(block: PVOID) {
        unsafe { ExFreePool(block) }
    }
}

/// A million allocations and frees in uneven turns, with periods of tuning between: how the depth went.
fn depths(
    machine: &Machine,
    list: &mut NPAGED_LOOKASIDE_LIST,
    mut step: impl FnMut(&mut NPAGED_LOOKASIDE_LIST, bool),
) -> (u16, u16) {
    let mut uneven = Uneven(0x5EED);
    let (mut least, mut most) = (u16::MAX, 0);
    let mut calls = 0;
    while calls < 1_000_000 {
        let turn = uneven.next() % 400;
        for _ in 0..turn {
            step(list, true);
        }
        for _ in 0..turn {
            step(list, false);
        }
        calls += 2 * turn;
        if uneven.next() % 8 == 0 {
            machine.pass_tuning_period();
        }
        let depth = list.L.Depth;
        (least, most) = (least.min(depth), most.max(depth));
        let kept = unsafe { memtrack_sim::ntddk::ExQueryDepthSList((&raw mut list.L).cast()) };
        // What a list keeps already, it keeps when the kernel makes it shallower.
        assert!(kept <= most);
    }
    (least, most)
}

#[test]
fn the_depth_holds_where_the_kernel_would_tune_it() {
    let machine = Machine::boot();
    let mut entries = Vec::new();
    // By the attribute: tracked or not, this list is of the depth that was asked for.
    let mut list = place();
    driver::load(&mut list, 20);
    assert_eq!((list.L.Depth, list.L.MaximumDepth), (20, 20));
    let tracked = depths(&machine, &mut list, |list, takes| {
        if takes {
            entries.push(driver::take(list));
        } else {
            driver::give(list, entries.pop().unwrap());
        }
    });
    assert_eq!(tracked, (20, 20));
    driver::unload(&mut list);

    // The kernel's own list drifts.
    let mut list = place();
    driver::load(&mut list, 0);
    let tuned = depths(&machine, &mut list, |list, takes| {
        if takes {
            entries.push(driver::take(list));
        } else {
            driver::give(list, entries.pop().unwrap());
        }
    });
    assert!(tuned.0 < tuned.1 && tuned.1 > 20, "{tuned:?}");
    driver::unload(&mut list);
    assert_eq!(memtrack::finish("depths").violations, 0);
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

#[test]
fn the_depth_holds_by_direct_call() {
    use memtrack::lookaside::*;
    let machine = Machine::boot();
    let mut entries = Vec::new();
    let mut list = place();
    unsafe { ExInitializeNPagedLookasideList(&raw mut *list, None, None, 0, 8, TAG, 3) };
    let held = depths(&machine, &mut list, |list, takes| unsafe {
        if takes {
            entries.push(ExAllocateFromNPagedLookasideList(list));
        } else {
            ExFreeToNPagedLookasideList(list, entries.pop().unwrap());
        }
    });
    assert_eq!(held, (3, 3));
    assert_eq!(list.L.TotalAllocates, list.L.TotalFrees);
    // The kernel's delete gives back what the list keeps.
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 3);
    unsafe { memtrack_sim::ntddk::ExDeleteNPagedLookasideList(&raw mut *list) };
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
    assert_eq!(memtrack::sites().count(), 0, "this module tracks nothing");
}

#[test]
fn an_entry_is_a_block_of_its_site_and_its_list() {
    let machine = Machine::boot();
    let mut list = place();
    driver::load(&mut list, 2);
    let entries: Vec<_> = (0..3).map(|_| driver::take(&mut list)).collect();
    for (place, entry) in entries.iter().enumerate() {
        unsafe { entry.cast::<u8>().write_bytes(place as u8, driver::SIZE as usize) };
    }
    if IS_OFF {
        assert_eq!((memtrack::sites().count(), memtrack::lists().count()), (0, 0));
    } else {
        let site = memtrack::sites().next().unwrap();
        assert_eq!(
            (site.function, site.tag, site.pool),
            (Function::ExAllocateFromNPagedLookasideList, Tag(TAG), Pool::NonPaged)
        );
        assert_eq!((site.figures.curr_blocks, site.figures.curr_bytes), (3, 3 * driver::SIZE));
        assert_eq!(memtrack::stats().nonpaged.curr_bytes, 3 * driver::SIZE);
    }
    for entry in entries {
        driver::give(&mut list, entry);
    }
    let again = driver::take(&mut list);
    if !IS_OFF {
        let known = memtrack::lists().next().unwrap();
        assert_eq!((known.depth, known.cached, known.hits, known.misses), (2, 1, 1, 3));
        assert_eq!((known.frees, known.free_misses, known.bytes), (3, 1, driver::SIZE));
        assert_eq!((known.figures.curr_blocks, known.figures.max_blocks), (1, 3));
        assert_eq!(known.function, Function::ExInitializeNPagedLookasideList);
        memtrack::report("lists");
        let said = machine.output().join("\n");
        let page = include_str!("../docs/report-format.md");
        let expression =
            page.lines().find_map(|line| line.strip_prefix("    ^(list|undeleted list) ")).unwrap();
        let documented = regex::Regex::new(&format!(
            "^memtrack: (list|undeleted list) {}",
            expression.trim_end_matches('$')
        ))
        .unwrap();
        assert_eq!(said.lines().filter(|line| documented.is_match(line)).count(), 1, "{said}");
        assert!(said.contains("memtrack: list 1 block 61 bytes  tests/lookaside.rs:"), "{said}");
        assert!(said.contains("  ExInitializeNPagedLookasideList 'Look' NonPaged  max 3 blocks 183 bytes, depth 2, cached 1, 1 hit, 3 misses #"), "{said}");
    }
    driver::give(&mut list, again);
    driver::unload(&mut list);
    let stats = memtrack::finish("lists");
    assert_eq!((stats.curr_blocks(), stats.violations, stats.foreign_frees), (0, 0, 0));
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

/// What memtrack says while `work` runs on a list with one entry, without places.
#[cfg(test)]
fn said(work: impl FnOnce(&mut NPAGED_LOOKASIDE_LIST, PVOID)) -> Vec<String> {
    let machine = Machine::boot();
    let mut list = place();
    driver::load(&mut list, 4);
    let entry = driver::take(&mut list);
    work(&mut list, entry);
    lines::said(&machine).iter().map(|line| without_places(line)).collect()
}

/// A line without files, lines and columns.
fn without_places(line: &str) -> String {
    regex::Regex::new(r"tests/lookaside\.rs:\d+:\d+").unwrap().replace_all(line, "HERE").into_owned()
}

const LIST: &str = "HERE  ExInitializeNPagedLookasideList 'Look' NonPaged";
const ENTRY: &str = "HERE  ExAllocateFromNPagedLookasideList 'Look' NonPaged";

#[test]
fn an_overrun_of_an_entry_is_seen_when_it_comes_back() {
    if IS_OFF {
        return;
    }
    let lines = said(|list, entry| unsafe {
        entry.cast::<u8>().add(61).write(0);
        driver::give(list, entry);
        driver::unload(list);
    });
    assert_eq!(lines[0], format!("overrun 1 byte right of a 61-byte block  {ENTRY}"));
    assert!(
        lines[1].starts_with("  caught at HERE ExFreeToNPagedLookasideList; bytes +61: 00 (expected "),
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_double_free_does_not_reach_the_list() {
    if IS_OFF {
        return;
    }
    let lines = said(|list, entry| {
        driver::give(list, entry);
        driver::give(list, entry);
        assert_eq!(list.L.TotalFrees, 1);
        let (one, two) = (driver::take(list), driver::take(list));
        assert_ne!(one, two, "the list is whole");
        driver::give(list, one);
        driver::give(list, two);
        driver::unload(list);
    });
    assert_eq!(
        lines,
        [
            format!("double free of a 61-byte block  {ENTRY}"),
            "  freed at HERE ExFreeToNPagedLookasideList".to_owned(),
            "  freed again at HERE ExFreeToNPagedLookasideList; not passed on".to_owned(),
        ]
    );
}

#[test]
fn an_entry_goes_to_its_own_list() {
    if IS_OFF {
        return;
    }
    let lines = said(|list, entry| {
        let mut other = place();
        driver::load(&mut other, 4);
        driver::give(&mut other, entry);
        assert_eq!(other.L.TotalFrees, 0);
        driver::unload(&mut other);
        driver::give(list, entry);
        driver::unload(list);
    });
    assert_eq!(
        lines,
        [
            format!("free to another list of a 61-byte block  {ENTRY}"),
            "  list initialised at HERE ExInitializeNPagedLookasideList".to_owned(),
            "  freed at HERE ExFreeToNPagedLookasideList; not passed on".to_owned(),
        ]
    );
}

#[memtrack::instrument]
fn block_of_pool() -> PVOID {
    unsafe { memtrack_sim::ntddk::ExAllocatePool2(0x40, 61, TAG) }
}

#[test]
fn pool_and_lists_do_not_mix() {
    if IS_OFF {
        return;
    }
    let lines = said(|list, entry| {
        let block = block_of_pool();
        driver::give(list, block);
        driver::free(block);
        driver::free(entry);
        driver::unload(list);
        let stats = memtrack::stats();
        assert_eq!((stats.curr_blocks(), stats.foreign_frees), (0, 0));
    });
    assert_eq!(
        lines,
        [
            "free to a list of a 61-byte block  HERE  ExAllocatePool2 'Look' NonPaged".to_owned(),
            "  list initialised at HERE ExInitializeNPagedLookasideList".to_owned(),
            "  freed at HERE ExFreeToNPagedLookasideList; not passed on".to_owned(),
            format!("free to pool of a 61-byte block  {ENTRY}"),
            "  list initialised at HERE ExInitializeNPagedLookasideList".to_owned(),
            "  freed at HERE ExFreePool; passed on".to_owned(),
        ]
    );
}

#[test]
fn what_is_out_when_a_list_is_deleted_is_a_leak() {
    if IS_OFF {
        return;
    }
    let lines = said(|list, _| {
        let _ = driver::take(list);
        driver::unload(list);
        assert_eq!(memtrack::stats().curr_blocks(), 2);
    });
    assert_eq!(lines[0], format!("list deleted with 2 entries outstanding  {LIST}"));
    assert_eq!(lines[1], "  called at HERE ExDeleteNPagedLookasideList");
    assert_eq!(lines[2], format!("leak 1 block 61 bytes  {ENTRY}"));
    assert_eq!(lines[3], "  list initialised at HERE ExInitializeNPagedLookasideList");
    assert_eq!(lines.len(), 6, "{lines:#?}");
}

#[test]
fn a_list_that_nobody_deletes_is_named_at_the_end() {
    let machine = Machine::boot();
    let mut list = place();
    driver::load(&mut list, 4);
    let entry = driver::take(&mut list);
    driver::give(&mut list, entry);
    memtrack::finish("undeleted");
    let said = machine.output().join("\n");
    assert_eq!(
        said.contains("memtrack: undeleted list 0 blocks 0 bytes  tests/lookaside.rs:"),
        !IS_OFF,
        "{said}"
    );
    // Unknown again, it works as before.
    let entry = driver::take(&mut list);
    driver::give(&mut list, entry);
    driver::unload(&mut list);
    assert_eq!(memtrack::finish("again").violations, 0);
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

#[test]
fn what_is_no_list_is_left_alone() {
    if IS_OFF {
        return;
    }
    let lines = said(|list, entry| {
        let mut never = place();
        assert!(driver::take(&mut never).is_null());
        driver::unload(&mut never);
        driver::give(list, entry);
        driver::unload(list);
        driver::unload(list);
        assert!(driver::take(list).is_null());
    });
    let deleted = [
        format!("list used after it was deleted  {LIST}"),
        "  deleted at HERE ExDeleteNPagedLookasideList".to_owned(),
    ];
    assert_eq!(
        lines[..4],
        [
            "list never initialised",
            "  called at HERE ExAllocateFromNPagedLookasideList; not passed on",
            "list never initialised",
            "  called at HERE ExDeleteNPagedLookasideList; not passed on",
        ]
    );
    assert_eq!(lines[4..6], deleted);
    assert_eq!(lines[6], "  called at HERE ExDeleteNPagedLookasideList; not passed on");
    assert_eq!(lines[7..9], deleted);
    assert_eq!(lines[9], "  called at HERE ExAllocateFromNPagedLookasideList; not passed on");
}

#[test]
fn a_list_that_lives_is_not_made_again() {
    if IS_OFF {
        return;
    }
    let lines = said(|list, entry| {
        driver::give(list, entry);
        let kept = list.L;
        driver::load(list, 4);
        // As the driver would have to: else what the list kept is lost.
        list.L = kept;
        driver::unload(list);
    });
    assert_eq!(lines[0], format!("list initialised again  {LIST}"));
    assert_eq!(lines[1], "  called at HERE ExInitializeNPagedLookasideList; passed on");
    assert_eq!(lines.len(), 2);
}

/// Two threads on one list. `MEMTRACK_LIST_ROUNDS` says how many allocations and frees each of them makes: ten million in all
/// take seconds in a release build.
#[test]
fn counts_are_exact_with_two_threads() {
    use memtrack::ntddk::{ExAllocateFromNPagedLookasideList, ExFreeToNPagedLookasideList};
    struct Shared(*mut NPAGED_LOOKASIDE_LIST);
    unsafe impl Sync for Shared {}

    let rounds =
        std::env::var("MEMTRACK_LIST_ROUNDS").map_or(200_000, |rounds| rounds.parse().expect("a number"));
    let machine = Machine::boot();
    let mut list = place();
    driver::load(&mut list, 8);
    let shared = &Shared(&raw mut *list);
    thread::scope(|scope| {
        for seed in [3, 5] {
            scope.spawn(move || {
                let (mut uneven, mut mine) = (Uneven(seed), Vec::new());
                let list = shared;
                for _ in 0..rounds {
                    if mine.len() < 16 && uneven.next() % 2 == 0 {
                        mine.push(unsafe { ExAllocateFromNPagedLookasideList(list.0) });
                    } else if let Some(entry) = mine.pop() {
                        unsafe { ExFreeToNPagedLookasideList(list.0, entry) };
                    }
                }
                for entry in mine {
                    unsafe { ExFreeToNPagedLookasideList(list.0, entry) };
                }
            });
        }
    });
    assert_eq!(list.L.TotalAllocates, list.L.TotalFrees);
    if !IS_OFF {
        let known = memtrack::lists().next().unwrap();
        assert_eq!(known.figures.total_blocks, u64::from(list.L.TotalAllocates));
        assert_eq!((known.figures.curr_blocks, memtrack::stats().foreign_frees), (0, 0));
    }
    driver::unload(&mut list);
    assert_eq!(memtrack::finish("threads").violations, 0, "{:#?}", machine.output());
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

/// Lists whose entries the driver's own functions make: annotated, so that each entry is a block, too.
#[memtrack::instrument]
mod callbacks {
    use core::cell::Cell;

    use super::TAG;
    use memtrack_sim::ntddk::*;
    use memtrack_sim::{LOOKASIDE_LIST_EX, PLOOKASIDE_LIST_EX, POOL_TYPE, PVOID, SIZE_T, ULONG};

    thread_local! {
        /// How many more entries there are memory for.
        pub static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    unsafe extern "C" fn allocate(
        _: POOL_TYPE,
        bytes: SIZE_T,
        tag: ULONG,
        list: PLOOKASIDE_LIST_EX,
    ) -> PVOID {
        assert!(!list.is_null());
        match LEFT.get().checked_sub(1) {
            Some(left) => {
                LEFT.set(left);
                unsafe { ExAllocatePool2(0x40, bytes, tag) }
            }
            None => core::ptr::null_mut(),
        }
    }

    unsafe extern "C" fn free(entry: PVOID, _: PLOOKASIDE_LIST_EX) {
        unsafe { ExFreePoolWithTag(entry, TAG) }
    }

    pub fn run() {
        let mut list = LOOKASIDE_LIST_EX::default();
        let list = &raw mut list;
        unsafe {
            assert_eq!(ExInitializeLookasideListEx(list, Some(allocate), Some(free), 512, 0, 40, TAG, 2), 0);
            let entries = [(); 4].map(|()| ExAllocateFromLookasideListEx(list));
            LEFT.set(0);
            assert!(ExAllocateFromLookasideListEx(list).is_null());
            assert_eq!(((*list).L.Size, (*list).L.TotalAllocates), (40, 5), "not sized up");
            for entry in entries {
                ExFreeToLookasideListEx(list, entry);
            }
            ExFlushLookasideListEx(list);
            assert_eq!(ExQueryDepthSList(list.cast()), 0);
            // What the kernel refuses, it refuses here.
            assert!(ExInitializeLookasideListEx(list.add(0), None, None, 0, 3, 40, TAG, 2) < 0);
            ExDeleteLookasideListEx(list);
        }
    }
}

#[test]
fn a_drivers_own_callbacks_make_the_entries() {
    let machine = Machine::boot();
    callbacks::LEFT.set(4);
    callbacks::run();
    assert_eq!(memtrack::stats().curr_blocks(), 0);
    if !IS_OFF {
        let sites: Vec<_> = memtrack::sites().collect();
        let of = |function| sites.iter().find(|site| site.function == function).unwrap();
        let entries = of(Function::ExAllocateFromLookasideListEx);
        assert_eq!(entries.figures.total_blocks, 4);
        assert_eq!(memtrack::stats().failures, 1);
        assert_eq!(of(Function::ExAllocatePool2).figures.total_blocks, 4);
        // The memory of an entry is counted once.
        assert_eq!(memtrack::stats().nonpaged.max_bytes, 160);
    }
    let stats = memtrack::finish("callbacks");
    assert_eq!(
        (stats.violations, stats.foreign_frees, stats.vanished_blocks),
        (0, 0, 0),
        "{:#?}",
        machine.output()
    );
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

/// The other doors, and lists of paged pool.
mod doors {
    pub mod items {
        memtrack::instrument_items! {
            use crate::TAG;
            use memtrack_sim::ntddk::*;
            use memtrack_sim::PAGED_LOOKASIDE_LIST;

            pub fn run() -> u16 {
                let mut list = PAGED_LOOKASIDE_LIST::default();
                unsafe {
                    ExInitializePagedLookasideList(&raw mut list, None, None, 0, 16, TAG, 11);
                    let depth = list.L.Depth;
                    let entry = vec![ExAllocateFromPagedLookasideList(&raw mut list)][0];
                    println!("{:?}", ExFreeToPagedLookasideList(&raw mut list, entry));
                    ExDeletePagedLookasideList(&raw mut list);
                    depth
                }
            }

            pub fn at_dispatch_level() {
                let mut list = PAGED_LOOKASIDE_LIST::default();
                unsafe {
                    ExInitializePagedLookasideList(&raw mut list, None, None, 0, 16, TAG, 11);
                    let entry = ExAllocateFromPagedLookasideList(&raw mut list);
                    let irql = KfRaiseIrql(2);
                    assert!(ExAllocateFromPagedLookasideList(&raw mut list).is_null());
                    ExFreeToPagedLookasideList(&raw mut list, entry);
                    KeLowerIrql(irql);
                    ExFreeToPagedLookasideList(&raw mut list, entry);
                    ExDeletePagedLookasideList(&raw mut list);
                }
            }
        }
    }

    pub mod named {
        use crate::TAG;
        use memtrack::ntddk::*;
        use memtrack_sim::NPAGED_LOOKASIDE_LIST;

        pub fn run() -> u16 {
            let mut list = NPAGED_LOOKASIDE_LIST::default();
            unsafe {
                ExInitializeNPagedLookasideList(&raw mut list, None, None, 0, 16, TAG, 12);
                let depth = list.L.Depth;
                let entry = ExAllocateFromNPagedLookasideList(&raw mut list);
                ExFreeToNPagedLookasideList(&raw mut list, entry);
                ExDeleteNPagedLookasideList(&raw mut list);
                depth
            }
        }
    }

    pub mod imported {
        use crate::TAG;
        use memtrack_sim::NPAGED_LOOKASIDE_LIST;
        #[memtrack::instrument(guard = "full")]
        use memtrack_sim::ntddk::{
            ExAllocateFromNPagedLookasideList as take, ExDeleteNPagedLookasideList as delete,
            ExFreeToNPagedLookasideList as give, ExInitializeNPagedLookasideList as initialize,
        };

        pub fn run() -> u16 {
            let mut list = NPAGED_LOOKASIDE_LIST::default();
            unsafe {
                initialize(&raw mut list, None, None, 0, 16, TAG, 13);
                let depth = list.L.Depth;
                let entry = take(&raw mut list);
                give(&raw mut list, entry);
                delete(&raw mut list);
                depth
            }
        }
    }

    pub mod recorded {
        use crate::TAG;
        use memtrack_sim::{NPAGED_LOOKASIDE_LIST, ntddk};

        pub fn run() -> u16 {
            let mut list = NPAGED_LOOKASIDE_LIST::default();
            let list = &raw mut list;
            let initialize = ntddk::ExInitializeNPagedLookasideList;
            unsafe {
                memtrack::record_list!(
                    ExInitializeNPagedLookasideList,
                    initialize(list, None, None, 0, 16, TAG, 14)
                );
                let depth = (*list).L.Depth;
                let entry = memtrack::record_alloc!(
                    ExAllocateFromNPagedLookasideList,
                    ntddk::ExAllocateFromNPagedLookasideList(list)
                );
                memtrack::record_free!(
                    ExFreeToNPagedLookasideList,
                    ntddk::ExFreeToNPagedLookasideList(list, entry)
                );
                memtrack::record_list!(ExDeleteNPagedLookasideList, ntddk::ExDeleteNPagedLookasideList(list));
                depth
            }
        }
    }
}

#[test]
fn the_depth_holds_through_every_door() {
    let machine = Machine::boot();
    let depths = [doors::items::run(), doors::named::run(), doors::imported::run(), doors::recorded::run()];
    assert_eq!(depths, [11, 12, 13, 14]);
    if !IS_OFF {
        assert_eq!(memtrack::lists().filter(|list| list.is_deleted).count(), 4);
        assert!(
            memtrack::sites().all(|site| site.figures.total_blocks == 1 && site.figures.curr_blocks == 0)
        );
        assert_eq!(memtrack::sites().count(), 4);
    }
    assert_eq!(memtrack::finish("doors").violations, 0, "{:#?}", machine.output());
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks + machine.pool(PoolKind::Paged).blocks, 0);
}

#[test]
fn a_paged_list_waits_for_a_lower_level() {
    if IS_OFF {
        return;
    }
    let machine = Machine::boot();
    doors::items::at_dispatch_level();
    let lines: Vec<_> = lines::said(&machine).iter().map(|line| without_places(line)).collect();
    let list = "paged list at IRQL 2  HERE  ExInitializePagedLookasideList 'Look' Paged";
    assert_eq!(
        lines,
        [
            list,
            "  called at HERE ExAllocateFromPagedLookasideList; not passed on",
            list,
            "  called at HERE ExFreeToPagedLookasideList; not passed on",
        ]
    );
    assert_eq!(memtrack::finish("paged").curr_blocks(), 0);
}

#[memtrack::instrument]
fn device() {
    use memtrack_sim::ntddk::*;
    unsafe {
        let device = ExAllocatePool2(0x40, 512, TAG);
        let list = device.cast::<NPAGED_LOOKASIDE_LIST>().add(1);
        ExInitializeNPagedLookasideList(list, None, None, 0, 16, TAG, 3);
        ExFreeToNPagedLookasideList(list, ExAllocateFromNPagedLookasideList(list));
        ExFreePool(device);
    }
}

#[test]
fn a_list_does_not_go_with_its_block() {
    if IS_OFF {
        return;
    }
    let machine = Machine::boot();
    device();
    let lines: Vec<_> = lines::said(&machine).iter().map(|line| without_places(line)).collect();
    assert_eq!(
        lines,
        [
            "free with a list in it of a 512-byte block  HERE  ExAllocatePool2 'Look' NonPaged",
            "  list initialised at HERE ExInitializeNPagedLookasideList",
            "  freed at HERE ExFreePool",
        ]
    );
}

/// Bindings of other types: entries as numbers, and functions that are safe.
#[memtrack::instrument]
#[allow(non_snake_case)]
mod bindings {
    use super::TAG;
    use memtrack_sim::NPAGED_LOOKASIDE_LIST;

    mod numbers {
        use memtrack_sim::ntddk;

        pub unsafe fn ExAllocateFromNPagedLookasideList(list: u64) -> u64 {
            unsafe { ntddk::ExAllocateFromNPagedLookasideList(list as *mut _) as u64 }
        }
        pub unsafe fn ExFreeToNPagedLookasideList(list: u64, entry: u64) {
            unsafe { ntddk::ExFreeToNPagedLookasideList(list as *mut _, entry as *mut _) }
        }
    }

    mod safe {
        use memtrack_sim::{NPAGED_LOOKASIDE_LIST, PALLOCATE_FUNCTION, PFREE_FUNCTION, ntddk};

        pub fn ExInitializeNPagedLookasideList(
            list: &mut NPAGED_LOOKASIDE_LIST,
            allocate: PALLOCATE_FUNCTION,
            free: PFREE_FUNCTION,
            flags: u32,
            size: usize,
            tag: u32,
            depth: u16,
        ) {
            unsafe {
                ntddk::ExInitializeNPagedLookasideList(list, allocate, free, flags, size as u64, tag, depth);
            }
        }
        pub fn ExDeleteNPagedLookasideList(list: &mut NPAGED_LOOKASIDE_LIST) {
            unsafe { ntddk::ExDeleteNPagedLookasideList(list) }
        }
    }

    pub fn run() -> u16 {
        let mut list = NPAGED_LOOKASIDE_LIST::default();
        safe::ExInitializeNPagedLookasideList(&mut list, None, None, 0, 16, TAG, 5);
        let depth = list.L.Depth;
        let address = (&raw mut list) as u64;
        unsafe {
            let entry = numbers::ExAllocateFromNPagedLookasideList(address);
            numbers::ExFreeToNPagedLookasideList(address, entry);
        }
        safe::ExDeleteNPagedLookasideList(&mut list);
        depth
    }
}

#[test]
fn a_binding_may_have_other_types() {
    let machine = Machine::boot();
    assert_eq!(bindings::run(), 5);
    if !IS_OFF {
        assert_eq!((memtrack::sites().count(), memtrack::lists().count()), (1, 1));
    }
    let stats = memtrack::finish("bindings");
    assert_eq!(
        (stats.curr_blocks(), stats.foreign_frees, stats.violations),
        (0, 0, 0),
        "{:#?}",
        machine.output()
    );
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
}

/// What the pool does when it has no memory, and what it says of a bad free, comes through a list.
#[test]
fn the_pools_own_ways_show_through_a_list() {
    use memtrack::ntddk::*;
    use memtrack_sim::{
        POOL_RAISE_IF_ALLOCATION_FAILURE, STATUS_INSUFFICIENT_RESOURCES, catch_bugcheck, catch_raise,
    };

    let machine = Machine::boot();
    machine.set_pool_limit(PoolKind::NonPaged, Some(0));
    let (mut plain, mut raising) = (place(), place());
    unsafe {
        ExInitializeNPagedLookasideList(&raw mut *plain, None, None, 0, 16, TAG, 1);
        let flags = POOL_RAISE_IF_ALLOCATION_FAILURE;
        ExInitializeNPagedLookasideList(&raw mut *raising, None, None, flags, 16, TAG, 1);
        assert!(ExAllocateFromNPagedLookasideList(&raw mut *plain).is_null());
        let raised = catch_raise(|| ExAllocateFromNPagedLookasideList(&raw mut *raising)).unwrap_err();
        assert_eq!(raised.status, STATUS_INSUFFICIENT_RESOURCES);
        assert_eq!((raising.L.TotalAllocates, plain.L.TotalAllocates), (1, 1));

        machine.set_pool_limit(PoolKind::NonPaged, None);
        let mut host = [0_u128; 8];
        let [one, two] = [(); 2].map(|()| ExAllocateFromNPagedLookasideList(&raw mut *plain));
        ExFreeToNPagedLookasideList(&raw mut *plain, one);
        ExFreeToNPagedLookasideList(&raw mut *plain, two);
        let stop = catch_bugcheck(|| ExFreeToNPagedLookasideList(&raw mut *plain, host.as_mut_ptr().cast()));
        assert_eq!(stop.unwrap_err().name(), Some("BAD_POOL_CALLER"));
        ExDeleteNPagedLookasideList(&raw mut *plain);
        ExDeleteNPagedLookasideList(&raw mut *raising);
    }
    assert_eq!(memtrack::finish("ways").violations, 0, "{:#?}", machine.output());
}
