//! The figures, against a plain model: every one exact after every step.

use std::collections::{BTreeMap, HashMap};

use memtrack_rt::{Figures, Pool, Stats};
use proptest::prelude::*;

mod desk;
use desk::{Calls, Desk, NON_PAGED, PAGED, allocate, free, tag, tracker};
use memtrack_rt::Tracker;

#[derive(Clone, Debug)]
enum Step {
    Allocate { address: usize, bytes: usize, paged: bool, tag: u32 },
    Free { address: usize },
    Refuse { bytes: usize, paged: bool, tag: u32 },
    Raise { bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    // Few addresses and tags, so that they meet often.
    let address = (1..200_usize).prop_map(|n| n << 41);
    let bytes = prop_oneof![1..4096_usize, Just(1 << 40)];
    prop_oneof![
        6 => (address.clone(), bytes.clone(), any::<bool>(), 0..30_u32)
            .prop_map(|(address, bytes, paged, tag)| Step::Allocate { address, bytes, paged, tag }),
        5 => address.prop_map(|address| Step::Free { address }),
        1 => (bytes.clone(), any::<bool>(), 0..30_u32).prop_map(|(bytes, paged, tag)| Step::Refuse { bytes, paged, tag }),
        1 => bytes.prop_map(|bytes| Step::Raise { bytes }),
    ]
}

#[derive(Default)]
struct Model {
    live: HashMap<usize, (u64, (bool, u32))>,
    sites: BTreeMap<(bool, u32), (Figures, u64, u64)>,
    stats: Stats,
}

fn grow(figures: &mut Figures, bytes: u64) {
    figures.curr_blocks += 1;
    figures.curr_bytes += bytes;
    figures.total_blocks += 1;
    figures.total_bytes = figures.total_bytes.saturating_add(bytes);
    figures.max_blocks = figures.max_blocks.max(figures.curr_blocks);
    figures.max_bytes = figures.max_bytes.max(figures.curr_bytes);
}

fn shrink(figures: &mut Figures, bytes: u64) {
    figures.curr_blocks -= 1;
    figures.curr_bytes -= bytes;
}

impl Model {
    fn pool(&mut self, paged: bool) -> &mut Figures {
        if paged { &mut self.stats.paged } else { &mut self.stats.nonpaged }
    }

    fn leave(&mut self, address: usize) -> Option<(bool, u32)> {
        let (bytes, site) = self.live.remove(&address)?;
        shrink(&mut self.sites.get_mut(&site).unwrap().0, bytes);
        shrink(self.pool(site.0), bytes);
        Some(site)
    }

    fn apply(&mut self, tracker: &Tracker<Desk>, step: &Step) {
        match *step {
            Step::Allocate { address, bytes, paged, tag: site } => {
                site_of(tracker, paged, bytes, site, address);
                if let Some(vanished) = self.leave(address) {
                    self.stats.vanished_blocks += 1;
                    self.sites.get_mut(&vanished).unwrap().2 += 1;
                }
                grow(&mut self.sites.entry((paged, site)).or_default().0, bytes as u64);
                grow(self.pool(paged), bytes as u64);
                self.live.insert(address, (bytes as u64, (paged, site)));
            }
            Step::Free { address } => {
                free(tracker, address);
                if self.leave(address).is_none() {
                    self.stats.foreign_frees += 1;
                }
            }
            Step::Refuse { bytes, paged, tag: site } => {
                site_of(tracker, paged, bytes, site, 0);
                self.sites.entry((paged, site)).or_default().1 += 1;
                self.stats.failures += 1;
            }
            Step::Raise { bytes } => {
                let location = memtrack_rt::Location::caller();
                let function = memtrack_rt::Function::ExAllocatePoolWithQuota;
                let raise = |_| -> usize { std::panic::resume_unwind(Box::new("raised")) };
                let call = || tracker.ask(location, function, None, (1_i32, bytes), raise);
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_err();
            }
        }
    }

    fn compare(&self, tracker: &Tracker<Desk>) {
        assert_eq!(tracker.stats(), self.stats);
        let sites: BTreeMap<_, _> = tracker
            .sites()
            .map(|site| {
                let counts = (site.figures, site.failures, site.vanished_blocks);
                ((site.pool == Pool::Paged, site.tag.0), counts)
            })
            .collect();
        let model: BTreeMap<_, _> =
            self.sites.iter().map(|(&(paged, site), counts)| ((paged, tag(site).0), *counts)).collect();
        assert_eq!(sites, model);
    }
}

fn site_of(tracker: &Tracker<Desk>, paged: bool, bytes: usize, site: u32, address: usize) {
    allocate(tracker, if paged { PAGED } else { NON_PAGED }, bytes, tag(site).0, address);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_figure_is_the_models(steps in prop::collection::vec(step(), 1..600)) {
        let tracker = tracker();
        let mut model = Model::default();
        for step in &steps {
            model.apply(&tracker, step);
        }
        model.compare(&tracker);
        prop_assert_eq!(tracker.finish("Model"), model.stats);
        prop_assert_eq!(tracker.stats(), Stats::default());
        prop_assert_eq!(tracker.sites().count(), 0);
    }

    #[test]
    fn the_ledger_is_a_map(steps in prop::collection::vec((0..3000_usize, any::<bool>()), 1..6000)) {
        let tracker = tracker();
        let mut model = HashMap::new();
        for (round, (place, adds)) in steps.into_iter().enumerate() {
            // Pages and blocks, as a pool hands them out.
            let address = 0x1000 + place * if place % 2 == 0 { 16 } else { 4096 };
            let bytes = 1 + round % 16; // so that none lies in another
            if adds {
                allocate(&tracker, NON_PAGED, bytes, 1, address);
                model.insert(address, bytes as u64);
            } else {
                free(&tracker, address);
                model.remove(&address);
            }
        }
        prop_assert_eq!(tracker.stats().curr_blocks(), model.len() as u64);
        prop_assert_eq!(tracker.stats().curr_bytes(), model.values().sum::<u64>());
        let foreign = tracker.stats().foreign_frees;
        for (address, bytes) in model {
            let before = tracker.stats().curr_bytes();
            free(&tracker, address);
            prop_assert_eq!(tracker.stats().curr_bytes(), before - bytes);
        }
        prop_assert_eq!(tracker.stats().foreign_frees, foreign);
        prop_assert_eq!(tracker.stats().curr_blocks(), 0);
        tracker.finish("Map");
    }
}

#[test]
fn a_live_block_takes_at_most_48_bytes_and_64_while_the_ledger_grows() {
    for blocks in [10_000, 100_000, 1_000_000] {
        let tracker = tracker();
        for block in 1..=blocks {
            allocate(&tracker, NON_PAGED, 1, 1, block * 32);
        }
        assert_eq!(tracker.stats().curr_blocks(), blocks as u64);
        let (held, most) = (tracker.platform().held(), tracker.platform().most_held());
        let each = |bytes: usize| bytes as f64 / blocks as f64;
        println!("{blocks} blocks: {:.1} bytes each, {:.1} at most", each(held), each(most));
        assert!(held <= 48 * blocks, "{held} bytes for {blocks} blocks");
        assert!(most <= 64 * blocks, "{most} bytes for {blocks} blocks");
        tracker.finish("Memory");
        assert_eq!(tracker.platform().held(), 0);
    }
}

#[test]
fn blocks_that_cannot_be_recorded_are_counted() {
    let tracker = tracker();
    allocate(&tracker, NON_PAGED, 10, 1, 0x1000);
    tracker.platform().refuse_memory(true);
    for block in 2..1000 {
        allocate(&tracker, NON_PAGED, 10, 1, block * 0x1000);
    }
    let at_sites = tracker.sites().map(|site| site.unrecorded_blocks + site.figures.curr_blocks);
    assert_eq!(at_sites.sum::<u64>(), 999);
    for site in 0..100 {
        allocate(&tracker, NON_PAGED, 10, tag(site).0, 0x1000); // most sites find no memory either
    }
    let stats = tracker.stats();
    assert!(stats.unrecorded_blocks > 700);
    assert_eq!(stats.unrecorded_blocks + stats.curr_blocks() + stats.vanished_blocks, 1099);
    assert!(tracker.sites().count() < 100);
    assert_eq!(stats.curr_bytes(), 10 * stats.curr_blocks());

    tracker.report("Full");
    let lines = tracker.platform().take_lines();
    let also = format!("also {} unrecorded blocks", stats.unrecorded_blocks);
    assert!(lines.iter().any(|line| line.contains(&also)), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("note: no memory to sort")), "{lines:#?}");

    tracker.platform().refuse_memory(false);
    allocate(&tracker, NON_PAGED, 10, 2, 0x200_0000);
    assert_eq!(tracker.stats().curr_blocks(), stats.curr_blocks() + 1);
    tracker.finish("Full");
}

#[test]
fn arguments_that_are_no_numbers_are_counted_and_not_guessed() {
    let tracker = tracker();
    let here = memtrack_rt::Location::caller();
    let function = memtrack_rt::Function::ExAllocatePool2;
    tracker.ask(here, function, None, ("flags", 10_u64, 1_u32), |_| 0x1000_usize);
    tracker.ask(here, function, None, (NON_PAGED, "bytes", 1_u32), |_| 0x2000_usize);
    tracker.ask(here, function, None, (NON_PAGED, 10_u64, 1_u32), |_| "block");
    assert_eq!(tracker.stats().unrecorded_blocks, 3);
    assert_eq!(tracker.stats().curr_blocks(), 0);
    tracker.give(here, memtrack_rt::Function::ExFreePool, ("block",), |_| ());
    assert_eq!(tracker.stats().foreign_frees, 1);

    allocate(&tracker, NON_PAGED, 10, 1, 0x3000);
    tracker.ask(here, function, None, (NON_PAGED, "bytes", 1_u32), |_| 0x3000_usize);
    assert_eq!(
        (tracker.stats().curr_blocks(), tracker.stats().vanished_blocks),
        (0, 1),
        "its address came again"
    );
    tracker.finish("Odd");
}

#[test]
fn what_is_freed_after_finish_is_foreign() {
    let tracker = tracker();
    allocate(&tracker, NON_PAGED, 10, 1, 0x1000);
    assert_eq!(tracker.finish("Early").curr_blocks(), 1);
    assert_eq!(tracker.platform().held(), 0);
    free(&tracker, 0x1000);
    let mut expected = Stats::default();
    expected.foreign_frees = 1;
    assert_eq!(tracker.stats(), expected);
}

#[test]
fn a_site_is_its_line_function_tag_and_pool() {
    let tracker = tracker();
    for (place, (flags, site)) in
        [(NON_PAGED, 1), (PAGED, 1), (NON_PAGED, 2), (NON_PAGED, 1)].into_iter().enumerate()
    {
        allocate(&tracker, flags, 8, site, 0x1000 * (place + 1));
    }
    allocate(&tracker, NON_PAGED, 8, 1, 0x9000);
    let blocks: Vec<u64> = tracker.sites().map(|site| site.figures.curr_blocks).collect();
    assert_eq!(blocks, [2, 1, 1, 1], "the last call stands on a line of its own");
    assert!(tracker.sites().all(|site| site.file == file!() && site.column == 9 || site.column == 5));
    tracker.finish("Sites");
}
