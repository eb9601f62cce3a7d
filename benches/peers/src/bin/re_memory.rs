//! re_memory: rerun's counters.

use memtrack_peers::{Global, Task};

#[global_allocator]
static ALLOCATOR: re_memory::AccountingAllocator<std::alloc::System> =
    re_memory::AccountingAllocator::new(std::alloc::System);

fn main() {
    Task::from_arguments().run(&Global);
}
