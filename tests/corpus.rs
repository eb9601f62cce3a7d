//! Files in the styles of real drivers: each compiles under strict lints without a new warning, and exactly its calls are
//! recorded, each at its own line and column. The package `tests/corpus-2021` compiles the same in edition 2021.
//!
//! In a file, `/*@*/` stands before each allocation that is recorded: the next thing after it is the site. With memtrack
//! off, the files run and nothing is recorded.
#![deny(warnings, unsafe_op_in_unsafe_fn, unused_unsafe, clippy::all, clippy::pedantic)]
#![allow(
    missing_docs,
    clippy::undocumented_unsafe_blocks,
    reason = "the files stand as they would in a driver"
)]

use std::collections::BTreeSet;
use std::fmt::Debug;

use memtrack_sim::Machine;

#[path = "corpus/host.rs"]
mod host;

#[path = "corpus"]
mod files {
    pub mod addresses;
    pub mod allocator_trait;
    pub mod assertions;
    pub mod async_const;
    pub mod byte_pointers;
    pub mod cfg_arms;
    pub mod class_macros;
    pub mod closures;
    pub mod driver_macros;
    pub mod entry_unload;
    pub mod extended;
    pub mod extern_c;
    pub mod extern_system;
    pub mod function_table;
    pub mod global_alloc;
    pub mod guards;
    pub mod inferred_arguments;
    pub mod inline_functions;
    pub mod kernel_object;
    pub mod km_api_sys_names;
    pub mod labelled;
    pub mod lazy_link;
    pub mod linked_list;
    pub mod lookaside;
    pub mod nested_modules;
    pub mod old_unsafe_fns;
    pub mod option_results;
    pub mod pool_types;
    pub mod quotas;
    pub mod raii_generic;
    pub mod realloc;
    pub mod ref_counted;
    pub mod registry_values;
    pub mod resolved_routines;
    pub mod safe_wrappers;
    pub mod skipped;
    pub mod small_numbers;
    pub mod statement_blocks;
    pub mod track_caller;
    pub mod trait_defaults;
    pub mod trap_names;
    pub mod unicode_string;
    pub mod unions;
    pub mod wdk_sys_names;
    pub mod windows_sys_names;
    pub mod wrapper_option;
}

/// What is known when a file has been driven.
#[derive(Clone, Copy)]
struct Expected {
    /// Blocks outstanding.
    live: u64,
    /// Frees of blocks that were recorded.
    frees: u64,
    /// Frees of others.
    foreign: u64,
    unrecorded: u64,
    violations: u64,
    /// Blocks that the mock kernel has beside the live ones.
    left: u64,
    /// What memtrack says.
    says: &'static [&'static str],
}

impl Expected {
    const NOTHING: Self =
        Self { live: 0, frees: 0, foreign: 0, unrecorded: 0, violations: 0, left: 0, says: &[] };
}

macro_rules! corpus {
    ($($file:ident { $($field:ident: $value:expr),* })*) => {$(
        #[test]
        fn $file() {
            let source = include_str!(concat!("corpus/", stringify!($file), ".rs"));
            let expected = Expected { $($field: $value,)* ..Expected::NOTHING };
            run(concat!(stringify!($file), ".rs"), source, files::$file::drive, &expected);
        }
    )*};
}

corpus! {
    addresses { live: 1, frees: 3 }
    allocator_trait { live: 1, frees: 3 }
    assertions { live: 2, frees: 2 }
    async_const { live: 1, frees: 5 }
    byte_pointers { live: 1, frees: 4 }
    cfg_arms { live: 1, frees: 2 }
    class_macros { live: 1, frees: 2 }
    closures { live: 1, frees: 5 }
    driver_macros { live: 2, frees: 2 }
    entry_unload { live: 3, frees: 1, left: 1, says: &["leaked 1 block 77 bytes at 1 of 3 sites"] }
    extended { live: 3, frees: 3 }
    extern_c { live: 1, frees: 2 }
    extern_system { live: 2, frees: 4 }
    function_table { live: 1, frees: 2 }
    global_alloc { live: 1, frees: 3 }
    guards { live: 1, frees: 2, violations: 1, says: &["underrun 1 byte left of a 11-byte block"] }
    inferred_arguments { live: 1, frees: 2 }
    inline_functions { live: 1, frees: 3 }
    kernel_object { live: 1, frees: 2 }
    km_api_sys_names { live: 1, frees: 1 }
    labelled { live: 2, frees: 6 }
    lazy_link { live: 1, frees: 3 }
    linked_list { live: 1, frees: 7 }
    lookaside { live: 1, frees: 3 }
    nested_modules { live: 1, frees: 4 }
    old_unsafe_fns { live: 1, frees: 5 }
    option_results { live: 3, frees: 2, foreign: 1, unrecorded: 2 }
    pool_types { live: 2, frees: 3, says: &["NonPaged 1 block 32 bytes; Paged 1 block 64 bytes"] }
    quotas { live: 1, frees: 5 }
    raii_generic { live: 2, frees: 4 }
    realloc { live: 1, frees: 4 }
    ref_counted { live: 1, frees: 5 }
    registry_values { live: 1, frees: 5 }
    resolved_routines { live: 1, frees: 3 }
    safe_wrappers { live: 2, frees: 3 }
    skipped { live: 1, frees: 2, foreign: 1 }
    small_numbers { live: 2, frees: 2 }
    statement_blocks { live: 1, frees: 7 }
    track_caller { live: 1, frees: 3 }
    trait_defaults { live: 1, frees: 6 }
    trap_names { live: 1, frees: 2 }
    unicode_string { live: 1, frees: 2 }
    unions { live: 1, frees: 2 }
    wdk_sys_names { live: 3, frees: 6 }
    windows_sys_names { live: 1, frees: 2 }
    wrapper_option { live: 1, frees: 1 }
}

/// Where the marks say that an allocation stands: at the next thing after each.
fn marked(source: &str) -> BTreeSet<(usize, usize)> {
    let mark = "/*@*/";
    let after = source.match_indices(mark).map(|(place, _)| &source[place + mark.len()..]);
    let before = after.map(|rest| &source[..source.len() - rest.trim_start().len()]);
    before
        .map(|before| {
            (before.matches('\n').count() + 1, before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1)
        })
        .collect()
}

/// Boots a machine, drives the file, and compares.
fn run(file: &str, source: &str, drive: fn(), expected: &Expected) {
    let machine = Machine::boot();
    host::begin();
    drive();
    memtrack::check();
    let stats = memtrack::stats();
    let sites: Vec<_> = memtrack::sites().collect();
    let at_the_end = memtrack::finish(file);

    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: &dyn Debug, found: &dyn Debug| {
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        if expected != found {
            wrong.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    let left = expected.live + expected.left;
    compare("blocks that the kernel has", &left, &host::blocks());
    if cfg!(any(feature = "off", all(feature = "release_off", not(debug_assertions)))) {
        compare("sites", &0, &sites.len());
        compare("stats", &memtrack::Stats::default(), &stats);
        compare("stats at the end", &memtrack::Stats::default(), &at_the_end);
        compare("lines", &0, &machine.output().len());
    } else {
        let marked = marked(source);
        let found: BTreeSet<_> =
            sites.iter().map(|site| (site.line as usize, site.column as usize)).collect();
        let elsewhere: Vec<_> = sites.iter().filter(|site| !site.file.ends_with(file)).collect();
        let none = BTreeSet::<(usize, usize)>::new();
        compare("marks without a site", &none, &marked.difference(&found).collect::<BTreeSet<_>>());
        compare("sites without a mark", &none, &found.difference(&marked).collect::<BTreeSet<_>>());
        compare("sites in other files", &[(); 0], &elsewhere);
        let total = stats.nonpaged.total_blocks + stats.paged.total_blocks;
        compare("live blocks", &expected.live, &stats.curr_blocks());
        compare("frees", &expected.frees, &(total - stats.curr_blocks() - stats.vanished_blocks));
        compare("vanished blocks", &0, &stats.vanished_blocks);
        compare("foreign frees", &expected.foreign, &stats.foreign_frees);
        compare("unrecorded blocks", &expected.unrecorded, &stats.unrecorded_blocks);
        compare("violations", &expected.violations, &at_the_end.violations);
        compare("leaks", &expected.live, &at_the_end.curr_blocks());
        let output = machine.output().join("\n");
        for words in expected.says {
            compare(words, &true, &output.contains(words));
        }
    }
    let sites = sites.iter().map(|site| format!("{}:{} {}", site.line, site.column, site.function));
    let [wrong, sites, said] = [wrong, sites.collect(), machine.output()].map(|lines| lines.join("\n  "));
    assert!(wrong.is_empty(), "{file}:\n  {wrong}\nsites:\n  {sites}\noutput:\n  {said}");
}
