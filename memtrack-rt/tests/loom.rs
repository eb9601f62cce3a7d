//! What is shared without a lock, under loom: every order in which two threads may do what they do, and may see what the
//! other did, and the important ones of three. The runtime's own files are read, with loom's atomics in place of the
//! machine's and tables so small that all blocks collide.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p memtrack-rt --test loom --target-dir target/loom
//! ```
#![cfg(loom)]

#[path = "loom/sync.rs"]
mod sync;

#[allow(dead_code, reason = "the models use some of it")]
#[path = "../src/doors.rs"]
mod doors;
#[allow(dead_code, reason = "as above")]
#[path = "../src/ledger.rs"]
mod ledger;

#[allow(dead_code, reason = "as above")]
#[path = "../src/kind.rs"]
mod kind;
#[allow(dead_code, reason = "as above")]
#[path = "../src/pool.rs"]
mod pool;
#[allow(dead_code, reason = "as above")]
#[path = "../src/slab.rs"]
mod slab;
#[allow(dead_code, reason = "as above")]
#[path = "../src/stats.rs"]
mod stats;
#[allow(dead_code, reason = "as above")]
#[path = "../src/tally.rs"]
mod tally;

/// As much of `block.rs` as kinds read.
mod block {
    pub(crate) const KINDS_MAX: usize = 8;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Features(pub(crate) u64);
}

/// As much of `site.rs` as kinds read.
mod site {
    use crate::pool::{Function, Pool, Tag};

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Key {
        pub(crate) location: &'static core::panic::Location<'static>,
        pub(crate) function: Function,
        pub(crate) tag: Tag,
        pub(crate) pool: Pool,
        pub(crate) list: Option<usize>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct SiteRef(pub(crate) usize);
}

#[path = "loom/figures.rs"]
mod figures;
#[path = "loom/gates.rs"]
mod gates;
#[path = "loom/kinds.rs"]
mod kinds;
#[path = "loom/ledgers.rs"]
mod ledgers;

/// Runs a model in all orders; of three threads in those that stop a running thread at most so often.
fn model(preemptions: Option<usize>, atomics: usize, work: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        sync::prepare(atomics);
        work();
    });
}

/// Every order.
fn every_order(work: impl Fn() + Send + Sync + 'static) {
    model(None, ATOMICS, work);
}

/// Those in which running threads are stopped at most so often, where all would take hours.
fn orders(preemptions: usize, work: impl Fn() + Send + Sync + 'static) {
    model(Some(preemptions), ATOMICS, work);
}

/// As many as the largest model uses.
const ATOMICS: usize = 64;
