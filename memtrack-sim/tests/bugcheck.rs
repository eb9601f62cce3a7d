//! Bugchecks and raises: what they say, who catches them, and what they leave.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{TAG, bad_pool_caller, kernel};
use memtrack_sim::{_POOL_TYPE::*, ntddk::*, *};

fn stop() {
    kernel!(KeBugCheckEx(BAD_POOL_CALLER, 7, 0, 0xABC, u64::MAX));
}

#[test]
fn a_bugcheck_is_caught_with_its_numbers() {
    let _machine = Machine::boot();
    let caught = catch_bugcheck(stop).unwrap_err();
    assert_eq!(caught, bad_pool_caller([7, 0, 0xABC, u64::MAX]));
    assert_eq!(caught.name(), Some("BAD_POOL_CALLER"));
    let line = "bugcheck 0x000000C2 BAD_POOL_CALLER (0x7, 0x0, 0xABC, 0xFFFFFFFFFFFFFFFF)";
    assert_eq!(caught.to_string(), line);
}

#[test]
fn an_unknown_code_has_no_name_and_is_caught_as_well() {
    let _machine = Machine::boot();
    let caught = catch_bugcheck(|| kernel!(KeBugCheckEx(0xDEAD_BEEF, 1, 2, 3, 4))).unwrap_err();
    assert_eq!((caught.code, caught.parameters, caught.name()), (0xDEAD_BEEF, [1, 2, 3, 4], None));
    assert_eq!(caught.to_string(), "bugcheck 0xDEADBEEF (0x1, 0x2, 0x3, 0x4)");
}

#[test]
#[should_panic(expected = "BAD_POOL_CALLER")]
fn a_test_can_expect_a_bugcheck_by_name() {
    let _machine = Machine::boot();
    kernel!(ExFreePool(std::ptr::null_mut()));
}

#[test]
fn it_is_printed_on_a_line_of_its_own() {
    let machine = Machine::boot();
    kernel!(DbgPrint(c"half a line".as_ptr()));
    let caught = catch_bugcheck(stop).unwrap_err();
    assert_eq!(machine.output(), ["half a line".to_owned(), caught.to_string()]);
}

#[test]
fn other_panics_go_on() {
    let _machine = Machine::boot();
    let goes_on = |text: &'static str| {
        let payload = catch_unwind(|| catch_bugcheck(|| panic!("{text}"))).unwrap_err();
        assert_eq!(payload.downcast_ref::<String>().map(String::as_str), Some(text));
    };
    goes_on("something else");
    goes_on("bugcheck 0x000000C2 BAD_POOL_CALLER (0x7, 0x0, 0x0, 0x0) and more");
    goes_on("bugcheck 0x000000C2 SOMETHING_ELSE (0x7, 0x0, 0x0, 0x0)");
    goes_on("bugcheck 0x000000C2 BAD_POOL_CALLER (0x7, 0x0, 0x0, 0x0, 0x0)");

    let unwrapped = catch_unwind(|| {
        catch_bugcheck(|| {
            catch_bugcheck(stop).unwrap();
        })
    });
    assert!(unwrapped.is_err(), "a test's own panic about a bugcheck is not one");
}

#[test]
fn bugchecks_and_raises_are_not_confused() {
    let _machine = Machine::boot();
    let raise = || kernel!(ExAllocatePoolWithQuotaTag(PagedPool, u64::MAX, TAG));
    let raised = catch_raise(|| catch_bugcheck(raise)).unwrap_err();
    assert_eq!(raised.status, STATUS_INSUFFICIENT_RESOURCES);
    assert_eq!(raised.to_string(), "raised 0xC000009A STATUS_INSUFFICIENT_RESOURCES");
    assert_eq!(catch_bugcheck(|| catch_raise(stop)), Err(bad_pool_caller([7, 0, 0xABC, u64::MAX])));
}

#[test]
fn a_raise_is_not_printed() {
    let machine = Machine::boot();
    catch_raise(|| kernel!(ExAllocatePoolWithQuotaTag(PagedPool, u64::MAX, TAG))).unwrap_err();
    assert!(machine.output().is_empty());
}

#[test]
fn a_value_passes_through() {
    let _machine = Machine::boot();
    assert_eq!(catch_bugcheck(|| 5), Ok(5));
    assert_eq!(catch_raise(|| "five"), Ok("five"));
}

#[test]
fn a_bugcheck_crosses_a_join() {
    let _machine = Machine::boot();
    let caught = catch_bugcheck(|| {
        std::thread::scope(|scope| {
            if let Err(payload) = scope.spawn(stop).join() {
                std::panic::resume_unwind(payload);
            }
        });
    });
    assert_eq!(caught, Err(bad_pool_caller([7, 0, 0xABC, u64::MAX])));
}

#[test]
fn the_pool_works_on_after_a_bugcheck() {
    let machine = Machine::boot();
    for _ in 0..3 {
        catch_bugcheck(|| kernel!(ExFreePool(std::ptr::null_mut()))).unwrap_err();
        let block = kernel!(ExAllocatePool2(POOL_FLAG_PAGED, 10, TAG));
        kernel!(ExFreePool(block));
    }
    assert_eq!(machine.pool(PoolKind::Paged).total_blocks, 3);
}

#[test]
fn a_second_mistake_while_unwinding_is_printed_only() {
    struct Owner;
    impl Drop for Owner {
        fn drop(&mut self) {
            kernel!(ExFreePool(std::ptr::null_mut()));
            assert!(kernel!(ExAllocatePoolWithTag(PagedPool, 10, 0)).is_null());
            assert!(kernel!(ExAllocatePoolWithQuotaTag(PagedPool, u64::MAX, TAG)).is_null());
        }
    }
    let machine = Machine::boot();
    let first = catch_bugcheck(|| {
        let _owner = Owner;
        stop();
    });
    assert_eq!(first, Err(bad_pool_caller([7, 0, 0xABC, u64::MAX])));
    let lines = machine.output();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].ends_with("(0x46, 0x0, 0x0, 0x0)") && lines[2].ends_with("(0x9B, 0x1, 0xA, 0x0)"));
}

#[test]
fn a_bugcheck_leaves_a_callback_that_may_unwind() {
    unsafe extern "C-unwind" fn callback() {
        stop();
    }
    let _machine = Machine::boot();
    // SAFETY: it has no requirements.
    assert!(catch_bugcheck(AssertUnwindSafe(|| unsafe { callback() })).is_err());
}
