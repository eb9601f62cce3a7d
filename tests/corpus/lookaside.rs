//! A lookaside list: the kernel calls the driver's own allocate and free routines. A driver for a network card.

#[allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod wdm {
    use core::ffi::c_void;

    pub type ALLOCATE_FUNCTION = unsafe extern "C" fn(i32, usize, u32) -> *mut c_void;
    pub type FREE_FUNCTION = unsafe extern "C" fn(*mut c_void);

    pub struct LOOKASIDE_LIST {
        pub allocate: ALLOCATE_FUNCTION,
        pub free: FREE_FUNCTION,
        pub size: usize,
        pub spare: [*mut c_void; 2],
        pub depth: usize,
    }

    pub unsafe fn ExAllocateFromLookasideList(list: &mut LOOKASIDE_LIST) -> *mut c_void {
        if let Some(depth) = list.depth.checked_sub(1) {
            list.depth = depth;
            return list.spare[depth];
        }
        unsafe { (list.allocate)(512, list.size, 0x7473_694C) }
    }
    pub unsafe fn ExFreeToLookasideList(list: &mut LOOKASIDE_LIST, entry: *mut c_void) {
        match list.spare.get_mut(list.depth) {
            Some(place) => {
                *place = entry;
                list.depth += 1;
            }
            None => unsafe { (list.free)(entry) },
        }
    }
    pub unsafe fn ExDeleteLookasideList(list: &mut LOOKASIDE_LIST) {
        for entry in &list.spare[..list.depth] {
            unsafe { (list.free)(*entry) }
        }
        list.depth = 0;
    }

    pub unsafe extern "C" fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool(block: *mut c_void) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    use core::ffi::c_void;
    use core::ptr::null_mut;
    use wdm::*;

    unsafe extern "C" fn allocate_packet(pool: i32, bytes: usize, tag: u32) -> *mut c_void {
        let packet = unsafe { /*@*/ExAllocatePoolWithTag(pool, bytes, tag) };
        if !packet.is_null() {
            unsafe { packet.write_bytes(0xAA, bytes) };
        }
        packet
    }

    unsafe extern "C" fn free_packet(packet: *mut c_void) {
        unsafe { ExFreePool(packet) }
    }

    struct Card {
        packets: LOOKASIDE_LIST,
        received: usize,
    }

    impl Card {
        fn new(size: usize) -> Self {
            let packets =
                LOOKASIDE_LIST { allocate: allocate_packet, free: free_packet, size, spare: [null_mut(); 2], depth: 0 };
            Self { packets, received: 0 }
        }

        /// As many packets at once as there are in a burst.
        unsafe fn receive<const BURST: usize>(&mut self) -> [u8; BURST] {
            let packets = [(); BURST].map(|()| unsafe { ExAllocateFromLookasideList(&mut self.packets) });
            packets.map(|packet| {
                self.received += 1;
                let first = unsafe { packet.cast::<u8>().read() };
                unsafe { ExFreeToLookasideList(&mut self.packets, packet) };
                first
            })
        }
    }

    /// The kernel's list of its own, with the kernel's own routines: nothing of it is the driver's line.
    fn plain_list() -> LOOKASIDE_LIST {
        LOOKASIDE_LIST { allocate: ExAllocatePoolWithTag, free: ExFreePool, size: 64, spare: [null_mut(); 2], depth: 0 }
    }

    pub fn drive() {
        let mut card = Card::new(1514);
        unsafe {
            assert_eq!(card.receive::<3>(), [0xAA; 3]);
            assert_eq!(card.receive::<2>(), [0xAA; 2]);
            ExDeleteLookasideList(&mut card.packets);
            let mut plain = plain_list();
            let entry = ExAllocateFromLookasideList(&mut plain);
            ExFreeToLookasideList(&mut plain, entry);
            ExDeleteLookasideList(&mut plain);
            card.receive::<1>();
        }
        assert_eq!((card.received, card.packets.depth), (6, 1));
    }
}
