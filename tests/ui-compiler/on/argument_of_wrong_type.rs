use memtrack_sim::ntddk::ExAllocatePool2;

#[memtrack::instrument]
fn allocate() -> *mut core::ffi::c_void {
    unsafe { ExAllocatePool2(0x40, "many", 1) }
}

fn main() {
    allocate();
}
