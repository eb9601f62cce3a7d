mod kernel {
    #[allow(non_snake_case)]
    pub unsafe extern "C" fn ExFreePool(_: *mut u8) {}
}

#[memtrack::instrument]
use kernel::ExFreePool;

fn main() {
    unsafe { ExFreePool(core::ptr::null_mut()) }
}
