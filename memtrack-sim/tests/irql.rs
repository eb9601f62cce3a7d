//! Levels are raised upwards, lowered downwards, and are each thread's own.

mod common;

use common::{DISPATCH, at, kernel};
use memtrack_sim::{ntddk::*, *};

fn current() -> KIRQL {
    kernel!(KeGetCurrentIrql())
}

#[test]
fn a_level_is_raised_and_lowered() {
    let _machine = Machine::boot();
    assert_eq!(current(), 0);
    assert_eq!(kernel!(KfRaiseIrql(1)), 0);
    assert_eq!(kernel!(KfRaiseIrql(DISPATCH)), 1);
    assert_eq!(kernel!(KfRaiseIrql(DISPATCH)), 2);
    assert_eq!(kernel!(KfRaiseIrql(HIGH_LEVEL as KIRQL)), 2);
    kernel!(KeLowerIrql(15));
    assert_eq!(current(), 15);
    kernel!(KeLowerIrql(1));
    assert_eq!(current(), 1);
    kernel!(KeLowerIrql(0));
    assert_eq!(current(), 0);
}

#[test]
fn the_wrong_direction_stops_the_machine() {
    let _machine = Machine::boot();
    let check = |code, parameters| Err(BugCheck { code, parameters });
    at(DISPATCH, || {
        let raise = catch_bugcheck(|| kernel!(KfRaiseIrql(1)));
        assert_eq!(raise, check(IRQL_NOT_GREATER_OR_EQUAL, [2, 1, 0, 0]).map(|()| 0));
        let lower = catch_bugcheck(|| kernel!(KeLowerIrql(3)));
        assert_eq!(lower, check(IRQL_NOT_LESS_OR_EQUAL, [2, 3, 0, 0]));
        assert_eq!(current(), DISPATCH);
    });
    let beyond = catch_bugcheck(|| kernel!(KfRaiseIrql(16)));
    assert_eq!(beyond, check(IRQL_NOT_GREATER_OR_EQUAL, [0, 16, 0, 0]).map(|()| 0));
}

#[test]
fn every_thread_has_its_own() {
    let machine = Machine::boot();
    at(DISPATCH, || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The machine can be lent to a thread.
                assert_eq!(machine.pool(PoolKind::Paged).blocks, 0);
                assert_eq!(current(), 0);
                kernel!(KfRaiseIrql(7));
            });
        });
        assert_eq!(current(), DISPATCH);
    });
}

#[test]
fn catching_puts_the_level_back() {
    let _machine = Machine::boot();
    at(1, || {
        catch_bugcheck(|| {
            kernel!(KfRaiseIrql(9));
            kernel!(KeBugCheckEx(1, 2, 3, 4, 5))
        })
        .unwrap_err();
        assert_eq!(current(), 1);

        let other = std::panic::catch_unwind(|| {
            catch_bugcheck(|| {
                kernel!(KfRaiseIrql(9));
                panic!("something else");
            })
        });
        assert!(other.is_err());
        assert_eq!(current(), 1);

        catch_raise(|| {
            kernel!(KfRaiseIrql(2));
            kernel!(ExAllocatePoolWithQuota(0, u64::MAX))
        })
        .unwrap_err();
        assert_eq!(current(), 1);
    });
}

#[test]
fn what_returns_may_change_the_level() {
    let _machine = Machine::boot();
    assert_eq!(catch_bugcheck(|| kernel!(KfRaiseIrql(2))), Ok(0));
    assert_eq!(current(), 2);
    kernel!(KeLowerIrql(0));
}

#[test]
fn a_boot_begins_at_passive_level_wherever_the_last_test_ended() {
    kernel!(KfRaiseIrql(5));
    let machine = Machine::boot();
    assert_eq!(current(), 0);
    kernel!(KfRaiseIrql(6));
    drop(machine);
    assert_eq!(current(), 0);
}

#[test]
fn paged_code_runs_up_to_apc_level() {
    let _machine = Machine::boot();
    PAGED_CODE!();
    at(1, || PAGED_CODE!());
    let stop = catch_bugcheck(|| at(DISPATCH, || PAGED_CODE!()));
    let expected = BugCheck { code: IRQL_NOT_LESS_OR_EQUAL, parameters: [0, 2, 8, 0] };
    assert_eq!(stop, if cfg!(debug_assertions) { Err(expected) } else { Ok(()) });
}
