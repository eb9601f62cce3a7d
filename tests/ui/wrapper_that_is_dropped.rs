struct Buffer;

impl Drop for Buffer {
    #[memtrack::instrument(wrapper)]
    fn drop(&mut self) {}
}

fn main() {
    let _ = Buffer;
}
