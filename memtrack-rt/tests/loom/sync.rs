//! The atomics of the models: loom's, behind the face of the standard library's.
//!
//! loom's cannot be made in a constant, nor lie in memory that was zeroed, and the runtime's do both. So those of a model are
//! made before it begins ([`prepare`]), and one of them stands for an atomic of the runtime's from when that is first used.
//!
//! loom takes `SeqCst` for little more than `AcqRel`. What the runtime needs of it is that of two threads which each write
//! one thing and then read the other's, one sees what the other wrote. So a fence of loom's, which has that property, is
//! put between a `SeqCst` write and the next `SeqCst` read of the same thread, and nowhere else: a read or a write that
//! should be `SeqCst` and is not shows.
//!
//! loom 0.7 tries the other order of a write and a read that came before it only if that read was the last access of all: a
//! thread that reads a word and then changes it would hide that another one had read it, too, and a model would be done after
//! one run. So each atomic has a *wake* for each thread, which the thread touches when it reads; and so does who writes
//! after a read of its own.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use core::ptr;
use std::rc::Rc;

use loom::sync::atomic::{AtomicU64 as Shared, fence};

pub(crate) use core::sync::atomic::Ordering;

/// Threads of a model, the first among them.
const THREADS: usize = 3;

struct Modelled {
    value: Shared,
    /// The thread that has read it, if that was the last access.
    reader: Cell<Option<usize>>,
    wakes: [Shared; THREADS],
}

type Pool = Rc<Vec<Modelled>>;

std::thread_local! {
    // loom runs all threads of a model on one of the machine's.
    static POOL: RefCell<(Pool, usize)> = RefCell::default();
    static STARTED: Cell<usize> = const { Cell::new(0) };
}

loom::thread_local! {
    static NUMBER: usize = STARTED.replace(STARTED.get() + 1);
    static HAS_WRITTEN: Cell<bool> = Cell::new(false);
}

/// Makes the atomics of one run of a model.
pub(crate) fn prepare(atomics: usize) {
    let new = || Modelled {
        value: Shared::new(0),
        reader: Cell::new(None),
        wakes: core::array::from_fn(|_| Shared::new(0)),
    };
    POOL.replace((Rc::new((0..atomics).map(|_| new()).collect()), 0));
    STARTED.set(0);
}

/// What is written over memory that nobody may use any more.
pub(crate) const GONE: u8 = 0xFF;

/// Zeros are one that has the value zero.
struct Atomic {
    /// Of loom's it has what it is more than this.
    initial: u64,
    /// Which of loom's it is, counted from one; zero until it is used.
    number: Cell<u32>,
}

// SAFETY: see `POOL`.
unsafe impl Sync for Atomic {}

impl Atomic {
    const fn new(initial: u64) -> Self {
        Self { initial, number: Cell::new(0) }
    }

    fn on<R>(&self, writes: bool, act: impl FnOnce(&Shared) -> R) -> R {
        if self.number.get() == 0 {
            POOL.with_borrow_mut(|(_, used)| {
                *used += 1;
                self.number.set(*used as u32);
            });
        }
        assert_ne!(self.number.get(), u32::MAX, "memory is used that was given back");
        let pool = POOL.with_borrow(|(pool, _)| pool.clone());
        let modelled = pool.get(self.number.get() as usize - 1).expect("as many atomics as were prepared");
        let own = NUMBER.with(|number| *number);
        let hides = modelled.reader.get() == Some(own);
        for (number, wake) in modelled.wakes.iter().enumerate() {
            if if writes { hides && number != own } else { number == own } {
                wake.fetch_add(0, Ordering::Relaxed);
            }
        }
        let result = act(&modelled.value);
        modelled.reader.set((!writes).then_some(own));
        result
    }

    fn inner(&self, value: u64) -> u64 {
        value.wrapping_sub(self.initial)
    }

    fn outer(&self, value: u64) -> u64 {
        value.wrapping_add(self.initial)
    }

    fn load(&self, order: Ordering) -> u64 {
        reads(order);
        self.outer(self.on(false, |shared| shared.load(order)))
    }

    fn store(&self, value: u64, order: Ordering) {
        self.on(true, |shared| shared.store(self.inner(value), order));
        writes(order);
    }

    fn exchange(&self, old: u64, new: u64, order: Ordering, failure: Ordering) -> Result<u64, u64> {
        reads(order);
        let (old, new) = (self.inner(old), self.inner(new));
        let result = self.on(true, |shared| shared.compare_exchange(old, new, order, failure));
        writes(order);
        result.map(|value| self.outer(value)).map_err(|value| self.outer(value))
    }

    fn change(&self, order: Ordering, act: impl FnOnce(&Shared) -> u64) -> u64 {
        reads(order);
        let result = self.outer(self.on(true, act));
        writes(order);
        result
    }
}

fn reads(order: Ordering) {
    if order == Ordering::SeqCst && HAS_WRITTEN.with(|written| written.replace(false)) {
        fence(Ordering::SeqCst);
    }
}

fn writes(order: Ordering) {
    if order == Ordering::SeqCst {
        HAS_WRITTEN.with(|written| written.set(true));
    }
}

macro_rules! integers {
    ($($name:ident $integer:ty),*) => {$(
        pub(crate) struct $name(Atomic);

        #[allow(dead_code, clippy::unnecessary_cast)]
        impl $name {
            pub(crate) const fn new(value: $integer) -> Self {
                Self(Atomic::new(value as u64))
            }

            pub(crate) fn load(&self, order: Ordering) -> $integer {
                self.0.load(order) as $integer
            }

            pub(crate) fn store(&self, value: $integer, order: Ordering) {
                self.0.store(value as u64, order);
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $integer,
                new: $integer,
                order: Ordering,
                failure: Ordering,
            ) -> Result<$integer, $integer> {
                let result = self.0.exchange(old as u64, new as u64, order, failure);
                result.map(|value| value as $integer).map_err(|value| value as $integer)
            }

            pub(crate) fn fetch_add(&self, value: $integer, order: Ordering) -> $integer {
                self.0.change(order, |shared| shared.fetch_add(value as u64, order)) as $integer
            }

            pub(crate) fn fetch_sub(&self, value: $integer, order: Ordering) -> $integer {
                self.0.change(order, |shared| shared.fetch_sub(value as u64, order)) as $integer
            }

            pub(crate) fn swap(&self, value: $integer, order: Ordering) -> $integer {
                assert_eq!(self.0.initial, 0);
                self.0.change(order, |shared| shared.swap(value as u64, order)) as $integer
            }

            pub(crate) fn fetch_or(&self, value: $integer, order: Ordering) -> $integer {
                assert_eq!(self.0.initial, 0);
                self.0.change(order, |shared| shared.fetch_or(value as u64, order)) as $integer
            }

            pub(crate) fn fetch_max(&self, value: $integer, order: Ordering) -> $integer {
                assert_eq!(self.0.initial, 0);
                self.0.change(order, |shared| shared.fetch_max(value as u64, order)) as $integer
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }
    )*};
}

integers!(AtomicU32 u32, AtomicU64 u64, AtomicUsize usize);

/// Of a pointer that was made of a number, or in a constant; its other pointers are told by their numbers, too.
pub(crate) struct AtomicPtr<T>(Atomic, *mut T, PhantomData<*mut T>);

// SAFETY: what it points to is shared by those who use the pointer.
unsafe impl<T> Sync for AtomicPtr<T> {}
// SAFETY: as above.
unsafe impl<T> Send for AtomicPtr<T> {}

impl<T> AtomicPtr<T> {
    pub(crate) const fn new(initial: *mut T) -> Self {
        Self(Atomic::new(0), initial, PhantomData)
    }

    pub(crate) fn load(&self, order: Ordering) -> *mut T {
        ptr::with_exposed_provenance_mut((self.0.load(order) as usize) ^ self.1.addr())
    }

    pub(crate) fn store(&self, pointer: *mut T, order: Ordering) {
        self.0.store((pointer.expose_provenance() ^ self.1.addr()) as u64, order);
    }
}
