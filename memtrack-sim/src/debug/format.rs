//! The format language of the kernel's `DbgPrint`.
//!
//! It is the C runtime's of Windows, which differs from the C standard's where strings are concerned: `%S`,
//! `%ws` and `%ls` are UTF-16, `%Z` and `%wZ` are counted strings, `l` means 32 bits and `I64` means 64,
//! `%p` prints sixteen digits, and a zero flag pads strings, too. What is not understood is printed as it
//! stands.

use core::ffi::c_char;

use super::arguments::Arguments;
use crate::{
    irql,
    types::{ANSI_STRING, UNICODE_STRING},
};

/// The kernel formats into a buffer of this many bytes.
const BUFFER: usize = 512;

/// A UTF-16 argument was met above `PASSIVE_LEVEL`, where the tables that convert it may be paged out.
pub(super) struct UnicodeTooHigh {
    /// Where the string is, or 0 for a single character.
    pub(super) string: u64,
}

/// Returns what is printed.
///
/// # Safety
///
/// `format` is a string that ends in a zero, and `arguments` are what its specifications say.
pub(super) unsafe fn render(
    format: *const c_char,
    arguments: &mut Arguments,
) -> Result<Vec<u8>, UnicodeTooHigh> {
    let mut text = Text::default();
    let mut format = Format { next: format.cast() };
    while !text.is_full() {
        // SAFETY: `format` has not passed its end: it is not advanced past a zero.
        match unsafe { format.take() } {
            0 => break,
            b'%' => {
                let begin = format.next;
                // SAFETY: the caller's promise, passed on.
                let done =
                    unsafe { Specification::read(&mut format, arguments).print(&mut text, arguments) }?;
                if !done {
                    // SAFETY: `begin` is where the specification starts, `format.next` where it ends.
                    let length = format.next.addr() - begin.addr();
                    text.push(b'%');
                    // SAFETY: as above; those bytes were read already.
                    text.extend(unsafe { core::slice::from_raw_parts(begin, length) });
                }
            }
            byte => text.push(byte),
        }
    }
    Ok(text.finish())
}

/// A string that ends in a zero, read up to some byte.
struct Format {
    next: *const u8,
}

impl Format {
    /// # Safety
    ///
    /// The string ends in a zero.
    unsafe fn peek(&self) -> u8 {
        // SAFETY: `next` never passes the zero.
        unsafe { self.next.read() }
    }

    /// Returns the next byte, over and over again where it is the last.
    ///
    /// # Safety
    ///
    /// The string ends in a zero.
    unsafe fn take(&mut self) -> u8 {
        // SAFETY: the caller's promise.
        let byte = unsafe { self.peek() };
        if byte != 0 {
            self.next = self.next.wrapping_add(1);
        }
        byte
    }

    /// Skips `prefix` where it comes next.
    ///
    /// # Safety
    ///
    /// The string ends in a zero.
    unsafe fn skip(&mut self, prefix: &[u8]) -> bool {
        let before = self.next;
        for expected in prefix {
            // SAFETY: the caller's promise.
            if unsafe { self.take() } != *expected {
                self.next = before;
                return false;
            }
        }
        true
    }
}

/// The kernel's buffer: what does not fit is lost.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
}

impl Text {
    /// One byte more than fits is kept, to tell a full buffer from one that ran over.
    fn is_full(&self) -> bool {
        self.bytes.len() > BUFFER
    }

    fn push(&mut self, byte: u8) {
        if !self.is_full() {
            self.bytes.push(byte);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(*byte));
    }

    fn fill(&mut self, byte: u8, times: usize) {
        // Bounded, since a width may be two thousand million.
        (0..times.min(BUFFER + 1)).for_each(|_| self.push(byte));
    }

    /// The kernel puts a newline over the last byte of a text that ran over, so that the next one begins
    /// well.
    fn finish(mut self) -> Vec<u8> {
        if self.is_full() {
            self.bytes.truncate(BUFFER - 1);
            self.bytes.push(b'\n');
        }
        self.bytes
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Default,
    Byte,
    Short,
    /// `l` and `w`: 32 bits in a number, UTF-16 in text.
    Long,
    Quad,
}

/// What stands between a per cent sign and the letter that ends it, and that letter.
struct Specification {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    size: Size,
    letter: u8,
}

impl Specification {
    /// # Safety
    ///
    /// `format` ends in a zero, and every asterisk in it has its argument.
    unsafe fn read(format: &mut Format, arguments: &mut Arguments) -> Self {
        let mut this = Self {
            left: false,
            plus: false,
            space: false,
            alternate: false,
            zero: false,
            width: 0,
            precision: None,
            size: Size::Default,
            letter: 0,
        };
        // SAFETY: the caller's promises, passed on.
        unsafe {
            while this.set_flag(format.peek()) {
                format.take();
            }
            let width = read_number(format, arguments).unwrap_or(0);
            this.left |= width < 0;
            this.width = usize::try_from(width.unsigned_abs()).unwrap_or(BUFFER);
            if format.skip(b".") {
                this.precision = usize::try_from(read_number(format, arguments).unwrap_or(0)).ok();
            }
            this.size = read_size(format);
            this.letter = format.take();
        }
        this
    }

    fn set_flag(&mut self, byte: u8) -> bool {
        let flag = match byte {
            b'-' => &mut self.left,
            b'+' => &mut self.plus,
            b' ' => &mut self.space,
            b'#' => &mut self.alternate,
            b'0' => &mut self.zero,
            _ => return false,
        };
        *flag = true;
        true
    }

    /// Returns false where the specification is to be printed as it stands.
    ///
    /// # Safety
    ///
    /// The next argument is what the specification says.
    unsafe fn print(&mut self, text: &mut Text, arguments: &mut Arguments) -> Result<bool, UnicodeTooHigh> {
        // SAFETY: the caller's promise, passed on, once on every path.
        unsafe {
            match self.letter {
                b'%' => text.push(b'%'),
                b'd' | b'i' => self.print_signed(text, arguments.take()),
                b'u' | b'o' | b'x' | b'X' => self.print_unsigned(text, arguments.take()),
                b'p' => self.print_pointer(text, arguments.take()),
                b'c' | b'C' => self.print_character(text, arguments.take())?,
                b's' | b'S' => self.print_string(text, arguments.take())?,
                b'Z' => self.print_counted(text, arguments.take())?,
                b'e' | b'E' | b'f' | b'F' | b'g' | b'G' | b'a' | b'A' => {
                    arguments.skip_float();
                    return Ok(false);
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn print_signed(&self, text: &mut Text, argument: u64) {
        let number = match self.size {
            Size::Byte => i64::from(argument as i8),
            Size::Short => i64::from(argument as i16),
            Size::Default | Size::Long => i64::from(argument as i32),
            Size::Quad => argument as i64,
        };
        let sign = match (number < 0, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        self.print_digits(text, sign, &number.unsigned_abs().to_string());
    }

    fn print_unsigned(&self, text: &mut Text, argument: u64) {
        let number = match self.size {
            Size::Byte => u64::from(argument as u8),
            Size::Short => u64::from(argument as u16),
            Size::Default | Size::Long => u64::from(argument as u32),
            Size::Quad => argument,
        };
        match self.letter {
            b'x' if self.alternate && number != 0 => self.print_digits(text, "0x", &format!("{number:x}")),
            b'X' if self.alternate && number != 0 => self.print_digits(text, "0X", &format!("{number:X}")),
            b'x' => self.print_digits(text, "", &format!("{number:x}")),
            b'X' => self.print_digits(text, "", &format!("{number:X}")),
            b'o' if self.alternate && number != 0 => self.print_digits(text, "", &format!("0{number:o}")),
            b'o' => self.print_digits(text, "", &format!("{number:o}")),
            _ => self.print_digits(text, "", &number.to_string()),
        }
    }

    fn print_pointer(&self, text: &mut Text, argument: u64) {
        self.print_digits(text, if self.alternate { "0X" } else { "" }, &format!("{argument:016X}"));
    }

    fn print_digits(&self, text: &mut Text, prefix: &str, digits: &str) {
        // Zero printed to a precision of no digits is nothing.
        let digits = if self.precision == Some(0) && digits == "0" { "" } else { digits };
        let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        let padding = self.padding(prefix.len() + zeros + digits.len());
        // A precision says how many digits there are, so that the zero flag has nothing left to say.
        let zero = self.zero && !self.left && self.precision.is_none();
        text.fill(b' ', if zero || self.left { 0 } else { padding });
        text.extend(prefix.as_bytes());
        text.fill(b'0', if zero { padding } else { zeros });
        text.extend(digits.as_bytes());
        text.fill(b' ', if self.left { padding } else { 0 });
    }

    fn print_text(&self, text: &mut Text, bytes: &[u8], characters: usize) {
        let padding = self.padding(characters);
        let filler = if self.zero { b'0' } else { b' ' };
        text.fill(filler, if self.left { 0 } else { padding });
        text.extend(bytes);
        text.fill(b' ', if self.left { padding } else { 0 });
    }

    fn padding(&self, characters: usize) -> usize {
        self.width.saturating_sub(characters)
    }

    /// Whether text is UTF-16: a capital letter says so, and a size, where there is one, overrules it.
    fn is_wide(&self, capital: u8) -> bool {
        match self.size {
            Size::Long => true,
            Size::Short | Size::Byte => false,
            Size::Default | Size::Quad => self.letter == capital,
        }
    }

    fn print_character(&self, text: &mut Text, argument: u64) -> Result<(), UnicodeTooHigh> {
        if self.is_wide(b'C') {
            require_passive(0)?;
            self.print_utf16(text, &[argument as u16]);
        } else {
            self.print_text(text, &[argument as u8], 1);
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The argument is NULL, or a string of the specification's kind as long as its precision, or one that
    /// ends in a zero.
    unsafe fn print_string(&self, text: &mut Text, argument: u64) -> Result<(), UnicodeTooHigh> {
        // More than the buffer holds would not be printed anyway.
        let limit = self.precision.unwrap_or(usize::MAX).min(BUFFER + 1);
        if argument == 0 {
            self.print_null(text);
        } else if self.is_wide(b'S') {
            require_passive(argument)?;
            // SAFETY: the caller's promise.
            self.print_utf16(text, &unsafe { read_up_to_zero(pointer::<u16>(argument), limit) });
        } else {
            // SAFETY: the caller's promise.
            let bytes = unsafe { read_up_to_zero(pointer::<u8>(argument), limit) };
            self.print_text(text, &bytes, bytes.len());
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The argument is NULL or points to a counted string of the specification's kind.
    unsafe fn print_counted(&self, text: &mut Text, argument: u64) -> Result<(), UnicodeTooHigh> {
        // Narrow unless a size says otherwise: no capital letter is the wide one.
        if argument == 0 {
            self.print_null(text);
        } else if self.is_wide(0) {
            require_passive(argument)?;
            // SAFETY: the caller's promise; the structure may lie anywhere in a packed one.
            let string = unsafe { pointer::<UNICODE_STRING>(argument).read_unaligned() };
            // SAFETY: a counted string's buffer holds as many bytes as it says.
            let units =
                unsafe { self.read_counted(string.Buffer.cast_const(), usize::from(string.Length) / 2) };
            match units {
                Some(units) => self.print_utf16(text, &units),
                None => self.print_null(text),
            }
        } else {
            // SAFETY: as above.
            let string = unsafe { pointer::<ANSI_STRING>(argument).read_unaligned() };
            // SAFETY: as above.
            let bytes = unsafe { self.read_counted(string.Buffer.cast::<u8>(), usize::from(string.Length)) };
            match bytes {
                Some(bytes) => self.print_text(text, &bytes, bytes.len()),
                None => self.print_null(text),
            }
        }
        Ok(())
    }

    /// Returns no more than is printed, or None where there is no buffer.
    ///
    /// # Safety
    ///
    /// `buffer` is NULL or holds `length` units.
    unsafe fn read_counted<U: Copy>(&self, buffer: *const U, length: usize) -> Option<Vec<U>> {
        let length = length.min(self.precision.unwrap_or(usize::MAX)).min(BUFFER + 1);
        // SAFETY: the caller's promise; the index stays below the length.
        (!buffer.is_null())
            .then(|| (0..length).map(|at| unsafe { buffer.add(at).read_unaligned() }).collect())
    }

    fn print_null(&self, text: &mut Text) {
        let shown = &b"(null)"[..self.precision.unwrap_or(6).min(6)];
        self.print_text(text, shown, shown.len());
    }

    fn print_utf16(&self, text: &mut Text, units: &[u16]) {
        let shown = String::from_utf16_lossy(units);
        self.print_text(text, shown.as_bytes(), units.len());
    }
}

/// Reads a number or, for an asterisk, takes it from the arguments. None where there is none.
///
/// # Safety
///
/// `format` ends in a zero, and an asterisk in it has its argument.
unsafe fn read_number(format: &mut Format, arguments: &mut Arguments) -> Option<i32> {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        if format.skip(b"*") {
            return Some(arguments.take() as i32);
        }
        let mut number = None;
        while format.peek().is_ascii_digit() {
            let digit = i32::from(format.take() - b'0');
            number = Some(number.unwrap_or(0_i32).saturating_mul(10).saturating_add(digit));
        }
        number
    }
}

/// # Safety
///
/// `format` ends in a zero.
unsafe fn read_size(format: &mut Format) -> Size {
    // Longer ones first: `I64` begins as `I` does.
    const SIZES: [(&[u8], Size); 11] = [
        (b"I64", Size::Quad),
        (b"I32", Size::Default),
        (b"I", Size::Quad),
        (b"ll", Size::Quad),
        (b"l", Size::Long),
        (b"w", Size::Long),
        (b"hh", Size::Byte),
        (b"h", Size::Short),
        (b"z", Size::Quad),
        (b"j", Size::Quad),
        (b"t", Size::Quad),
    ];
    // SAFETY: the caller's promise.
    SIZES.iter().find(|size| unsafe { format.skip(size.0) }).map_or(Size::Default, |size| size.1)
}

/// # Safety
///
/// `string` holds `limit` units or ends in a zero before.
unsafe fn read_up_to_zero<U: Copy + Default + PartialEq>(string: *const U, limit: usize) -> Vec<U> {
    // SAFETY: no unit after a zero, or after the limit, is read. Strings in driver structures may be
    // unaligned.
    (0..limit)
        .map(|at| unsafe { string.add(at).read_unaligned() })
        .take_while(|unit| *unit != U::default())
        .collect()
}

fn require_passive(string: u64) -> Result<(), UnicodeTooHigh> {
    if irql::current() > irql::PASSIVE { Err(UnicodeTooHigh { string }) } else { Ok(()) }
}

fn pointer<T>(argument: u64) -> *const T {
    core::ptr::with_exposed_provenance(argument as usize)
}
