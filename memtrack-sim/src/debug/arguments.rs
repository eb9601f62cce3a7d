//! Variable arguments, as a trampoline found them.
//!
//! On every supported machine each argument that `DbgPrint` can print, whatever its type, has one 8-byte
//! place of its own. The first few places are in registers, which the trampoline has put in a row; the rest
//! are on the caller's stack. Bits above the argument's own type mean nothing.

pub(super) struct Arguments {
    registers: *const u64,
    registers_left: usize,
    stack: *const u64,
}

impl Arguments {
    /// Whether a floating-point argument has a place among the others. The System V and AArch64 conventions
    /// put it into a register of another kind, which nobody looks at here.
    const FLOATS_HAVE_PLACES: bool =
        cfg!(any(windows, all(target_vendor = "apple", target_arch = "aarch64")));

    /// # Safety
    ///
    /// As long as arguments are taken, `registers` points to `registers_left` of them, and `stack` to all
    /// that follow.
    pub(super) unsafe fn new(registers: *const u64, registers_left: usize, stack: *const u64) -> Self {
        Self { registers, registers_left, stack }
    }

    /// # Safety
    ///
    /// The caller passed one more argument than were taken.
    pub(super) unsafe fn take(&mut self) -> u64 {
        let place = if self.registers_left > 0 {
            self.registers_left -= 1;
            &mut self.registers
        } else {
            &mut self.stack
        };
        // SAFETY: there is one more argument, and by `new`'s contract this is where it lies.
        let argument = unsafe { place.read() };
        *place = place.wrapping_add(1);
        argument
    }

    /// # Safety
    ///
    /// As for [`take`](Self::take).
    pub(super) unsafe fn skip_float(&mut self) {
        if Self::FLOATS_HAVE_PLACES {
            // SAFETY: the caller promises it.
            unsafe { self.take() };
        }
    }
}
