#[memtrack::instrument]
unsafe extern "C" {
    fn _ExFreePool(block: *mut u8);
}

fn main() {}
