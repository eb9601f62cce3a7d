//! `instrument_items!`: a driver's file of its own, under strict lints and without a new warning, each call recorded at
//! its own line and column. `/*@*/` stands before each that is; with memtrack off nothing is.
#![deny(warnings, unsafe_op_in_unsafe_fn, unused_unsafe, clippy::all, clippy::pedantic)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::cast_possible_truncation, clippy::must_use_candidate)]
#![allow(unreachable_pub, missing_docs, reason = "the driver's file stands as it would in a driver")]

use memtrack_sim::Machine;

#[path = "files/device.rs"]
mod device;

/// Lines and columns of the marks in the driver's file.
fn marked() -> Vec<(u32, u32)> {
    let source = include_str!("files/device.rs");
    let mark = "/*@*/";
    let place = |(start, _): (usize, &str)| {
        let before = &source[..start + mark.len()];
        let line = before.matches('\n').count() as u32 + 1;
        (line, (before.len() - before.rfind('\n').unwrap()) as u32)
    };
    source.match_indices(mark).map(place).collect()
}

#[test]
fn every_call_in_the_file_is_recorded_at_its_place() {
    let machine = Machine::boot();
    device::others();
    let buffer = device::small().expect("the simulated kernel has memory");
    let is_off = cfg!(any(feature = "off", all(feature = "release_off", not(debug_assertions))));
    if is_off {
        assert_eq!(memtrack::sites().count(), 0);
        return drop(buffer);
    }
    let mut places: Vec<_> = memtrack::sites().map(|site| (site.line, site.column)).collect();
    places.sort_unstable();
    assert_eq!(places, marked());
    assert!(memtrack::sites().all(|site| site.file.ends_with("device.rs")));
    assert_eq!((memtrack::stats().paged.curr_bytes, memtrack::stats().foreign_frees), (61, 1));
    // The file's guard is on both sides, the one function's is none.
    unsafe { buffer.start().sub(1).write(0) };
    drop(buffer);
    device::unload();
    let said = machine.output().join("\n");
    assert!(said.contains("memtrack: underrun 1 byte left of a 61-byte block  "), "{said}");
    assert!(said.contains("memtrack: leaks of Device "), "{said}");
}
