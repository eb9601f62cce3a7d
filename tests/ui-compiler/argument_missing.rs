use memtrack_sim::ntddk::ExFreePoolWithTag;

#[memtrack::instrument]
fn free(block: *mut core::ffi::c_void) {
    unsafe { ExFreePoolWithTag(block) };
}

fn main() {
    free(core::ptr::null_mut());
}
