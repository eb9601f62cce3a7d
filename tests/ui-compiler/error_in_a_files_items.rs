memtrack::instrument_items! {
    fn length() -> u32 {
        "text"
    }
}

fn main() {
    length();
}
