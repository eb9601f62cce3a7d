macro_rules! driver {
    () => {};
}

#[memtrack::instrument]
driver! {}

fn main() {}
