//! What drivers' bindings make of the kernel's types: which of them are guarded and held, that each block goes back
//! through the binding that it came from, and that what cannot be read or changed is left alone.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use memtrack_rt::{Function, Guard, Location, Policy, Quarantine, Settings, Tracker};

mod desk;
#[path = "desk/pool.rs"]
mod pool;
use desk::{Calls, Desk, NON_PAGED, PAGED, at_irql};
use pool::Pool;

const ALLOCATE: Function = Function::ExAllocatePool2;
const ALLOCATE_3: Function = Function::ExAllocatePool3;
const FREE: Function = Function::ExFreePoolWithTag;

fn tracker(settings: Settings) -> Tracker<Desk> {
    let tracker = Tracker::new(Desk::default());
    tracker.configure(settings);
    tracker
}

fn write(address: usize, at: isize, byte: u8) {
    // SAFETY: every test writes within a block and its guards.
    unsafe { with_exposed_provenance_mut::<u8>(address).offset(at).write(byte) };
}

/// The first lines of what was said, without marks.
fn headlines(tracker: &Tracker<Desk>) -> Vec<String> {
    let lines = tracker.platform().take_lines();
    let first = |line: &&String| line.contains(".1 ") || line.ends_with(".1") || line.contains(".1/");
    lines.iter().filter(first).map(|line| line["memtrack: ".len()..].to_owned()).collect()
}

#[test]
fn sizes_and_results_of_every_kind_are_guarded() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new().guard(Guard::Full));
    let here = Location::caller();
    struct Bytes(u32);
    struct Block(usize);
    let blocks = [
        tracker.ask(here, ALLOCATE, None, (0x40_u32, 61_u32, 1_u32), |(_, bytes, _)| {
            with_exposed_provenance_mut::<u16>(POOL.give(bytes as usize))
        }) as usize,
        tracker
            .ask(here, ALLOCATE, None, (0x40_u64, 61_usize, 1_u32), |(_, bytes, _)| {
                NonNull::new(with_exposed_provenance_mut::<u8>(POOL.give(bytes)))
            })
            .unwrap()
            .addr()
            .get(),
        tracker
            .ask(here, ALLOCATE, None, (0x40_i32, Bytes(61), 1_i32), |(_, bytes, _)| {
                NonNull::new(with_exposed_provenance_mut::<u8>(POOL.give(bytes.0 as usize))).unwrap()
            })
            .addr()
            .get(),
        tracker.ask(here, ALLOCATE, None, (0x40_u64, 61_u8, 1_u32), |(_, bytes, _)| {
            POOL.give(bytes.into()) as u64
        }) as usize,
        tracker
            .ask(here, ALLOCATE, None, (0x40_u64, 61_u64, 1_u32), |(_, bytes, _)| {
                Block(POOL.give(bytes as usize))
            })
            .0,
    ];
    assert_eq!(POOL.usage().0, 5);
    assert_eq!(tracker.stats().nonpaged.curr_bytes, 5 * 61);
    for block in blocks {
        write(block, 61, 0);
        write(block, -1, 0);
        tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block));
    }
    let said = headlines(&tracker);
    assert_eq!(said.len(), 10, "{said:#?}");
    assert!(
        said.iter().step_by(2).all(|line| line.starts_with("underrun 1 byte left of a 61-byte")),
        "{said:#?}"
    );
    assert!(said.iter().skip(1).step_by(2).all(|line| line.starts_with("overrun 1 byte right of a 61-byte")));
    assert_eq!(tracker.finish("Kinds").violations, 10);
    assert_eq!(POOL.usage(), (0, 0));
}

#[test]
fn what_takes_no_other_number_is_left_as_it_is() {
    static POOL: Pool = Pool::new();
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(u64)]
    #[allow(dead_code)]
    enum Size {
        Small = 61,
    }
    let tracker = tracker(Settings::new().guard(Guard::Full));
    let here = Location::caller();
    let size = &61_u64;
    let blocks = [
        tracker.ask(here, ALLOCATE, None, (NON_PAGED, Size::Small, 1_u32), |(_, bytes, _)| {
            assert_eq!(bytes, Size::Small);
            POOL.give(61)
        }),
        tracker.ask(
            here,
            ALLOCATE,
            None,
            (NON_PAGED, NonZeroU64::new(61).unwrap(), 1_u32),
            |(_, bytes, _)| {
                assert_eq!(bytes.get(), 61);
                POOL.give(61)
            },
        ),
        // A reference is no size, whatever number it reads as.
        tracker.ask(here, ALLOCATE, None, (NON_PAGED, size, 1_u32), |(_, bytes, _)| {
            assert_eq!(*bytes, 61);
            POOL.give(61)
        }),
    ];
    // A block whose length is part of the result must have the length that was asked for.
    let slice = tracker.ask(here, ALLOCATE, None, (NON_PAGED, 61_usize, 1_u32), |(_, bytes, _)| {
        let start = NonNull::new(with_exposed_provenance_mut::<u8>(POOL.give(bytes))).unwrap();
        NonNull::slice_from_raw_parts(start, bytes)
    });
    assert_eq!(slice.len(), 61);
    // What is no address is none that could be written to.
    let short = tracker.ask(here, ALLOCATE, None, (NON_PAGED, 61_usize, 1_u32), |(_, bytes, _)| {
        assert_eq!(bytes, 61);
        7_u32
    });
    assert_eq!(short, 7);
    assert_eq!(POOL.usage(), (4, 4 * 61));
    for block in blocks {
        tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block));
    }
    POOL.take(slice.as_ptr().addr());
    let stats = tracker.finish("Odd");
    // The slice and the block of that size are not recorded; the latter is freed all the same.
    assert_eq!((stats.violations, stats.unrecorded_blocks, stats.foreign_frees), (0, 2, 1));
    assert_eq!(POOL.usage(), (0, 0));
}

#[test]
fn held_blocks_go_back_through_their_own_binding() {
    static ONE: Pool = Pool::new();
    static OTHER: Pool = Pool::new();
    let tracker = tracker(Settings::new().quarantines(Quarantine::new(1 << 20, 3)));
    let here = Location::caller();
    for round in 0..100_usize {
        let bytes = 1 + round * 7 % 300;
        let (one, other) = (
            tracker.ask(here, ALLOCATE, None, (NON_PAGED, bytes, 1_u32), |(_, bytes, _)| ONE.give(bytes)),
            tracker.ask(here, ALLOCATE, None, (PAGED, bytes, 2_u32), |(_, bytes, _)| OTHER.give(bytes)),
        );
        tracker.give(here, Function::ExFreePool, (one,), |(block,)| ONE.take(block));
        let pointer = NonNull::new(with_exposed_provenance_mut::<u8>(other)).unwrap();
        tracker.give(here, FREE, (pointer, 2_u32), |(block, tag)| {
            assert_eq!(tag, 2);
            OTHER.take(block.addr().get());
        });
        assert!(ONE.usage().0 <= 3 && OTHER.usage().0 <= 3);
    }
    assert_eq!((ONE.usage().0, OTHER.usage().0), (3, 3));
    assert_eq!((tracker.stats().held_blocks, tracker.stats().violations), (6, 0));
    assert_eq!(tracker.finish("Bindings").curr_blocks(), 0);
    assert_eq!((ONE.usage(), OTHER.usage()), ((0, 0), (0, 0)));
}

#[test]
fn the_oldest_leave_first() {
    static POOL: Pool = Pool::new();
    static WENT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let tracker = tracker(Settings::new().quarantines(Quarantine::new(2000, 100)));
    let here = Location::caller();
    let mut freed = Vec::new();
    for round in 0..200_usize {
        let bytes = 1 + round * 37 % 400;
        let block =
            tracker.ask(here, ALLOCATE, None, (NON_PAGED, bytes, 1_u32), |(_, bytes, _)| POOL.give(bytes));
        freed.push(block);
        tracker.give(here, Function::ExFreePool, (block,), |(block,)| {
            WENT.lock().unwrap().push(block);
            // It is not given to the host, so that no address comes again.
        });
        let held = tracker.stats();
        assert!(held.held_bytes <= 2000, "{held:?}");
        let went = WENT.lock().unwrap().len();
        assert_eq!(held.held_blocks as usize, freed.len() - went);
    }
    tracker.finish("Order");
    assert_eq!(*WENT.lock().unwrap(), freed);
    freed.into_iter().for_each(|block| POOL.take(block));
}

/// Frees whose result nobody can make up, or whose arguments nobody can keep.
#[test]
fn a_free_that_cannot_be_left_out_is_made() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    let give =
        || tracker.ask(here, ALLOCATE, None, (NON_PAGED, 61_usize, 1_u32), |(_, bytes, _)| POOL.give(bytes));
    let result = tracker.give(here, FREE, (give(), 1_u32), |(block, _)| {
        POOL.take(block);
        Ok::<(), u32>(())
    });
    assert_eq!((result, POOL.usage().0), (Ok(()), 0));
    let captured = 1_u32;
    let tag = move |tag| assert_eq!(tag, captured);
    tracker.give(here, FREE, (give(), 1_u32), |(block, given)| {
        tag(given);
        POOL.take(block);
    });
    assert_eq!(POOL.usage().0, 0, "a closure with captures is not kept");
    tracker.give(here, FREE, (give(), NonZeroUsize::MIN), |(block, _)| POOL.take(block));
    tracker.give(here, FREE, (give(), "tag"), |(block, _)| POOL.take(block));
    tracker.give(
        here,
        Function::ExFreePool2,
        (give(), 1_u32, &raw const PRIORITY, 1_u32),
        |(block, _, _, count)| {
            assert_eq!(count, 1);
            POOL.take(block);
        },
    );
    assert_eq!(POOL.usage().0, 0);
    // A number that is made up would be seen to be.
    let status = tracker.give(here, FREE, (give(), 1_u32), |(block, _)| {
        POOL.take(block);
        -1_i32
    });
    assert_eq!((status, POOL.usage().0), (-1, 0));
    assert_eq!(tracker.finish("Results").violations, 0);
    assert_eq!(POOL.usage().0, 0);
}

#[test]
fn a_second_free_that_cannot_be_left_out_is_said_to_be_passed_on() {
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    static POOL: Pool = Pool::new();
    let block =
        tracker.ask(here, ALLOCATE, None, (NON_PAGED, 61_usize, 1_u32), |(_, bytes, _)| POOL.give(bytes));
    let mut calls = 0;
    for _ in 0..2 {
        let freed = tracker.give(here, FREE, (block, 1_u32), |_| Some("freed"));
        calls += usize::from(freed.is_some());
    }
    assert_eq!(calls, 2);
    let lines = tracker.platform().take_lines();
    assert!(lines[0].contains("freed before, or a reused address: a 61-byte block"), "{lines:#?}");
    assert!(lines[2].contains("; passed on"), "{lines:#?}");
    tracker.finish("Twice");
    POOL.take(block);
}

/// `POOL_EXTENDED_PARAMETER`, as far as it matters here.
#[repr(C)]
struct Parameter {
    kind: u64,
    value: u64,
}

static PRIORITY: Parameter = Parameter { kind: 1, value: 16 };
const SECURE: Parameter = Parameter { kind: 2, value: 0x5000 };

#[test]
fn a_secure_pools_block_is_not_touched() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new().guard(Guard::Full));
    let here = Location::caller();
    let list = [Parameter { ..PRIORITY }, SECURE];
    let allocate = |count: u32| {
        let arguments = (NON_PAGED, 61_u64, 1_u32, list.as_ptr(), count);
        tracker.ask(here, ALLOCATE_3, None, arguments, |(_, bytes, _, _, _)| POOL.give(bytes as usize))
    };
    let secure = allocate(2);
    assert_eq!(POOL.usage(), (1, 61), "as long as the buffer that the driver gave with it");
    let untouched = |address: usize| {
        // SAFETY: the block is so long.
        let bytes = unsafe { std::slice::from_raw_parts(with_exposed_provenance_mut::<u8>(address), 61) };
        bytes.iter().all(|byte| *byte == 0xCD)
    };
    assert_eq!(tracker.check(), 0);
    tracker.give(here, Function::ExFreePool2, (secure, 1_u32, list.as_ptr(), 2_u32), |(block, _, _, _)| {
        assert!(untouched(block));
        POOL.take(block);
    });
    assert_eq!(POOL.usage(), (0, 0), "it is not held");
    assert_eq!(tracker.platform().take_lines(), [] as [&str; 0]);

    let ordinary = allocate(1);
    assert!(POOL.usage().1 > 61, "a priority makes no difference");
    tracker.give(here, Function::ExFreePool2, (ordinary, 1_u32, list.as_ptr(), 2_u32), |(block, _, _, _)| {
        POOL.take(block)
    });
    let secure = allocate(2);
    tracker.give(here, Function::ExFreePool, (secure,), |(block,)| {
        assert!(untouched(block));
        POOL.take(block);
    });
    let said = headlines(&tracker);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said.iter().all(|line| line.starts_with("wrong function for a 61-byte block")), "{said:#?}");
    tracker.finish("Secure");
}

/// Findings of a reviewer: what the driver may count on though the tracker has no memory, and what goes to the kernel
/// once and not twice.
#[test]
fn zeros_stay_zeros_though_a_block_cannot_be_recorded() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new().guard(Guard::Full));
    tracker.platform().refuse_memory(true);
    for bytes in [61_usize, 5000] {
        let block =
            tracker.ask(Location::caller(), ALLOCATE, None, (NON_PAGED, bytes, 1_u32), |(_, bytes, _)| {
                let block = POOL.give(bytes);
                // SAFETY: the block is so long.
                unsafe { with_exposed_provenance_mut::<u8>(block).write_bytes(0, bytes) };
                block
            });
        // SAFETY: as above.
        let contents = unsafe { std::slice::from_raw_parts(with_exposed_provenance_mut::<u8>(block), bytes) };
        assert!(contents.iter().all(|byte| *byte == 0));
        POOL.take(block);
    }
    tracker.finish("Zeros");
}

#[test]
fn what_is_freed_by_a_binding_that_returns_something_goes_back_once() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    let block =
        tracker.ask(here, ALLOCATE, None, (NON_PAGED, 61_usize, 1_u32), |(_, bytes, _)| POOL.give(bytes));
    tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block));
    assert_eq!(POOL.usage().0, 1, "held");
    let passed = tracker.give(here, FREE, (block, 1_u32), |(block, _)| {
        POOL.take(block);
        Ok::<(), u32>(())
    });
    assert_eq!((passed, POOL.usage().0), (Ok(()), 0));
    let lines = tracker.platform().take_lines();
    assert!(lines[2].contains("freed again at") && lines[2].contains("; passed on"), "{lines:#?}");
    tracker.finish("Once"); // would free it again, and the pool would panic
}

#[test]
fn a_session_pools_block_is_left_alone() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new().guard(Guard::Full));
    let here = Location::caller();
    for (function, pool) in [(ALLOCATE, NON_PAGED | 4), (Function::ExAllocatePoolWithTag, 33)] {
        let block =
            tracker.ask(here, function, None, (pool, 61_usize, 1_u32), |(_, bytes, _)| POOL.give(bytes));
        assert_eq!((POOL.usage(), tracker.check()), ((1, 61), 0));
        tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block));
        assert_eq!(POOL.usage().0, 0, "it is not held");
    }
    assert_eq!(tracker.finish("Session").violations, 0);
}

#[test]
fn an_address_that_comes_again_in_front_of_a_guard_has_vanished() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    let allocate = |guard, address: usize| {
        tracker.ask(here, ALLOCATE, Some(guard), (NON_PAGED, 61_usize, 1_u32), |_| address)
    };
    let base = POOL.give(128);
    assert_eq!(allocate(Guard::Tail, base), base);
    let moved = allocate(Guard::Full, base);
    assert_eq!((moved, tracker.stats().vanished_blocks, tracker.stats().curr_blocks()), (base + 16, 1, 1));
    tracker.give(here, FREE, (moved, 1_u32), |(block, _)| POOL.take(block));
    tracker.finish("Again");
    assert_eq!(POOL.usage(), (0, 0));
}

#[test]
fn an_overrun_of_a_block_that_could_not_be_looked_at_is_said_when_it_leaves() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    let block = tracker.ask(here, ALLOCATE, None, (PAGED, 61_usize, 1_u32), |(_, bytes, _)| POOL.give(bytes));
    write(block, 61, 0);
    at_irql(2, || tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block)));
    assert_eq!(tracker.finish("Late").violations, 2);
    let said = headlines(&tracker);
    assert!(said[0].starts_with("paged free at IRQL 2 of a 61-byte block"), "{said:#?}");
    assert!(said[1].starts_with("overrun 1 byte right of a 61-byte block"), "{said:#?}");
    assert_eq!(POOL.usage(), (0, 0));
}

/// A driver's own function may free another block when it is called: one by one, and not each in the frame of the one
/// before.
#[test]
fn a_free_that_frees_does_not_pile_up() {
    static POOL: Pool = Pool::new();
    static TRACKER: Tracker<Desk> = Tracker::new(Desk::new());
    static DEPTH: AtomicUsize = AtomicUsize::new(0);
    static DEEPEST: AtomicUsize = AtomicUsize::new(0);
    fn allocate() -> usize {
        let arguments = (NON_PAGED, 61_usize, 1_u32);
        TRACKER.ask(Location::caller(), ALLOCATE, None, arguments, |(_, bytes, _)| POOL.give(bytes))
    }
    fn free_one(block: usize) {
        TRACKER.give(Location::caller(), FREE, (block, 1_u32), |(block, _)| POOL.take(block));
    }
    fn free_with_another(block: usize) {
        TRACKER.give(Location::caller(), FREE, (block, 1_u32), |(block, _)| {
            DEEPEST.fetch_max(DEPTH.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            POOL.take(block);
            free_one(allocate());
            DEPTH.fetch_sub(1, Ordering::Relaxed);
        });
    }
    (0..400).for_each(|_| free_with_another(allocate()));
    TRACKER.configure(Settings::new().quarantines(Quarantine::new(1 << 20, 3)));
    assert!(TRACKER.stats().held_blocks <= 3);
    assert_eq!(DEEPEST.load(Ordering::Relaxed), 1);
    TRACKER.finish("Deep");
    assert_eq!(POOL.usage(), (0, 0));
}

#[test]
fn policies_do_what_they_say() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new().policy(Policy::Break));
    let here = Location::caller();
    let double = || {
        let block = tracker
            .ask(here, ALLOCATE, None, (NON_PAGED, 61_u64, 1_u32), |(_, bytes, _)| POOL.give(bytes as usize));
        for _ in 0..2 {
            tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block));
        }
        block
    };
    double();
    assert_eq!((tracker.platform().breaks(), tracker.platform().take_bugchecks()), (1, vec![]));
    tracker.configure(Settings::new().policy(Policy::BugCheck));
    let block = double();
    let bugchecks = tracker.platform().take_bugchecks();
    let [([number, address, _, place], text)] = bugchecks.as_slice() else { panic!("{bugchecks:?}") };
    assert_eq!((*number, *address), (4, block));
    assert_eq!(*place, (here.line() as usize) << 32 | here.column() as usize);
    let site = format!("  {}:{}:{}  ExAllocatePool2 ", here.file(), here.line(), here.column());
    assert!(text.starts_with(&format!("memtrack: double free of a 61-byte block{site}")), "{text}");
    assert_eq!(tracker.platform().breaks(), 1);
    assert_eq!(tracker.finish("Policies").violations, 2);
}

#[test]
fn a_machine_that_cannot_tell_is_believed_and_one_that_can_is_asked() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    let address = POOL.give(80);
    tracker.platform().moves_in(address, 1);
    tracker.ask(here, ALLOCATE, None, (NON_PAGED, 61_usize, 1_u32), |_| address);
    write(address, 61, 0);
    for (tenant, broken) in [(2, 0), (0, 0), (1, 1)] {
        tracker.platform().moves_in(address, tenant);
        assert_eq!(tracker.check(), broken, "{tenant}");
    }
    assert_eq!(headlines(&tracker).len(), 1);
    // Another block lives here now: it is passed on as it is, whatever is wrong with ours.
    tracker.platform().moves_in(address, 2);
    tracker.give(here, FREE, (address, 9_u32), |(block, tag)| {
        assert_eq!(tag, 9);
        POOL.take(block);
    });
    let stats = tracker.finish("Tenants");
    assert_eq!(
        (stats.violations, stats.foreign_frees, stats.vanished_blocks, stats.curr_blocks()),
        (1, 1, 1, 0)
    );
    assert_eq!(POOL.usage(), (0, 0));
}

#[test]
fn without_memory_of_its_own_the_tracker_holds_nothing_and_loses_nothing() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    let allocate = |flags: u64| {
        tracker.ask(here, ALLOCATE, None, (flags, 61_usize, 1_u32), |(_, bytes, _)| POOL.give(bytes))
    };
    let free = |block| tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block));
    let (first, second) = (allocate(NON_PAGED), allocate(PAGED));
    tracker.platform().refuse_memory(true);
    free(first);
    assert_eq!((POOL.usage().0, tracker.stats().curr_blocks(), tracker.stats().held_blocks), (1, 1, 0));
    // Where it would have to be held and cannot, it is passed on.
    at_irql(2, || free(second));
    assert_eq!(POOL.usage().0, 0);
    let lines = tracker.platform().take_lines();
    assert!(lines[0].contains("paged free at IRQL 2 of a 61-byte block"), "{lines:#?}");
    assert!(lines[1].contains("; passed on"), "{lines:#?}");
    tracker.platform().refuse_memory(false);
    free(allocate(NON_PAGED));
    assert_eq!(tracker.stats().held_blocks, 1);
    assert_eq!(tracker.finish("Poor").foreign_frees, 0);
    assert_eq!(POOL.usage(), (0, 0));
}

#[test]
fn finish_at_dispatch_level_says_what_it_leaves_behind() {
    static POOL: Pool = Pool::new();
    let tracker = tracker(Settings::new());
    let here = Location::caller();
    let block = tracker.ask(here, ALLOCATE, None, (PAGED, 61_usize, 1_u32), |(_, bytes, _)| POOL.give(bytes));
    tracker.give(here, FREE, (block, 1_u32), |(block, _)| POOL.take(block));
    let stats = at_irql(2, || tracker.finish("Dpc"));
    assert_eq!((stats.held_blocks, stats.curr_blocks()), (1, 0));
    let lines = tracker.platform().take_lines();
    assert!(lines.iter().any(|line| line.contains("also 1 held block")), "{lines:#?}");
    POOL.take(block);
}
