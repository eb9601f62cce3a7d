memtrack::instrument_items! {
    #![instrument(guard = "head")]

    fn allocate() {}
}

fn main() {
    allocate();
}
