#[memtrack::instrument(finish)]
fn unload() {}

fn main() {
    unload();
}
