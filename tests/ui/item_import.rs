#[memtrack::instrument]
use std::ptr;

fn main() {
    let _ = ptr::null::<u8>();
}
