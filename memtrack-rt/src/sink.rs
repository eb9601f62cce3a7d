//! The way out: numbered lines of bounded length, each one call of the platform's debug output.
//!
//! What is said together is a record. Its lines are numbered, and the last one says how many there were, so
//! that a reader of a lossy capture knows what is missing. A line that does not fit is cut, its number marked
//! with `+`, and goes on in the next, which begins with `memtrack+`. `docs/report-format.md` is the description
//! for readers.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::platform::Platform;

/// The longest line that is ever sent, in bytes, its newline included. The kernel's own limit is 512 with the
/// terminating zero.
pub const LINE_MAX: usize = 511;

const START: &[u8] = b"memtrack: ";
/// What the rest of a line that was cut begins with.
const REST: &[u8] = b"memtrack+ ";
/// Room for ` #`, two numbers of up to 20 digits, the second one twice, their marks, and the newline.
const END_MAX: usize = 2 + 20 + 1 + 20 + 1 + 20 + 1;
const TEXT_MAX: usize = LINE_MAX - END_MAX;

/// What becomes of the record after a line.
#[derive(Clone, Copy)]
enum After {
    AnotherLine,
    RestOfThisLine,
    Nothing,
}

/// Counts the records of one tracker.
pub(crate) struct Sink {
    records: AtomicU64,
}

impl Sink {
    pub(crate) const fn new() -> Self {
        Self { records: AtomicU64::new(0) }
    }

    pub(crate) fn to<'t, P: Platform>(&'t self, platform: &'t P) -> Out<'t, P> {
        Out { sink: self, platform }
    }
}

/// Where records leave. A record is half of what a frame may take of the stack, so it is opened by who writes it.
pub(crate) struct Out<'t, P: Platform> {
    sink: &'t Sink,
    platform: &'t P,
}

impl<'t, P: Platform> Out<'t, P> {
    /// Opens the next record.
    pub(crate) fn record(&self) -> Record<'t, P> {
        // Relaxed: the number must be nobody else's, and orders nothing; it pairs with no other access.
        let number = self.sink.records.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Record { platform: self.platform, number, line: 0, buffer: [0; LINE_MAX + 1], length: 0, sent: true }
    }

    /// Opens a record that is not sent, for its text alone.
    pub(crate) fn unsent(&self) -> Record<'t, P> {
        let platform = self.platform;
        Record { platform, number: 0, line: 0, buffer: [0; LINE_MAX + 1], length: 0, sent: false }
    }
}

/// A record that is being written. Its last line leaves when it is dropped.
pub(crate) struct Record<'p, P: Platform> {
    platform: &'p P,
    number: u64,
    line: u64,
    buffer: [u8; LINE_MAX + 1],
    length: usize,
    sent: bool,
}

impl<P: Platform> Record<'_, P> {
    /// Begins a line; the one before leaves.
    pub(crate) fn line(&mut self, text: &str) -> &mut Self {
        if self.line > 0 {
            self.send(After::AnotherLine);
        }
        self.begin(START);
        self.text(text)
    }

    /// Adds text as it stands. It is the tracker's own: no control characters, no `%`.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            self.character(character);
        }
        self
    }

    /// Adds text of somebody else's: control characters, Unicode's separators of lines and paragraphs, and `%` leave
    /// as `%` and two hexadecimal digits a byte, so that the line stays one line and reads back as what it was.
    pub(crate) fn foreign(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            if character.is_control() || matches!(character, '%' | '\u{2028}' | '\u{2029}') {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    self.escaped(byte);
                }
            } else {
                self.character(character);
            }
        }
        self
    }

    /// Adds one byte of somebody else's, which stands as it is where it is a printable character other than `'`
    /// and `%`.
    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        if (byte.is_ascii_graphic() || byte == b' ') && byte != b'%' && byte != b'\'' {
            self.put(&[byte]);
        } else {
            self.escaped(byte);
        }
        self
    }

    /// Adds a number in decimal digits.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 20];
        self.put(decimal(number, &mut digits));
        self
    }

    /// Adds one byte as two hexadecimal digits.
    pub(crate) fn hexadecimal(&mut self, byte: u8) -> &mut Self {
        self.put(&[digit(byte >> 4), digit(byte)]);
        self
    }

    /// Does something with the text of a record that is not sent.
    pub(crate) fn with_text(&mut self, act: impl FnOnce(&P, &CStr)) {
        self.raw(b"\0");
        if let Ok(text) = CStr::from_bytes_until_nul(&self.buffer) {
            act(self.platform, text);
        }
    }

    fn escaped(&mut self, byte: u8) {
        self.put(&[b'%', digit(byte >> 4), digit(byte)]);
    }

    fn character(&mut self, character: char) {
        self.put(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// Adds what must stand together: a number, a character. Where it does not fit, the line is cut before.
    fn put(&mut self, bytes: &[u8]) {
        if self.length + bytes.len() > TEXT_MAX {
            if !self.sent {
                return;
            }
            self.send(After::RestOfThisLine);
            self.begin(REST);
        }
        self.raw(bytes);
    }

    fn begin(&mut self, start: &[u8]) {
        self.line += 1;
        self.length = 0;
        self.raw(start);
    }

    fn raw(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.buffer.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
    }

    fn send(&mut self, after: After) {
        let mut digits = [0; 20];
        self.raw(b" #");
        self.raw(decimal(self.number, &mut digits));
        self.raw(b".");
        self.raw(decimal(self.line, &mut digits));
        match after {
            After::AnotherLine => {}
            After::RestOfThisLine => self.raw(b"+"),
            After::Nothing => {
                self.raw(b"/");
                self.raw(decimal(self.line, &mut digits));
            }
        }
        self.raw(b"\n\0");
        if let Ok(line) = CStr::from_bytes_until_nul(&self.buffer) {
            self.platform.print(line);
        }
    }
}

impl<P: Platform> Drop for Record<'_, P> {
    fn drop(&mut self) {
        if self.line > 0 && self.sent {
            self.send(After::Nothing);
        }
    }
}

fn digit(nibble: u8) -> u8 {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    DIGITS[usize::from(nibble & 0xF)]
}

fn decimal(number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number;
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}
