//! Where the marks of a test's file stand.
#![allow(unreachable_pub, reason = "shared by tests")]

use std::collections::BTreeSet;

/// Lines and columns of what stands behind the marks in `source`.
pub fn marked(source: &str) -> BTreeSet<(usize, usize)> {
    let mark = concat!("/*", "@*/");
    // The first lines speak of marks.
    let code = source.find("#!").unwrap_or(0);
    let after = source.match_indices(mark).map(|(place, _)| place + mark.len()).filter(|place| *place > code);
    let calls = after.map(|place| source.len() - source[place..].trim_start().len());
    calls
        .map(|place| {
            let start = source[..place].rfind('\n').map_or(0, |end| end + 1);
            (source[..place].matches('\n').count() + 1, place - start + 1)
        })
        .collect()
}
