//! What tracking costs: an allocation and a free, plain, off, and tracked with each guard and with the quarantine, over
//! memtrack-sim's pool and over the host's malloc, with 1,024 blocks live. At the end stands what counts, the ratios of
//! one run's medians.
//!
//! ```text
//! cargo bench
//! ```
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::ffi::c_void;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::Criterion;
use memtrack::{Quarantine, Settings};

const LIVE: usize = 1024;
const NON_PAGED: u64 = 0x40;

/// The host's allocator in the shape of a kernel's pool.
#[allow(non_snake_case, reason = "the kernel's names")]
mod malloc {
    use std::ffi::c_void;

    unsafe extern "C" {
        fn malloc(bytes: usize) -> *mut c_void;
        fn free(block: *mut c_void);
    }

    pub unsafe fn ExAllocatePool2(_: u64, bytes: u64, _: u32) -> *mut c_void {
        // SAFETY: any size will do.
        unsafe { malloc(bytes as usize) }
    }

    pub unsafe fn ExFreePool(block: *mut c_void) {
        // SAFETY: the caller's block came from `malloc`.
        unsafe { free(block) }
    }
}

/// A driver with a fixed number of blocks live, over one pool: `replace` frees one and allocates another.
macro_rules! drivers {
    ($($name:ident: #[$attribute:meta] over $($pool:ident)::+;)*) => {
        $(
            #[$attribute]
            mod $name {
                use super::{LIVE, NON_PAGED, black_box, c_void};
                use $($pool)::+::{ExAllocatePool2, ExFreePool};
                #[allow(unused_imports, reason = "for the pool that is this file's")]
                use super::malloc;

                pub struct Driver {
                    blocks: Vec<*mut c_void>,
                    random: u64,
                }

                impl Driver {
                    pub fn new() -> Self {
                        // SAFETY: any size and tag will do.
                        let block = |_| unsafe { ExAllocatePool2(NON_PAGED, 64, 1) };
                        Self { blocks: (0..LIVE).map(block).collect(), random: 1 }
                    }

                    #[inline(never)]
                    pub fn replace(&mut self) {
                        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let place = (self.random >> 40) as usize % LIVE;
                        let bytes = 16 + (self.random >> 33) % 512;
                        let tag = 1 + (self.random >> 50) as u32 % 8; // eight sites
                        // SAFETY: the block is ours; any size and tag will do.
                        unsafe {
                            ExFreePool(self.blocks[place]);
                            self.blocks[place] = black_box(ExAllocatePool2(NON_PAGED, bytes, tag));
                        }
                    }
                }

                impl Drop for Driver {
                    fn drop(&mut self) {
                        for block in self.blocks.drain(..) {
                            // SAFETY: the block is ours.
                            unsafe { ExFreePool(block) };
                        }
                    }
                }
            }
        )*
    };
}

/// The columns of the table. `held`: with the quarantine, as large as it is unless somebody chooses otherwise.
const MODES: [&str; 7] = ["plain", "off", "tracked", "tail", "full", "tail_held", "full_held"];

drivers! {
    plain_over_malloc: #[allow(unused)] over malloc;
    off_over_malloc: #[memtrack_macros::instrument_off] over malloc;
    tracked_over_malloc: #[memtrack::instrument(guard = "none")] over malloc;
    tail_over_malloc: #[memtrack::instrument(guard = "tail")] over malloc;
    full_over_malloc: #[memtrack::instrument(guard = "full")] over malloc;
    tail_held_over_malloc: #[memtrack::instrument(guard = "tail")] over malloc;
    full_held_over_malloc: #[memtrack::instrument(guard = "full")] over malloc;
    plain_over_sim: #[allow(unused)] over memtrack_sim::ntddk;
    off_over_sim: #[memtrack_macros::instrument_off] over memtrack_sim::ntddk;
    tracked_over_sim: #[memtrack::instrument(guard = "none")] over memtrack_sim::ntddk;
    tail_over_sim: #[memtrack::instrument(guard = "tail")] over memtrack_sim::ntddk;
    full_over_sim: #[memtrack::instrument(guard = "full")] over memtrack_sim::ntddk;
    tail_held_over_sim: #[memtrack::instrument(guard = "tail")] over memtrack_sim::ntddk;
    full_held_over_sim: #[memtrack::instrument(guard = "full")] over memtrack_sim::ntddk;
}

fn main() {
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pair");
    let mut criterion = Criterion::default().output_directory(&results).configure_from_args();
    macro_rules! bench {
        ($($name:ident)*) => {
            $(criterion.bench_function(stringify!($name), |bencher| {
                // A pool and a tracker without a past.
                let _machine = memtrack_sim::Machine::boot();
                let held = stringify!($name).contains("held");
                let quarantine = if held { Quarantine::default() } else { Quarantine::OFF };
                memtrack::configure(Settings::new().quarantines(quarantine));
                let mut driver = $name::Driver::new();
                bencher.iter(|| driver.replace());
                drop(driver);
                // What is held goes back to the pool that it came from.
                memtrack::configure(Settings::new().quarantines(Quarantine::OFF));
            });)*
        };
    }
    bench!(plain_over_malloc off_over_malloc tracked_over_malloc tail_over_malloc full_over_malloc);
    bench!(tail_held_over_malloc full_held_over_malloc);
    bench!(plain_over_sim off_over_sim tracked_over_sim tail_over_sim full_over_sim);
    bench!(tail_held_over_sim full_held_over_sim);
    criterion.final_summary();

    println!("one allocation and one free, {LIVE} blocks live, medians of this run; ratios to plain");
    println!(
        "{:<8}{:>10}{:>8}{:>10}{:>8}{:>8}{:>14}{:>14}{:>18}",
        "pool", "plain", "off", "tracked", "tail", "full", "tail + held", "full + held", "tail / tracked"
    );
    for pool in ["malloc", "sim"] {
        let medians = MODES.map(|mode| median(&results, &format!("{mode}_over_{pool}")));
        if let [
            Some(plain),
            Some(off),
            Some(tracked),
            Some(tail),
            Some(full),
            Some(tail_held),
            Some(full_held),
        ] = medians
        {
            println!(
                "{pool:<8}{plain:>7.1} ns{:>8.2}{:>10.2}{:>8.2}{:>8.2}{:>14.2}{:>14.2}{:>18.2}",
                off / plain,
                tracked / plain,
                tail / plain,
                full / plain,
                tail_held / plain,
                full_held / plain,
                tail / tracked,
            );
        }
    }
}

/// The median that criterion has just written, in nanoseconds; `None` if that benchmark was not asked for.
fn median(results: &Path, name: &str) -> Option<f64> {
    let estimates = fs::read_to_string(results.join(name).join("new/estimates.json")).ok()?;
    let estimates: serde_json::Value = serde_json::from_str(&estimates).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}
