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

/// Two threads on one list.
#[test]
fn counts_are_exact_with_two_threads() {
    const ROUNDS: u64 = 200_000;
    struct Shared(*mut NPAGED_LOOKASIDE_LIST);
    unsafe impl Sync for Shared {}

    let machine = Machine::boot();
    let mut list = place();
    driver::load(&mut list, 8);
    let shared = &Shared(&raw mut *list);
    thread::scope(|scope| {
        for seed in [3, 5] {
            scope.spawn(move || {
                let (mut uneven, mut mine) = (Uneven(seed), Vec::new());
                for _ in 0..ROUNDS {
                    let list = unsafe { &mut *shared.0 };
                    if mine.len() < 16 && uneven.next() % 2 == 0 {
                        mine.push(driver::take(list));
                    } else if let Some(entry) = mine.pop() {
                        driver::give(list, entry);
                    }
                }
                for entry in mine {
                    driver::give(unsafe { &mut *shared.0 }, entry);
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
