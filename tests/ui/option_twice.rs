#[memtrack::instrument(finish = "Filemon", finish = "Filemon")]
fn unload() {}

fn main() {
    unload();
}
