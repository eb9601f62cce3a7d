//! The README's first command, as a person would type it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn filemon(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--example", "filemon", "--"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A directory with so many files that are text and so many that are not.
fn directory(name: &str, text: usize, other: usize) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("inner")).unwrap();
    for file in 0..text {
        fs::write(directory.join(format!("text-{file}")), "one line\nand another\n").unwrap();
    }
    for file in 0..other {
        fs::write(directory.join("inner").join(format!("bytes-{file}")), [0xFF; 100]).unwrap();
    }
    directory
}

/// Where the driver allocates the block that it forgets.
fn mistake() -> String {
    let source = include_str!("../examples/filemon/driver.rs");
    let (line, text) =
        (1..).zip(source.lines()).find(|(_, text)| text.contains("irp.Length as u64, TEXT_TAG")).unwrap();
    let file = ["examples", "filemon", "driver.rs"].join(std::path::MAIN_SEPARATOR_STR);
    format!("{file}:{line}:{}", text.find("ExAllocatePool2").unwrap() + 1)
}

#[test]
fn the_leak_is_named_by_its_line() {
    let directory = directory("filemon-leak", 5, 3);
    let said = said(&filemon(&[directory.to_str().unwrap()]));
    let leaks: Vec<&str> = said.lines().filter(|line| line.contains("memtrack: leak ")).collect();
    let expected =
        format!("memtrack: leak 3 blocks 300 bytes  {}  ExAllocatePool2 'Ftxt' Paged #3.2", mistake());
    assert_eq!(leaks, [expected], "{said}");
    assert!(said.contains("filemon: 8 files, 24 requests, 3 of them refused"), "{said}");
    assert!(said.contains("memtrack: Filemon Nonpaged Memory Usage:"), "{said}");
    assert!(said.contains("memtrack: report of Filemon (format 2)"), "{said}");
    assert!(said.contains("ExInitializeNPagedLookasideList 'Flog' NonPaged  max "), "{said}");
    assert!(said.contains(", depth 4, cached "), "{said}");
}

#[test]
fn mended_it_leaks_nothing() {
    let directory = directory("filemon-fixed", 5, 3);
    let said = said(&filemon(&["--fixed", directory.to_str().unwrap()]));
    assert!(!said.contains("memtrack: leak "), "{said}");
    assert!(said.contains("memtrack: no leak: 0 blocks 0 bytes at 0 of 3 sites"), "{said}");
}

/// Where `text` first stands in the function `name` of the example's bugs, as reports write it.
fn bug(name: &str, text: &str, nth: usize) -> String {
    let source = include_str!("../examples/filemon/bugs.rs");
    let start = source.find(&format!("unsafe fn {name}(")).expect(name);
    let place = start + source[start..].match_indices(text).nth(nth).expect(text).0;
    let line = source[..place].matches('\n').count() + 1;
    let column = place - source[..place].rfind('\n').unwrap();
    let file = ["examples", "filemon", "bugs.rs"].join(std::path::MAIN_SEPARATOR_STR);
    format!("{file}:{line}:{column}")
}

#[test]
fn every_bug_is_named_with_its_lines() {
    let directory = directory("filemon-bugs", 2, 0);
    let said = said(&filemon(&["--fixed", "--bugs", directory.to_str().unwrap()]));
    let lines: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("memtrack: ")?.rsplit_once(" #"))
        .map(|(text, _)| text)
        .collect();
    let free = |name, nth| bug(name, "ExFreePoolWithTag", nth);
    let site = |name| format!("{}  ExAllocatePool2 'Fbug' NonPaged", bug(name, "allocate", 0));
    let paged = bug("paged_at_dispatch_level", "ExAllocatePool2", 0);
    let expected = [
        format!("overrun 1 byte right of a 44-byte block  {}", site("overrun")),
        format!("  caught at {} ExFreePoolWithTag; bytes +44: 00 (expected BC)", free("overrun", 0)),
        format!("underrun 1 byte left of a 8-byte block  {}", site("underrun")),
        format!("  caught at {} ExFreePoolWithTag; bytes -1: 5C (expected BF)", free("underrun", 0)),
        format!("double free of a 120-byte block  {}", site("double_free")),
        format!("  freed at {} ExFreePoolWithTag", free("double_free", 0)),
        format!("  freed again at {} ExFreePoolWithTag; not passed on", free("double_free", 1)),
        format!("write after free at +8 of a 48-byte block  {}", site("write_after_free")),
        format!("  freed at {} ExFreePoolWithTag", free("write_after_free", 0)),
        "  caught by check; bytes +8: 00 00 00 00 00 00 00 00 (expected DF DF DF DF DF DF DF DF)".to_owned(),
        format!("wrong tag 'gubF' for a 64-byte block  {}", site("wrong_tag")),
        format!("  freed at {} ExFreePoolWithTag; freed with its own tag", free("wrong_tag", 0)),
        format!("paged request of 96 bytes at IRQL 2  {paged}  ExAllocatePool2 'Fbug' Paged"),
        format!("  asked at {paged} ExAllocatePool2; given nonpaged pool instead"),
    ];
    assert_eq!(lines[..expected.len()], expected, "{said}");
    assert!(said.contains("memtrack: no leak: 0 blocks 0 bytes at"), "{said}");
    assert_eq!(lines.last(), Some(&"also 6 violations"));
}

#[test]
fn this_repository_shows_the_mistake() {
    let said = said(&filemon(&[]));
    assert!(said.contains(&format!("  {}  ExAllocatePool2 'Ftxt' Paged", mistake())), "{said}");
}

#[test]
fn what_cannot_be_walked_is_refused() {
    for (arguments, says) in [
        (["--fxed"].as_slice(), "there is no option --fxed"),
        (&["no/such/directory"], "cannot walk no/such/directory"),
        (&[".", "."], "one directory is enough"),
    ] {
        let output = filemon(arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says), "{said}");
    }
}
