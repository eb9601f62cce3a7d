memtrack::instrument_items! {
    #![allow(dead_code)]

    fn allocate() {}
}

fn main() {}
