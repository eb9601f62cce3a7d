//! What is said, word for word, and that it reads back as what was meant.

use std::collections::BTreeMap;

use proptest::prelude::*;

mod desk;
use desk::{NON_PAGED, PAGED, allocate, free, tag, tracker};

/// This file, as the compiler was given it.
const FILE: &str = file!();

/// Puts records together again from lines in any order: the records by number, their lines joined where they
/// were cut. Panics where a line is missing.
fn records(lines: &[String]) -> BTreeMap<u64, Vec<String>> {
    let mut parts: BTreeMap<u64, BTreeMap<u64, &str>> = BTreeMap::new();
    for line in lines {
        let (_, mark) = line.rsplit_once(" #").expect(line);
        let (record, place) = mark.split_once('.').expect(line);
        let place = place.trim_end_matches('+').split('/').next().expect(line);
        let old =
            parts.entry(record.parse().expect(line)).or_default().insert(place.parse().expect(line), line);
        assert_eq!(old, None, "{line}");
    }
    parts.into_iter().map(|(record, parts)| (record, whole(&parts))).collect()
}

fn whole(parts: &BTreeMap<u64, &str>) -> Vec<String> {
    let count = parts.len() as u64;
    let mut lines: Vec<String> = Vec::new();
    let mut cut = false;
    for (expected, (place, line)) in (1..).zip(parts) {
        assert_eq!(*place, expected, "a line is missing before {line}");
        let (text, mark) = line.rsplit_once(" #").expect(line);
        assert_eq!(mark.ends_with(&format!("/{count}")), *place == count, "{line}");
        match text.strip_prefix("memtrack+ ") {
            Some(rest) => lines.last_mut().filter(|_| cut).expect("a rest comes after a cut").push_str(rest),
            None => lines.push(text.strip_prefix("memtrack: ").filter(|_| !cut).expect(line).to_owned()),
        }
        cut = mark.ends_with('+');
    }
    assert!(!cut);
    lines
}

/// What `%XX` stands for.
fn unescaped_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

fn unescaped(text: &str) -> String {
    String::from_utf8(unescaped_bytes(text)).unwrap()
}

/// The name in the first line of a report.
fn name_in(line: &str) -> &str {
    line.strip_prefix("report of ").and_then(|line| line.strip_suffix(" (format 2)")).expect(line)
}

#[test]
fn statistics_in_the_words_of_1998() {
    let tracker = tracker();
    allocate(&tracker, NON_PAGED, 127_383, 1, 0x1000);
    free(&tracker, 0x1000);
    allocate(&tracker, NON_PAGED, 63_838, 1, 0x1000);
    tracker.print_stats("Filemon");
    assert_eq!(
        tracker.platform().take_lines(),
        [
            "memtrack: Filemon Nonpaged Memory Usage: #1.1",
            "memtrack:    Current: 63838 bytes #1.2",
            "memtrack:    Max: 127383 bytes #1.3",
            "memtrack: Filemon Paged Memory Usage: #1.4",
            "memtrack:    Current: 0 bytes #1.5",
            "memtrack:    Max: 0 bytes #1.6/6",
        ]
    );
    tracker.finish("Filemon");
}

#[test]
fn a_report_and_a_leak_report() {
    let tracker = tracker();
    let fmon = u32::from_le_bytes(*b"Fmon");
    let first = line!() + 1;
    allocate(&tracker, NON_PAGED, 512, fmon, 0x1000);
    let second = line!() + 2;
    for block in 2..5_usize {
        allocate(&tracker, PAGED, 1000, u32::from_le_bytes(*b"F'\0%"), block * 0x1000);
    }
    free(&tracker, 0x4000);
    free(&tracker, 0x9000);
    tracker.report("File mon");
    assert_eq!(
        tracker.platform().take_lines(),
        [
            "memtrack: report of File mon (format 2) #1.1".to_owned(),
            format!(
                "memtrack: site 2 blocks 2000 bytes  {FILE}:{second}:9  ExAllocatePool2 'F%27%00%25' \
                 Paged  max 3 blocks 3000 bytes, total 3 blocks 3000 bytes #1.2"
            ),
            format!(
                "memtrack: site 1 block 512 bytes  {FILE}:{first}:5  ExAllocatePool2 'Fmon' NonPaged  \
                 max 1 block 512 bytes, total 1 block 512 bytes #1.3"
            ),
            "memtrack: outstanding 3 blocks 2512 bytes at 2 of 2 sites; NonPaged 1 block 512 bytes; Paged 2 blocks \
             2000 bytes #1.4"
                .to_owned(),
            "memtrack: also 1 foreign free #1.5/5".to_owned(),
        ]
    );
    free(&tracker, 0x2000);
    free(&tracker, 0x3000);
    tracker.finish("File mon");
    assert_eq!(
        tracker.platform().take_lines(),
        [
            "memtrack: leaks of File mon (format 2) #2.1".to_owned(),
            format!(
                "memtrack: leak 1 block 512 bytes  {FILE}:{first}:5  ExAllocatePool2 'Fmon' NonPaged \
                 #2.2"
            ),
            "memtrack: leaked 1 block 512 bytes at 1 of 2 sites; NonPaged 1 block 512 bytes; Paged 0 blocks 0 bytes \
             #2.3"
                .to_owned(),
            "memtrack: also 1 foreign free #2.4/4".to_owned(),
        ]
    );
    tracker.finish("Again");
    assert_eq!(
        tracker.platform().take_lines(),
        [
            "memtrack: leaks of Again (format 2) #3.1",
            "memtrack: no leak: 0 blocks 0 bytes at 0 of 0 sites; NonPaged 0 blocks 0 bytes; Paged 0 blocks 0 bytes \
             #3.2/2",
        ]
    );
}

#[test]
fn exhaustion_is_said_at_the_first_failure_and_at_each_doubling() {
    let tracker = tracker();
    allocate(&tracker, NON_PAGED, 100, tag(1).0, 0x1000);
    let line = line!() + 2;
    for _ in 0..1000 {
        allocate(&tracker, NON_PAGED, 65536, tag(2).0, 0);
    }
    let said = records(&tracker.platform().take_lines());
    assert_eq!(said.len(), 10, "1, 2, 4, … 512: {said:#?}");
    assert_eq!(
        said[&3],
        [format!(
            "exhausted 65536 bytes  {FILE}:{line}:9  ExAllocatePool2 'Caaa' NonPaged  refusal \
             4; outstanding NonPaged 1 block 100 bytes, Paged 0 blocks 0 bytes; most held 1 block 100 bytes  \
             {FILE}:{}:5  ExAllocatePool2 'Baaa' NonPaged",
            line - 3
        )]
    );
    allocate(&tracker, PAGED, usize::MAX, tag(2).0, 0);
    let lines = tracker.platform().take_lines();
    assert!(lines[0].starts_with("memtrack: exhausted 18446744073709551615 bytes  "), "{lines:#?}");
    assert!(lines[0].contains("; none held #"), "nothing in paged pool: {lines:#?}");
    assert_eq!(tracker.stats().failures, 1001);
    tracker.finish("Exhausted");
}

#[test]
fn exhaustion_is_said_though_the_tracker_has_no_memory_itself() {
    let tracker = tracker();
    tracker.platform().refuse_memory(true);
    for _ in 0..5 {
        allocate(&tracker, NON_PAGED, 65536, tag(2).0, 0);
    }
    let lines = tracker.platform().take_lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains(&format!("memtrack: exhausted 65536 bytes  {FILE}:")), "{lines:#?}");
    assert_eq!(tracker.stats().failures, 5);
    tracker.finish("Exhausted");
}

#[test]
fn a_name_of_ten_thousand_characters_arrives_whole() {
    let tracker = tracker();
    for name in ["x".repeat(10_000), "ß".repeat(10_000), "\n%\0\\\u{2028}".repeat(2_500), String::new()] {
        tracker.report(&name);
        let records = records(&tracker.platform().take_lines());
        let lines = records.values().next_back().unwrap();
        assert_eq!(unescaped(name_in(&lines[0])), name);
    }
    tracker.finish("Long");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_name_arrives_whole(name in ".{0,1200}", again in "\\PC*") {
        let tracker = tracker();
        tracker.print_stats(&name);
        tracker.report(&again);
        let records = records(&tracker.platform().take_lines());
        let said = records[&1][0].strip_suffix(" Nonpaged Memory Usage:").unwrap();
        prop_assert_eq!(unescaped(said), name);
        prop_assert_eq!(unescaped(name_in(&records[&2][0])), again);
        tracker.finish("Names");
    }

    #[test]
    fn sites_come_largest_first(blocks in prop::collection::vec((1..40_u32, 1..5000_usize), 0..300)) {
        let tracker = tracker();
        for (place, (site, bytes)) in blocks.iter().enumerate() {
            allocate(&tracker, NON_PAGED, *bytes, tag(*site).0, 0x10000 * (1 + place));
        }
        tracker.platform().take_lines();
        tracker.report("Order");
        let bytes: Vec<u64> = tracker
            .platform()
            .take_lines()
            .iter()
            .filter(|line| line.starts_with("memtrack: site"))
            .map(|line| line.split(' ').nth(4).unwrap().parse().unwrap())
            .collect();
        prop_assert_eq!(bytes.len(), tracker.sites().count());
        prop_assert!(bytes.is_sorted_by(|a, b| a >= b), "{bytes:?}");
        tracker.finish("Order");
    }
}

/// The expression that `docs/report-format.md` gives for lines that begin with `start`.
fn documented(start: &str) -> regex::Regex {
    let page = include_str!("../../docs/report-format.md");
    let expression = page.lines().map(str::trim).find(|line| line.starts_with(start)).expect(start);
    regex::Regex::new(expression).expect(expression)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_read_as_documented(tag in any::<[u8; 4]>(), bytes in prop::collection::vec(1..5000_usize, 1..20)) {
        let tracker = tracker();
        let line = line!() + 2;
        for (place, bytes) in bytes.iter().enumerate() {
            allocate(&tracker, PAGED, *bytes, u32::from_le_bytes(tag), 0x10000 * (1 + place));
        }
        free(&tracker, 0x10000);
        allocate(&tracker, PAGED, usize::MAX, u32::from_le_bytes(tag), 0);
        tracker.report("Read");
        tracker.finish("Read");
        let said = records(&tracker.platform().take_lines());
        let (left, left_bytes) = ((bytes.len() - 1).to_string(), bytes[1..].iter().sum::<usize>().to_string());

        let exhausted = documented("^exhausted").captures(&said[&1][0]).expect("a line about exhaustion");
        prop_assert_eq!(&exhausted[1], usize::MAX.to_string());
        prop_assert_eq!((&exhausted[2], &exhausted[5], &exhausted[7]), (FILE, "ExAllocatePool2", "Paged"));
        prop_assert_eq!(&exhausted[8], "1");
        prop_assert_eq!((&exhausted[11], &exhausted[12]), (left.as_str(), left_bytes.as_str()));
        if bytes.len() > 1 {
            prop_assert_eq!((&exhausted[14], &exhausted[15], &exhausted[16]), (&*left_bytes, FILE, &*line.to_string()));
        }

        let site = documented("^(site|leak)");
        let sites: Vec<_> = said[&2].iter().filter_map(|line| site.captures(line)).collect();
        prop_assert_eq!(sites.len(), 2, "the site of the loop and the one that was refused");
        let ours = sites.iter().find(|site| site[5] == line.to_string()).expect("the site of the loop");
        prop_assert_eq!((&ours[1], &ours[2], &ours[3]), ("site", left.as_str(), left_bytes.as_str()));
        prop_assert_eq!((&ours[4], &ours[6], &ours[7]), (FILE, "13", "ExAllocatePool2"));
        prop_assert_eq!(unescaped_bytes(&ours[8]), tag);
        prop_assert_eq!((&ours[12], &ours[13]), (&*bytes.len().to_string(), &*bytes.iter().sum::<usize>().to_string()));
        prop_assert!(sites.iter().any(|site| site.get(14).is_some_and(|refusals| refusals.as_str() == "1")));
        let leaks = said[&3].iter().filter_map(|line| site.captures(line)).filter(|line| &line[1] == "leak").count();
        prop_assert_eq!(leaks, usize::from(bytes.len() > 1));
    }
}
