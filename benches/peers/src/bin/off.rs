//! The same with memtrack's attribute, off.

use memtrack_peers::Task;

#[memtrack_macros::instrument_off]
mod annotated {
    use memtrack_peers::Pool;
    use memtrack_peers::malloc::{ExAllocatePool2, ExFreePool};

    pub struct Off;

    impl Pool for Off {
        fn take(&self, bytes: usize, site: u32) -> *mut u8 {
            // SAFETY: any size will do.
            unsafe { ExAllocatePool2(0x40, bytes as u64, 1 + site).cast() }
        }

        fn give(&self, block: *mut u8, _: usize) {
            // SAFETY: the block came from there.
            unsafe { ExFreePool(block.cast()) };
        }
    }
}

fn main() {
    Task::from_arguments().run(&annotated::Off);
}
