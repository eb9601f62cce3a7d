//! Async functions, const generics and constants. A driver's state machine for transfers.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod transfer {
    use super::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
    use core::future::{poll_fn, Future};
    use core::task::Poll;

    pub struct Fixed<const BYTES: usize, const TAG: u32>(*mut [u8; BYTES]);

    impl<const BYTES: usize, const TAG: u32> Fixed<BYTES, TAG> {
        pub const ROOM: usize = BYTES - 1;

        pub fn new() -> Self {
            let block = unsafe {
                /*@*/
                ExAllocatePool2(0x40, const { BYTES.next_multiple_of(2) }, TAG)
            };
            Self(block.cast())
        }

        pub async fn filled(with: impl Future<Output = u8>) -> Self {
            let block = unsafe {
                /*@*/
                ExAllocatePool2(0x40, BYTES, TAG)
            };
            let this = Self(block.cast());
            let byte = with.await;
            unsafe { (*this.0).fill(byte) };
            this
        }

        pub fn last(&self) -> u8 {
            unsafe { (&*self.0)[Self::ROOM] }
        }
    }

    impl<const BYTES: usize, const TAG: u32> Drop for Fixed<BYTES, TAG> {
        fn drop(&mut self) {
            unsafe { ExFreePoolWithTag(self.0.cast(), TAG) }
        }
    }

    /// Is there when it is asked for the third time.
    pub fn slow(byte: u8) -> impl Future<Output = u8> {
        let mut waits = 2;
        poll_fn(move |context| {
            if waits == 0 {
                return Poll::Ready(byte);
            }
            waits -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    pub async fn copied(sectors: usize) -> Option<usize> {
        let size = async |sector: usize| usize::from(slow(4).await) * sector;
        let mut copied = 0;
        for sector in 1..=sectors {
            let block = unsafe {
                /*@*/
                ExAllocatePool2(0x100, size(sector).await, 0x7970_6F43)
            };
            if block.is_null() {
                return None;
            }
            copied += usize::from(slow(1).await);
            unsafe { ExFreePoolWithTag(block, 0x7970_6F43) };
        }
        Some(copied)
    }
}

use transfer::{copied, slow, Fixed};

fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

pub fn drive() {
    let sector = wait(Fixed::<512, 0x6365_5350>::filled(slow(0xA5)));
    assert_eq!((sector.last(), Fixed::<512, 1>::ROOM), (0xA5, 511));
    assert_eq!(Fixed::<7, 2>::new().last(), 0);
    assert_eq!((wait(copied(3)), wait(copied(0))), (Some(3), Some(0)));
    // Dropped before it is done.
    let mut never = Box::pin(Fixed::<9, 3>::filled(slow(0)));
    assert!(never.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(never);
    core::mem::forget(sector);
}
