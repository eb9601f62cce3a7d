//! Generic owners with `Drop`, the pool and the tag chosen by type parameters. A driver's tree of devices.

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod owners {
    use super::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
    use core::marker::PhantomData;
    use core::ops::{Deref, DerefMut};
    use core::ptr::NonNull;

    pub trait Pool {
        const FLAGS: u64;
        const TAG: u32;
    }

    pub struct Resident;
    impl Pool for Resident {
        const FLAGS: u64 = 0x40;
        const TAG: u32 = u32::from_le_bytes(*b"Resi");
    }

    pub struct Pageable;
    impl Pool for Pageable {
        const FLAGS: u64 = 0x100;
        const TAG: u32 = u32::from_le_bytes(*b"Page");
    }

    pub struct PoolBox<T, P: Pool>(NonNull<T>, PhantomData<(T, P)>);

    impl<T, P: Pool> PoolBox<T, P> {
        pub fn new(value: T) -> Result<Self, T> {
            let block = unsafe {
                /*@*/
                ExAllocatePool2(P::FLAGS, size_of::<T>() as u64, P::TAG)
            };
            let Some(block) = NonNull::new(block.cast::<T>()) else { return Err(value) };
            unsafe { block.write(value) };
            Ok(Self(block, PhantomData))
        }

        pub fn leak<'a>(self) -> &'a mut T {
            unsafe { core::mem::ManuallyDrop::new(self).0.as_mut() }
        }
    }

    impl<T, P: Pool> Deref for PoolBox<T, P> {
        type Target = T;
        fn deref(&self) -> &T {
            unsafe { self.0.as_ref() }
        }
    }

    impl<T, P: Pool> DerefMut for PoolBox<T, P> {
        fn deref_mut(&mut self) -> &mut T {
            unsafe { self.0.as_mut() }
        }
    }

    impl<T, P: Pool> Drop for PoolBox<T, P> {
        fn drop(&mut self) {
            unsafe {
                self.0.drop_in_place();
                ExFreePoolWithTag(self.0.as_ptr().cast(), P::TAG);
            }
        }
    }
}

use owners::{Pageable, PoolBox, Resident};

struct Device {
    id: u32,
    name: PoolBox<[u8; 24], Pageable>,
    child: Option<PoolBox<Device, Resident>>,
}

fn device(id: u32, child: Option<PoolBox<Device, Resident>>) -> Option<PoolBox<Device, Resident>> {
    let name = PoolBox::new(*b"\\Device\\Bus00\\Child00   ").ok()?;
    PoolBox::new(Device { id, name, child }).ok()
}

pub fn drive() {
    let mut bus = device(1, device(2, device(3, None))).unwrap();
    bus.name[12] = b'7';
    assert_eq!((&bus.name[8..13], bus.id), (&b"Bus07"[..], 1));
    let grandchild = bus.child.as_mut().and_then(|child| child.child.take());
    drop(bus);
    assert_eq!(grandchild.unwrap().leak().id, 3);
    assert!(PoolBox::<[u8; 16_000], Pageable>::new([0; 16_000]).is_err());
}
