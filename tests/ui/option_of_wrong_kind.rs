#[memtrack::instrument(finish = Filemon)]
fn unload() {}

fn main() {
    unload();
}
