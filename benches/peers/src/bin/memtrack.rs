//! memtrack, in the mode that `--mode` names, over the host's malloc as the kernel's pool.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ffi::CStr;
use std::panic::Location;
use std::process::exit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use memtrack_peers::{Pool, Task, malloc};
use memtrack_rt::{Function, Guard, Irql, Platform, Quarantine, Settings, SpinLock, Tracker};

/// A kernel of one process: its threads are processors.
struct Process;

/// Bytes of the tracker's own.
static OWN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PROCESSOR: Cell<usize> = const { Cell::new(0) };
}

/// Before each piece of the tracker's memory stands how long it is.
const HEAD: usize = 16;

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + HEAD, HEAD).expect("a layout of the tracker's")
}

// SAFETY: the lock excludes, and orders by Acquire and Release; the memory is the allocator's, and nobody else's.
unsafe impl Platform for Process {
    fn print(&self, line: &CStr) {
        eprint!("{}", line.to_string_lossy());
    }

    fn acquire(&self, lock: &SpinLock) -> Irql {
        // Acquire pairs with the Release in `release`. Who waits only reads, as a kernel's spin lock has it; and lets others run
        // after a while, because here, and in no kernel, who holds the lock may have to wait for a processor.
        while lock.word().compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            for looks in 0.. {
                if lock.word().load(Ordering::Relaxed) == 0 {
                    break;
                }
                if looks % 1000 == 999 {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
        }
        0
    }

    unsafe fn release(&self, lock: &SpinLock, _: Irql) {
        // Release pairs with the Acquire in `acquire`.
        lock.word().store(0, Ordering::Release);
    }

    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        OWN.fetch_add(bytes, Ordering::Relaxed);
        // SAFETY: the layout is as long as the head at least.
        let memory = NonNull::new(unsafe { alloc(layout(bytes)) })?;
        // SAFETY: there is room for the head.
        unsafe {
            memory.cast::<usize>().write(bytes);
            Some(memory.add(HEAD))
        }
    }

    unsafe fn free(&self, memory: NonNull<u8>) {
        // SAFETY: a piece of `allocate`'s, in front of which its length stands.
        unsafe {
            let memory = memory.sub(HEAD);
            let bytes = memory.cast::<usize>().read();
            OWN.fetch_sub(bytes, Ordering::Relaxed);
            dealloc(memory.as_ptr(), layout(bytes));
        }
    }

    fn irql(&self) -> Irql {
        0
    }

    fn processor(&self) -> usize {
        PROCESSOR.get()
    }

    fn break_in(&self) {}

    fn bugcheck(&self, _: [usize; 4], _: &CStr) {}
}

static TRACKER: Tracker<Process> = Tracker::new(Process);

/// What an annotated driver's calls become.
struct Tracked(Guard);

impl Pool for Tracked {
    #[inline(always)]
    fn take(&self, bytes: usize, site: u32) -> *mut u8 {
        let arguments = (0x40_u64, bytes as u64, 1 + site);
        // SAFETY: any size will do, and malloc may be called twice.
        let block = unsafe {
            TRACKER.allocate(
                Location::caller(),
                Function::ExAllocatePool2,
                Some(self.0),
                arguments,
                |(flags, bytes, tag)| malloc::ExAllocatePool2(flags, bytes, tag),
            )
        };
        block.cast()
    }

    #[inline(always)]
    fn give(&self, block: *mut u8, _: usize) {
        // SAFETY: the block came from `take`, and is nobody's any more.
        unsafe {
            TRACKER.free(Location::caller(), Function::ExFreePool, (block.cast(),), |(block,)| {
                malloc::ExFreePool(block);
            });
        }
    }

    fn on_thread(&self, number: usize) {
        PROCESSOR.set(number);
    }
}

fn main() {
    let task = Task::from_arguments();
    if task.mode == "locked" {
        return println!("{}", locked_instruction());
    }
    let (guard, quarantine) = match task.mode.as_str() {
        "tracked" | "memory" => (Guard::None, Quarantine::OFF),
        "tail" => (Guard::Tail, Quarantine::OFF),
        "full" => (Guard::Full, Quarantine::OFF),
        "tail + quarantine" => (Guard::Tail, Quarantine::default()),
        "full + quarantine" => (Guard::Full, Quarantine::default()),
        other => {
            eprintln!("there is no mode {other:?}");
            exit(2);
        }
    };
    TRACKER.configure(Settings::new().quarantines(quarantine));
    let pool = Tracked(guard);
    if task.mode == "memory" {
        return println!("{}", own_bytes(&pool, task.live));
    }
    task.run(&pool);
    TRACKER.configure(Settings::new().quarantines(Quarantine::OFF));
}

/// Nanoseconds of one compare-and-swap that nobody disputes.
fn locked_instruction() -> f64 {
    const TIMES: usize = 10_000_000;
    let word = AtomicUsize::new(0);
    let begun = Instant::now();
    for number in 0..TIMES {
        let swapped = word.compare_exchange(number, number + 1, Ordering::SeqCst, Ordering::Relaxed);
        assert_eq!(swapped, Ok(number));
    }
    begun.elapsed().as_nanos() as f64 / TIMES as f64
}

/// What the tracker has taken for itself, with so many blocks live; the static first table is not in it.
fn own_bytes(pool: &Tracked, live: usize) -> usize {
    let blocks: Vec<_> = (0..live).map(|block| pool.take(16 + block % 512, block as u32 % 8)).collect();
    let own = OWN.load(Ordering::Relaxed);
    blocks.into_iter().for_each(|block| pool.give(block, 0));
    own
}
