//! dhat's heap profiler, which keeps a backtrace of each block.

use memtrack_peers::{Global, Task};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    Task::from_arguments().run(&Global);
}
