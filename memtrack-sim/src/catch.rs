//! Catching what stops a driver, so that a test can go on and look at it.

use crate::{
    bugcheck::{self, BugCheck},
    irql,
    raise::{self, Raised},
};

/// Runs `body`; a bugcheck that stops it is returned, any other panic goes on.
///
/// The thread's IRQL is put back to what it was before, so that the test can go on. Nothing else is: a spin
/// lock that the stopped code held stays held, and what it had allocated stays allocated, as in a dump.
///
/// ```
/// use memtrack_sim::{IRQL_NOT_GREATER_OR_EQUAL, catch_bugcheck, ntddk::KfRaiseIrql};
///
/// let stop = catch_bugcheck(|| unsafe {
///     KfRaiseIrql(2);
///     KfRaiseIrql(1);
/// });
/// assert_eq!(stop.unwrap_err().code, IRQL_NOT_GREATER_OR_EQUAL);
/// ```
///
/// # Errors
///
/// The bugcheck, where there was one.
pub fn catch_bugcheck<R>(body: impl FnOnce() -> R) -> Result<R, BugCheck> {
    catch(body, bugcheck::parse)
}

/// Runs `body`; a status that the kernel raises in it is returned, any other panic goes on.
///
/// As with [`catch_bugcheck`](crate::catch_bugcheck), the thread's IRQL is put back to what it was before.
///
/// ```
/// use memtrack_sim::{_POOL_TYPE, STATUS_INSUFFICIENT_RESOURCES, catch_raise, ntddk::ExAllocatePoolWithQuota};
///
/// let raised = catch_raise(|| unsafe { ExAllocatePoolWithQuota(_POOL_TYPE::PagedPool, u64::MAX) }).unwrap_err();
/// assert_eq!(raised.status, STATUS_INSUFFICIENT_RESOURCES);
/// ```
///
/// # Errors
///
/// What was raised, where something was.
pub fn catch_raise<R>(body: impl FnOnce() -> R) -> Result<R, Raised> {
    catch(body, raise::parse)
}

/// Runs `body` and returns what `read` makes of the text that it panicked with.
fn catch<R, E>(body: impl FnOnce() -> R, read: impl Fn(&str) -> Option<E>) -> Result<R, E> {
    let level = irql::current();
    // Whatever the body left half done is what a crash leaves half done: that is what callers look at.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).map_err(|payload| {
        irql::set(level);
        match payload.downcast_ref::<String>().and_then(|text| read(text)) {
            Some(caught) => caught,
            None => std::panic::resume_unwind(payload),
        }
    })
}
