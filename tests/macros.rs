//! Pool calls inside of macro calls and of macros that a driver defines: each is recorded at its own line and column,
//! or, where a macro makes it, at the line that calls the macro. `/*@*/` stands before each place.
#![deny(warnings, unsafe_op_in_unsafe_fn, unused_unsafe, clippy::all, clippy::pedantic)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::ptr_as_ptr, clippy::dbg_macro, unreachable_pub)]
#![allow(clippy::useless_vec, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use memtrack_sim::Machine;

mod places;

const IS_OFF: bool = cfg!(any(feature = "off", all(feature = "release_off", not(debug_assertions))));

#[memtrack::instrument]
#[rustfmt::skip]
mod driver {
    use core::ptr::null_mut;

    use memtrack_sim::ntddk::{ExAllocatePool2, ExFreePool, ExFreePool as release};
    use memtrack_sim::{POOL_FLAG_PAGED, PVOID, ntddk};

    const TAG: u32 = u32::from_le_bytes(*b"Macr");

    pub fn standard() {
        unsafe {
            assert!(!/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG).is_null());
            assert!(!/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG).is_null(), "out of {}", "pool");
            assert_ne!(/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG), null_mut());
            println!("{:?} {block:?}", /*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG),
                block = /*@*/ntddk::ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG));
            let blocks = vec![/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG), /*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG)];
            let same = vec![/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG); 2];
            let block = dbg!(/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG));
            assert!(matches!(/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG), block if !block.is_null()));
            let text = format!("{:p}", /*@*/ExAllocatePool2(POOL_FLAG_PAGED, blocks.len() as _, TAG).cast::<u8>());
            assert!(text.starts_with("0x"));
            for block in blocks.into_iter().chain([same[0], block]) {
                println!("{:?}", (block, release(block)));
            }
        }
        // `unsafe` inside, a closure, and a macro within a macro.
        assert!(unsafe { !/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG).is_null() });
        let allocate = |bytes| vec![unsafe { /*@*/ExAllocatePool2(POOL_FLAG_PAGED, bytes, TAG) }];
        assert_eq!(vec![vec![allocate(2)[0], unsafe { /*@*/ExAllocatePool2(POOL_FLAG_PAGED, 1, TAG) }]].len(), 1);
    }

    /// Text and data stay as they are.
    pub fn text() -> [&'static str; 2] {
        [stringify!(ExAllocatePool2(a, b, c)), concat!("ExFreePool(", 1, ")")]
    }

    // Macros of the driver's own, which get expressions.
    macro_rules! checked {
        ($block:expr) => {{
            let block: PVOID = $block;
            if block.is_null() { None } else { Some(block) }
        }};
    }
    macro_rules! all_of {
        ($($name:ident = $block:expr;)*) => { $(let $name = $block;)* };
    }
    macro_rules! run {
        ($($statement:tt)*) => { $($statement)* };
    }

    pub fn own() -> Option<PVOID> {
        let block = unsafe { checked!(/*@*/ExAllocatePool2(POOL_FLAG_PAGED, 3, TAG)) }?;
        unsafe { ExFreePool(block) };
        all_of! {
            one = unsafe { /*@*/ExAllocatePool2(POOL_FLAG_PAGED, 4, TAG) };
            two = unsafe { /*@*/ExAllocatePool2(POOL_FLAG_PAGED, 5, TAG) };
        }
        run! {
            let three = unsafe { /*@*/ExAllocatePool2(POOL_FLAG_PAGED, 6, TAG) };
            unsafe { release(three) }
        }
        unsafe { ExFreePool(one) };
        Some(two)
    }

    // Macros of the driver's own that call the kernel: the line that calls them is the site.
    macro_rules! allocate {
        ($bytes:expr) => { unsafe { ExAllocatePool2(POOL_FLAG_PAGED, $bytes, TAG) } };
        ($bytes:expr, quietly) => { unsafe { #[memtrack::skip] let block = ExAllocatePool2(POOL_FLAG_PAGED, $bytes, TAG); block } };
    }
    macro_rules! free {
        ($($block:expr),*) => { $( unsafe { $crate::driver::ntddk::ExFreePool($block) } )* };
    }

    pub fn made() -> PVOID {
        let one = /*@*/allocate!(7);
        let two = {
            let bytes = || 8;
            /*@*/allocate!(bytes())
        };
        let three = allocate!(10, quietly);
        free!(one, two, three);
        /*@*/allocate!(9)
    }

    // A macro that takes the call apart gets it as it is.
    macro_rules! told {
        ($function:ident($($argument:expr),*)) => { (stringify!($function), $function($($argument),*)) };
    }

    pub fn apart() -> &'static str {
        #[memtrack::skip]
        let (name, block) = unsafe { told!(ExAllocatePool2(POOL_FLAG_PAGED, 11, TAG)) };
        unsafe { ExFreePool(block) };
        name
    }

    pub fn fails() {
        let none = |_: u64, _: u64, _: u32| null_mut::<u8>();
        #[allow(non_snake_case)]
        let ExAllocatePool2 = none;
        assert!(
            !ExAllocatePool2(1, 2, TAG)
                .is_null(),
        );
    }
}

#[test]
fn every_call_in_a_macro_is_recorded_at_its_place() {
    let machine = Machine::boot();
    driver::standard();
    assert_eq!(driver::text(), ["ExAllocatePool2(a, b, c)", "ExFreePool(1)"]);
    assert!(driver::own().is_some());
    assert!(!driver::made().is_null());
    assert_eq!(driver::apart(), "ExAllocatePool2");
    if IS_OFF {
        assert_eq!(memtrack::sites().count(), 0);
        return;
    }
    let sites: Vec<_> = memtrack::sites().collect();
    let recorded: BTreeSet<_> = sites.iter().map(|site| (site.line as usize, site.column as usize)).collect();
    assert_eq!(recorded, places::marked(include_str!("macros.rs")));
    assert!(sites.iter().all(|site| site.file == file!()), "{sites:#?}");
    let stats = memtrack::stats();
    assert_eq!(
        (stats.foreign_frees, stats.vanished_blocks, stats.violations),
        (2, 0, 0),
        "{:#?}",
        machine.output()
    );
}

#[test]
fn an_assertion_fails_in_the_drivers_own_words() {
    let _machine = Machine::boot();
    let thrown = catch_unwind(driver::fails).unwrap_err();
    // With off it is the compiler's own, a constant.
    let message =
        thrown.downcast_ref::<String>().map(String::as_str).or(thrown.downcast_ref::<&str>().copied());
    assert_eq!(message, Some("assertion failed: !ExAllocatePool2(1, 2, TAG).is_null()"));
}
