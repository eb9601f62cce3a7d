#[memtrack::instrument(finish = "Filemon")]
async fn unload() {}

fn main() {
    drop(unload());
}
