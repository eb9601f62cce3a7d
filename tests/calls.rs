//! What a driver author calls, on the simulated kernel: statistics, reports, unload, and what happens when the
//! kernel says no or the driver hands in nonsense.
#![cfg(not(any(feature = "off", feature = "release_off")))]
#![allow(clippy::undocumented_unsafe_blocks, reason = "driver code, most of it wrong on purpose")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use memtrack::{Pool, Stats};
use memtrack_sim::{Machine, PoolKind, catch_bugcheck, catch_raise};

const TAG: u32 = u32::from_le_bytes(*b"Call");

#[memtrack::instrument]
mod driver {
    use super::TAG;
    use memtrack_sim::ntddk::{ExAllocatePool2, ExAllocatePoolWithQuotaTag, ExFreePool, ExFreePoolWithTag};
    use memtrack_sim::{
        POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, POOL_FLAG_RAISE_ON_FAILURE, PVOID, SIZE_T, ntddk,
    };

    pub fn allocate(bytes: SIZE_T) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG) }
    }

    pub fn allocate_paged(bytes: SIZE_T) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_PAGED, bytes, TAG) }
    }

    pub fn allocate_or_raise(bytes: SIZE_T) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_PAGED | POOL_FLAG_RAISE_ON_FAILURE, bytes, TAG) }
    }

    pub fn allocate_with_quota(bytes: SIZE_T) -> PVOID {
        unsafe { ExAllocatePoolWithQuotaTag(memtrack_sim::_POOL_TYPE::PagedPool, bytes, TAG) }
    }

    pub fn free(block: PVOID) {
        unsafe { ExFreePool(block) }
    }

    pub fn free_with_tag(block: PVOID, tag: u32) {
        unsafe { ExFreePoolWithTag(block, tag) }
    }

    #[memtrack::skip]
    pub fn allocate_unseen(bytes: SIZE_T) -> PVOID {
        unsafe { ntddk::ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG) }
    }

    #[memtrack::skip]
    pub fn free_unseen(block: PVOID) {
        unsafe { ntddk::ExFreePool(block) }
    }
}

/// A place in this file, as reports write it on this host.
fn here(before: &str) -> String {
    format!("{before}  {}:", file!())
}

fn lines_with<'a>(lines: &'a [String], text: &str) -> Vec<&'a String> {
    lines.iter().filter(|line| line.contains(text)).collect()
}

#[test]
fn print_stats_speaks_as_in_1998() {
    let machine = Machine::boot();
    driver::free(driver::allocate(127_383));
    let kept = driver::allocate(63_838);
    memtrack::print_stats("Filemon");
    let lines = machine.take_output();
    let without_number: Vec<&str> = lines.iter().map(|line| line.rsplit_once(" #").unwrap().0).collect();
    assert_eq!(
        without_number,
        [
            "memtrack: Filemon Nonpaged Memory Usage:",
            "memtrack:    Current: 63838 bytes",
            "memtrack:    Max: 127383 bytes",
            "memtrack: Filemon Paged Memory Usage:",
            "memtrack:    Current: 0 bytes",
            "memtrack:    Max: 0 bytes",
        ]
    );
    driver::free(kept);
}

#[test]
fn report_names_every_site_and_finish_the_leaks() {
    let machine = Machine::boot();
    let kept = driver::allocate(100);
    let paged = driver::allocate_paged(200);
    driver::free(driver::allocate(50));
    memtrack::report("Filemon");
    let lines = machine.take_output();
    let sites = lines_with(&lines, "memtrack: site ");
    assert!(sites[0].contains(&here("site 1 block 200 bytes")), "{sites:#?}");
    assert!(
        sites[0].contains("  ExAllocatePool2 'Call' Paged  max 1 block 200 bytes, total 1 "),
        "{sites:#?}"
    );
    assert!(
        sites[1].contains("  ExAllocatePool2 'Call' NonPaged  max 2 blocks 150 bytes, total 2 "),
        "{sites:#?}"
    );
    driver::free(paged);

    let left = memtrack::finish("Filemon");
    assert_eq!((left.curr_blocks(), left.curr_bytes()), (1, 100));
    let lines = machine.take_output();
    assert_eq!(lines_with(&lines, &here("memtrack: leak 1 block 100 bytes")).len(), 1, "{lines:#?}");
    driver::free_unseen(kept);
    assert_eq!(memtrack::stats(), Stats::default(), "finish begins afresh");
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0, "memtrack's own memory is back");
}

mod endings {
    use super::driver;

    struct Holds(memtrack_sim::PVOID);

    impl Drop for Holds {
        fn drop(&mut self) {
            driver::free(self.0);
        }
    }

    impl Holds {
        fn size(&self) -> usize {
            self.0.addr()
        }
    }

    #[memtrack::instrument(finish = "Falls off the end")]
    pub fn falls_off_the_end() {
        let _held = Holds(driver::allocate(1));
    }

    #[memtrack::instrument(finish = "Returns early")]
    pub fn returns_early(early: bool) -> u32 {
        let _held = Holds(driver::allocate(1));
        if early {
            return 1;
        }
        2
    }

    #[memtrack::instrument(finish = "Question mark")]
    pub fn question_mark(number: &str) -> Result<u32, std::num::ParseIntError> {
        let _held = Holds(driver::allocate(1));
        let number: u32 = number.parse()?;
        Ok(number)
    }

    #[memtrack::instrument(finish = "Temporary")]
    pub fn temporary() -> usize {
        Holds(driver::allocate(1)).size()
    }

    #[memtrack::instrument(finish = "Panics")]
    pub fn panics() {
        let _held = Holds(driver::allocate(1));
        panic!("on purpose");
    }

    #[memtrack::instrument(finish = "Leaks")]
    pub extern "C" fn leaks() {
        driver::allocate(7);
    }
}

#[test]
fn finish_comes_at_every_way_out_and_after_everything_else() {
    let machine = Machine::boot();
    let ends: [(&str, &dyn Fn()); 6] = [
        ("Falls off the end", &endings::falls_off_the_end),
        ("Returns early", &|| assert_eq!(endings::returns_early(true), 1)),
        ("Returns early", &|| assert_eq!(endings::returns_early(false), 2)),
        ("Question mark", &|| assert!(endings::question_mark("x").is_err())),
        ("Temporary", &|| assert_ne!(endings::temporary(), 0)),
        ("Panics", &|| assert!(catch_unwind(endings::panics).is_err())),
    ];
    for (name, end) in ends {
        end();
        let lines = machine.take_output();
        assert!(lines[0].contains(&format!("leaks of {name} (format 2)")), "{lines:#?}");
        assert!(lines[1].contains("no leak"), "what the locals held is freed before: {lines:#?}");
    }
    endings::leaks();
    let lines = machine.take_output();
    assert_eq!(lines_with(&lines, &here("leak 1 block 7 bytes")).len(), 1, "{lines:#?}");
}

#[test]
fn exhaustion_says_who_asked_and_who_holds_most() {
    let machine = Machine::boot();
    let held = driver::allocate(10_000);
    machine.set_pool_limit(PoolKind::NonPaged, Some(20_000));
    for _ in 0..5 {
        assert!(driver::allocate(65_536).is_null());
    }
    machine.set_pool_limit(PoolKind::NonPaged, None);
    let lines = machine.take_output();
    assert_eq!(lines.len(), 3, "the first, the second, the fourth: {lines:#?}");
    assert!(lines[2].contains(&here("exhausted 65536 bytes")), "{lines:#?}");
    assert!(
        lines[2].contains("'Call' NonPaged  refusal 4; outstanding NonPaged 1 block 10000 bytes"),
        "{lines:#?}"
    );
    assert!(lines[2].contains(&here("most held 1 block 10000 bytes")), "{lines:#?}");
    assert_eq!(memtrack::stats().failures, 5);
    driver::free(held);
}

#[test]
fn a_kernel_that_raises_leaves_nothing_half_recorded() {
    let machine = Machine::boot();
    let before = memtrack::stats();
    machine.set_pool_limit(PoolKind::Paged, Some(4096));
    assert!(catch_raise(|| driver::allocate_or_raise(100_000)).is_err());
    assert!(catch_raise(|| driver::allocate_with_quota(100_000)).is_err());
    assert_eq!(memtrack::stats(), before);
    assert_eq!(memtrack::sites().count(), 0);
    let block = catch_raise(|| driver::allocate_with_quota(100)).unwrap();
    assert_eq!(memtrack::stats().paged.curr_bytes, 100);
    driver::free(block);
    assert_eq!(memtrack::stats().curr_blocks(), 0);
}

#[test]
fn a_stranger_reaches_the_kernel_and_is_counted() {
    let _machine = Machine::boot();
    let block = driver::allocate(64);
    let stranger = core::ptr::without_provenance_mut(0x1234_5670);
    let stopped = catch_bugcheck(|| driver::free(stranger)).unwrap_err();
    assert_eq!(stopped.name(), Some("BAD_POOL_CALLER"));
    assert_eq!((memtrack::stats().foreign_frees, memtrack::stats().curr_blocks()), (1, 1));
    driver::free_with_tag(block, TAG);
    assert_eq!((memtrack::stats().violations, memtrack::stats().curr_blocks()), (0, 0));
}

#[test]
fn sizes_of_every_kind_are_counted_as_asked_for() {
    let _machine = Machine::boot();
    let mut expected = 0;
    let mut blocks = Vec::new();
    for bytes in [1, 15, 16, 17, 4095, 4096, 4097, 1 << 20] {
        let block = driver::allocate(bytes);
        assert!(!block.is_null());
        assert_eq!(block.addr() % if bytes >= 4096 { 4096 } else { 16 }, 0, "aligned as without memtrack");
        expected += bytes;
        assert_eq!(memtrack::stats().nonpaged.curr_bytes, expected);
        blocks.push(block);
    }
    for bytes in [0, u64::MAX, u64::MAX - 15, 1 << 63] {
        assert!(driver::allocate(bytes).is_null(), "{bytes}");
    }
    let stats = memtrack::stats();
    assert_eq!((stats.failures, stats.nonpaged.curr_bytes), (4, expected));
    blocks.into_iter().for_each(driver::free);
    assert_eq!(memtrack::stats().nonpaged.curr_bytes, 0);
}

#[test]
fn blocks_come_from_and_go_to_code_that_is_not_annotated() {
    let machine = Machine::boot();
    let foreign = driver::allocate_unseen(100);
    driver::free(foreign);
    assert_eq!((memtrack::stats().foreign_frees, memtrack::stats().curr_blocks()), (1, 0));

    let first = driver::allocate(100);
    driver::free_unseen(first);
    let second = driver::allocate(100);
    assert_eq!(first, second, "the kernel hands the address out again");
    let stats = memtrack::stats();
    assert_eq!((stats.vanished_blocks, stats.nonpaged.curr_blocks, stats.nonpaged.max_blocks), (1, 1, 1));
    driver::free(second);
    memtrack::finish("Mixed");
    let lines = machine.take_output();
    assert_eq!(lines_with(&lines, "also 1 foreign free").len(), 1, "{lines:#?}");
    assert_eq!(lines_with(&lines, "also 1 vanished block").len(), 1, "{lines:#?}");
}

#[test]
fn names_of_any_length_arrive() {
    let machine = Machine::boot();
    let name = "Filemon ".repeat(1250);
    memtrack::report(&name);
    let lines = machine.take_output();
    assert!(lines.iter().all(|line| line.len() <= 510));
    let text: String = lines
        .iter()
        .map(|line| &line[.."memtrack: ".len().max(line.rfind(" #").unwrap())]["memtrack: ".len()..])
        .collect();
    assert!(text.starts_with(&format!("report of {name} (format 2)")), "{text}");
}

#[test]
fn a_driver_that_never_finishes_is_only_silent() {
    let machine = Machine::boot();
    driver::allocate(1);
    assert_eq!(machine.take_output(), [] as [&str; 0]);
}

#[test]
fn a_boot_loads_the_driver_anew() {
    let machine = Machine::boot();
    driver::allocate(1);
    assert_eq!(memtrack::stats().curr_blocks(), 1);
    drop(machine);
    let machine = Machine::boot();
    assert_eq!((memtrack::stats(), memtrack::sites().count()), (Stats::default(), 0));
    let block = driver::allocate(2);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(memtrack::stats().curr_bytes(), 2));
    });
    driver::free(block);
    memtrack::finish("Second");
    assert_eq!(lines_with(&machine.take_output(), "no leak").len(), 1);
}

#[test]
#[should_panic(expected = "BAD_POOL_CALLER")]
fn a_test_may_expect_a_bugcheck_by_its_name() {
    let _machine = Machine::boot();
    let block = driver::allocate(1);
    driver::free_unseen(block);
    driver::free_unseen(block);
}

#[test]
fn sites_are_plain_values() {
    let _machine = Machine::boot();
    let blocks = [driver::allocate(10), driver::allocate(20)];
    let site = memtrack::sites().next().unwrap();
    assert_eq!((site.file, site.pool, site.tag.0), (file!(), Pool::NonPaged, TAG));
    assert_eq!((site.figures.curr_blocks, site.figures.curr_bytes), (2, 30));
    blocks.into_iter().for_each(driver::free);
}

#[test]
fn many_threads_are_counted_exactly() {
    let _machine = Machine::boot();
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 5_000;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut kept = Vec::new();
                for round in 0..ROUNDS {
                    let block = driver::allocate(1 + round % 64);
                    if round % 5 == 0 { kept.push(block.addr()) } else { driver::free(block) }
                }
                for address in kept.iter().skip(100) {
                    driver::free(core::ptr::with_exposed_provenance_mut(*address));
                }
            });
        }
    });
    let stats = memtrack::stats();
    assert_eq!(stats.nonpaged.total_blocks, THREADS * ROUNDS);
    assert_eq!(stats.nonpaged.curr_blocks, THREADS * 100);
    let bytes: u64 = (0..ROUNDS).step_by(5).take(100).map(|round| 1 + round % 64).sum();
    assert_eq!(stats.nonpaged.curr_bytes, THREADS * bytes);
    assert_eq!((stats.foreign_frees, stats.vanished_blocks), (0, 0));
}

#[test]
fn reports_may_be_made_at_dispatch_level() {
    use memtrack_sim::{DISPATCH_LEVEL, ntddk};
    let machine = Machine::boot();
    let irql = unsafe { ntddk::KfRaiseIrql(DISPATCH_LEVEL as u8) };
    let block = driver::allocate(10);
    let said = catch_unwind(AssertUnwindSafe(|| {
        memtrack::print_stats("Dpc");
        memtrack::report("Dpc");
        driver::free(block);
        memtrack::finish("Dpc");
    }));
    unsafe { ntddk::KeLowerIrql(irql) };
    said.unwrap();
    assert_eq!(lines_with(&machine.take_output(), "no leak").len(), 1);
}
