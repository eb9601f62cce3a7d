#[memtrack::instrument(finish = "Filemon")]
mod driver {
    pub fn unload() {}
}

fn main() {
    driver::unload();
}
