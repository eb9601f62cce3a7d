#[memtrack::instrument]
mod driver {
    pub fn unload() {
        unsafe { ntddk::ExFreePool(core::ptr::null_mut()) };
        missing();
    }
}

fn main() {
    driver::unload();
}
