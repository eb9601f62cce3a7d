#[memtrack::instrument(crate)]
fn unload() {}

fn main() {
    unload();
}
