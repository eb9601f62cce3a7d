//! The three doors to one runtime: the attribute, `instrument_items!`, and memtrack's own `ntddk`, by name or by an
//! annotated `use`. Through each, a wrapper's caller is known, three wrappers deep. `/*@*/` stands before each place.
#![deny(warnings, unsafe_op_in_unsafe_fn, unused_unsafe, clippy::all, clippy::pedantic)]
#![allow(clippy::undocumented_unsafe_blocks, unreachable_pub, clippy::useless_vec, clippy::wildcard_imports)]

use memtrack_sim::{Machine, PVOID};

mod places;

const IS_OFF: bool = cfg!(any(feature = "off", all(feature = "release_off", not(debug_assertions))));
const TAG: u32 = u32::from_le_bytes(*b"Door");
const NON_PAGED: u64 = memtrack_sim::POOL_FLAG_NON_PAGED;

/// Asserts that what `drive` allocates is recorded at the marks in the lines of this file that are its door's, and
/// nothing else, and that all of it is freed.
fn assert_recorded(drive: impl FnOnce(), (first, last): (u32, u32)) {
    let machine = Machine::boot();
    drive();
    if IS_OFF {
        assert_eq!(memtrack::sites().count(), 0);
        return;
    }
    let lines = first as usize..=last as usize;
    let marked = places::marked(include_str!("doors.rs"));
    let marked: Vec<_> = marked.into_iter().filter(|place| lines.contains(&place.0)).collect();
    let mut sites: Vec<_> =
        memtrack::sites().map(|site| (site.line as usize, site.column as usize)).collect();
    sites.sort_unstable();
    sites.dedup();
    assert_eq!(sites, marked);
    assert!(memtrack::sites().all(|site| site.file == file!()));
    let stats = memtrack::finish("doors");
    let wrong = (stats.foreign_frees, stats.vanished_blocks, stats.unrecorded_blocks, stats.violations);
    assert_eq!((stats.curr_blocks(), wrong), (0, (0, 0, 0, 0)), "{:#?}", machine.output());
}

/// Lines of this file.
macro_rules! lines {
    ($name:ident) => {
        ($name::FIRST, $name::LAST)
    };
}

#[rustfmt::skip]
mod by_name {
    use super::{NON_PAGED, TAG};
    use memtrack::ntddk::{self, ExAllocatePool2, ExAllocatePoolWithTag, ExFreePool, ExFreePoolWithTag as release};

    pub const FIRST: u32 = line!();

    macro_rules! twice {
        ($block:expr) => { vec![vec![$block], vec![$block]].concat() };
    }

    pub fn run() {
        unsafe {
            ExFreePool(/*@*/ExAllocatePool2(NON_PAGED, 1, TAG));
            release(/*@*/ntddk::ExAllocatePoolWithTag(1, 1, TAG), TAG);
            let block = /*@*/memtrack::ntddk::ExAllocatePool3(NON_PAGED, 1, TAG, core::ptr::null(), 0);
            ntddk::ExFreePool2(block, TAG, core::ptr::null(), 0);
            let block = /*@*/ExAllocatePoolWithTag(1, 2, TAG);
            assert!(!block.is_null(), "{block:?}");
            println!("{:?}", ExFreePool(block));
            for block in twice!(/*@*/ExAllocatePool2(NON_PAGED, 1, TAG)) {
                ExFreePool(block);
            }
            // Nothing but pool is memtrack's.
            assert_eq!(ntddk::KeGetCurrentIrql(), 0);
        }
    }

    pub const LAST: u32 = line!();
}

#[rustfmt::skip]
mod by_use {
    use super::{NON_PAGED, TAG};
    use memtrack_sim as wdk_sys;
    #[memtrack::instrument]
    use wdk_sys::ntddk::ExAllocatePool2;
    /// Grouped, renamed, and beside what is not memtrack's.
    #[memtrack::instrument]
    use wdk_sys::{POOL_FLAG_PAGED, ntddk::{ExAllocatePoolZero as zeroed, ExFreePool, KeGetCurrentIrql}};

    pub const FIRST: u32 = line!();

    mod all {
        #[memtrack::instrument]
        pub use memtrack_sim::ntddk::*;

        /// Its own, which hides that of the glob.
        #[allow(non_snake_case)]
        pub fn KeLowerIrql() -> u32 {
            7
        }
    }

    mod module {
        #[memtrack::instrument]
        pub use memtrack_sim::ntddk;
        #[memtrack::instrument]
        pub use memtrack_sim::{ntddk as kernel, PAGE_SIZE};
        #[memtrack::instrument]
        pub use memtrack_sim::ntddk::{self as same, KeGetCurrentIrql};
    }

    pub fn run() {
        use module::{PAGE_SIZE, kernel, ntddk, same};
        #[memtrack::instrument]
        use memtrack_sim::ntddk::ExFreePoolWithTag;
        unsafe {
            ExFreePool(/*@*/ExAllocatePool2(NON_PAGED, 1, TAG));
            assert!(vec![/*@*/zeroed(1, 1, TAG)].into_iter().all(|block| { ExFreePool(block); true }));
            all::ExFreePool(/*@*/all::ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG));
            ntddk::ExFreePool(/*@*/kernel::ExAllocatePool2(POOL_FLAG_PAGED, PAGE_SIZE.into(), TAG));
            ExFreePoolWithTag(/*@*/same::ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG), TAG);
            assert_eq!((KeGetCurrentIrql(), module::KeGetCurrentIrql(), all::KeLowerIrql()), (0, 0, 7));
        }
        guarded();
    }

    /// What the attribute chooses holds for what the import brings in.
    fn guarded() {
        #[memtrack::instrument(guard = "full")]
        use memtrack_sim::ntddk::{ExAllocatePool2, ExFreePool};
        #[memtrack::instrument(guard = "none")]
        use memtrack_sim::ntddk::ExAllocatePool2 as bare;
        unsafe {
            let signed = /*@*/ExAllocatePool2(NON_PAGED, 1, TAG);
            let unsigned = /*@*/bare(NON_PAGED, 16, TAG);
            if !super::IS_OFF {
                assert_ne!(*signed.cast::<u8>().sub(1), 0xCD, "signed in front");
                let usage = |pages: u64| pages;
                assert!(usage(1) == 1 && memtrack::stats().curr_bytes() >= 17);
            }
            ExFreePool(signed);
            ExFreePool(unsigned);
        }
    }

    pub const LAST: u32 = line!();
}

/// An annotated `use` inside of annotated code is a door of its own: calls are tracked once.
#[rustfmt::skip]
#[memtrack::instrument]
mod both {
    use super::{NON_PAGED, TAG};
    use memtrack::ntddk;
    use memtrack::ntddk::ExAllocatePool3;
    #[memtrack::instrument]
    use memtrack_sim::ntddk::ExAllocatePool2;
    use memtrack_sim::ntddk::ExFreePool;

    pub const FIRST: u32 = line!();

    mod globbed {
        pub use memtrack::ntddk::*;
    }

    pub fn run() {
        use memtrack::ntddk as kernel;
        unsafe {
            ExFreePool(/*@*/ExAllocatePool2(NON_PAGED, 1, TAG));
            ExFreePool(/*@*/ExAllocatePool3(NON_PAGED, 1, TAG, core::ptr::null(), 0));
            ntddk::ExFreePool(/*@*/ntddk::ExAllocatePool2(NON_PAGED, 1, TAG));
            kernel::ExFreePool(/*@*/globbed::ExAllocatePool2(NON_PAGED, 1, TAG));
            memtrack::ntddk::ExFreePool(/*@*/memtrack::ntddk::ExAllocatePool2(NON_PAGED, 1, TAG));
        }
    }

    pub const LAST: u32 = line!();
}

/// Wrappers three deep, of which the attribute marks one.
macro_rules! wrappers {
    () => {
        use super::PVOID;

        #[track_caller]
        fn one(bytes: u64) -> PVOID {
            unsafe { ExAllocatePool2(super::NON_PAGED, bytes, super::TAG) }
        }

        struct Two;

        impl Two {
            #[track_caller]
            fn two(bytes: u64) -> PVOID {
                one(bytes)
            }
        }

        #[track_caller]
        fn three(bytes: u64) -> PVOID {
            Two::two(bytes)
        }

        fn done(block: PVOID) {
            unsafe { ExFreePool(block) }
        }
    };
}

#[rustfmt::skip]
mod wrapped_by_name {
    use memtrack::ntddk::{ExAllocatePool2, ExFreePool};
    wrappers!();

    pub const FIRST: u32 = line!();
    pub fn run() {
        done(/*@*/one(1));
        done(/*@*/Two::two(1));
        done(/*@*/three(1));
    }
    pub const LAST: u32 = line!();
}

#[rustfmt::skip]
mod wrapped_by_use {
    #[memtrack::instrument]
    use memtrack_sim::ntddk::{ExAllocatePool2, ExFreePool};
    wrappers!();

    pub const FIRST: u32 = line!();
    pub fn run() {
        done(/*@*/one(1));
        done(/*@*/Two::two(1));
        done(/*@*/three(1));
    }
    pub const LAST: u32 = line!();
}

#[rustfmt::skip]
#[memtrack::instrument]
mod wrapped_by_attribute {
    use super::{NON_PAGED, PVOID, TAG};
    use memtrack_sim::ntddk::{ExAllocatePool2, ExFreePool};

    #[memtrack::instrument(wrapper)]
    fn one(bytes: u64) -> PVOID {
        assert!(bytes > 0);
        unsafe { ExAllocatePool2(NON_PAGED, bytes, TAG) }
    }

    struct Two<T>(T);

    impl<T> Two<T> {
        /// Marked twice is marked once.
        #[track_caller]
        #[memtrack::instrument(wrapper, guard = "full")]
        fn two(bytes: u64) -> PVOID {
            one(bytes)
        }
    }

    trait Three {
        #[memtrack::instrument(wrapper)]
        fn three(&self, bytes: u64) -> PVOID {
            Two::<u8>::two(bytes)
        }
    }

    impl Three for u8 {}

    pub const FIRST: u32 = line!();
    pub fn run() {
        unsafe {
            ExFreePool(/*@*/one(1));
            ExFreePool(/*@*/Two::<u8>::two(1));
            ExFreePool(1_u8./*@*/three(1));
        }
        assert_eq!(Two(7).0, 7);
    }
    pub const LAST: u32 = line!();
}

#[rustfmt::skip]
mod wrapped_in_items {
    memtrack::instrument_items! {
        use super::{NON_PAGED, PVOID, TAG};
        use memtrack_sim::ntddk::{ExAllocatePool2, ExFreePool};

        #[memtrack::instrument(wrapper)]
        fn one(bytes: u64) -> PVOID {
            unsafe { ExAllocatePool2(NON_PAGED, bytes, TAG) }
        }

        #[track_caller]
        fn two(bytes: u64) -> PVOID {
            one(bytes)
        }

        #[memtrack::instrument(wrapper)]
        fn three(bytes: u64) -> PVOID {
            two(bytes)
        }

        pub const FIRST: u32 = line!();
        pub fn run() {
            unsafe {
                ExFreePool(/*@*/one(1));
                ExFreePool(/*@*/two(1));
                ExFreePool(/*@*/three(1));
            }
        }
        pub const LAST: u32 = line!();
    }
}

/// Functions by themselves, and those that no line of the driver's calls.
#[rustfmt::skip]
mod wrapped_one_by_one {
    use super::{NON_PAGED, PVOID, TAG};
    use core::alloc::{GlobalAlloc, Layout};
    use memtrack_sim::ntddk::{ExAllocatePool2, ExFreePool};

    pub const FIRST: u32 = line!();

    #[memtrack::instrument(wrapper)]
    fn one(bytes: u64) -> PVOID {
        // A closure is no wrapper: its own line is the site.
        let inner = |bytes| unsafe { /*@*/ExAllocatePool2(NON_PAGED, bytes, TAG) };
        done(inner(bytes));
        unsafe { ExAllocatePool2(NON_PAGED, bytes, TAG) }
    }

    #[memtrack::instrument]
    fn done(block: PVOID) {
        unsafe { ExFreePool(block) }
    }

    #[memtrack::instrument]
    extern "C" fn callback(bytes: u64) -> PVOID {
        unsafe { /*@*/ExAllocatePool2(NON_PAGED, bytes, TAG) }
    }

    struct Guard;

    impl Drop for Guard {
        #[track_caller]
        #[memtrack::instrument]
        fn drop(&mut self) {
            done(unsafe { /*@*/ExAllocatePool2(NON_PAGED, 3, TAG) });
        }
    }

    struct Heap;

    #[memtrack::instrument]
    unsafe impl GlobalAlloc for Heap {
        #[track_caller]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            unsafe { /*@*/ExAllocatePool2(NON_PAGED, layout.size() as u64, TAG).cast() }
        }
        unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
            unsafe { ExFreePool(block.cast()) }
        }
    }

    pub fn run() {
        done(/*@*/one(1));
        done(callback(2));
        drop(Guard);
        unsafe { Heap.dealloc(Heap.alloc(Layout::new::<u64>()), Layout::new::<u64>()) };
    }

    pub const LAST: u32 = line!();
}

/// Functions found at run time.
#[rustfmt::skip]
mod recorded {
    use super::{NON_PAGED, PVOID, TAG};
    use memtrack::{record_alloc, record_free};

    struct Routines {
        allocate: unsafe extern "C-unwind" fn(u64, u64, u32) -> PVOID,
        free: Option<unsafe extern "C-unwind" fn(PVOID, u32)>,
    }

    impl Routines {
        fn get(&self, bytes: u64) -> PVOID {
            unsafe { record_alloc!(ExAllocatePool2, /*@*/(self.allocate)(NON_PAGED, bytes, TAG)) }
        }

        fn put(&self, block: PVOID) -> Option<()> {
            unsafe { record_free!(ExFreePoolWithTag, (self.free?)(block, TAG)) };
            Some(())
        }
    }

    pub const FIRST: u32 = line!() - 14;

    #[track_caller]
    fn wrapper(routines: &Routines) -> PVOID {
        unsafe { memtrack::record_alloc!(ExAllocatePool2, (routines.allocate)(NON_PAGED, 9, TAG), guard = "full") }
    }

    pub fn run() {
        use memtrack_sim::ntddk;
        let calls = core::cell::Cell::new(0);
        let routines = || {
            calls.set(calls.get() + 1);
            Routines { allocate: ntddk::ExAllocatePool2, free: Some(ntddk::ExFreePoolWithTag) }
        };
        let mine = routines();
        for bytes in [1, 2, 3] {
            assert!(mine.put(mine.get(bytes)).is_some());
        }
        assert!(mine.put(/*@*/wrapper(&mine)).is_some());
        // What finds the function runs once.
        let block = unsafe { memtrack::record_alloc!(ExAllocatePool2, /*@*/(routines().allocate)(NON_PAGED, 4, TAG),) };
        assert_eq!(calls.get(), 2);
        let none = Routines { free: None, ..mine };
        assert!(none.put(block).is_none() && routines().put(block).is_some());
    }

    pub const LAST: u32 = line!();
}

#[test]
fn names_of_memtracks_own() {
    assert_recorded(by_name::run, lines!(by_name));
}

#[test]
fn annotated_imports() {
    assert_recorded(by_use::run, lines!(by_use));
}

#[test]
fn two_doors_count_once() {
    assert_recorded(both::run, lines!(both));
}

#[test]
fn wrappers_through_every_door() {
    assert_recorded(wrapped_by_name::run, lines!(wrapped_by_name));
    assert_recorded(wrapped_by_use::run, lines!(wrapped_by_use));
    assert_recorded(wrapped_by_attribute::run, lines!(wrapped_by_attribute));
    assert_recorded(wrapped_in_items::run, lines!(wrapped_in_items));
    assert_recorded(wrapped_one_by_one::run, lines!(wrapped_one_by_one));
}

#[test]
fn functions_found_at_run_time() {
    assert_recorded(recorded::run, lines!(recorded));
}
