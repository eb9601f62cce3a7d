#[memtrack::instrument]
mod driver {
    #[memtrack::instrument(finish = 1)]
    pub fn unload() {}
}

fn main() {
    driver::unload();
}
