//! stats_alloc: counters of all allocations together.

use memtrack_peers::{Global, Task};

#[global_allocator]
static ALLOCATOR: stats_alloc::StatsAlloc<std::alloc::System> = stats_alloc::StatsAlloc::system();

fn main() {
    Task::from_arguments().run(&Global);
}
