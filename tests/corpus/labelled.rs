//! Labelled blocks and loops, `let … else`, early ways out. A driver parses the records of a firmware table.

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    pub type Block = *mut core::ffi::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> Block {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePool(block: Block) {
        crate::host::release(block);
    }
}

memtrack::instrument_items! {
    use core::ptr::{NonNull, null_mut};
    use ntddk::{Block, ExAllocatePool2, ExFreePool};

    const TAG: u32 = u32::from_le_bytes(*b"Firm");

    #[derive(Debug, PartialEq)]
    enum Bad {
        Short,
        Kind(u8),
        Memory,
    }

    /// Copies the bodies of the records of `wanted` kind, one behind the other. A record is a kind, a length, a body.
    fn bodies(table: &[u8], wanted: u8) -> Result<(NonNull<u8>, usize), Bad> {
        let Some(copy) = NonNull::new(unsafe { /*@*/ExAllocatePool2(0x100, table.len(), TAG) }) else {
            return Err(Bad::Memory);
        };
        let copy = copy.cast::<u8>();
        let mut used = 0;
        let mut rest = table;
        let bad = 'records: {
            while let [kind, length, tail @ ..] = rest {
                let Some((body, after)) = tail.split_at_checked(usize::from(*length)) else {
                    break 'records Bad::Short;
                };
                if *kind > 9 {
                    break 'records Bad::Kind(*kind);
                }
                rest = after;
                if *kind != wanted {
                    continue;
                }
                unsafe { copy.add(used).copy_from_nonoverlapping(NonNull::from(body).cast(), body.len()) };
                used += body.len();
            }
            return Ok((copy, used));
        };
        unsafe { ExFreePool(copy.as_ptr().cast()) };
        Err(bad)
    }

    /// A block for each step, all or none.
    fn steps(sizes: &[usize; 3]) -> Option<[Block; 3]> {
        let mut blocks = [null_mut(); 3];
        let got = 'all: {
            for (block, size) in blocks.iter_mut().zip(sizes) {
                *block = 'one: {
                    if *size > 100 {
                        break 'one unsafe { /*@*/ExAllocatePool2(0x100, *size, TAG) };
                    }
                    unsafe { /*@*/ExAllocatePool2(0x40, *size, TAG) }
                };
                if block.is_null() {
                    break 'all false;
                }
            }
            true
        };
        let true = got else {
            for block in blocks.into_iter().take_while(|block| !block.is_null()) {
                unsafe { ExFreePool(block) }
            }
            return None;
        };
        Some(blocks)
    }

    pub fn drive() {
        let table = b"\x01\x03abc\x02\x01-\x01\x02de";
        let (copy, used) = bodies(table, 1).unwrap();
        assert_eq!(unsafe { core::slice::from_raw_parts(copy.as_ptr(), used) }, b"abcde");
        assert_eq!(bodies(&table[..11], 1), Err(Bad::Short));
        assert_eq!(bodies(b"\x63\0", 1), Err(Bad::Kind(99)));
        assert_eq!(bodies(&[0; 16_000], 1), Err(Bad::Memory));
        assert_eq!(steps(&[8, 200, 1 << 30]), None);
        steps(&[1, 2, 300]).unwrap().into_iter().take(2).for_each(|block| unsafe { ExFreePool(block) });
    }
}
