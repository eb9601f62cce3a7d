//! The pools against a model that is too simple to be wrong.

mod common;

use std::collections::BTreeMap;

use common::{TAG, address, kernel};
use memtrack_sim::{Machine, PVOID, PoolKind, ntddk::*};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Allocate {
        paged: bool,
        cache_aligned: bool,
        bytes: u64,
    },
    /// The block to free, as a position among those that are live.
    Free {
        which: prop::sample::Index,
    },
    Limit {
        paged: bool,
        bytes: Option<u64>,
    },
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..200_u64,
        2 => 0..5000_u64,
        1 => 4000..20_000_u64,
        1 => Just(u64::MAX),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), any::<bool>(), bytes())
            .prop_map(|(paged, cache_aligned, bytes)| Step::Allocate { paged, cache_aligned, bytes }),
        5 => any::<prop::sample::Index>().prop_map(|which| Step::Free { which }),
        1 => (any::<bool>(), prop::option::of(0..40_000_u64))
            .prop_map(|(paged, bytes)| Step::Limit { paged, bytes }),
    ]
}

/// A class of blocks that may take each other's places: rounded size, paged, cache-aligned.
type Class = (u64, bool, bool);

fn class(paged: bool, cache_aligned: bool, bytes: u64) -> Class {
    let cache_aligned = cache_aligned && bytes < 4096;
    let unit = if bytes >= 4096 {
        4096
    } else if cache_aligned {
        64
    } else {
        16
    };
    (bytes.max(1).div_ceil(unit) * unit, paged, cache_aligned)
}

#[derive(Default)]
struct Pool {
    blocks: u64,
    bytes: u64,
    max_bytes: u64,
    refused: u64,
    limit: Option<u64>,
}

#[derive(Default)]
struct Model {
    live: BTreeMap<u64, (Class, u64)>,
    freed: BTreeMap<Class, Vec<u64>>,
    pools: [Pool; 2],
}

impl Model {
    fn allocated(&mut self, (paged, cache_aligned, bytes): (bool, bool, u64), block: PVOID) {
        let pool = &mut self.pools[usize::from(paged)];
        let fits = bytes != u64::MAX && pool.limit.is_none_or(|limit| pool.bytes + bytes <= limit);
        assert_eq!(fits, !block.is_null(), "{bytes} bytes on top of {} of {:?}", pool.bytes, pool.limit);
        if !fits {
            pool.refused += 1;
            return;
        }
        pool.blocks += 1;
        pool.bytes += bytes;
        pool.max_bytes = pool.max_bytes.max(pool.bytes);

        let class = class(paged, cache_aligned, bytes);
        let begin = address(block);
        if let Some(last) = self.freed.get_mut(&class).and_then(Vec::pop) {
            assert_eq!(begin, last, "not the block that was freed last");
        }
        let alignment = if bytes >= 4096 {
            4096
        } else if cache_aligned {
            64
        } else {
            16
        };
        assert_eq!(begin % alignment, 0);
        let before = self.live.range(..=begin).next_back();
        assert!(before.is_none_or(|(at, block)| at + block.0.0 <= begin), "overlaps the one before");
        let after = self.live.range(begin..).next();
        assert!(after.is_none_or(|(at, _)| begin + class.0 <= *at), "overlaps the one after");
        self.live.insert(begin, (class, bytes));
    }

    fn freed(&mut self, begin: u64) {
        let (class, bytes) = self.live.remove(&begin).expect("the model chose a live block");
        self.freed.entry(class).or_default().push(begin);
        let pool = &mut self.pools[usize::from(class.1)];
        pool.blocks -= 1;
        pool.bytes -= bytes;
    }

    fn compare(&self, machine: &Machine) {
        for (kind, model) in [PoolKind::NonPaged, PoolKind::Paged].into_iter().zip(&self.pools) {
            let usage = machine.pool(kind);
            assert_eq!((usage.blocks, usage.bytes), (model.blocks, model.bytes));
            assert_eq!((usage.max_bytes, usage.refused), (model.max_bytes, model.refused));
            assert_eq!(usage.limit, model.limit);
        }
    }
}

fn kind(paged: bool) -> PoolKind {
    if paged { PoolKind::Paged } else { PoolKind::NonPaged }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pools_do_what_the_model_does(steps in prop::collection::vec(step(), 1..200)) {
        let machine = Machine::boot();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Allocate { paged, cache_aligned, bytes } => {
                    let pool = i32::from(paged) | if cache_aligned { 4 } else { 0 };
                    let block = kernel!(ExAllocatePoolWithTag(pool, bytes, TAG));
                    if !block.is_null() {
                        common::fill(block, 0x11, bytes as usize);
                    }
                    model.allocated((paged, cache_aligned, bytes), block);
                }
                Step::Free { which } => {
                    if !model.live.is_empty() {
                        let chosen = *which.get(&model.live.keys().collect::<Vec<_>>()).to_owned();
                        kernel!(ExFreePoolWithTag(std::ptr::with_exposed_provenance_mut(chosen as usize), TAG));
                        model.freed(chosen);
                    }
                }
                Step::Limit { paged, bytes } => {
                    machine.set_pool_limit(kind(paged), bytes);
                    model.pools[usize::from(paged)].limit = bytes;
                }
            }
            model.compare(&machine);
        }
    }

    #[test]
    fn blocks_keep_what_was_written_to_them(sizes in prop::collection::vec(1..6000_u64, 1..60)) {
        let _machine = Machine::boot();
        let blocks: Vec<_> = sizes
            .iter()
            .zip(1_u8..)
            .map(|(bytes, mark)| {
                let block = kernel!(ExAllocatePoolUninitialized(i32::from(mark) & 1, *bytes, TAG));
                common::fill(block, mark, *bytes as usize);
                (block, mark, *bytes as usize)
            })
            .collect();
        for (block, mark, bytes) in blocks {
            prop_assert!(common::contents(block, bytes).iter().all(|byte| *byte == mark));
        }
    }
}
