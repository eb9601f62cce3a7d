//! tracking-allocator: groups of allocations, and a function that is called for each of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use memtrack_peers::{Global, Task};
use tracking_allocator::{
    AllocationGroupId, AllocationGroupToken, AllocationRegistry, AllocationTracker, Allocator,
};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);

/// The least that is of use: two counters.
struct Counters;

impl AllocationTracker for Counters {
    fn allocated(&self, _: usize, bytes: usize, _: usize, _: AllocationGroupId) {
        ALLOCATED.fetch_add(bytes, Ordering::Relaxed);
    }

    fn deallocated(&self, _: usize, bytes: usize, _: usize, _: AllocationGroupId, _: AllocationGroupId) {
        FREED.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn main() {
    let task = Task::from_arguments();
    AllocationRegistry::set_global_tracker(Counters).expect("the only tracker");
    let mut group = AllocationGroupToken::register().expect("a group");
    let _guard = group.enter();
    AllocationRegistry::enable_tracking();
    task.run(&Global);
    AllocationRegistry::disable_tracking();
}
