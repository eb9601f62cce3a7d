//! Raises: how an allocation fails that may not return NULL.
//!
//! The kernel raises a structured exception, which a C driver catches with `__except` and a Rust driver
//! cannot. Here it is a panic, told apart from a bugcheck by its text. An exception that nobody catches
//! would be the bugcheck `KMODE_EXCEPTION_NOT_HANDLED`; the panic says what was raised instead, which is
//! the more useful half.

use core::fmt;

use crate::{constants::status_name, types::NTSTATUS};

/// What the kernel raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The exception's status.
    pub status: NTSTATUS,
}

impl fmt::Display for Raised {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "raised 0x{:08X}", self.status)?;
        match status_name(self.status) {
            Some(name) => write!(out, " {name}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Raised {}

/// Raises `status`, unless the thread is unwinding already: a second panic would abort the process.
pub(crate) fn raise(status: NTSTATUS) {
    if !std::thread::panicking() {
        panic!("{}", Raised { status });
    }
}

/// Reads a text that [`Raised`]'s `Display` wrote; any other text is none.
pub(crate) fn parse(text: &str) -> Option<Raised> {
    let (bits, _) = text.strip_prefix("raised 0x")?.split_at_checked(8)?;
    let raised = Raised { status: u32::from_str_radix(bits, 16).ok()? as NTSTATUS };
    (raised.to_string() == text).then_some(raised)
}
