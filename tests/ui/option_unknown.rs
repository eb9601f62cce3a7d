#[memtrack::instrument(finsh = "Filemon")]
fn unload() {}

fn main() {
    unload();
}
