//! Sizes and pool types of 32 bits, blocks as plain numbers. A driver builds descriptors for a bus master.

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    pub unsafe fn ExAllocatePool(_: u32, bytes: u32) -> u64 {
        crate::host::allocate::<u8>(bytes) as u64
    }
    pub unsafe fn ExFreePool(block: u64) {
        crate::host::release(block as *mut u8);
    }
}

memtrack::instrument_items! {
    use bindings::{ExAllocatePool, ExFreePool};

    const NON_PAGED: u32 = 0;
    const PAGED: u32 = 1;
    const END_OF_LIST: u32 = 1 << 31;

    /// What the device reads: one piece of a transfer.
    #[repr(C)]
    struct Descriptor {
        address: u64,
        bytes: u32,
        flags: u32,
    }

    struct Transfer {
        descriptors: u64,
        pieces: u32,
        names: u64,
    }

    unsafe fn prepare(buffer: &[u8], piece: u32) -> Option<Transfer> {
        let length = u32::try_from(buffer.len()).ok()?;
        let pieces = length.div_ceil(piece);
        unsafe {
            let descriptors = /*@*/ExAllocatePool(NON_PAGED, pieces * 16);
            if descriptors == 0 {
                return None;
            }
            let first = descriptors as *mut Descriptor;
            for number in 0..pieces {
                let start = number * piece;
                let flags = if number + 1 == pieces { END_OF_LIST } else { 0 };
                let address = buffer.as_ptr() as u64 + u64::from(start);
                let bytes = piece.min(length - start);
                first.add(number as usize).write(Descriptor { address, bytes, flags });
            }
            let names = /*@*/bindings::ExAllocatePool(PAGED, 4 * pieces);
            if names == 0 {
                ExFreePool(descriptors);
                return None;
            }
            Some(Transfer { descriptors, pieces, names })
        }
    }

    unsafe fn complete(transfer: &Transfer) -> u32 {
        let first = transfer.descriptors as *const Descriptor;
        let descriptors = unsafe { core::slice::from_raw_parts(first, transfer.pieces as usize) };
        let last = descriptors.iter().position(|descriptor| descriptor.flags & END_OF_LIST != 0);
        assert_eq!(last, descriptors.len().checked_sub(1));
        assert!(descriptors.is_sorted_by_key(|descriptor| descriptor.address));
        let bytes = descriptors.iter().map(|descriptor| descriptor.bytes).sum();
        let names = transfer.names as *mut u32;
        unsafe {
            ExFreePool(first as u64);
            bindings::ExFreePool(names as u64);
        }
        bytes
    }

    pub fn drive() {
        let sector = [0_u8; 512];
        unsafe {
            let transfer = prepare(&sector, 100).unwrap();
            assert_eq!((transfer.pieces, complete(&transfer)), (6, 512));
            let never_completed = prepare(&sector, 512).unwrap();
            let address = (never_completed.descriptors as *const Descriptor).read().address;
            assert_eq!(address as *const u8, sector.as_ptr());
        }
    }
}
