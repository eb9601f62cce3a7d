//! Counted references in atomics and a global list: the last one out frees. A driver shares one configuration.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use super::c_void;

    pub unsafe extern "C" fn ExAllocatePool2(_: u64, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

const TAG: u32 = u32::from_le_bytes(*b"Refs");

struct Counted {
    references: AtomicU32,
    baud: u32,
}

struct Config(*mut Counted);

unsafe impl Send for Config {}

static CURRENT: AtomicPtr<Counted> = AtomicPtr::new(core::ptr::null_mut());

impl Config {
    #[memtrack::instrument(guard = "tail")]
    fn new(baud: u32) -> Option<Self> {
        let block = unsafe {
            /*@*/
            ntddk::ExAllocatePool2(0x40, size_of::<Counted>(), TAG)
        }
        .cast::<Counted>();
        if block.is_null() {
            return None;
        }
        unsafe { block.write(Counted { references: AtomicU32::new(1), baud }) };
        Some(Self(block))
    }

    /// Makes this the configuration that everybody gets from now on.
    fn publish(self) {
        let this = core::mem::ManuallyDrop::new(self);
        let before = CURRENT.swap(this.0, Ordering::AcqRel);
        if !before.is_null() {
            drop(Self(before));
        }
    }

    fn current() -> Option<Self> {
        let current = CURRENT.load(Ordering::Acquire);
        unsafe { current.as_ref()? }.references.fetch_add(1, Ordering::Relaxed);
        Some(Self(current))
    }

    fn baud(&self) -> u32 {
        unsafe { (*self.0).baud }
    }
}

impl Clone for Config {
    fn clone(&self) -> Self {
        unsafe { &*self.0 }.references.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for Config {
    #[memtrack::instrument]
    fn drop(&mut self) {
        let last = unsafe { (*self.0).references.fetch_sub(1, Ordering::Release) } == 1;
        if last {
            core::sync::atomic::fence(Ordering::Acquire);
            unsafe { ntddk::ExFreePoolWithTag(self.0.cast(), TAG) };
        }
    }
}

/// A port that works on in its own thread, with the configuration that it was opened with.
#[memtrack::instrument]
fn port(config: Config) -> std::thread::JoinHandle<usize> {
    let line = unsafe {
        /*@*/
        ntddk::ExAllocatePool2(0x40, config.baud() as usize / 300, TAG)
    }
    .expose_provenance();
    std::thread::spawn(move || {
        unsafe { ntddk::ExFreePoolWithTag(core::ptr::with_exposed_provenance_mut(line), TAG) };
        usize::from(config.baud() == 9600)
    })
}

pub fn drive() {
    assert!(Config::current().is_none());
    Config::new(9600).unwrap().publish();
    let ports = [(); 4].map(|()| port(Config::current().unwrap().clone()));
    Config::new(19_200).unwrap().publish();
    assert_eq!(ports.map(|port| port.join().unwrap()).iter().sum::<usize>(), 4);
    assert_eq!(Config::current().unwrap().baud(), 19_200);
}
