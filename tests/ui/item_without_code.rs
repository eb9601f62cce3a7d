#[memtrack::instrument]
struct Device {
    _name: *mut u8,
}

fn main() {}
