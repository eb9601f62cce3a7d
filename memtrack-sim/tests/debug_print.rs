//! The format language of `DbgPrint`, as tables.

mod common;

use std::ptr::null;

use common::{DISPATCH, at, kernel};
use memtrack_sim::{ntddk::*, *};

/// Each line: what is printed, then the format and its arguments. A machine must be running.
macro_rules! prints {
    ($machine:ident: $($expected:literal <- $format:literal $(, $argument:expr)*;)*) => {$(
        assert_eq!(
            kernel!(DbgPrint($format.as_ptr() $(, $argument)*)),
            STATUS_SUCCESS as ULONG
        );
        kernel!(DbgPrint(c"\n".as_ptr()));
        assert_eq!($machine.take_output(), [$expected], "{:?}", $format);
    )*};
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

#[test]
fn plain_text() {
    let machine = Machine::boot();
    prints! { machine:
        "" <- c"";
        "plain" <- c"plain";
        "100%" <- c"100%%";
        "%d" <- c"%%d";
        "naïve" <- c"naïve";
    }
}

#[test]
fn signed_numbers() {
    let machine = Machine::boot();
    prints! { machine:
        "0" <- c"%d", 0;
        "-1" <- c"%d", -1;
        "-2147483648" <- c"%i", i32::MIN;
        "[   42]" <- c"[%5d]", 42;
        "[42   ]" <- c"[%-5d]", 42;
        "[00042]" <- c"[%05d]", 42;
        "[-0042]" <- c"[%05d]", -42;
        "[42   ]" <- c"[%-05d]", 42;
        "+42" <- c"%+d", 42;
        "-42" <- c"%+d", -42;
        " 42" <- c"% d", 42;
        "+42" <- c"%+ d", 42;
        "[+0042]" <- c"[%+05d]", 42;
        "007" <- c"%.3d", 7;
        "[  007]" <- c"[%5.3d]", 7;
        "[  007]" <- c"[%05.3d]", 7;
        "-007" <- c"%.3d", -7;
        "[]" <- c"[%.0d]", 0;
        "[]" <- c"[%.d]", 0;
        "[1]" <- c"[%.0d]", 1;
        "123456" <- c"%2d", 123_456;
    }
}

#[test]
fn unsigned_numbers() {
    let machine = Machine::boot();
    prints! { machine:
        "4294967295" <- c"%u", u32::MAX;
        "ff" <- c"%x", 255;
        "FF" <- c"%X", 255;
        "377" <- c"%o", 255;
        "0xff" <- c"%#x", 255;
        "0XFF" <- c"%#X", 255;
        "0377" <- c"%#o", 255;
        "0" <- c"%#x", 0;
        "0" <- c"%#o", 0;
        "[0x00ff]" <- c"[%#06x]", 255;
        "[  0xff]" <- c"[%#6x]", 255;
        "[0xff  ]" <- c"[%-#6x]", 255;
        "000000ff" <- c"%08x", 255;
        "000000FF" <- c"%.8X", 255;
        "5" <- c"%+u", 5;
    }
}

#[test]
fn sizes() {
    let machine = Machine::boot();
    let wide = 0x1234_5678_9ABC_DEF0_u64;
    prints! { machine:
        "f0" <- c"%hhx", wide;
        "-16" <- c"%hhd", wide;
        "def0" <- c"%hx", wide;
        "-8464" <- c"%hd", wide;
        "9abcdef0" <- c"%x", wide;
        "9abcdef0" <- c"%lx", wide;
        "9abcdef0" <- c"%wx", wide;
        "9abcdef0" <- c"%I32x", wide;
        "123456789abcdef0" <- c"%llx", wide;
        "123456789abcdef0" <- c"%I64x", wide;
        "123456789abcdef0" <- c"%Ix", wide;
        "123456789abcdef0" <- c"%zx", wide;
        "123456789abcdef0" <- c"%jx", wide;
        "123456789abcdef0" <- c"%tx", wide;
        "1311768467463790320" <- c"%I64u", wide;
        "-9223372036854775808" <- c"%I64d", i64::MIN;
        "-9223372036854775808" <- c"%lld", i64::MIN;
        "-1" <- c"%ld", -1_i64;
        "18446744073709551615" <- c"%zu", u64::MAX;
    }
}

#[test]
fn asterisks() {
    let machine = Machine::boot();
    prints! { machine:
        "[   42]" <- c"[%*d]", 5, 42;
        "[42   ]" <- c"[%*d]", -5, 42;
        "[42   ]" <- c"[%-*d]", 5, 42;
        "[007]" <- c"[%.*d]", 3, 7;
        "[7]" <- c"[%.*d]", -3, 7;
        "[  007]" <- c"[%*.*d]", 5, 3, 7;
        "[  ab]" <- c"[%*.*s]", 4, 2, c"abcdef".as_ptr();
        "[abcdef]" <- c"[%.*s]", -1, c"abcdef".as_ptr();
    }
}

#[test]
fn pointers() {
    let machine = Machine::boot();
    let pointer = std::ptr::without_provenance::<u8>(0xFFFF_F801_0000_ABCD);
    prints! { machine:
        "FFFFF8010000ABCD" <- c"%p", pointer;
        "0000000000000000" <- c"%p", null::<u8>();
        "0X000000000000ABCD" <- c"%#p", std::ptr::without_provenance::<u8>(0xABCD);
        "[  000000000000ABCD]" <- c"[%18p]", std::ptr::without_provenance::<u8>(0xABCD);
        "[000000000000ABCD  ]" <- c"[%-18p]", std::ptr::without_provenance::<u8>(0xABCD);
    }
}

#[test]
fn characters() {
    let machine = Machine::boot();
    prints! { machine:
        "A" <- c"%c", i32::from(b'A');
        "[  A]" <- c"[%3c]", i32::from(b'A');
        "[A  ]" <- c"[%-3c]", i32::from(b'A');
        "Ω" <- c"%C", 0x3A9;
        "Ω" <- c"%lc", 0x3A9;
        "Ω" <- c"%wc", 0x3A9;
        "A" <- c"%hc", i32::from(b'A');
        "A" <- c"%hC", i32::from(b'A');
        "\u{FFFD}" <- c"%C", 0xD800;
    }
}

#[test]
fn strings() {
    let machine = Machine::boot();
    let text = utf16("Straße 雪");
    let (narrow, wide) = (c"narrow".as_ptr(), text.as_ptr());
    prints! { machine:
        "narrow" <- c"%s", narrow;
        "narrow" <- c"%hs", narrow;
        "narrow" <- c"%hS", narrow;
        "[  narrow]" <- c"[%8s]", narrow;
        "[narrow  ]" <- c"[%-8s]", narrow;
        "[00narrow]" <- c"[%08s]", narrow;
        "[nar]" <- c"[%.3s]", narrow;
        "[  nar]" <- c"[%5.3s]", narrow;
        "[]" <- c"[%.0s]", narrow;
        "Straße 雪" <- c"%S", wide;
        "Straße 雪" <- c"%ls", wide;
        "Straße 雪" <- c"%ws", wide;
        "Straße 雪" <- c"%lS", wide;
        "[   Straße 雪]" <- c"[%11ws]", wide;
        "[Straße]" <- c"[%.6ws]", wide;
        "(null)" <- c"%s", null::<u8>();
        "(null)" <- c"%S", null::<u16>();
        "(null)" <- c"%ws", null::<u16>();
        "[  (null)]" <- c"[%8s]", null::<u8>();
        "[(nu]" <- c"[%.3s]", null::<u8>();
    }
    // No zero is needed where the precision says how long the string is.
    let unterminated = [b'a', b'b', b'c'];
    prints! { machine: "abc" <- c"%.3s", unterminated.as_ptr(); }
}

#[test]
fn counted_strings() {
    let machine = Machine::boot();
    let mut narrow = *b"narrow and more";
    let ansi = ANSI_STRING { Length: 6, MaximumLength: 15, Buffer: narrow.as_mut_ptr().cast() };
    let mut units = utf16("weit und mehr");
    let unicode = UNICODE_STRING { Length: 8, MaximumLength: 26, Buffer: units.as_mut_ptr() };
    let (no_ansi, no_unicode) = (ANSI_STRING::default(), UNICODE_STRING::default());
    prints! { machine:
        "narrow" <- c"%Z", &ansi;
        "narrow" <- c"%hZ", &ansi;
        "weit" <- c"%wZ", &unicode;
        "weit" <- c"%lZ", &unicode;
        "[    weit]" <- c"[%8wZ]", &unicode;
        "[weit    ]" <- c"[%-8wZ]", &unicode;
        "[we]" <- c"[%.2wZ]", &unicode;
        "[nar]" <- c"[%.3Z]", &ansi;
        "[narrow]" <- c"[%.99Z]", &ansi;
        "(null)" <- c"%Z", &no_ansi;
        "(null)" <- c"%wZ", &no_unicode;
        "(null)" <- c"%Z", null::<ANSI_STRING>();
        "(null)" <- c"%wZ", null::<UNICODE_STRING>();
    }
}

#[test]
fn what_is_not_understood_is_printed_as_it_stands() {
    let machine = Machine::boot();
    prints! { machine:
        "%f" <- c"%f", 1.5;
        "%8.3g 7" <- c"%8.3g %d", 1.5, 7;
        "%e %E %G %a %A %F" <- c"%e %E %G %a %A %F", 1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
        "%y 7" <- c"%y %d", 7;
        "%-08.3k" <- c"%-08.3k";
        "%n" <- c"%n";
        "half %" <- c"half %";
        "half %5" <- c"half %5";
        "half %l" <- c"half %l";
    }
}

#[test]
fn arguments_come_from_registers_and_then_from_the_stack() {
    let machine = Machine::boot();
    prints! { machine:
        "1 2 3 4 5 6 7 8 9 10 11 12" <-
            c"%d %d %d %d %d %d %d %d %d %d %d %d", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12;
        "1 b 3 d 5 f 7 h" <-
            c"%d %s %I64d %s %d %c %d %s", 1, c"b".as_ptr(), 3_i64, c"d".as_ptr(), 5, i32::from(b'f'), 7,
            c"h".as_ptr();
        "1 %f 2 %f 3 4 5 6 7" <-
            c"%d %f %d %f %d %d %d %d %d", 1, 0.5, 2, 0.25, 3, 4, 5, 6, 7;
    }
    let status =
        kernel!(DbgPrintEx(77, 3, c"%d %d %d %d %d %d %d %s\n".as_ptr(), 1, 2, 3, 4, 5, 6, 7, c"8".as_ptr()));
    assert_eq!((status, machine.take_output()), (0, vec!["1 2 3 4 5 6 7 8".to_owned()]));
}

#[test]
fn a_null_format_is_an_error() {
    let machine = Machine::boot();
    assert_eq!(kernel!(DbgPrint(null())), STATUS_INVALID_PARAMETER as ULONG);
    assert!(machine.output().is_empty());
}

#[test]
fn a_call_prints_512_bytes_at_most() {
    let machine = Machine::boot();
    let long = |bytes: usize| std::ffi::CString::new("a".repeat(bytes)).unwrap();
    let print = |bytes: usize| kernel!(DbgPrint(c"%s".as_ptr(), long(bytes).as_ptr()));

    // What fits is printed as it is: no newline yet.
    print(512);
    assert!(machine.output().is_empty());
    kernel!(DbgPrint(c"\n".as_ptr()));
    assert_eq!(machine.take_output()[0].len(), 512);

    // What does not ends in a newline of the kernel's.
    for bytes in [513, 1000, 5000] {
        print(bytes);
        assert_eq!(machine.take_output(), ["a".repeat(511)]);
        kernel!(DbgPrint(long(bytes).as_ptr()));
        assert_eq!(machine.take_output(), ["a".repeat(511)]);
    }
    kernel!(DbgPrint(c"%2000000000d".as_ptr(), 1));
    assert_eq!(machine.take_output(), [" ".repeat(511)]);
    kernel!(DbgPrint(c"%.2000000000d".as_ptr(), 1));
    assert_eq!(machine.take_output(), ["0".repeat(511)]);
    kernel!(DbgPrint(c"%99999999999999999999d".as_ptr(), 1));
    assert_eq!(machine.take_output(), [" ".repeat(511)]);
    kernel!(DbgPrint(c"%*d".as_ptr(), i32::MIN, 1));
    assert_eq!(machine.take_output(), [format!("1{}", " ".repeat(510))]);
    kernel!(DbgPrint(c"%ws".as_ptr(), utf16(&"雪".repeat(1000)).as_ptr()));
    let cut = machine.take_output();
    assert!(cut[0].starts_with(&"雪".repeat(170)) && cut[0].chars().count() == 171);
}

#[test]
fn utf16_is_for_passive_level() {
    let machine = Machine::boot();
    let text = utf16("wide");
    let mut buffer = utf16("wide");
    let counted = UNICODE_STRING { Length: 8, MaximumLength: 10, Buffer: buffer.as_mut_ptr() };
    let check = |address: u64| {
        Err(BugCheck { code: IRQL_NOT_LESS_OR_EQUAL, parameters: [address, DISPATCH.into(), 0, 0] })
    };
    let print = |format: &std::ffi::CStr, argument: u64| {
        catch_bugcheck(|| at(DISPATCH, || kernel!(DbgPrint(format.as_ptr(), argument))))
    };
    let string = text.as_ptr().expose_provenance() as u64;
    let structure = std::ptr::from_ref(&counted).expose_provenance() as u64;
    for format in [c"%S\n", c"%ws\n", c"%ls\n"] {
        assert_eq!(print(format, string), check(string));
    }
    assert_eq!(print(c"%wZ\n", structure), check(structure));
    assert_eq!(print(c"%C\n", 65), check(0));
    machine.take_output();

    assert_eq!(print(c"%u\n", 65), Ok(0));
    assert_eq!(print(c"%s\n", c"narrow".as_ptr().expose_provenance() as u64), Ok(0));
    assert_eq!(machine.output(), ["65", "narrow"]);
}
