//! SLISTs: the last in is the first out, however many threads push and pop.

mod common;

use std::{collections::HashSet, mem::offset_of, ptr::null_mut};

use common::{DISPATCH, at, kernel};
use memtrack_sim::{ntddk::*, *};

/// An entry as a driver has it: the link first, what it is about behind it.
#[repr(C)]
#[derive(Default)]
struct Item {
    link: SLIST_ENTRY,
    number: u64,
}

fn empty() -> SLIST_HEADER {
    let mut head = SLIST_HEADER::default();
    kernel!(InitializeSListHead(&mut head));
    head
}

fn exception(status: NTSTATUS, address: usize) -> BugCheck {
    let parameters = [i64::from(status) as u64, 0, 1, address as u64];
    BugCheck { code: KMODE_EXCEPTION_NOT_HANDLED, parameters }
}

#[test]
fn the_types_lie_in_memory_as_in_the_kernel() {
    assert_eq!((size_of::<SLIST_ENTRY>(), align_of::<SLIST_ENTRY>()), (16, 16));
    assert_eq!((size_of::<SLIST_HEADER>(), align_of::<SLIST_HEADER>()), (16, 16));
    assert_eq!((size_of::<LIST_ENTRY>(), offset_of!(LIST_ENTRY, Blink)), (16, 8));

    let mut head = SLIST_HEADER::default();
    // SAFETY: all of a header's members are words.
    unsafe {
        head.HeaderX64.set_Depth(0x1_2345);
        head.HeaderX64.set_Sequence(0xABCD_EF01_2345);
        head.HeaderX64.set_NextEntry(0x0123_4567_89AB_CDEF);
        assert_eq!(head.__bindgen_anon_1.Alignment, 0xABCD_EF01_2345_2345);
        assert_eq!(head.__bindgen_anon_1.Region, 0x1234_5678_9ABC_DEF0);
        let fields = head.HeaderX64;
        assert_eq!((fields.Depth(), fields.Sequence()), (0x2345, 0xABCD_EF01_2345));
        assert_eq!((fields.Reserved(), fields.NextEntry()), (0, 0x0123_4567_89AB_CDEF));
        head.HeaderX64.set_Reserved(0xFF);
        assert_eq!(head.__bindgen_anon_1.Region, 0x1234_5678_9ABC_DEFF);
    }
}

#[test]
fn the_last_in_is_the_first_out() {
    let _machine = Machine::boot();
    let mut head = empty();
    let mut items: [Item; 3] = Default::default();
    let [first, second, third] = items.each_mut().map(|item| std::ptr::from_mut(item).cast::<SLIST_ENTRY>());
    assert_eq!(kernel!(ExpInterlockedPopEntrySList(&mut head)), null_mut());
    assert_eq!(kernel!(ExpInterlockedPushEntrySList(&mut head, first)), null_mut());
    assert_eq!(kernel!(ExpInterlockedPushEntrySList(&mut head, second)), first);
    assert_eq!(kernel!(ExpInterlockedPushEntrySList(&mut head, third)), second);
    assert_eq!(kernel!(ExQueryDepthSList(&mut head)), 3);
    assert_eq!(kernel!(ExpInterlockedPopEntrySList(&mut head)), third);
    assert_eq!(kernel!(ExpInterlockedPopEntrySList(&mut head)), second);
    assert_eq!(kernel!(ExpInterlockedPushEntrySList(&mut head, third)), first);
    assert_eq!(kernel!(ExpInterlockedPopEntrySList(&mut head)), third);
    assert_eq!(kernel!(ExpInterlockedPopEntrySList(&mut head)), first);
    assert_eq!(kernel!(ExpInterlockedPopEntrySList(&mut head)), null_mut());
    assert_eq!(kernel!(ExQueryDepthSList(&mut head)), 0);
}

#[test]
fn the_header_shows_depth_sequence_and_the_first_entry() {
    let _machine = Machine::boot();
    let (mut header, mut entry) = (empty(), SLIST_ENTRY::default());
    let (head, entry) = (&raw mut header, &raw mut entry);
    // SAFETY: all of a header's members are words.
    let fields = || unsafe { (*head).HeaderX64 };
    kernel!(ExpInterlockedPushEntrySList(head, entry));
    assert_eq!((fields().Depth(), fields().NextEntry() << 4), (1, entry.addr() as u64));
    let sequence = fields().Sequence();
    kernel!(ExpInterlockedPopEntrySList(head));
    assert_eq!((fields().Depth(), fields().NextEntry()), (0, 0));
    kernel!(ExpInterlockedPushEntrySList(head, entry));
    assert_ne!(fields().Sequence(), sequence, "who read the first header must see that it changed");
}

#[test]
fn a_flush_takes_all_entries() {
    let _machine = Machine::boot();
    let mut head = empty();
    assert_eq!(kernel!(ExpInterlockedFlushSList(&mut head)), null_mut());
    let mut items: Vec<Item> = (0..5).map(|number| Item { number, ..Item::default() }).collect();
    for item in &mut items {
        kernel!(ExpInterlockedPushEntrySList(&mut head, std::ptr::from_mut(item).cast()));
    }
    let mut entry = kernel!(ExpInterlockedFlushSList(&mut head));
    assert_eq!(kernel!(ExQueryDepthSList(&mut head)), 0);
    assert_eq!(kernel!(ExpInterlockedPopEntrySList(&mut head)), null_mut());
    for expected in (0..5).rev() {
        // SAFETY: an item begins with its link.
        unsafe {
            assert_eq!((*entry.cast::<Item>()).number, expected);
            entry = (*entry).Next;
        }
    }
    assert!(entry.is_null());
}

#[test]
fn what_is_not_aligned_stops_the_machine() {
    let machine = Machine::boot();
    let mut head = empty();
    let mut room = [SLIST_ENTRY::default(); 3];
    let entry = room.as_mut_ptr();
    for offset in [1, 8, 15] {
        let askew = entry.wrapping_byte_add(offset);
        let stop = catch_bugcheck(|| kernel!(ExpInterlockedPushEntrySList(&mut head, askew)));
        assert_eq!(stop, Err(exception(STATUS_DATATYPE_MISALIGNMENT, askew.addr())));
        let header = entry.cast::<SLIST_HEADER>().wrapping_byte_add(offset);
        let stop = catch_bugcheck(|| kernel!(InitializeSListHead(header)));
        assert_eq!(stop, Err(exception(STATUS_DATATYPE_MISALIGNMENT, header.addr())));
        let stop = catch_bugcheck(|| kernel!(ExpInterlockedPopEntrySList(header)));
        assert_eq!(stop, Err(exception(STATUS_DATATYPE_MISALIGNMENT, header.addr())));
    }
    assert_eq!(kernel!(ExQueryDepthSList(&mut head)), 0);
    let stop = catch_bugcheck(|| kernel!(ExpInterlockedPushEntrySList(&mut head, null_mut())));
    assert_eq!(stop, Err(exception(STATUS_ACCESS_VIOLATION, 0)));
    let stop = catch_bugcheck(|| kernel!(ExpInterlockedFlushSList(null_mut())));
    assert_eq!(stop, Err(exception(STATUS_ACCESS_VIOLATION, 0)));
    let line = "bugcheck 0x0000001E KMODE_EXCEPTION_NOT_HANDLED (0xFFFFFFFF80000002, 0x0, 0x1, ";
    assert!(machine.output()[0].starts_with(line), "{:?}", machine.output());
}

#[test]
fn an_entry_that_was_written_over_stops_the_machine() {
    let _machine = Machine::boot();
    let mut head = empty();
    let mut entry = SLIST_ENTRY::default();
    let entry = &raw mut entry;
    kernel!(ExpInterlockedPushEntrySList(&mut head, entry));
    let garbage = usize::from_ne_bytes([FRESH_BYTE; size_of::<usize>()]);
    // SAFETY: the entry is the test's own; writing to it while it is in the list is what is tested.
    unsafe { (*entry).Next = std::ptr::without_provenance_mut(garbage) };
    let stop = catch_bugcheck(|| kernel!(ExpInterlockedPopEntrySList(&mut head)));
    assert_eq!(stop, Err(exception(STATUS_DATATYPE_MISALIGNMENT, garbage)));
}

#[test]
fn the_level_is_at_most_dispatch() {
    let _machine = Machine::boot();
    let mut head = empty();
    let mut entry = SLIST_ENTRY::default();
    let (head, entry) = (&raw mut head, &raw mut entry);
    at(DISPATCH, || {
        kernel!(ExpInterlockedPushEntrySList(head, entry));
        assert_eq!(kernel!(ExQueryDepthSList(head)), 1);
        assert_eq!(kernel!(ExpInterlockedPopEntrySList(head)), entry);
        assert_eq!(kernel!(ExpInterlockedFlushSList(head)), null_mut());
    });
    let parameters = [head.addr() as u64, 3, 1, 0];
    let too_high = BugCheck { code: IRQL_NOT_LESS_OR_EQUAL, parameters };
    at(3, || {
        assert_eq!(catch_bugcheck(|| kernel!(ExpInterlockedPopEntrySList(head))), Err(too_high));
        assert_eq!(catch_bugcheck(|| kernel!(ExpInterlockedPushEntrySList(head, entry))), Err(too_high));
        assert_eq!(catch_bugcheck(|| kernel!(ExpInterlockedFlushSList(head))), Err(too_high));
        assert_eq!(catch_bugcheck(|| kernel!(ExQueryDepthSList(head))), Err(too_high));
        kernel!(InitializeSListHead(head));
    });
}

/// Whose address threads may share: an SLIST needs no lock round it.
struct Shared<T>(T);

// SAFETY: SLISTs are for any number of threads, which is what the test finds out.
unsafe impl<T> Sync for Shared<T> {}

#[test]
fn threads_share_a_list_and_lose_no_entry() {
    const ITEMS: usize = 64;
    const TIMES: usize = 100_000;
    let _machine = Machine::boot();
    let mut head = empty();
    let mut items: Vec<Item> = (0..ITEMS as u64).map(|number| Item { number, ..Item::default() }).collect();
    for item in &mut items {
        kernel!(ExpInterlockedPushEntrySList(&mut head, std::ptr::from_mut(item).cast()));
    }
    let shared = Shared(&raw mut head);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let shared = &shared;
            scope.spawn(move || {
                let head = shared.0;
                for _ in 0..TIMES {
                    let one = kernel!(ExpInterlockedPopEntrySList(head)).cast::<Item>();
                    let two = kernel!(ExpInterlockedPopEntrySList(head)).cast::<Item>();
                    assert_ne!(one, two);
                    // SAFETY: a popped item is this thread's alone.
                    unsafe { (*one).number = (*one).number.wrapping_add(ITEMS as u64) };
                    kernel!(ExpInterlockedPushEntrySList(head, one.cast()));
                    kernel!(ExpInterlockedPushEntrySList(head, two.cast()));
                }
            });
        }
    });
    assert_eq!(kernel!(ExQueryDepthSList(&mut head)), ITEMS as u16);
    let mut seen = HashSet::new();
    let mut touched = 0;
    let mut entry = kernel!(ExpInterlockedFlushSList(&mut head)).cast::<Item>();
    while !entry.is_null() {
        // SAFETY: the items are still there, and all threads have ended.
        unsafe {
            seen.insert((*entry).number % ITEMS as u64);
            touched += (*entry).number / ITEMS as u64;
            entry = (*entry).link.Next.cast();
        }
    }
    assert_eq!((seen.len(), touched), (ITEMS, 2 * TIMES as u64));
}
