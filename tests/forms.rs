//! Every form in which a driver writes its pool calls: each compiles as it did without memtrack, under strict
//! lints and without a new warning, and is recorded at its own line and column.
//!
//! `/*@*/` stands before each allocation that must be recorded; the test reads this file to know where they are.
//! With memtrack off, the same file compiles and runs and nothing is recorded.
#![deny(warnings, unsafe_op_in_unsafe_fn, unused_unsafe, clippy::all, clippy::pedantic)]
// Beside what the expansions may not cause, the forms themselves are odd on purpose.
#![allow(unreachable_pub, unused_qualifications, unnameable_types)]
#![allow(clippy::borrow_as_ptr, clippy::ptr_as_ptr, clippy::non_minimal_cfg, clippy::wildcard_imports)]
#![allow(clippy::semicolon_if_nothing_returned, clippy::bool_to_int_with_if, clippy::upper_case_acronyms)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![allow(clippy::unnecessary_wraps, clippy::manual_let_else)]

use std::collections::BTreeSet;

/// Kernels as drivers bind them. Each block has memory of its own, which is never used again.
#[allow(non_snake_case, non_camel_case_types, dead_code)]
mod bindings {
    use core::ffi::c_void;
    use std::sync::atomic::{AtomicPtr, Ordering};

    /// The newest block.
    pub static LAST: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

    fn next(bytes: u64) -> *mut c_void {
        let granules = usize::try_from(bytes.div_ceil(16)).unwrap().max(1);
        let block = vec![0_u128; granules].leak().as_mut_ptr().cast();
        LAST.store(block, Ordering::Relaxed);
        block
    }

    pub mod wdk_sys {
        pub mod ntddk {
            use super::super::next;
            use core::ffi::c_void;

            pub type ALLOCATE = Option<unsafe extern "C" fn(i32, u64, u32) -> *mut c_void>;
            #[derive(Default)]
            pub struct POOL_EXTENDED_PARAMETER(pub u64);

            pub unsafe fn ExAllocatePool(_: i32, bytes: u64) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolWithTag(_: i32, bytes: u64, _: u32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolWithQuota(_: i32, bytes: u64) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolWithQuotaTag(_: i32, bytes: u64, _: u32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolWithTagPriority(_: i32, bytes: u64, _: u32, _: i32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePool3(
                _: u64,
                bytes: u64,
                _: u32,
                _: *const POOL_EXTENDED_PARAMETER,
                _: u32,
            ) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolZero(_: i32, bytes: u64, _: u32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolUninitialized(_: i32, bytes: u64, _: u32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolQuotaZero(_: i32, bytes: u64, _: u32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolQuotaUninitialized(_: i32, bytes: u64, _: u32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolPriorityZero(_: i32, bytes: u64, _: u32, _: i32) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExAllocatePoolPriorityUninitialized(
                _: i32,
                bytes: u64,
                _: u32,
                _: i32,
            ) -> *mut c_void {
                next(bytes)
            }
            pub unsafe fn ExFreePool(_: *mut c_void) {}
            pub unsafe fn ExFreePoolWithTag(_: *mut c_void, _: u32) {}
            pub unsafe fn ExFreePool2(_: *mut c_void, _: u32, _: *const POOL_EXTENDED_PARAMETER, _: u32) {}
        }
    }

    /// Pool types and pointers as plain numbers.
    pub mod numbers {
        use super::next;

        pub unsafe fn ExAllocatePool(_: u32, bytes: u32) -> u64 {
            next(bytes.into()) as u64
        }
        pub unsafe fn ExFreePool(_: u64) {}
    }

    /// Pool types as an enum, sizes as `usize`, bytes.
    pub mod enums {
        use super::next;

        #[repr(i32)]
        #[derive(Clone, Copy)]
        pub enum POOL_TYPE {
            NonPagedPool = 0,
            PagedPool = 1,
        }
        pub unsafe fn ExAllocatePoolWithTag(_: POOL_TYPE, bytes: usize, _: u32) -> *mut u8 {
            next(bytes as u64).cast()
        }
        pub unsafe fn ExFreePoolWithTag(_: *mut u8, _: u32) {}
    }

    /// Safe wrappers that are called like the kernel's functions.
    pub mod safe {
        use super::next;
        use core::ptr::NonNull;

        pub struct Flags(pub u64);
        pub struct Tag([u8; 4]);
        impl Tag {
            pub const fn new(tag: [u8; 4]) -> Self {
                Self(tag)
            }
        }

        pub fn ExAllocatePool2(_: Flags, bytes: impl Into<u64>, _: Tag) -> Option<NonNull<u8>> {
            NonNull::new(next(bytes.into()).cast())
        }
        pub fn ExFreePool(_: NonNull<u8>) {}
    }

    /// Generic in what is allocated.
    pub mod generic {
        use super::next;

        pub unsafe fn ExAllocatePoolZero<T>(_: i32, bytes: usize, _: u32) -> *mut T {
            next(bytes as u64).cast()
        }
        pub unsafe fn ExFreePoolWithTag<T: ?Sized>(_: &mut *mut T, _: u32) {}
    }

    pub trait Pool {
        unsafe fn ExAllocatePool(kind: i32, bytes: usize) -> *mut u8;
        unsafe fn ExFreePool(block: *mut u8);
    }

    pub struct Kernel;

    impl Pool for Kernel {
        unsafe fn ExAllocatePool(_: i32, bytes: usize) -> *mut u8 {
            next(bytes as u64).cast()
        }
        unsafe fn ExFreePool(_: *mut u8) {}
    }
}

const TAG: u32 = u32::from_le_bytes(*b"Form");

#[memtrack::instrument]
mod paths {
    use super::TAG;
    use super::bindings::wdk_sys::{self, ntddk};
    use ntddk::{ExAllocatePool2, ExFreePool, ExFreePool as release};

    pub fn run() {
        unsafe {
            ExFreePool(/*@*/ ExAllocatePool2(0x40, 1, TAG));
            ntddk::ExFreePool(/*@*/ ntddk::ExAllocatePool2(0x40, 1, TAG));
            wdk_sys::ntddk::ExFreePool(/*@*/ wdk_sys::ntddk::ExAllocatePool2(0x40, 1, TAG));
            self::ExFreePool(/*@*/ self::ExAllocatePool2(0x40, 1, TAG));
            inner::run();
            release(/*@*/ (ExAllocatePool2)(0x40, 1, TAG));
        }
        {
            use ntddk::{ExAllocatePool2 as get, ExFreePoolWithTag as put};
            unsafe {
                put(/*@*/ get(0x40, 1, TAG), TAG)
            }
        }
    }

    mod inner {
        pub(super) unsafe fn run() {
            use super::*;
            unsafe {
                super::release(/*@*/ super::ExAllocatePool2(0x40, 1, TAG))
            };
            unsafe {
                release(/*@*/ ExAllocatePool2(0x40, 1, TAG))
            };
        }
    }
}

#[memtrack::instrument]
mod functions {
    use super::TAG;
    use super::bindings::wdk_sys::ntddk::*;
    use core::ptr::null;

    #[rustfmt::skip]
    pub fn run() {
        unsafe {
            ExFreePool(/*@*/ExAllocatePool(0, 1));
            ExFreePool(/*@*/ExAllocatePoolWithTag(1, 1, TAG));
            ExFreePool(/*@*/ExAllocatePoolWithQuota(0, 1));
            ExFreePoolWithTag(/*@*/ExAllocatePoolWithQuotaTag(1, 1, TAG), TAG);
            ExFreePoolWithTag(/*@*/ExAllocatePoolWithTagPriority(512, 1, TAG, 16), TAG);
            ExFreePoolWithTag(/*@*/ExAllocatePool2(0x100, 1, TAG), TAG);
            ExFreePool2(/*@*/ExAllocatePool3(0x40, 1, TAG, null(), 0), TAG, null(), 0);
            ExFreePool(/*@*/ExAllocatePoolZero(0, 1, TAG));
            ExFreePool(/*@*/ExAllocatePoolUninitialized(0, 1, TAG));
            ExFreePool(/*@*/ExAllocatePoolQuotaZero(0, 1, TAG));
            ExFreePool(/*@*/ExAllocatePoolQuotaUninitialized(0, 1, TAG));
            ExFreePool(/*@*/ExAllocatePoolPriorityZero(0, 1, TAG, 16));
            ExFreePool(/*@*/ExAllocatePoolPriorityUninitialized(0, 1, TAG, 16));
        }
    }
}

#[memtrack::instrument]
mod types {
    use super::TAG;
    use super::bindings::{Kernel, Pool, enums, generic, numbers, safe, wdk_sys::ntddk};
    use core::num::TryFromIntError;
    use core::ptr::NonNull;

    #[allow(clippy::cast_possible_truncation, clippy::cast_lossless, clippy::useless_conversion)]
    pub fn run(len: usize, small: u32) -> Result<(), TryFromIntError> {
        let parameter = ntddk::POOL_EXTENDED_PARAMETER::default();
        unsafe {
            // What the compiler infers from the binding's signature.
            let block = /*@*/ntddk::ExAllocatePool2(0x40, len as _, TAG);
            ntddk::ExFreePool(block.cast::<u8>().cast());
            let block: NonNull<u8> =
                NonNull::new(/*@*/ ntddk::ExAllocatePool2(small.into(), small.into(), TAG).cast())
                    .expect("never null");
            ntddk::ExFreePool(block.as_ptr() as _);
            let block = /*@*/ntddk::ExAllocatePool2(Default::default(), u64::try_from(len)?, TAG);
            // Coercions, which only happen where the type of the parameter is known.
            ntddk::ExFreePool2(block, TAG, &raw const parameter, 1);
            let block = /*@*/ntddk::ExAllocatePool3(0, 1, TAG, &parameter, 1);
            let block: *const core::ffi::c_void = block;
            ntddk::ExFreePool2(block.cast_mut(), TAG, &parameter, if small > 0 { 1 } else { 0 });

            let block = /*@*/numbers::ExAllocatePool(0, len as u32) as *mut u8;
            numbers::ExFreePool(block as u64);
            let kind = enums::POOL_TYPE::PagedPool;
            enums::ExFreePoolWithTag(/*@*/ enums::ExAllocatePoolWithTag(kind, len, TAG), TAG);
            let mut list: *mut [u32; 4] = /*@*/generic::ExAllocatePoolZero(0, size_of::<[u32; 4]>(), TAG);
            drop_list(&mut list);
            let mut list = /*@*/generic::ExAllocatePoolZero::<u64>(0, 8, TAG);
            drop_list(&mut list);
            Kernel::ExFreePool(/*@*/ <Kernel as Pool>::ExAllocatePool(0, 8));
            super::types::generic_over::<Kernel>();
        }
        // Safe, and so without `unsafe`.
        let tag = || safe::Tag::new(*b"Safe");
        if let Some(block) = /*@*/ safe::ExAllocatePool2(safe::Flags(0x40), small, tag()) {
            safe::ExFreePool(block);
        }
        let Some(block) = /*@*/safe::ExAllocatePool2(safe::Flags(0x100), 5_u64, tag()) else { return Ok(()) };
        safe::ExFreePool(block);
        Ok(())
    }

    /// The ledger is told of the pointer's value, which this binding hides behind a reference.
    #[memtrack::skip]
    unsafe fn drop_list<T>(list: &mut *mut T) {
        unsafe { generic::ExFreePoolWithTag(list, TAG) };
        unsafe { super::release_untold(list.cast()) };
    }

    pub unsafe fn generic_over<K: Pool>() {
        unsafe {
            K::ExFreePool(/*@*/ K::ExAllocatePool(1, 8))
        }
    }
}

#[memtrack::instrument]
unsafe fn release_untold(block: *mut core::ffi::c_void) {
    unsafe { bindings::wdk_sys::ntddk::ExFreePool(block) }
}

#[memtrack::instrument]
mod places {
    use super::TAG;
    use super::bindings::wdk_sys::ntddk::{self, ExAllocatePool2, ExFreePool};
    use core::ffi::c_void;
    use core::ptr::null_mut;

    struct Block<T>(*mut T);

    impl<T> Block<T> {
        const MAKE: fn() -> Self = || unsafe {
            Self(/*@*/ ExAllocatePool2(0x40, size_of::<T>() as u64, TAG).cast())
        };

        fn new() -> Self {
            unsafe {
                Self(/*@*/ ExAllocatePool2(0x40, size_of::<T>() as u64, TAG).cast())
            }
        }
    }

    impl<T> Drop for Block<T> {
        fn drop(&mut self) {
            unsafe { ExFreePool(self.0.cast()) }
        }
    }

    trait Buffer {
        fn buffer() -> *mut c_void {
            unsafe {
                /*@*/
                ExAllocatePool2(0x40, 1, TAG)
            }
        }
        fn none() -> *mut c_void;
    }

    impl Buffer for Block<u8> {
        fn none() -> *mut c_void {
            null_mut()
        }
    }

    fn early(refuse: bool) -> Option<*mut c_void> {
        let size = |refuse: bool| if refuse { None } else { Some(5) };
        Some(unsafe {
            /*@*/
            ExAllocatePool2(0x40, size(refuse)?, TAG)
        })
    }

    fn leaves(refuse: bool) -> *mut c_void {
        unsafe {
            /*@*/
            ExAllocatePool2(0x40, if refuse { return null_mut() } else { 6 }, TAG)
        }
    }

    async fn later() -> *mut c_void {
        let size = async { 7 };
        unsafe {
            /*@*/
            ExAllocatePool2(0x40, size.await, TAG)
        }
    }

    fn now<F: Future>(future: F) -> F::Output {
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        match core::pin::pin!(future).poll(&mut context) {
            core::task::Poll::Ready(output) => output,
            core::task::Poll::Pending => unreachable!("nothing waits"),
        }
    }

    #[allow(unused_must_use, clippy::no_effect, clippy::blocks_in_conditions, unused_parens)]
    pub fn run() {
        drop(Block::<u32>::new());
        drop(Block::<[u64; 3]>::new());
        drop((Block::<u32>::MAKE)());
        unsafe {
            ExFreePool(Block::buffer());
            assert!(Block::none().is_null());
            ExFreePool(early(false).unwrap());
            assert!(early(true).is_none());
            ExFreePool(leaves(false));
            assert!(leaves(true).is_null());
            ExFreePool(now(later()));

            // At the start of a statement.
            let mut seen = null_mut();
            let mut keep = |block| core::mem::replace(&mut seen, block);
            keep({
                /*@*/
                ExAllocatePool2(0x40, 1, TAG)
            } as *mut u8);
            ExFreePool(seen.cast());
            {
                ExFreePool(/*@*/ ExAllocatePool2(0x40, 1, TAG))
            }
            if
            /*@*/
            ExAllocatePool2(0x40, 1, TAG).cast::<u8>().is_null() {
                return;
            }
            ExFreePool(super::last_address());

            let mut blocks = [const { null_mut() }; 3];
            for block in &mut blocks {
                *block = /*@*/ExAllocatePool2(0x40, 1, TAG);
            }
            for block in blocks {
                match block {
                    block if !block.is_null() => ExFreePool(block),
                    _ => {}
                }
            }

            // Closures, function pointers, and a function found at run time.
            let allocate = |bytes| /*@*/ExAllocatePool2(0x40, bytes, TAG);
            [1, 2].map(allocate).map(|block| ExFreePool(block));
            let pointer: unsafe fn(*mut c_void) = ExFreePool;
            let block = ExAllocatePool2_at_run_time()(0x40, 1, TAG);
            pointer(block);
            #[allow(non_snake_case)]
            let ExAllocatePool2 = ExAllocatePool2_at_run_time();
            ExFreePool(/*@*/ ExAllocatePool2(0x40, 1, TAG));

            #[cfg(any())]
            ExFreePool(nothing);
            #[cfg(all())]
            ExFreePool(/*@*/ ntddk::ExAllocatePool2(0x40, 1, TAG));
            match 1 {
                #[cfg(any())]
                1 => nothing(),
                _ => ExFreePool(/*@*/ ntddk::ExAllocatePool2(0x40, 1, TAG)),
            }
        }
    }

    #[allow(non_snake_case)]
    fn ExAllocatePool2_at_run_time() -> unsafe fn(u64, u64, u32) -> *mut c_void {
        ExAllocatePool2
    }
}

/// The address that was handed out last, which some forms above have thrown away.
fn last_address() -> *mut core::ffi::c_void {
    bindings::LAST.load(std::sync::atomic::Ordering::Relaxed)
}

#[memtrack::instrument]
mod callers {
    use super::TAG;
    use super::bindings::wdk_sys::ntddk::{ExAllocatePool2, ExFreePool};
    use core::ffi::c_void;

    #[track_caller]
    fn allocate(bytes: u64) -> *mut c_void {
        unsafe { ExAllocatePool2(0x40, bytes, TAG) }
    }

    #[track_caller]
    fn allocate_twice(bytes: u64) -> *mut c_void {
        allocate(2 * bytes)
    }

    pub fn run() {
        for block in [/*@*/ allocate(1), /*@*/ allocate_twice(1)] {
            unsafe { ExFreePool(block) }
        }
    }
}

#[memtrack::instrument]
#[allow(non_snake_case, non_camel_case_types, dead_code, unused_imports)]
mod traps {
    use super::TAG;
    use super::bindings::wdk_sys::ntddk;
    use super::bindings::wdk_sys::ntddk::ExAllocatePoolZero;
    use core::ffi::c_void;

    type ExAllocatePool = u8;
    struct ExAllocatePoolWithQuota(u64, u64);
    enum Irp {
        ExFreePool(u64),
        ExFreePoolWithTag { tag: u32 },
    }

    unsafe extern "C" {
        fn ExFreePool3(block: *mut c_void);
    }

    /// Wraps the kernel's function: its calls are recorded, not its body.
    unsafe fn ExAllocatePool2(flags: u64, bytes: u64, tag: u32) -> *mut c_void {
        unsafe { ntddk::ExAllocatePool2(flags, bytes, tag) }
    }

    fn ExAllocatePoolFailed(_: u64, _: u64, _: u32) -> bool {
        false
    }

    /// Another function of that name.
    fn ExAllocatePoolUninitialized() -> u32 {
        7
    }

    const fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> usize {
        bytes
    }

    const SIZE: usize = ExAllocatePoolWithTag(0, 16, 1);

    pub fn run() {
        let ExAllocatePoolQuotaZero = 5;
        let one: ExAllocatePool = 1;
        let pair = ExAllocatePoolWithQuota(u64::from(one), ExAllocatePoolQuotaZero);
        let irp = Irp::ExFreePool(pair.0 + pair.1);
        assert!(matches!(irp, Irp::ExFreePool(6)));
        assert!(!ExAllocatePoolFailed(1, 2, 3));
        assert_eq!(ExAllocatePoolUninitialized(), 7);
        let array = [0_u8; ExAllocatePoolWithTag(0, 3, 1)];
        assert_eq!(array.len() + SIZE, 19);
        assert_eq!(stringify!(ExAllocatePool2(a, b, c)), "ExAllocatePool2(a, b, c)");
        unsafe {
            ntddk::ExFreePool(/*@*/ ExAllocatePool2(0x40, 1, TAG))
        }
    }
}

#[memtrack::instrument]
mod skipped {
    use super::TAG;
    use super::bindings::wdk_sys::ntddk::{ExAllocatePool2, ExFreePool};

    pub fn run() {
        unsafe {
            #[memtrack::skip]
            let block = ExAllocatePool2(0x40, 1, TAG);
            #[memtrack::skip]
            ExFreePool(block);
            whole();
        }
    }

    #[memtrack::skip]
    unsafe fn whole() {
        unsafe { ExFreePool(ExAllocatePool2(0x40, 1, TAG)) }
    }
}

#[memtrack::skip]
fn skip_stands_alone() {}

/// Where a crate knows memtrack by another name.
mod renamed {
    pub mod tools {
        pub use memtrack as pool_tracker;
    }

    use super::bindings::wdk_sys::ntddk::{ExAllocatePool2, ExFreePool};
    use tools::pool_tracker::instrument;

    #[instrument(crate = crate::renamed::tools::pool_tracker)]
    pub fn run() {
        unsafe {
            ExFreePool(/*@*/ ExAllocatePool2(0x40, 1, super::TAG))
        }
    }
}

/// The temporaries of an argument live as long as they did: to the end of the statement.
#[memtrack::instrument]
mod temporaries {
    use super::TAG;
    use super::bindings::wdk_sys::ntddk::{ExAllocatePool2, ExFreePool};
    use std::cell::RefCell;

    struct Noisy<'a>(&'a RefCell<Vec<&'static str>>);

    impl Noisy<'_> {
        fn size(&self) -> u64 {
            self.0.borrow_mut().push("size");
            1
        }
    }

    impl Drop for Noisy<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push("drop");
        }
    }

    pub fn run() {
        let events = RefCell::new(Vec::new());
        let say = |text| events.borrow_mut().push(text);
        unsafe {
            let block = (/*@*/ ExAllocatePool2(0x40, Noisy(&events).size(), TAG), say("after")).0;
            ExFreePool(block);
        }
        assert_eq!(*events.borrow(), ["size", "after", "drop"]);
    }
}

/// Unload routines of every shape; what they do is tested in `tests/calls.rs`.
#[memtrack::instrument]
#[allow(dead_code)]
mod endings {
    use core::ffi::c_void;

    struct Unfinished;

    #[memtrack::instrument(finish = "Forms")]
    pub extern "C" fn returns_from_a_loop(driver: *mut c_void) {
        loop {
            if driver.is_null() {
                return;
            }
        }
    }

    #[memtrack::instrument(finish = "Forms")]
    pub fn has_a_result(fails: bool) -> Result<Vec<u8>, std::num::ParseIntError> {
        let number = if fails { "x" } else { "1" }.parse()?;
        Ok(vec![number])
    }

    #[memtrack::instrument(finish = "Forms")]
    pub fn has_an_unnameable_result(bytes: &[u8]) -> impl Iterator<Item = u8> {
        bytes.iter().copied()
    }

    #[memtrack::instrument(finish = "Forms")]
    pub fn never_returns() -> ! {
        panic!("never")
    }

    #[memtrack::instrument(finish = "Forms")]
    pub unsafe fn is_empty() {}

    impl Unfinished {
        #[memtrack::instrument(finish = "Forms")]
        pub fn method(&mut self) -> &mut Self {
            self
        }
    }

    pub trait Unload {
        #[memtrack::instrument(finish = "Forms")]
        fn unload(&self) {}
    }
}

fn run_all() {
    paths::run();
    functions::run();
    types::run(40, 8).unwrap();
    places::run();
    callers::run();
    traps::run();
    skipped::run();
    skip_stands_alone();
    renamed::run();
    temporaries::run();
}

/// Where the marks say that an allocation stands: at the next thing after each.
fn marked() -> BTreeSet<(usize, usize)> {
    let mark = concat!("/*", "@*/");
    let source = include_str!("forms.rs");
    let code = source.find("mod bindings").expect("the marks above are words");
    let after = source.match_indices(mark).map(|(place, _)| place + mark.len()).filter(|place| *place > code);
    let calls = after.map(|place| source.len() - source[place..].trim_start().len());
    calls
        .map(|place| {
            let start = source[..place].rfind('\n').map_or(0, |end| end + 1);
            (source[..place].matches('\n').count() + 1, place - start + 1)
        })
        .collect()
}

#[test]
fn every_form_is_recorded_at_its_line_and_column() {
    run_all();
    let stats = memtrack::stats();
    let sites: Vec<_> = memtrack::sites().collect();
    let places: BTreeSet<_> = sites.iter().map(|site| (site.line as usize, site.column as usize)).collect();
    if cfg!(any(feature = "off", all(feature = "release_off", not(debug_assertions)))) {
        assert_eq!((places.len(), stats), (0, memtrack::Stats::default()));
        return;
    }
    assert_eq!(places, marked());
    assert!(sites.iter().all(|site| site.file == file!()));
    let outstanding: Vec<_> = sites.iter().filter(|site| site.figures.curr_blocks > 0).collect();
    assert!(outstanding.is_empty(), "{outstanding:#?}");
    assert_eq!((stats.foreign_frees, stats.vanished_blocks, stats.unrecorded_blocks), (0, 0, 0));
    assert_eq!(stats.violations, 0);

    let of = |function| sites.iter().find(|site| site.function == function).unwrap();
    assert_eq!(of(memtrack::Function::ExAllocatePoolWithQuota).tag, memtrack::Tag::NONE);
    assert_eq!(of(memtrack::Function::ExAllocatePoolWithTag).pool, memtrack::Pool::Paged);
    assert_eq!(of(memtrack::Function::ExAllocatePoolWithTagPriority).pool, memtrack::Pool::NonPaged);
    assert_eq!(of(memtrack::Function::ExAllocatePool3).tag, memtrack::Tag(TAG));
}
