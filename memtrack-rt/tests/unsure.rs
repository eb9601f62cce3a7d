//! A machine that does not know of every block whether it is still the one that was written down: code that is not annotated
//! frees blocks, and what stands at their addresses then is not touched, nor spoken of.

use std::slice;

use memtrack_rt::{Function, Guard, Location, Settings, Tracker};

mod desk;
use desk::{Calls, Desk, NON_PAGED};

const ROOM: usize = 4 * 4096;

/// Memory for one block, which begins on a page.
#[repr(C, align(4096))]
struct Pages([u8; ROOM]);

impl Pages {
    fn new() -> Box<Self> {
        Box::new(Self([0x11; ROOM]))
    }

    fn start(&mut self) -> usize {
        (&raw mut self.0).expose_provenance()
    }
}

fn tracker() -> Tracker<Desk> {
    let desk = Desk::default();
    desk.doubt();
    let tracker = Tracker::new(desk);
    tracker.configure(Settings::new());
    tracker
}

#[track_caller]
fn allocate(tracker: &Tracker<Desk>, guard: Guard, bytes: usize, pages: &mut Pages) -> usize {
    let start = pages.start();
    let arguments = (NON_PAGED, bytes, 1_u32);
    tracker.ask(Location::caller(), Function::ExAllocatePool2, Some(guard), arguments, |(_, asked, _)| {
        assert!(asked <= ROOM);
        start
    })
}

/// What the kernel was asked to free.
#[track_caller]
fn free(tracker: &Tracker<Desk>, block: usize) -> usize {
    let freed = std::cell::Cell::new(0);
    tracker.give(Location::caller(), Function::ExFreePool, (block,), |(block,)| freed.set(block));
    freed.get()
}

#[test]
fn a_block_that_came_in_place_of_a_larger_one_is_not_written_beyond() {
    let (tracker, mut pages) = (tracker(), Pages::new());
    let block = allocate(&tracker, Guard::Tail, 3 * 4096, &mut pages);
    // Code that is not annotated frees it, gets a smaller one in its place, and hands that over.
    pages.0 = [0x22; ROOM];
    assert_eq!(tracker.check(), 0);
    assert_eq!(free(&tracker, block), block);
    assert_eq!(pages.0, [0x22; ROOM]);
    assert!(tracker.platform().take_lines().is_empty());
    tracker.finish("test");
}

#[test]
fn memory_that_is_gone_is_not_read() {
    let (tracker, mut pages) = (tracker(), Pages::new());
    let block = allocate(&tracker, Guard::Tail, 3 * 4096, &mut pages);
    pages.0 = [0x22; ROOM];
    tracker.platform().ends_at(block + 4096);
    assert_eq!(tracker.check(), 0);
    assert_eq!(free(&tracker, block), block);
    assert!(tracker.platform().take_lines().is_empty());
    tracker.finish("test");
}

#[test]
fn an_overrun_of_such_a_block_is_told_when_it_is_freed() {
    let (tracker, mut pages) = (tracker(), Pages::new());
    let block = allocate(&tracker, Guard::Tail, 3 * 4096, &mut pages);
    let at = block - pages.start() + 3 * 4096;
    pages.0[at] = 0;
    assert_eq!(free(&tracker, block), block);
    let lines = tracker.platform().take_lines();
    assert!(lines[0].contains("overrun 1 byte right of a 12288-byte block"), "{lines:?}");
    tracker.finish("test");
}

#[test]
fn an_address_that_is_freed_again_may_be_another_block() {
    let (tracker, mut pages) = (tracker(), Pages::new());
    let block = allocate(&tracker, Guard::Tail, 4096, &mut pages);
    assert_eq!(free(&tracker, block), block);
    // Code that is not annotated has got it since.
    assert_eq!(free(&tracker, block), block);
    assert!(tracker.platform().take_lines().is_empty());
    assert_eq!(tracker.stats().foreign_frees, 1);
    tracker.finish("test");
}

/// A machine tells blocks by what stands in front of them: that a driver may have written over.
#[test]
fn who_writes_over_the_kernels_head_is_told() {
    const STAMP: u16 = 7;
    let (tracker, mut pages) = (tracker(), Pages::new());
    let start = pages.start();
    tracker.platform().moves_in(start, STAMP);
    let block = allocate(&tracker, Guard::Full, 64, &mut pages);
    let front = block - start;
    pages.0[..front].fill(0);
    tracker.platform().moves_in(start, STAMP + 1);
    assert_eq!(tracker.check(), 1);
    let lines = tracker.platform().take_lines();
    assert!(lines[0].contains("underrun 16 bytes left of a 64-byte block"), "{lines:?}");
    // SAFETY: the block is in these pages.
    unsafe { slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut::<u8>(block), 64) }.fill(1);
    tracker.configure(Settings::new().quarantines(memtrack_rt::Quarantine::OFF));
    assert_eq!(free(&tracker, block), start);
    tracker.finish("test");
}
