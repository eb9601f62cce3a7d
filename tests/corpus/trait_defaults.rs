//! Traits whose default methods allocate, overridden here and there. A driver for several kinds of sensors.

use core::ffi::c_void;

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    use core::ffi::c_void;

    pub unsafe extern "system" fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

/// The pool, as the tests of a driver like to exchange it.
#[allow(non_snake_case, reason = "the kernel's names")]
trait Kernel {
    unsafe fn ExAllocatePoolWithTag(kind: i32, bytes: usize, tag: u32) -> *mut c_void {
        unsafe { bindings::ExAllocatePoolWithTag(kind, bytes, tag) }
    }
    unsafe fn ExFreePoolWithTag(block: *mut c_void, tag: u32) {
        unsafe { bindings::ExFreePoolWithTag(block, tag) }
    }
}

struct Windows;

impl Kernel for Windows {}

/// The last readings of a sensor.
struct Readings(*mut u32, usize);

#[memtrack::instrument]
trait Sensor {
    type Kernel: Kernel;
    const TAG: u32;
    const READINGS: usize = 8;

    fn read(&mut self) -> u32;

    fn readings(&mut self) -> Readings {
        let bytes = size_of::<u32>() * Self::READINGS;
        let block = unsafe {
            /*@*/
            Self::Kernel::ExAllocatePoolWithTag(512, bytes, Self::TAG)
        }
        .cast::<u32>();
        for place in 0..Self::READINGS {
            unsafe { block.add(place).write(self.read()) };
        }
        Readings(block, Self::READINGS)
    }

    fn release(&self, readings: Readings) -> u32 {
        let Readings(start, count) = readings;
        let last = unsafe { start.add(count - 1).read() };
        unsafe { <Self::Kernel as Kernel>::ExFreePoolWithTag(start.cast(), Self::TAG) };
        last
    }
}

struct Counter(u32);

impl Sensor for Counter {
    type Kernel = Windows;
    const TAG: u32 = u32::from_le_bytes(*b"Coun");

    fn read(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

/// Reads two at once.
struct Stereo([Counter; 2]);

#[memtrack::instrument]
impl Sensor for Stereo {
    type Kernel = Windows;
    const TAG: u32 = u32::from_le_bytes(*b"Ster");
    const READINGS: usize = 2 * Counter::READINGS;

    fn read(&mut self) -> u32 {
        self.0.iter_mut().map(Sensor::read).sum()
    }

    fn readings(&mut self) -> Readings {
        let sides = self.0.each_mut().map(Sensor::readings);
        let both = unsafe {
            /*@*/
            bindings::ExAllocatePoolWithTag(512, 4 * Self::READINGS, Self::TAG)
        };
        for (side, readings) in sides.into_iter().enumerate() {
            let half = unsafe { both.cast::<u32>().add(side * readings.1) };
            unsafe { half.copy_from_nonoverlapping(readings.0, readings.1) };
            self.0[side].release(readings);
        }
        Readings(both.cast(), Self::READINGS)
    }
}

pub fn drive() {
    let mut counter = Counter(0);
    let readings = counter.readings();
    assert_eq!(counter.release(readings), 8);
    let mut stereo = Stereo([counter, Counter(100)]);
    let readings = stereo.readings();
    assert_eq!(unsafe { readings.0.read() }, 9);
    assert_eq!(stereo.release(readings), 108);
    let _lost = stereo.readings();
}
