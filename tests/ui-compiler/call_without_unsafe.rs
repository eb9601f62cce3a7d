use memtrack_sim::ntddk::ExFreePool;

#[memtrack::instrument]
fn free(block: *mut core::ffi::c_void) {
    ExFreePool(block);
}

fn main() {
    free(core::ptr::null_mut());
}
