#[memtrack::instrument(wrapper)]
mod driver {}

fn main() {}
