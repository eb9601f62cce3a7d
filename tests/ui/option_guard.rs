#[memtrack::instrument(guard = "head")]
fn allocate() {}

fn main() {}
