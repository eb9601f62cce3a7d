//! Every mistake of `docs/detection.md`, made by an annotated driver on the simulated kernel: what is said of it, word
//! for word, and what becomes of the call. After each the driver goes on, and ends as a correct one does.
#![cfg(not(any(feature = "off", feature = "release_off")))]
#![allow(clippy::undocumented_unsafe_blocks, reason = "driver code, most of it wrong on purpose")]

use memtrack::{Guard, Policy, Pool, Quarantine, Settings};
use memtrack_sim::{DISPATCH_LEVEL, Machine, PVOID, PoolKind, catch_bugcheck, ntddk};

mod lines;
use lines::{here, said, without_columns};

const TAG: u32 = u32::from_le_bytes(*b"Dtct");

/// Each call is on the line of its function's name, at `#[track_caller]`'s mercy: the lines are the tests'.
#[memtrack::instrument]
mod driver {
    use super::TAG;
    use memtrack_sim::ntddk::{
        ExAllocatePool, ExAllocatePool2, ExAllocatePoolWithTag, ExFreePool, ExFreePoolWithTag,
    };
    use memtrack_sim::{
        _POOL_TYPE, POOL_FLAG_CACHE_ALIGNED, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, POOL_TYPE, PVOID,
    };

    #[track_caller]
    pub fn allocate(bytes: usize) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes as u64, TAG) }
    }

    #[track_caller]
    pub fn allocate_paged(bytes: usize) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_PAGED, bytes as u64, TAG) }
    }

    #[track_caller]
    #[memtrack::instrument(guard = "full")]
    pub fn allocate_full(bytes: usize) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes as u64, TAG) }
    }

    #[track_caller]
    #[memtrack::instrument(guard = "full")]
    pub fn allocate_aligned(bytes: usize) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_CACHE_ALIGNED, bytes as u64, TAG) }
    }

    #[track_caller]
    #[memtrack::instrument(guard = "none")]
    pub fn allocate_bare(bytes: usize) -> PVOID {
        unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes as u64, TAG) }
    }

    #[track_caller]
    pub fn allocate_of_type(pool: POOL_TYPE, bytes: usize) -> PVOID {
        unsafe { ExAllocatePoolWithTag(pool, bytes as u64, TAG) }
    }

    #[track_caller]
    pub fn allocate_untagged(bytes: usize) -> PVOID {
        unsafe { ExAllocatePool(_POOL_TYPE::NonPagedPool, bytes as u64) }
    }

    #[track_caller]
    pub fn free(block: PVOID) {
        unsafe { ExFreePool(block) }
    }

    #[track_caller]
    pub fn free_with_tag(block: PVOID, tag: u32) {
        unsafe { ExFreePoolWithTag(block, tag) }
    }

    #[memtrack::instrument(finish = "Driver")]
    pub fn unload() {}
}

#[track_caller]
fn expect(machine: &Machine, expected: &[String]) {
    let said: Vec<String> = said(machine).iter().map(|line| without_columns(line)).collect();
    assert_eq!(said, expected);
}

/// The driver goes on to its end: nothing is left, and nothing else is said.
#[track_caller]
fn ends_well(machine: Machine, violations: u64) {
    assert_eq!(memtrack::stats().violations, violations);
    assert_eq!(memtrack::stats().curr_blocks(), 0);
    driver::unload();
    let lines = said(&machine);
    assert_eq!(lines[0], "leaks of Driver (format 2)", "{lines:#?}");
    assert!(lines[1].starts_with("no leak: 0 blocks 0 bytes"), "{lines:#?}");
    assert!(lines.iter().skip(2).all(|line| line.starts_with("also ")), "{lines:#?}");
    for pool in [PoolKind::NonPaged, PoolKind::Paged] {
        assert_eq!(machine.pool(pool).blocks, 0, "everything is the kernel's again");
    }
}

fn write(block: PVOID, at: isize, bytes: &[u8]) {
    unsafe { block.cast::<u8>().offset(at).copy_from(bytes.as_ptr(), bytes.len()) };
}

fn at_dispatch_level<R>(act: impl FnOnce() -> R) -> R {
    let irql = unsafe { ntddk::KfRaiseIrql(DISPATCH_LEVEL as u8) };
    let result = act();
    unsafe { ntddk::KeLowerIrql(irql) };
    result
}

#[test]
fn an_overrun_is_caught_from_its_first_byte() {
    for bytes in [1, 15, 16, 61, 4096, 5000] {
        let machine = Machine::boot();
        let (block, site) = (driver::allocate(bytes), here());
        write(block, bytes as isize, b"A");
        let (_, free) = (driver::free(block), here());
        let lines = said(&machine);
        assert!(lines[0].starts_with(&format!("overrun 1 byte right of a {bytes}-byte block  {site}")));
        assert!(lines[0].ends_with("  ExAllocatePool2 'Dtct' NonPaged"), "{lines:#?}");
        let bytes = format!(" ExFreePool; bytes +{bytes}: 41 (expected B{:X})", bytes % 16);
        assert!(
            lines[1].starts_with(&format!("  caught at {free}")) && lines[1].ends_with(&bytes),
            "{lines:#?}"
        );
        assert_eq!(lines.len(), 2);
        ends_well(machine, 1);
    }
}

#[test]
fn an_overrun_tells_how_far_it_went_and_what_was_written() {
    let machine = Machine::boot();
    let (block, site) = (driver::allocate(61), here());
    write(block, 62, b"AB\0");
    let (_, free) = (driver::free_with_tag(block, TAG), here());
    expect(
        &machine,
        &[
            format!("overrun 4 bytes right of a 61-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"),
            format!("  caught at {free} ExFreePoolWithTag; bytes +62: 41 42 00 (expected BE BF B0)"),
        ],
    );
    let (block, site) = (driver::allocate(1), here());
    write(block, 1, &[0; 20]);
    let (_, free) = (driver::free(block), here());
    let zeros = "00 ".repeat(16);
    expect(
        &machine,
        &[
            format!("overrun 20 bytes right of a 1-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"),
            format!(
                "  caught at {free} ExFreePool; bytes +1: {zeros}and 4 more (expected B1 B2 B3 B4 B5 B6 B7 B8 B9 BA \
                 BB BC BD BE BF B0)"
            ),
        ],
    );
    ends_well(machine, 2);
}

#[test]
fn an_underrun_is_caught_by_a_full_guard() {
    let machine = Machine::boot();
    for (block, site, bytes) in [
        (driver::allocate_full(61), here(), 61),
        (driver::allocate_full(5000), here(), 5000),
        (driver::allocate_aligned(100), here(), 100),
    ] {
        write(block, -2, b"xy");
        let (_, free) = (driver::free(block), here());
        expect(
            &machine,
            &[
                format!(
                    "underrun 2 bytes left of a {bytes}-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"
                ),
                format!("  caught at {free} ExFreePool; bytes -2: 78 79 (expected BE BF)"),
            ],
        );
    }
    ends_well(machine, 3);
}

#[test]
fn a_full_guard_keeps_every_alignment_and_zeros() {
    let machine = Machine::boot();
    for bytes in [1, 100, 4000, 4070, 4080, 4095, 4096, 10_000] {
        for (block, alignment) in [(driver::allocate_full(bytes), 16), (driver::allocate_aligned(bytes), 64)]
        {
            let address = block.addr();
            assert_eq!(address % if bytes < 4096 { alignment } else { 4096 }, 0);
            assert!(bytes >= 4096 || address / 4096 == (address + bytes - 1) / 4096, "{bytes} cross a page");
            let contents = unsafe { std::slice::from_raw_parts(block.cast::<u8>(), bytes) };
            assert!(contents.iter().all(|byte| *byte == 0));
            driver::free(block);
        }
    }
    assert_eq!(
        memtrack::stats().nonpaged.total_bytes,
        2 * (1 + 100 + 4000 + 4070 + 4080 + 4095 + 4096 + 10_000)
    );
    ends_well(machine, 0);
}

#[test]
fn a_block_without_a_guard_is_what_the_driver_asked_for() {
    let machine = Machine::boot();
    let block = driver::allocate_bare(61);
    assert_eq!(machine.pool(PoolKind::NonPaged).bytes, 61);
    driver::free(block);
    memtrack::configure(Settings::new().guard(Guard::None));
    let block = driver::allocate(62);
    assert_eq!(machine.pool(PoolKind::NonPaged).max_bytes, 61 + 62);
    driver::free(block);
    memtrack::configure(Settings::new().guard(Guard::Full));
    let block = driver::allocate(63);
    write(block, -1, b"x");
    driver::free(block);
    assert!(said(&machine)[0].starts_with("underrun 1 byte left of a 63-byte block"));
    ends_well(machine, 1);
}

#[test]
fn a_double_free_has_three_lines_and_one_free() {
    let machine = Machine::boot();
    let (block, site) = (driver::allocate(61), here());
    let (_, free) = (driver::free_with_tag(block, TAG), here());
    expect(&machine, &[]);
    let (_, again) = (driver::free(block), here());
    expect(
        &machine,
        &[
            format!("double free of a 61-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"),
            format!("  freed at {free} ExFreePoolWithTag"),
            format!("  freed again at {again} ExFreePool; not passed on"),
        ],
    );
    ends_well(machine, 1);
}

#[test]
fn two_threads_that_free_one_block_are_one_free_and_one_report() {
    const ROUNDS: u64 = 300;
    for settings in [
        Settings::new(),
        Settings::new().quarantines(Quarantine::new(100, 4)),
        Settings::new().quarantines(Quarantine::new(0, 10)),
    ] {
        let machine = Machine::boot();
        memtrack::configure(settings);
        for round in 0..ROUNDS {
            let block = driver::allocate(61).addr();
            let barrier = std::sync::Barrier::new(2);
            let free = || {
                barrier.wait();
                driver::free(std::ptr::with_exposed_provenance_mut(block));
            };
            std::thread::scope(|scope| {
                scope.spawn(free);
                scope.spawn(free);
            });
            assert_eq!(memtrack::stats().violations, round + 1, "{settings:?}");
        }
        let lines = said(&machine);
        assert_eq!(lines.len() as u64, 3 * ROUNDS, "{settings:?}");
        ends_well(machine, ROUNDS);
    }
}

#[test]
fn a_block_too_large_to_hold_is_remembered() {
    let machine = Machine::boot();
    let (block, site) = (driver::allocate(1 << 20), here());
    let (_, free) = (driver::free(block), here());
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0, "its memory is not held");
    let (_, again) = (driver::free(block), here());
    expect(
        &machine,
        &[
            format!(
                "freed before, or a reused address: a 1048576-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"
            ),
            format!("  freed at {free} ExFreePool"),
            format!("  freed again at {again} ExFreePool; not passed on"),
        ],
    );
    // Somebody else's block at the very address is nobody's mistake.
    let foreign = unsafe { ntddk::ExAllocatePool2(0x40, (1 << 20) + 32, TAG) };
    assert_eq!(foreign, block);
    driver::free(foreign);
    assert_eq!((memtrack::stats().foreign_frees, memtrack::stats().violations), (1, 1));
    ends_well(machine, 1);
}

#[test]
fn a_write_after_free_is_found_by_check_by_finish_and_when_the_block_leaves() {
    let machine = Machine::boot();
    let (block, site) = (driver::allocate(61), here());
    let (_, free) = (driver::free(block), here());
    write(block, 8, b"Hi");
    let lines = |caught: &str| {
        [
            format!("write after free at +8 of a 61-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"),
            format!("  freed at {free} ExFreePool"),
            format!("  caught {caught}; bytes +8: 48 69 (expected DF DF)"),
        ]
    };
    assert_eq!(memtrack::check(), 1);
    expect(&machine, &lines("by check"));
    assert_eq!(memtrack::check(), 1, "still broken, and said already");
    expect(&machine, &[]);
    ends_well(machine, 1);

    let machine = Machine::boot();
    memtrack::configure(Settings::new().quarantines(Quarantine::new(1000, 2)));
    let (block, site) = (driver::allocate(61), here());
    let (_, free) = (driver::free(block), here());
    write(block, 8, b"Hi");
    driver::free(driver::allocate(1));
    expect(&machine, &[]);
    let pushed = driver::allocate(1);
    let (_, pushes) = (driver::free(pushed), here());
    let lines = |caught: &str| {
        [
            format!("write after free at +8 of a 61-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"),
            format!("  freed at {free} ExFreePool"),
            format!("  caught {caught}; bytes +8: 48 69 (expected DF DF)"),
        ]
    };
    expect(&machine, &lines(&format!("at {pushes} ExFreePool as it left the quarantine")));
    ends_well(machine, 1);

    let machine = Machine::boot();
    let block = driver::allocate_full(61);
    driver::free(block);
    write(block, -1, b"!");
    memtrack::finish("Driver");
    let lines = said(&machine);
    assert!(lines[0].starts_with("write after free at -1 of a 61-byte block"), "{lines:#?}");
    assert_eq!(lines[2], "  caught by finish; bytes -1: 21 (expected BF)");
    assert!(lines.contains(&"also 1 violation".to_owned()), "{lines:#?}");
}

#[test]
fn a_check_finds_what_is_broken_now_and_says_it_once() {
    let machine = Machine::boot();
    let blocks: Vec<PVOID> = (1..100).map(driver::allocate).collect();
    let (paged, site) = (driver::allocate_paged(33), here());
    assert_eq!(memtrack::check(), 0);
    write(blocks[9], 10, b"\x00");
    write(paged, 33, b"\x00");
    assert_eq!(at_dispatch_level(memtrack::check), 1, "paged pool may not be touched there");
    let lines = said(&machine);
    assert!(lines[0].starts_with("overrun 1 byte right of a 10-byte block"), "{lines:#?}");
    assert_eq!(lines[1], "  caught by check; bytes +10: 00 (expected BA)");
    assert_eq!(memtrack::check(), 2);
    expect(
        &machine,
        &[
            format!("overrun 1 byte right of a 33-byte block  {site}  ExAllocatePool2 'Dtct' Paged"),
            "  caught by check; bytes +33: 00 (expected B1)".to_owned(),
        ],
    );
    assert_eq!(memtrack::check(), 2);
    blocks.into_iter().chain([paged]).for_each(driver::free);
    assert_eq!(memtrack::check(), 0);
    expect(&machine, &[]);
    ends_well(machine, 2);
}

#[test]
fn a_wrong_tag_is_mended() {
    let machine = Machine::boot();
    for settings in [Settings::new(), Settings::new().quarantines(Quarantine::OFF)] {
        memtrack::configure(settings);
        let (block, site) = (driver::allocate(61), here());
        let (_, free) = (driver::free_with_tag(block, u32::from_le_bytes(*b"Abc'")), here());
        expect(
            &machine,
            &[
                format!("wrong tag 'Abc%27' for a 61-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"),
                format!("  freed at {free} ExFreePoolWithTag; freed with its own tag"),
            ],
        );
        driver::free_with_tag(driver::allocate(61), 0);
        // What was allocated without a tag may have one all the same, in a driver's own macro of that name.
        driver::free_with_tag(driver::allocate_untagged(61), u32::from_le_bytes(*b"None"));
        expect(&machine, &[]);
    }
    ends_well(machine, 2);
}

#[test]
fn a_free_of_a_blocks_inside_names_the_block() {
    let machine = Machine::boot();
    let large = driver::allocate(3 << 20);
    let many: Vec<PVOID> = (0..2000).map(|_| driver::allocate(100)).collect();
    for (bytes, into) in [(61, 1), (61, 60), (4000, 3999), (40_000, 39_999)] {
        let (block, site) = (driver::allocate(bytes), here());
        let (_, free) = (driver::free(block.wrapping_byte_add(into)), here());
        let unit = if into == 1 { "byte" } else { "bytes" };
        expect(
            &machine,
            &[
                format!(
                    "free {into} {unit} into a {bytes}-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"
                ),
                format!("  freed at {free} ExFreePool; not passed on"),
            ],
        );
        driver::free(block);
    }
    many.into_iter().chain([large]).for_each(driver::free);
    ends_well(machine, 4);
}

#[test]
fn a_request_for_nothing_is_said_and_passed_on() {
    let machine = Machine::boot();
    let (block, site) = (driver::allocate(0), here());
    assert!(block.is_null(), "as without memtrack");
    expect(
        &machine,
        &[
            format!("request of 0 bytes  {site}  ExAllocatePool2 'Dtct' NonPaged"),
            format!("  asked at {site} ExAllocatePool2; passed on"),
            format!(
                "exhausted 0 bytes  {site}  ExAllocatePool2 'Dtct' NonPaged  refusal 1; outstanding NonPaged 0 blocks 0 \
                 bytes, Paged 0 blocks 0 bytes; none held"
            ),
        ],
    );
    let (block, site) = (driver::allocate_of_type(512, 0), here());
    assert!(!block.is_null(), "the older functions give a block");
    expect(
        &machine,
        &[
            format!("request of 0 bytes  {site}  ExAllocatePoolWithTag 'Dtct' NonPaged"),
            format!("  asked at {site} ExAllocatePoolWithTag; passed on"),
        ],
    );
    write(block, 0, b"x");
    driver::free(block);
    assert!(said(&machine)[0].starts_with("overrun 1 byte right of a 0-byte block"));
    ends_well(machine, 3);
}

#[test]
fn paged_memory_asked_for_at_dispatch_level_is_nonpaged() {
    let machine = Machine::boot();
    let (block, site) = at_dispatch_level(|| (driver::allocate_paged(98), here()));
    expect(
        &machine,
        &[
            format!("paged request of 98 bytes at IRQL 2  {site}  ExAllocatePool2 'Dtct' Paged"),
            format!("  asked at {site} ExAllocatePool2; given nonpaged pool instead"),
        ],
    );
    assert_eq!((machine.pool(PoolKind::NonPaged).blocks, machine.pool(PoolKind::Paged).blocks), (1, 0));
    assert_eq!(memtrack::stats().pool(Pool::NonPaged).curr_bytes, 98);
    at_dispatch_level(|| driver::free(block));
    let block = at_dispatch_level(|| driver::allocate_of_type(5, 98));
    assert_eq!(block.addr() % 64, 0, "cache-aligned as asked");
    driver::free(block);
    assert_eq!(said(&machine).len(), 2);
    ends_well(machine, 2);
}

#[test]
fn paged_memory_freed_at_dispatch_level_goes_back_later() {
    let machine = Machine::boot();
    for settings in [Settings::new(), Settings::new().quarantines(Quarantine::OFF)] {
        memtrack::configure(settings);
        let (block, site) = (driver::allocate_paged(98), here());
        let (_, free) = at_dispatch_level(|| (driver::free(block), here()));
        expect(
            &machine,
            &[
                format!("paged free at IRQL 2 of a 98-byte block  {site}  ExAllocatePool2 'Dtct' Paged"),
                format!("  freed at {free} ExFreePool; held until paged pool may be freed"),
            ],
        );
        assert_eq!((memtrack::stats().held_blocks, machine.pool(PoolKind::Paged).blocks), (1, 1));
        at_dispatch_level(|| driver::free(driver::allocate(1)));
        assert_eq!(machine.pool(PoolKind::Paged).blocks, 1, "not yet");
        memtrack::configure(Settings::new().quarantines(Quarantine::OFF));
        assert_eq!(machine.pool(PoolKind::Paged).blocks, 0);
    }
    ends_well(machine, 2);
}

#[test]
fn above_dispatch_level_a_call_is_the_kernels_alone() {
    let machine = Machine::boot();
    let block = driver::allocate(61);
    for call in [|| _ = driver::allocate(61), || driver::free(std::ptr::dangling_mut())] {
        let stopped = catch_bugcheck(|| {
            unsafe { ntddk::KfRaiseIrql(5) };
            call();
        });
        assert_eq!(stopped.unwrap_err().name(), Some("BAD_POOL_CALLER"));
        let lines = machine.take_output();
        assert!(lines[0].starts_with("memtrack: pool call at IRQL 5"), "{lines:#?}");
        assert!(lines[1].contains("  called at ") && lines[1].contains("; passed on"), "{lines:#?}");
    }
    driver::free(block);
    // The machine was about to stop, and the books are not touched at such a level.
    ends_well(machine, 0);
}

#[test]
fn what_the_quarantines_hold_stays_within_their_bounds() {
    let machine = Machine::boot();
    memtrack::configure(
        Settings::new()
            .quarantine(Pool::NonPaged, Quarantine::new(4096, 20))
            .quarantine(Pool::Paged, Quarantine::new(100_000, 5)),
    );
    for bytes in [1, 100, 1000, 3000, 5000].into_iter().cycle().take(500) {
        driver::free(driver::allocate(bytes));
        driver::free(driver::allocate_paged(bytes));
        let (nonpaged, paged) = (machine.pool(PoolKind::NonPaged), machine.pool(PoolKind::Paged));
        assert!(nonpaged.bytes <= 4096 && nonpaged.blocks <= 20, "{nonpaged:?}");
        assert!(paged.bytes <= 100_000 && paged.blocks <= 5, "{paged:?}");
        let stats = memtrack::stats();
        assert_eq!(stats.held_blocks, nonpaged.blocks + paged.blocks);
        assert_eq!(stats.held_bytes, nonpaged.bytes + paged.bytes);
    }
    assert_eq!(machine.pool(PoolKind::Paged).blocks, 5);
    memtrack::configure(Settings::new().quarantines(Quarantine::OFF));
    assert_eq!(memtrack::stats().held_blocks, 0);
    driver::free(driver::allocate(1));
    assert_eq!(machine.pool(PoolKind::NonPaged).blocks, 0);
    ends_well(machine, 0);
}

#[test]
fn what_is_held_makes_room_before_the_driver_is_refused() {
    let machine = Machine::boot();
    machine.set_pool_limit(PoolKind::Paged, Some(4096));
    for _ in 0..10 {
        let block = driver::allocate_paged(4096);
        assert!(!block.is_null(), "as without memtrack");
        assert!(driver::allocate_paged(1).is_null());
        driver::free(block);
        let small = driver::allocate_paged(100);
        driver::free(small);
    }
    assert_eq!(memtrack::stats().failures, 10);
    assert_eq!(said(&machine).len(), 4, "the first refusal and each doubling");
    ends_well(machine, 0);
}

#[test]
fn blocks_that_others_free_and_addresses_that_come_again_are_no_mistake() {
    let machine = Machine::boot();
    for settings in [Settings::new(), Settings::new().quarantines(Quarantine::OFF)] {
        memtrack::configure(settings);
        // Handed over, freed there, and the address is somebody's who hands it to the driver to free: shorter, written
        // to its end and beyond what ours was, under another tag, in another pool's name.
        for (ours, theirs) in [(61, 80), (33, 60), (100, 120), (5000, 8000), (1 << 20, (1 << 20) + 32)] {
            let block = driver::allocate(ours);
            unsafe { ntddk::ExFreePool(block) };
            let again =
                unsafe { ntddk::ExAllocatePoolWithTag(0, theirs as u64, u32::from_le_bytes(*b"Othr")) };
            assert_eq!(again, block, "the address comes again");
            unsafe { again.write_bytes(0xEE, theirs) };
            assert_eq!(memtrack::check(), 0);
            driver::free_with_tag(again, u32::from_le_bytes(*b"Othr"));
        }
    }
    let stats = memtrack::stats();
    assert_eq!((stats.violations, stats.curr_blocks()), (0, 0));
    assert!(stats.foreign_frees == 10 && stats.vanished_blocks <= 10, "{stats:?}");
    expect(&machine, &[]);
    ends_well(machine, 0);
}

/// A driver's own function of a kernel function's name, which keeps a block beside each that it gives.
#[test]
fn a_wrapper_may_allocate_more_than_it_gives() {
    mod own {
        use memtrack_sim::{PVOID, ntddk};
        use std::cell::Cell;

        thread_local! {
            static BESIDE: Cell<PVOID> = const { Cell::new(std::ptr::null_mut()) };
        }

        #[allow(non_snake_case, reason = "the kernel's name")]
        pub fn ExAllocatePool2(flags: u64, bytes: u64, tag: u32) -> PVOID {
            let block = unsafe { ntddk::ExAllocatePool2(flags, bytes, tag) };
            BESIDE.set(unsafe { ntddk::ExAllocatePool2(flags, 16, tag) });
            block
        }

        #[allow(non_snake_case, reason = "the kernel's name")]
        pub fn ExFreePool(block: PVOID) {
            unsafe { ntddk::ExFreePool(block) };
            unsafe { ntddk::ExFreePool(BESIDE.take()) };
        }
    }
    #[memtrack::instrument]
    fn run() {
        for _ in 0..10 {
            let block = own::ExAllocatePool2(0x40, 61, TAG);
            own::ExFreePool(block);
        }
    }
    let machine = Machine::boot();
    memtrack::configure(Settings::new().quarantines(Quarantine::OFF));
    run();
    assert_eq!((memtrack::stats().foreign_frees, memtrack::stats().vanished_blocks), (0, 0));
    ends_well(machine, 0);
}

/// A tracked function of the driver's own, named like the kernel's, over other tracked functions.
#[test]
fn a_block_may_be_tracked_twice() {
    #[allow(non_snake_case, reason = "the kernel's names")]
    mod own {
        use memtrack_sim::{PVOID, ntddk};

        #[memtrack::instrument(guard = "full")]
        fn get(bytes: u64) -> PVOID {
            unsafe { ntddk::ExAllocatePool2(0x40, bytes, 1) }
        }

        #[memtrack::instrument]
        fn put(block: PVOID) {
            unsafe { ntddk::ExFreePool(block) }
        }

        pub fn ExAllocatePool(_: i32, bytes: u64) -> PVOID {
            get(bytes)
        }

        pub fn ExFreePool(block: PVOID) {
            put(block);
        }
    }
    #[memtrack::instrument]
    fn run() {
        let blocks: Vec<PVOID> = (1..50).map(|bytes| own::ExAllocatePool(0, bytes)).collect();
        assert_eq!(memtrack::stats().curr_blocks(), 49);
        blocks.into_iter().for_each(|block| own::ExFreePool(block));
    }
    let machine = Machine::boot();
    for settings in [Settings::new(), Settings::new().quarantines(Quarantine::OFF)] {
        memtrack::configure(settings);
        run();
    }
    ends_well(machine, 0);
}

#[test]
fn a_block_freed_by_others_and_then_by_the_driver_is_a_double_free() {
    let machine = Machine::boot();
    let (block, site) = (driver::allocate(61), here());
    unsafe { ntddk::ExFreePool(block) };
    let (_, again) = (driver::free(block), here());
    expect(
        &machine,
        &[
            format!("double free of a 61-byte block  {site}  ExAllocatePool2 'Dtct' NonPaged"),
            format!(
                "  freed again at {again} ExFreePool; freed before by code that is not annotated; not passed on"
            ),
        ],
    );
    ends_well(machine, 1);
}

#[test]
#[should_panic(expected = "memtrack: double free of a 61-byte block  tests")]
fn by_policy_a_test_fails_at_the_mistake() {
    let _machine = Machine::boot();
    memtrack::configure(Settings::new().policy(Policy::BugCheck));
    let block = driver::allocate(61);
    driver::free(block);
    driver::free(block);
}

#[test]
fn a_boot_begins_with_the_first_settings() {
    let machine = Machine::boot();
    memtrack::configure(Settings::new().policy(Policy::BugCheck).quarantines(Quarantine::OFF));
    drop(machine);
    let machine = Machine::boot();
    let block = driver::allocate(1);
    driver::free(block);
    driver::free(block);
    assert_eq!(memtrack::stats().held_blocks, 1);
    assert!(said(&machine)[0].starts_with("double free of a 1-byte block"));
    ends_well(machine, 1);
}
