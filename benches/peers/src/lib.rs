//! One workload for all: blocks that come and go, a fixed number of them live. Each program of this package runs it over
//! another allocator, and prints nanoseconds.

use std::hint::black_box;
use std::process::exit;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use lexopt::{Arg, ValueExt as _};

/// Where blocks come from.
pub trait Pool: Sync {
    /// A block of so many bytes, asked for at one of eight sites.
    fn take(&self, bytes: usize, site: u32) -> *mut u8;

    /// Gives it back.
    fn give(&self, block: *mut u8, bytes: usize);

    /// On which thread the calls that follow are made.
    fn on_thread(&self, _number: usize) {}
}

/// What a program is asked to do.
pub struct Task {
    pub mode: String,
    pub live: usize,
    pub threads: usize,
    /// So many pairs, instead of as many as there is time for.
    pub pairs: Option<usize>,
}

impl Task {
    /// From the program's arguments: `--mode NAME --live BLOCKS --threads THREADS --pairs PAIRS`.
    pub fn from_arguments() -> Self {
        Self::parse().unwrap_or_else(|error| {
            eprintln!("{error}");
            exit(2)
        })
    }

    fn parse() -> Result<Self, lexopt::Error> {
        let mut task = Self { mode: String::new(), live: 1000, threads: 1, pairs: None };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Long("mode") => task.mode = arguments.value()?.string()?,
                Arg::Long("live") => task.live = arguments.value()?.parse()?,
                Arg::Long("threads") => task.threads = arguments.value()?.parse()?,
                Arg::Long("pairs") => task.pairs = Some(arguments.value()?.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(task)
    }

    /// Runs the workload, and prints the nanoseconds that one allocation and one free took each thread, on the average.
    pub fn run(&self, pool: &impl Pool) {
        let start = Barrier::new(self.threads);
        let times: Vec<f64> = thread::scope(|scope| {
            let begin = |number: usize| {
                let start = &start;
                scope.spawn(move || {
                    pool.on_thread(number);
                    self.on_one_thread(pool, start)
                })
            };
            let threads: Vec<_> = (0..self.threads).map(begin).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread of the workload")).collect()
        });
        println!("{}", times.iter().sum::<f64>() / times.len() as f64);
    }

    fn on_one_thread(&self, pool: &impl Pool, start: &Barrier) -> f64 {
        const AT_ONCE: usize = 2_000;
        const TIME: Duration = Duration::from_millis(60);
        let mut driver = Driver::new(pool, self.live);
        // Tables have grown, and blocks lie as they do later.
        driver.replace(self.live.min(100_000));
        start.wait();
        let begun = Instant::now();
        let mut pairs = 0;
        while self.pairs.map_or_else(|| begun.elapsed() < TIME, |most| pairs < most) {
            driver.replace(AT_ONCE);
            pairs += AT_ONCE;
        }
        let nanoseconds = begun.elapsed().as_nanos() as f64 / pairs as f64;
        start.wait();
        nanoseconds
    }
}

/// A driver that has a fixed number of blocks.
struct Driver<'p, P: Pool> {
    pool: &'p P,
    blocks: Vec<(*mut u8, usize)>,
    random: u64,
}

impl<'p, P: Pool> Driver<'p, P> {
    fn new(pool: &'p P, live: usize) -> Self {
        let mut driver = Self { pool, blocks: Vec::with_capacity(live), random: 1 };
        for _ in 0..live {
            let (bytes, site) = driver.next();
            driver.blocks.push((pool.take(bytes, site), bytes));
        }
        driver
    }

    /// 16 to 527 bytes, and a site.
    fn next(&mut self) -> (usize, u32) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (16 + (self.random >> 33) as usize % 512, (self.random >> 50) as u32 % 8)
    }

    /// Frees blocks, and allocates others in their place.
    #[inline(never)]
    fn replace(&mut self, pairs: usize) {
        for _ in 0..pairs {
            let (bytes, site) = self.next();
            let place = (self.random >> 24) as usize % self.blocks.len();
            let (block, old) = self.blocks[place];
            self.pool.give(block, old);
            self.blocks[place] = black_box((self.pool.take(bytes, site), bytes));
        }
    }
}

impl<P: Pool> Drop for Driver<'_, P> {
    fn drop(&mut self) {
        for (block, bytes) in self.blocks.drain(..) {
            self.pool.give(block, bytes);
        }
    }
}

/// Rust's own allocation functions, over whatever the program's global allocator is.
pub struct Global;

impl Pool for Global {
    fn take(&self, bytes: usize, _: u32) -> *mut u8 {
        // SAFETY: no block of the workload is empty.
        unsafe { std::alloc::alloc(layout(bytes)) }
    }

    fn give(&self, block: *mut u8, bytes: usize) {
        // SAFETY: allocated as long, by `take`.
        unsafe { std::alloc::dealloc(block, layout(bytes)) };
    }
}

fn layout(bytes: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(bytes, 16).expect("a layout of a few bytes")
}

/// The host's malloc, in the shape of a kernel's pool.
#[allow(non_snake_case, reason = "the kernel's names")]
pub mod malloc {
    use std::ffi::c_void;

    unsafe extern "C" {
        fn malloc(bytes: usize) -> *mut c_void;
        fn free(block: *mut c_void);
    }

    /// # Safety
    ///
    /// None needed; unsafe as the kernel's function is.
    #[inline]
    pub unsafe fn ExAllocatePool2(_flags: u64, bytes: u64, _tag: u32) -> *mut c_void {
        // SAFETY: any size will do.
        unsafe { malloc(bytes as usize) }
    }

    /// # Safety
    ///
    /// The block came from [`ExAllocatePool2`], and nobody uses it any more.
    #[inline]
    pub unsafe fn ExFreePool(block: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { free(block) };
    }
}
