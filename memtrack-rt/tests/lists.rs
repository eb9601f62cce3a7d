//! Lookaside lists under the tracker, against a plain model: what is outstanding, what each list counted, and exactly the
//! mistakes that were made are reported, whatever a driver does in whatever order.

mod desk;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use desk::{Desk, at_irql};
use memtrack_rt::lookaside::{self, Callback, InterlockedLists, LookasideList};
use memtrack_rt::{Function, Tracker};
use proptest::collection::vec;
use proptest::prelude::*;

/// The pool behind the lists: every block by its address.
static POOL: Mutex<BTreeMap<usize, Layout>> = Mutex::new(BTreeMap::new());
/// Guards the links of all lists.
static LINKS: Mutex<()> = Mutex::new(());

fn pool() -> MutexGuard<'static, BTreeMap<usize, Layout>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn pool_allocate(_: i32, bytes: u64, _: u32) -> *mut c_void {
    let layout = Layout::from_size_align(usize::try_from(bytes).unwrap(), 16).unwrap();
    // SAFETY: no list is of entries of no bytes.
    let block = unsafe { alloc_zeroed(layout) };
    pool().insert(block.addr(), layout);
    block.cast()
}

unsafe extern "C" fn pool_free(block: *mut c_void) {
    let layout = pool().remove(&block.addr()).expect("a block of this pool, once");
    // SAFETY: allocated with this layout.
    unsafe { dealloc(block.cast(), layout) };
}

/// Lists whose head is the number of entries and, in the second half, the first of them.
struct Kernel;

impl Kernel {
    fn first(head: *mut c_void) -> *mut *mut c_void {
        head.wrapping_byte_add(8).cast()
    }
}

// SAFETY: a lock stands for the interlocked instructions.
unsafe impl InterlockedLists for Kernel {
    unsafe fn pop(&self, head: *mut c_void) -> *mut c_void {
        let _links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the head is one of a list, its entries are blocks of the pool that hold the way to the next.
        unsafe {
            let first = *Self::first(head);
            if !first.is_null() {
                *Self::first(head) = *first.cast();
                *head.cast::<u16>() -= 1;
            }
            first
        }
    }

    unsafe fn push(&self, head: *mut c_void, entry: *mut c_void) {
        let _links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as above.
        unsafe {
            *entry.cast() = *Self::first(head);
            *Self::first(head) = entry;
            *head.cast::<u16>() += 1;
        }
    }

    unsafe fn depth(&self, head: *mut c_void) -> u16 {
        // SAFETY: as above.
        unsafe { *head.cast::<u16>() }
    }

    fn callbacks(&self, _: bool) -> [Callback; 2] {
        [pool_allocate as Callback, pool_free as Callback]
    }
}

type Place = *mut LookasideList;

/// A driver's calls, as expansions make them.
struct Driver<'t>(&'t Tracker<Desk>);

impl Driver<'_> {
    #[track_caller]
    fn make(&self, list: Place, bytes: u64, depth: u16) {
        let none = ptr::null::<c_void>();
        let arguments = (list, none, none, 0_u32, bytes, 7_u32, depth);
        let function = Function::ExInitializeNPagedLookasideList;
        // SAFETY: the list is memory of the test's.
        unsafe {
            self.0.initialize_list::<_, ()>(&Kernel, Location::caller(), function, None, arguments, |_| {
                unreachable!("a list of a depth of its own is built by hand")
            });
        }
    }

    #[track_caller]
    fn take(&self, list: Place) -> *mut c_void {
        let function = Function::ExAllocateFromNPagedLookasideList;
        // SAFETY: the list was made.
        unsafe {
            self.0.allocate_from_list(Location::caller(), function, (list,), |(list,)| {
                lookaside::allocate(&Kernel, NonNull::new(list).unwrap(), false)
            })
        }
    }

    #[track_caller]
    fn give(&self, list: Place, entry: *mut c_void) {
        let function = Function::ExFreeToNPagedLookasideList;
        // SAFETY: the list was made; what must not reach it, does not.
        unsafe {
            self.0.free_to_list(Location::caller(), function, (list, entry), |(list, entry)| {
                lookaside::free(&Kernel, NonNull::new(list).unwrap(), entry, false);
            });
        }
    }

    #[track_caller]
    fn delete(&self, list: Place) {
        let function = Function::ExDeleteNPagedLookasideList;
        // SAFETY: the list was made.
        unsafe {
            self.0.delete_list(Location::caller(), function, (list,), |(list,)| {
                loop {
                    let entry = Kernel.pop(list.cast());
                    if entry.is_null() {
                        break;
                    }
                    pool_free(entry);
                }
            });
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Make { list: usize, bytes: u64, depth: u16 },
    Take { list: usize },
    Give { entry: usize },
    GiveToAnother { entry: usize },
    GiveTwice { entry: usize },
    WriteBeyond { entry: usize },
    Delete { list: usize },
    Report,
    Check,
}

const LISTS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let list = 0..LISTS;
    prop_oneof![
        3 => (list.clone(), 1..100_u64, 1..4_u16).prop_map(|(list, bytes, depth)| Op::Make { list, bytes, depth }),
        12 => list.clone().prop_map(|list| Op::Take { list }),
        10 => any::<usize>().prop_map(|entry| Op::Give { entry }),
        1 => any::<usize>().prop_map(|entry| Op::GiveToAnother { entry }),
        1 => any::<usize>().prop_map(|entry| Op::GiveTwice { entry }),
        1 => any::<usize>().prop_map(|entry| Op::WriteBeyond { entry }),
        2 => list.prop_map(|list| Op::Delete { list }),
        1 => Just(Op::Report),
        1 => Just(Op::Check),
    ]
}

/// What there is.
#[derive(Default)]
struct Model {
    /// The entry's size of each list that lives.
    lists: [Option<u64>; LISTS],
    /// Entries that are out, with their lists.
    out: Vec<(usize, *mut c_void)>,
    /// Those that were written beyond.
    hurt: BTreeSet<usize>,
    /// Those of lists that are gone.
    lost: Vec<*mut c_void>,
    lost_bytes: u64,
    violations: u64,
}

fn run(ops: &[Op]) -> Result<(), TestCaseError> {
    let tracker = Tracker::new(Desk::default());
    let driver = Driver(&tracker);
    let mut memory: Vec<Box<[u128; 6]>> = (0..LISTS).map(|_| Box::new([0; 6])).collect();
    let places: Vec<Place> = memory.iter_mut().map(|list| list.as_mut_ptr().cast()).collect();
    let mut model = Model::default();
    for op in ops {
        let chosen = |model: &Model, entry: usize| (!model.out.is_empty()).then(|| entry % model.out.len());
        match *op {
            Op::Make { list, bytes, depth } => {
                if model.lists[list].is_none() {
                    driver.make(places[list], bytes, depth);
                    model.lists[list] = Some(bytes);
                }
            }
            Op::Take { list } => match model.lists[list] {
                Some(_) => model.out.push((list, driver.take(places[list]))),
                None => {
                    prop_assert!(driver.take(places[list]).is_null());
                    model.violations += 1;
                }
            },
            Op::Give { entry } => {
                if let Some(entry) = chosen(&model, entry) {
                    let (list, entry) = model.out.swap_remove(entry);
                    model.violations += u64::from(model.hurt.remove(&entry.addr()));
                    driver.give(places[list], entry);
                }
            }
            Op::GiveToAnother { entry } => {
                if let Some(entry) = chosen(&model, entry) {
                    let (list, entry) = model.out[entry];
                    driver.give(places[(list + 1) % LISTS], entry);
                    // To another list, to one that is deleted, or to none.
                    model.violations += 1;
                }
            }
            Op::GiveTwice { entry } => {
                if let Some(entry) = chosen(&model, entry) {
                    let (list, entry) = model.out.swap_remove(entry);
                    model.violations += u64::from(model.hurt.remove(&entry.addr()));
                    driver.give(places[list], entry);
                    driver.give(places[list], entry);
                    model.violations += 1;
                }
            }
            Op::WriteBeyond { entry } => {
                if let Some(entry) = chosen(&model, entry) {
                    let (list, entry) = model.out[entry];
                    let bytes = model.lists[list].unwrap().max(8);
                    // SAFETY: the entry is longer than its size by a guard.
                    unsafe { entry.cast::<u8>().add(usize::try_from(bytes).unwrap()).write(1) };
                    model.hurt.insert(entry.addr());
                }
            }
            Op::Delete { list } => {
                if let Some(bytes) = model.lists[list].take() {
                    driver.delete(places[list]);
                    let (lost, kept): (Vec<_>, Vec<_>) = model.out.iter().partition(|(of, _)| *of == list);
                    model.out = kept;
                    model.violations += u64::from(!lost.is_empty());
                    model.lost_bytes += bytes * lost.len() as u64;
                    model.lost.extend(lost.into_iter().map(|(_, entry)| entry));
                }
            }
            Op::Report => tracker.report("model"),
            // Entries are looked at when they come back.
            Op::Check => prop_assert_eq!(tracker.check(), 0),
        }
        agree(&tracker, &model)?;
    }
    finish(&tracker, &driver, &places, &model)
}

fn agree(tracker: &Tracker<Desk>, model: &Model) -> Result<(), TestCaseError> {
    let stats = tracker.stats();
    let bytes: u64 = model.out.iter().map(|(list, _)| model.lists[*list].unwrap()).sum();
    prop_assert_eq!(stats.curr_blocks(), (model.out.len() + model.lost.len()) as u64);
    prop_assert_eq!(stats.curr_bytes(), bytes + model.lost_bytes);
    prop_assert_eq!(stats.violations, model.violations);
    prop_assert_eq!((stats.foreign_frees, stats.vanished_blocks, stats.unrecorded_blocks), (0, 0, 0));
    let lists: Vec<_> = tracker.lists().collect();
    prop_assert_eq!(
        lists.iter().filter(|list| !list.is_deleted).count(),
        model.lists.iter().flatten().count()
    );
    let outstanding: u64 = lists.iter().map(|list| list.figures.curr_blocks).sum();
    prop_assert_eq!(outstanding, stats.curr_blocks());
    for list in lists.iter().filter(|list| !list.is_deleted) {
        prop_assert!(list.cached <= list.depth);
        prop_assert_eq!(list.hits + list.misses, list.figures.total_blocks);
        prop_assert_eq!(list.frees, list.figures.total_blocks - list.figures.curr_blocks);
    }
    Ok(())
}

/// All that is left goes back, and so does the tracker's own memory.
fn finish(
    tracker: &Tracker<Desk>,
    driver: &Driver<'_>,
    places: &[Place],
    model: &Model,
) -> Result<(), TestCaseError> {
    for (list, entry) in &model.out {
        driver.give(places[*list], *entry);
    }
    for (place, _) in places.iter().zip(&model.lists).filter(|(_, list)| list.is_some()) {
        driver.delete(*place);
    }
    let stats = tracker.finish("model");
    prop_assert_eq!(stats.curr_blocks(), model.lost.len() as u64);
    prop_assert_eq!(tracker.platform().held(), 0);
    let lost: BTreeSet<_> = model.lost.iter().map(|entry| entry.addr()).collect();
    prop_assert!(lost.iter().all(|entry| pool().contains_key(entry)));
    for entry in lost {
        // SAFETY: the entry is the test's alone now.
        unsafe { pool_free(ptr::with_exposed_provenance_mut(entry)) };
    }
    Ok(())
}

proptest! {
    #[test]
    fn lists_are_what_the_model_says(ops in vec(op(), 1..120)) {
        run(&ops)?;
    }
}

#[test]
fn without_memory_entries_pass_unrecorded() {
    let tracker = Tracker::new(Desk::default());
    let driver = Driver(&tracker);
    let mut memory = Box::new([0_u128; 6]);
    let list: Place = memory.as_mut_ptr().cast();
    tracker.platform().refuse_memory(true);
    driver.make(list, 16, 2);
    assert_eq!(tracker.lists().count(), 0);
    // A list that is not known is passed by.
    let entry = driver.take(list);
    driver.give(list, entry);
    tracker.platform().refuse_memory(false);
    driver.delete(list);

    driver.make(list, 16, 2);
    tracker.platform().refuse_memory(true);
    let entry = driver.take(list);
    driver.give(list, entry);
    tracker.platform().refuse_memory(false);
    let stats = tracker.stats();
    assert_eq!((stats.unrecorded_blocks, stats.foreign_frees, stats.curr_blocks()), (1, 1, 0));
    driver.delete(list);
    assert_eq!(tracker.finish("memory").violations, 0);
}

#[test]
fn lists_work_at_dispatch_level() {
    let tracker = Tracker::new(Desk::default());
    let driver = Driver(&tracker);
    let mut memory = Box::new([0_u128; 6]);
    let list: Place = memory.as_mut_ptr().cast();
    at_irql(2, || {
        driver.make(list, 16, 2);
        let entry = driver.take(list);
        driver.give(list, entry);
        driver.delete(list);
    });
    assert_eq!(tracker.finish("level").violations, 0);
}

/// A driver that makes and deletes a list for each connection does not fill the books.
#[test]
fn lists_that_come_and_go_leave_no_trail() {
    let tracker = Tracker::new(Desk::default());
    let driver = Driver(&tracker);
    let mut memory: Vec<[u128; 6]> = vec![[0; 6]; 1000];
    for list in &mut memory {
        let list: Place = list.as_mut_ptr().cast();
        driver.make(list, 16, 2);
        let entry = driver.take(list);
        driver.give(list, entry);
        driver.delete(list);
    }
    assert_eq!((tracker.lists().count(), tracker.sites().count()), (1, 1));
    assert_eq!(tracker.finish("connections").violations, 0);
}
