//! cap: a counter, and a limit.

use memtrack_peers::{Global, Task};

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

fn main() {
    Task::from_arguments().run(&Global);
}
