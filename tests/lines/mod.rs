//! What memtrack says, as tests read it.
#![allow(unreachable_pub, reason = "shared by tests")]

use std::sync::LazyLock;

use memtrack_sim::Machine;
use regex::Regex;

/// What `memtrack` said, without the marks of its records. Every line of a violation reads as `docs/report-format.md`
/// says.
pub fn said(machine: &Machine) -> Vec<String> {
    let mut said = Vec::new();
    let mut heading = true;
    for line in machine.take_output() {
        let (text, mark) = line.strip_prefix("memtrack: ").expect(&line).rsplit_once(" #").expect(&line);
        let documented = if heading { &DOCUMENTED.0 } else { &DOCUMENTED.1 };
        let known = ["leak", "no leak", "also ", "exhausted "].iter().any(|start| text.starts_with(start));
        assert!(known || documented.iter().any(|expression| expression.is_match(text)), "{text}");
        heading = mark.contains('/');
        said.push(text.to_owned());
    }
    said
}

/// The expressions that the page gives for the first line of a violation, and for those after it.
static DOCUMENTED: LazyLock<(Vec<Regex>, Vec<Regex>)> = LazyLock::new(|| {
    let page = include_str!("../../docs/report-format.md");
    let of = |start| {
        let lines =
            page.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(start));
        let expressions: Vec<_> = lines.map(|line| Regex::new(line).expect(line)).collect();
        assert_eq!(expressions.len(), 2, "{start}");
        expressions
    };
    (of("^(?:("), of("^  "))
});

/// This place, as a report names it.
#[track_caller]
pub fn here() -> String {
    let here = std::panic::Location::caller();
    format!("{}:{}:", here.file(), here.line())
}

/// A line without the columns of its places, which the tests do not spell out.
pub fn without_columns(line: &str) -> String {
    let mut rest = line;
    let mut text = String::new();
    while let Some(place) = rest.find(".rs:") {
        let after = &rest[place + 4..];
        let line_digits = after.find(':').unwrap();
        let column = &after[line_digits + 1..];
        let column_digits = column.find(|c: char| !c.is_ascii_digit()).unwrap_or(column.len());
        text += &rest[..place + 4 + line_digits + 1];
        rest = &column[column_digits..];
    }
    text + rest
}
