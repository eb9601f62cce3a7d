//! Bugchecks: how the machine on the desk stops.
//!
//! A bugcheck prints one line to the debug output and becomes a panic whose payload is that line, as a
//! `String`, since that is what `#[should_panic(expected = …)]` looks into. The typed value is read back
//! from the line: it then survives a `join` on the thread that was stopped, which a thread-local would not.

use core::fmt;

use crate::{constants::bugcheck_name, debug};

/// Why the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BugCheck {
    /// The number on the blue screen, such as [`BAD_POOL_CALLER`](crate::BAD_POOL_CALLER).
    pub code: u32,
    /// Four numbers whose meaning depends on the code.
    pub parameters: [u64; 4],
}

impl BugCheck {
    /// What the code is called, for the codes that this crate has a constant for.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        bugcheck_name(self.code)
    }

    pub(crate) const fn new(code: u32, parameters: [u64; 4]) -> Self {
        Self { code, parameters }
    }
}

impl fmt::Display for BugCheck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "bugcheck 0x{:08X} ", self.code)?;
        if let Some(name) = self.name() {
            write!(out, "{name} ")?;
        }
        let [first, second, third, fourth] = self.parameters;
        write!(out, "({first:#X}, {second:#X}, {third:#X}, {fourth:#X})")
    }
}

impl core::error::Error for BugCheck {}

/// Stops the machine, unless it is unwinding from an earlier stop: then the line is all there is, since a
/// second panic would abort the process and take the first one's message with it.
pub(crate) fn stop(check: BugCheck) {
    debug::write_line(&check.to_string());
    if !std::thread::panicking() {
        panic!("{check}");
    }
}

/// As [`stop`], for a caller that cannot go on either way.
pub(crate) fn stop_for_good(check: BugCheck) -> ! {
    debug::write_line(&check.to_string());
    panic!("{check}");
}

/// Reads a line that [`BugCheck`]'s `Display` wrote; any other text, even one that only begins so, is none.
pub(crate) fn parse(line: &str) -> Option<BugCheck> {
    let (code, rest) = line.strip_prefix("bugcheck 0x")?.split_at_checked(8)?;
    let (_, numbers) = rest.strip_suffix(')')?.split_once('(')?;
    let mut parameters = [0; 4];
    let mut numbers = numbers.split(", ");
    for parameter in &mut parameters {
        *parameter = u64::from_str_radix(numbers.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    let check = BugCheck::new(u32::from_str_radix(code, 16).ok()?, parameters);
    (check.to_string() == line).then_some(check)
}
