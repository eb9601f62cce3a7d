#[memtrack::skip(all)]
fn allocate() {}

fn main() {
    allocate();
}
