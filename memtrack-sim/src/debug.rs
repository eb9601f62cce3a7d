//! The debug output: where `DbgPrint` and bugchecks write to.
//!
//! It goes to standard output, through `print!` so that the test harness can capture it, unless a
//! [`Machine`](crate::Machine) collects it.

mod arguments;
mod format;
mod variadic;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use variadic::{DbgPrint, DbgPrintEx};

/// What is collected while a machine runs.
struct Capture {
    lines: Vec<String>,
    /// The beginning of a line whose end was not printed yet.
    begun: String,
    echo: bool,
}

static CAPTURE: Mutex<Option<Capture>> = Mutex::new(None);

fn capture() -> MutexGuard<'static, Option<Capture>> {
    CAPTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn start_capture() {
    *capture() = Some(Capture { lines: Vec::new(), begun: String::new(), echo: false });
}

pub(crate) fn stop_capture() {
    *capture() = None;
}

pub(crate) fn lines() -> Vec<String> {
    capture().as_ref().map(|capture| capture.lines.clone()).unwrap_or_default()
}

pub(crate) fn take_lines() -> Vec<String> {
    capture().as_mut().map(|capture| core::mem::take(&mut capture.lines)).unwrap_or_default()
}

pub(crate) fn set_echo(on: bool) {
    if let Some(capture) = capture().as_mut() {
        capture.echo = on;
    }
}

/// Writes what one call printed.
pub(crate) fn write(text: &str) {
    let shown = match capture().as_mut() {
        Some(capture) => {
            capture.add(text);
            capture.echo
        }
        None => true,
    };
    // After the lock is gone: printing may block, and may panic where standard output is closed.
    if shown {
        print!("{text}");
    }
}

/// Writes a line of the machine's own, on a line of its own.
pub(crate) fn write_line(line: &str) {
    let in_the_middle = capture().as_ref().is_some_and(|capture| !capture.begun.is_empty());
    write(&format!("{}{line}\n", if in_the_middle { "\n" } else { "" }));
}

impl Capture {
    fn add(&mut self, text: &str) {
        self.begun.push_str(text);
        while let Some(end) = self.begun.find('\n') {
            let rest = self.begun.split_off(end + 1);
            let line = core::mem::replace(&mut self.begun, rest);
            // Drivers that write for Windows tools end lines with both characters.
            self.lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
        }
    }
}
