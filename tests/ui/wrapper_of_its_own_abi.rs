#[memtrack::instrument(wrapper)]
pub unsafe extern "C" fn allocate(_bytes: u64) {}

fn main() {}
