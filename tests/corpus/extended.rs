//! `ExAllocatePool3` and `ExFreePool2` with extended parameters. A driver for a camera, by priority and by node.

#[allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod wdk_sys {
    use core::ffi::c_void;

    /// Its type, in eight bits, and what belongs to it.
    #[repr(C)]
    pub struct POOL_EXTENDED_PARAMETER {
        pub kind: u64,
        pub value: POOL_EXTENDED_VALUE,
    }

    #[repr(C)]
    pub union POOL_EXTENDED_VALUE {
        pub Reserved: u64,
        pub PreferredNode: u32,
    }

    pub type PCPOOL_EXTENDED_PARAMETER = *const POOL_EXTENDED_PARAMETER;

    pub unsafe extern "C" fn ExAllocatePool3(
        _: u64,
        bytes: u64,
        _: u32,
        parameters: PCPOOL_EXTENDED_PARAMETER,
        count: u32,
    ) -> *mut c_void {
        assert!(count == 0 || unsafe { (*parameters).kind } < 4);
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool2(block: *mut c_void, _: u32, _: PCPOOL_EXTENDED_PARAMETER, _: u32) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    use core::ffi::c_void;
    use core::ptr::{null, null_mut};
    use wdk_sys::{
        ExAllocatePool3, ExFreePool2, POOL_EXTENDED_PARAMETER as Parameter, POOL_EXTENDED_VALUE as Value,
    };

    const TAG: u32 = u32::from_le_bytes(*b"Cam3");

    #[derive(Clone, Copy)]
    enum Want {
        Plain,
        Priority(u64),
        Near(u32),
    }

    impl From<Want> for Parameter {
        fn from(want: Want) -> Self {
            match want {
                Want::Plain => Self { kind: 0, value: Value { Reserved: 0 } },
                Want::Priority(priority) => Self { kind: 1, value: Value { Reserved: priority } },
                Want::Near(node) => {
                    let mut near = Self { kind: 3, value: Value { Reserved: 0 } };
                    near.value.PreferredNode = node;
                    near
                }
            }
        }
    }

    /// The pictures that the camera writes to, in turn.
    struct Pictures {
        places: [*mut c_void; 3],
        next: usize,
    }

    impl Pictures {
        fn new(bytes: u64, wants: [Want; 3]) -> Option<Self> {
            let mut pictures = Self { places: [null_mut(); 3], next: 0 };
            for (place, want) in pictures.places.iter_mut().zip(wants) {
                *place = match want {
                    Want::Plain => unsafe { /*@*/ExAllocatePool3(0x40, bytes, TAG, null(), 0) },
                    want => unsafe { /*@*/ExAllocatePool3(0x40, bytes, TAG, &want.into(), 1) },
                };
                if place.is_null() {
                    return None;
                }
            }
            Some(pictures)
        }

        fn expose(&mut self, light: u8) -> usize {
            let place = self.next % self.places.len();
            unsafe { self.places[place].cast::<u8>().write(light) };
            self.next += 1;
            place
        }
    }

    impl Drop for Pictures {
        fn drop(&mut self) {
            let parameter: Parameter = Want::Priority(8).into();
            for (number, place) in self.places.into_iter().filter(|place| !place.is_null()).enumerate() {
                unsafe {
                    match number {
                        0 => ExFreePool2(place, TAG, null(), 0),
                        _ => ExFreePool2(place, TAG, &raw const parameter, 1),
                    }
                }
            }
        }
    }

    pub fn drive() {
        let wants = [Want::Plain, Want::Priority(32), Want::Near(1)];
        let mut pictures = Pictures::new(640, wants).unwrap();
        assert_eq!([10, 20, 30, 40].map(|light| pictures.expose(light)), [0, 1, 2, 0]);
        assert_eq!(unsafe { pictures.places[0].cast::<u8>().read() }, 40);
        assert!(Pictures::new(1 << 32, wants).is_none());
        drop(pictures);
        let running = core::mem::ManuallyDrop::new(Pictures::new(4096, wants));
        assert!(running.is_some());
    }
}
