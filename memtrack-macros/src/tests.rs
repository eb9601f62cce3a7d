//! Expansions, in process: whole ones against snapshots, and what is rewritten and what is not.

use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::quote;

use crate::{catalog, expand, fallback, record};

mod every_source;

fn tokens(source: &str) -> TokenStream {
    TokenStream::from_str(source).unwrap_or_else(|error| panic!("{error}: {source}"))
}

fn on(options: &str, item: &str) -> TokenStream {
    expand::on(tokens(options), tokens(item))
}

fn pretty(tokens: TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).expect("an expansion parses"))
}

/// The tokens one by one, without their spacing, which a parser does not keep.
fn flat(tokens: TokenStream) -> Vec<String> {
    let flat = |token| match token {
        TokenTree::Group(group) => {
            let open = format!("{:?}", group.delimiter());
            [vec![open.clone()], flat(group.stream()), vec![open]].concat()
        }
        token => vec![token.to_string()],
    };
    tokens.into_iter().flat_map(flat).collect()
}

/// The names of the pool functions that the expansion of `item` tracks, in order.
fn tracked(item: &str) -> Vec<String> {
    let text = on("", item).to_string();
    assert!(!text.contains("compile_error"), "{text}");
    let mut found = Vec::new();
    for (place, _) in text.match_indices(":: __private :: ") {
        let rest = &text[place + ":: __private :: ".len()..];
        if let Some(function) = rest.strip_prefix("Function :: ") {
            found.push(function.split(' ').next().unwrap_or_default().to_owned());
        }
    }
    found
}

fn error_of(options: &str, item: &str) -> String {
    let text = on(options, item).to_string();
    let message = text.split("compile_error ! {").nth(1).unwrap_or_else(|| panic!("no error: {text}"));
    assert_eq!(text.matches("compile_error").count(), 1, "one mistake, one error: {text}");
    let off = expand::off(tokens(options), tokens(item)).to_string();
    assert_eq!(off, text, "the same mistake, the same words");
    message.trim().trim_end_matches(['}', ' ']).trim_matches('"').replace("\\\"", "\"")
}

#[test]
fn an_allocation() {
    let item = "unsafe fn f() { let p: *mut u8 = ntddk::ExAllocatePool2(FLAGS, len as _, TAG).cast(); }";
    insta::assert_snapshot!(pretty(on("", item)));
}

#[test]
fn an_allocation_without_a_tag() {
    insta::assert_snapshot!(pretty(on("", "fn f() { ExAllocatePoolWithQuota(1, 2) }")));
}

#[test]
fn a_free() {
    insta::assert_snapshot!(pretty(on("", "unsafe fn f() { ExFreePoolWithTag(p.cast(), TAG); }")));
}

#[test]
fn a_module_with_a_renamed_memtrack() {
    let item = "pub mod driver { use wdk_sys::ntddk::ExFreePool as free; fn f() { unsafe { free(p) } } }";
    insta::assert_snapshot!(pretty(on("crate = crate::tools::mt", item)));
}

/// The guards that the expansion of `item` chooses, in order.
fn guards(options: &str, item: &str) -> Vec<String> {
    let text = on(options, item).to_string();
    let chosen = |rest: &str| {
        let some = rest.strip_prefix("Some (:: memtrack :: __private :: Guard :: ")?;
        Some(some.split(')').next()?.trim().to_owned())
    };
    text.split(":: core :: option :: Option :: ")
        .skip(1)
        .map(|rest| chosen(rest).unwrap_or_else(|| "driver's".to_owned()))
        .collect()
}

#[test]
fn the_innermost_attribute_chooses_the_guard() {
    let item = "mod m {
        fn a() { ExAllocatePool(a, b) }
        #[memtrack::instrument(guard = \"full\")] impl S {
            fn b() { ExAllocatePool(a, b) }
            #[memtrack::instrument(guard = \"none\")] fn c() { ExAllocatePool(a, b) }
            #[memtrack::instrument] fn d() { ExAllocatePool(a, b) }
        }
        fn e() { ExAllocatePool(a, b) }
    }";
    assert_eq!(guards("", item), ["driver's", "Full", "None", "Full", "driver's"]);
    assert_eq!(guards("guard = \"tail\"", item), ["Tail", "Full", "None", "Full", "Tail"]);
    assert_eq!(guards("guard = \"full\"", "fn f() { ExAllocatePool(a, b) }"), ["Full"]);
}

#[test]
fn an_unload_routine() {
    let item = "extern \"C\" fn unload(_: *mut D) { if early { return; } drop(x) }";
    insta::assert_snapshot!(pretty(on("finish = \"Filemon\"", item)));
}

#[test]
fn an_unload_routine_with_a_result() {
    insta::assert_snapshot!(pretty(on("finish = \"F\"", "fn stop() -> Result<(), E> { step()?; Ok(()) }")));
}

#[test]
fn an_unload_routine_whose_result_has_no_name() {
    for result in ["!", "impl Iterator<Item = u8>", "status!()", "Option<never!()>"] {
        let text = on("finish = \"F\"", &format!("fn stop() -> {result} {{ body() }}")).to_string();
        assert!(!text.contains("__memtrack_result"), "{text}");
        assert!(text.contains("Finish :: new (\"F\") ; body ()"), "{text}");
    }
}

#[test]
fn every_function_of_the_catalog_is_rewritten() {
    for function in catalog::FUNCTIONS {
        let arguments = vec!["x"; function.arguments].join(", ");
        for path in ["", "ntddk::", "wdk_sys::ntddk::", "self::", "super::", "::a::b::"] {
            let call = format!("fn f() {{ {path}{}({arguments}); }}", function.name);
            assert_eq!(tracked(&call), [function.name], "{call}");
        }
    }
}

#[test]
fn what_only_looks_like_a_pool_call_stays() {
    for item in [
        "fn f() { ExAllocatePoolFailed(a, b, c) }",
        "fn f() { exallocatepool2(a, b, c) }",
        "fn f() { ExAllocatePool2(a, b) }",
        "fn f() { let g = ExAllocatePool2; }",
        "fn f() { g(ExFreePool) }",
        "fn f() { x.ExFreePool(p) }",
        "fn f() { stringify!(ExFreePool(p)); concat!(ExFreePool(p)); m!(stringify!(ExFreePool(p))); }",
        "fn f() { m!(fn ExFreePool(p: P)); m!(x.ExFreePool(p)); m!($ExFreePool(p)); m!(ExFreePool(p, q)); }",
        "fn f() { asm!(\"\", ExFreePool(p)); ::quote::quote!(ExFreePool(p)); memtrack::record_free!(F, ExFreePool(p)); }",
        "mod m { memtrack::instrument_items! { fn f() { ExFreePool(p) } } }",
        "mod m { macro_rules! m { ($a:ident) => { fn ExFreePool($a: P) {} stringify!(ExFreePool($a)) } } }",
        "const fn f() { m!(ExFreePool(p)) }",
        "fn f() { (self.ExFreePool)(p, q); (x.y)(p) }",
        "fn f() { let mut ExFreePool = |p| { n += 1; }; ExFreePool(p) }",
        "fn f<F: FnOnce(P)>(ExFreePool: F, p: P) { ExFreePool(p) }",
        "fn f(ExFreePool: &mut impl FnMut(P), p: P) { ExFreePool(p) }",
        "fn f(ExFreePool: &mut dyn FnMut(P), p: P) { ExFreePool(p) }",
        "mod m { extern \"C\" { fn ExFreePool(p: P); } }",
        "mod m { use a::ExFreePool; pub use b::*; }",
        "mod m { type ExAllocatePool = u8; }",
        "mod m { struct ExFreePool(u8); fn f() { ExFreePool(1); } }",
        "mod m { enum E { ExFreePool(u8) } fn f() { E::ExFreePool(1); } }",
        "mod m { fn ExFreePool(p: P) { ntddk::ExFreePool(p) } }",
        "impl M { fn ExFreePool(p: P) { ntddk::ExFreePool(p) } }",
        "const fn f() { ExFreePool(p) }",
        "mod m { const X: P = ExAllocatePool2(a, b, c); static Y: P = ExAllocatePool2(a, b, c); }",
        "fn f() { let x = [0; ExAllocatePool(a, b)]; const { ExFreePool(p) } }",
    ] {
        assert_eq!(flat(on("", item)), flat(tokens(item)));
    }
}

#[test]
fn a_wrapper_of_a_kernels_name_is_tracked_where_it_is_called() {
    let wrapper = "mod m { fn ExFreePool(p: P) { ntddk::ExFreePool(p) } fn f() { ExFreePool(p); self::ExFreePool(p) } }";
    assert_eq!(tracked(wrapper), ["ExFreePool", "ExFreePool"]);
    let other = "mod m { fn ExFreePool() { ntddk::ExFreePool(p) } fn f() { ExFreePool() } }";
    assert_eq!(tracked(other), ["ExFreePool"], "another function of that name");
    let method = "mod m { impl K { fn ExFreePoolWithTag(&self, p: P) { ntddk::ExFreePool(p) } } \
                  fn f() { K::ExFreePoolWithTag(&k, p) } }";
    assert_eq!(tracked(method), ["ExFreePool"], "a method, called by its path");
    assert_eq!(
        tracked("impl K { fn ExFreePool(&self, p: P) { ntddk::ExFreePool(p) } }"),
        ["ExFreePool"],
        "a method"
    );
}

#[test]
fn calls_are_found_wherever_code_runs() {
    for item in [
        "fn f() { (ExFreePool)(p) }",
        "fn f() -> P { ExFreePool(p) }",
        "fn f() { let _ = || ExFreePool(p); }",
        "fn f() { if ExFreePool(p) {} }",
        "fn f() { match x { _ if ExFreePool(p) => {} _ => {} } }",
        "fn f() { async { ExFreePool(p) } }",
        "fn f() { for x in ExFreePool(p) {} }",
        "fn f() { let Some(x) = ExFreePool(p) else { return }; }",
        "fn f() { S { field: ExFreePool(p) } }",
        "fn f() { fn g() { ExFreePool(p) } }",
        "fn f() { <K as Pool>::ExFreePool(p) }",
        "fn f() { K::<T>::ExFreePool::<u8>(p) }",
        "fn f() { x = ExFreePool(p) }",
        "fn f() { #[cfg(a)] ExFreePool(p); }",
        "mod m { static X: L = L::new(|| ExFreePool(p)); }",
        "mod m { mod n { fn f() { ExFreePool(p) } } }",
        "mod m { impl T for S { fn f() { ExFreePool(p) } } }",
        "trait T { fn g(); fn f() { ExFreePool(p) } }",
        "impl S { const F: fn() = || ExFreePool(p); }",
        "fn f(&mut self) { ExFreePool(p) }",
        "fn f() { [ExFreePool(p); 2] }",
        "const fn f() { || ExFreePool(p) }",
        "fn f() { r#ExFreePool(p) }",
        "fn f() { (self.ExFreePool)(p) }",
        "fn f() { (table(x).inner.ExFreePool)(p) }",
        "fn f() { ntddk::r#ExFreePool(p) }",
    ] {
        assert_eq!(tracked(item), ["ExFreePool"], "{item}");
    }
    assert_eq!(tracked("fn f() { ExFreePool(ExAllocatePool(a, b)) }"), ["ExFreePool", "ExAllocatePool"]);
}

/// How many calls the expansion of `item` warns of.
fn missed(item: &str) -> usize {
    on("", item).to_string().matches("untracked_pool_call ;").count()
        + on("", item).to_string().matches("untracked_pool_call }").count()
}

/// What a macro is given becomes this.
const RECORDED: &str = "::memtrack::record_free!(ExFreePool, ExFreePool(p))";

#[test]
fn calls_in_macro_calls_are_recorded_where_the_tokens_read_as_code() {
    for call in [
        "m!(ExFreePool(p));",
        "m!(a, ExFreePool(p), b = c);",
        "m![ExFreePool(p); 3];",
        "m! { let x = ExFreePool(p); x }",
        "m!(|x| { ExFreePool(p) });",
        "m!(n!(x, [ExFreePool(p)]));",
        "matches!(ExFreePool(p), A | B if c);",
        "matches!(x, y if ExFreePool(p));",
        "assert_matches!(ExFreePool(p), Some(_), \"{}\", x);",
        "cfg_if! { if #[cfg(a)] { ExFreePool(p); } else { x } }",
        "select! { a = b => { m!(c => { ExFreePool(p) }) } }",
        "assert!(x, \"{}\", ExFreePool(p));",
        "assert_eq!(ExFreePool(p), q);",
        "println!(\"{}\", unsafe { ExFreePool(p) });",
        "m!(unsafe { ExFreePool(p) }, x);",
    ] {
        let item = format!("fn f() {{ {call} }}");
        let expected = item.replace("ExFreePool(p)", RECORDED);
        assert_eq!(flat(on("", &item)), flat(tokens(&expected)), "{item}");
    }
    let items = "mod m { thread_local! { static X: L = { ExFreePool(p) }; } impl S { m! { fn g() { ExFreePool(p) } } } }";
    assert_eq!(flat(on("", items)), flat(tokens(&items.replace("ExFreePool(p)", RECORDED))));
    let field = "fn f() { m!((self.ExFreePool)(p)) }";
    let expected = "fn f() { m!(::memtrack::record_free!(ExFreePool, (self.ExFreePool)(p))) }";
    assert_eq!(flat(on("", field)), flat(tokens(expected)));
    let renamed = "mod m { use a::ExFreePool as free; fn f() { m!(free(p)); let free = 1; m!(free(p)); } }";
    let expected = "::memtrack::record_free!(ExFreePool, free(p))";
    assert_eq!(flat(on("", renamed)), flat(tokens(&renamed.replacen("free(p)", expected, 1))));
    let text = on("crate = crate::mt, guard = \"full\"", "fn f() { m!(ExAllocatePool(a, b)) }").to_string();
    let expected =
        "crate::mt::record_alloc!(ExAllocatePool, ExAllocatePool(a, b), guard = \"full\", crate = crate::mt)";
    assert!(text.contains(&tokens(expected).to_string()), "{text}");
}

#[test]
fn an_assertion_says_what_the_driver_wrote() {
    let text = on("", "fn f() { assert!(ExFreePool(p)); debug_assert!(!ExFreePool(p),); }").to_string();
    assert_eq!(text.matches(", \"assertion failed: {}\" , \"").count(), 2, "{text}");
}

#[test]
fn macros_of_the_drivers_own_record_what_they_make() {
    for made in [
        "{ ExFreePool(p) }",
        "{ a; $x.y({ ExFreePool(p) }) }",
        "{ $($x(ExFreePool(p)));* }",
        "{ fn ExFreePool2() {} ExFreePool(p) }",
    ] {
        let item = format!("mod m {{ macro_rules! free {{ ($x:expr) => {made}; () => {{}} }} }}");
        assert_eq!(flat(on("", &item)), flat(tokens(&item.replace("ExFreePool(p)", RECORDED))), "{item}");
    }
    for (call, recorded) in [
        ("$crate::k::ExFreePool($x)", "ExFreePool"),
        ("::k::ExFreePool::<u8>($x,)", "ExFreePool"),
        ("<K as Pool<u8>>::ExFreePool($x)", "ExFreePool"),
    ] {
        let item = format!("fn f() {{ macro_rules! free {{ ($x:expr) => {{ {call} }} }} }}");
        let expected = item.replace(call, &format!("::memtrack::record_free!({recorded}, {call})"));
        assert_eq!(flat(on("", &item)), flat(tokens(&expected)), "{item}");
    }
    let skipped =
        "fn f() { macro_rules! m { () => { #[memtrack::skip] let x = ExFreePool(p); ExFreePool(p) } } }";
    let expected = "fn f() { macro_rules! m { () => { let x = ExFreePool(p); RECORDED } } }"
        .replace("RECORDED", RECORDED);
    assert_eq!(flat(on("", skipped)), flat(tokens(&expected)));
    assert_eq!(missed(skipped), 0);
}

#[test]
fn what_cannot_be_rewritten_is_warned_of() {
    for (item, calls) in [
        ("fn f() { m!(ExFreePool(p) => x); }", 1),
        ("fn f() { m!(a: ExFreePool(p), b: [ExFreePool(q)]); { m!(ExFreePool(p) => x); } }", 3),
        ("mod m { macro_rules! m { ($f:ident($x:expr)) => { $f($x) } } fn f() { m!(ExFreePool(p)); } }", 1),
        ("mod m { macro_rules! m { ($($f:ident)::+($x:expr)) => {} } fn f() { m!(ExFreePool(p)); } }", 1),
        ("mod m { macro_rules! m { (ExFreePool $x:tt) => {} } fn f() { m!(ExFreePool(p)); } }", 1),
        ("mod m { macro_rules! m { ($($x:tt),*) => { ExFreePool($($x),*) } } }", 1),
        ("mod m { #[macro_export] macro_rules! m { () => { ExFreePool(p) } } }", 1),
        ("mod m { m!(ExFreePool(p) => x); }", 1),
        ("impl S { m!(ExFreePool(p) => x); }", 1),
        ("fn f() { #[memtrack::skip] m!(ExFreePool(p) => x); }", 0),
        ("mod m { #[memtrack::skip] m!(ExFreePool(p) => x); }", 0),
        ("impl S { #[memtrack::skip] m!(ExFreePool(p) => x); }", 0),
        ("fn f() { m!(ExFreePool(p)); }", 0),
        ("fn f() { m!(ExFreePoolX(p) => x); }", 0),
    ] {
        assert_eq!(missed(item), calls, "{item}");
    }
}

#[test]
fn a_warning_stands_outside_of_the_macro_that_it_is_about() {
    let text = on("", "fn f() { thread_local! { static X: L = m!(ExFreePool(p) => x); } }").to_string();
    assert!(text.starts_with("fn f () { const _"), "{text}");
    assert!(text.ends_with("thread_local ! { static X : L = m ! (ExFreePool (p) => x) ; } }"), "{text}");
}

#[test]
fn what_is_memtracks_own_is_tracked_already() {
    for item in [
        "fn f() { memtrack::ntddk::ExFreePool(p) }",
        "fn f() { ::memtrack::ntddk::ExFreePool(p) }",
        "fn f() { use memtrack::ntddk; ntddk::ExFreePool(p) }",
        "fn f() { use memtrack::ntddk::*; ExFreePool(p) }",
        "fn f() { use memtrack::ntddk::ExFreePool as free; free(p) }",
        "mod m { use memtrack::ntddk::ExFreePool; fn f() { ExFreePool(p); m!(ExFreePool(p)) } }",
        "mod m { use memtrack::ntddk as k; mod n { use super::k; fn f() { k::ExFreePool(p) } } }",
        "mod m { mod n { pub use memtrack::ntddk::*; } use n::ExFreePool as free; fn f() { free(p); n::ExFreePool(p) } }",
        "mod m { #[memtrack::instrument] use wdk_sys::ntddk::ExFreePool; fn f() { ExFreePool(p) } }",
        "mod m { #[memtrack::instrument] use wdk_sys::{ntddk::{self, *}, P}; fn f() { ExFreePool(p); ntddk::ExFreePool(p) } }",
        "fn f() { #[memtrack::instrument] use a::{ntddk as n, ExFreePool as free}; n::ExFreePool(p); free(p) }",
    ] {
        assert_eq!(flat(on("", item)), flat(tokens(item)), "{item}");
    }
    assert_eq!(tracked("mod m { use a::ntddk; fn f() { ntddk::ExFreePool(p) } }"), ["ExFreePool"]);
}

#[test]
fn an_annotated_use() {
    let item = "pub use wdk_sys::{ntddk::{ExAllocatePool2, ExFreePool as free, DbgPrint}, PVOID};";
    insta::assert_snapshot!(pretty(on("", item)));
    insta::assert_snapshot!(pretty(on(
        "crate = ::mt, guard = \"full\"",
        "#[cfg(x)] use ::wdk_sys::ntddk::*;"
    )));
}

#[test]
fn a_wrapper_has_its_callers_lines() {
    for item in
        ["fn f() {}", "#[track_caller] fn f() {}", "unsafe fn f(&self) {}", "extern \"Rust\" fn f() {}"]
    {
        let text = on("wrapper", item).to_string();
        assert_eq!(text.matches("# [track_caller]").count(), 1, "{text}");
        let off = expand::off(tokens("wrapper"), tokens(item)).to_string();
        assert_eq!(off, tokens(item).to_string(), "off is gone");
    }
    let inside = on("", "mod m { #[memtrack::instrument(wrapper)] fn f() {} fn g() {} }").to_string();
    assert_eq!(inside.matches("# [track_caller]").count(), 1, "{inside}");
}

/// What `record_free!` makes of its tokens, on and off.
fn recorded(source: &str) -> (String, String) {
    let of = |make: fn(catalog::Recorder, TokenStream) -> TokenStream| {
        make(catalog::Recorder::Free, tokens(source)).to_string()
    };
    (of(record::on), of(record::off))
}

#[test]
fn a_call_by_another_name() {
    let (on, off) = recorded("ExFreePool, (self.free)(p)");
    insta::assert_snapshot!(pretty(tokens(&format!("fn f() {{ {on} }}"))));
    assert_eq!(off, tokens("(self.free)(p)").to_string());
    let (on, off) = recorded("ExFreePool, find()?(p), crate = crate::mt");
    insta::assert_snapshot!(pretty(tokens(&format!("fn f() {{ {on} }}"))));
    assert_eq!(off, tokens("find()?(p)").to_string());
}

#[test]
fn mistakes_in_a_recorded_call_are_answered_with_what_to_write() {
    for (source, words) in [
        ("", "write `memtrack::record_free!(ExFreePoolWithTag, (routines.free)(block, tag))`"),
        ("f(p)", "memtrack knows no function `f` that frees: ExFreePool, ExFreePoolWithTag, ExFreePool2"),
        ("ExFreePool", "write `memtrack::record_free!("),
        ("ExFreePool, ", "unexpected end of input"),
        ("ExFreePool, p", "write `memtrack::record_free!("),
        ("ExFreePool, unsafe { f(p) }", "with `unsafe` round the macro"),
        ("ExFreePool, f(p, q)", "`ExFreePool` has 1 argument and this call has 2"),
        ("ExAllocatePool, f(p, q)", "`ExAllocatePool` allocates: write `memtrack::record_alloc!`"),
        ("ExFreePool, f(p), wrapper", "one call has no such option"),
        ("ExFreePool, f(p), finish = \"x\"", "one call has no such option"),
        ("ExFreePool, f(p) q", "expected"),
    ] {
        let (on, off) = recorded(source);
        assert_eq!(on, off, "the same mistake, the same words");
        assert_eq!(on.matches("compile_error").count(), 1, "{on}");
        assert!(on.contains(words), "{source}: {on}");
    }
}

#[test]
fn renames_are_followed_to_where_they_hold() {
    for item in [
        "mod m { use a::ExFreePool as free; fn f() { free(p) } }",
        "mod m { use a::{b::{ExFreePool as free}}; fn f() { self::free(p) } }",
        "mod m { use a::ExFreePool as free; mod n { fn f() { super::free(p) } } }",
        "mod m { use a::ExFreePool as free; mod n { use super::*; fn f() { free(p) } } }",
        "mod m { mod n { pub use a::ExFreePool as free; } fn f() { n::free(p) } }",
        "mod m { mod n { pub use a::ExFreePool as free; } use n::free; fn f() { free(p) } }",
        "mod m { mod n { pub use a::ExFreePool as free; } use self::n::free as gone; fn f() { gone(p) } }",
        "mod m { mod n { pub use a::ExFreePool as free; } use n::{self as k}; fn f() { k::free(p) } }",
        "mod m { mod n { pub use a::ExFreePool as free; } use n::*; fn f() { free(p) } }",
        "fn f() { use a::ExFreePool as free; free(p) }",
        "mod m { use a::ExFreePool as free; mod n { fn f() { use super::*; free(p) } } }",
        "fn f() { { use a::ExFreePool as free; free(p) } free(p) }",
        "mod m { fn f() { mod n { use a::ExFreePool as free; fn f() { free(p) } } } }",
        "mod m { use x::deallocate as ExFreePool; fn f() { ExFreePool(p) } }",
        "fn f() { let ExFreePool = resolve(); ExFreePool(p) }",
    ] {
        assert_eq!(tracked(item), ["ExFreePool"], "{item}");
    }
    let swapped = "mod m { use a::ExAllocatePool as ExFreePoolWithTag; fn f() { ExFreePoolWithTag(a, b) } }";
    assert_eq!(tracked(swapped), ["ExAllocatePool"]);
}

#[test]
fn renames_are_not_followed_where_something_hides_them() {
    for body in [
        "let free = g; free(p)",
        "fn free(p: P) {} free(p)",
        "|free| free(p)",
        "if let Some(free) = g { free(p) }",
        "match g { free => free(p) }",
        "for free in g { free(p) }",
        "use x::other as free; free(p)",
    ] {
        let item = format!("mod m {{ use a::ExFreePool as free; fn f() {{ {body} }} }}");
        assert_eq!(tracked(&item), [] as [&str; 0], "{item}");
    }
    let after = "mod m { use a::ExFreePool as free; fn f() { if let Some(free) = g {} free(p) } }";
    assert_eq!(tracked(after), ["ExFreePool"]);
    let circle = "mod m { use n::x; mod n { pub use super::x; } fn f() { x(p) } }";
    assert_eq!(tracked(circle), [] as [&str; 0]);
}

#[test]
fn skip_leaves_alone_and_goes() {
    for item in [
        "mod m { #[memtrack::skip] fn f() { ExFreePool(p) } }",
        "mod m { #[memtrack::skip] mod n { fn f() { ExFreePool(p) } } }",
        "mod m { #[memtrack::skip] impl S { fn f() { ExFreePool(p) } } }",
        "impl S { #[memtrack::skip] fn f() { ExFreePool(p) } }",
        "trait S { #[memtrack::skip] fn f() { ExFreePool(p) } }",
        "impl S { #[memtrack::skip] const F: fn() = || ExFreePool(p); }",
        "trait S { #[memtrack::skip] const F: fn() = || ExFreePool(p); }",
        "fn f() { #[memtrack::skip] ExFreePool(p); }",
        "fn f() { #[memtrack::skip] let x = ExFreePool(p); }",
        "fn f() { #[memtrack::skip] x = ExFreePool(p); }",
        "fn f() { #[memtrack::skip] { ExFreePool(p); } }",
        "fn f() { #[::memtrack::skip] m!(ExFreePool(p)); }",
        "fn f() { match x { #[memtrack::skip] _ => ExFreePool(p) } }",
        "fn f() { g(#[memtrack::skip] ExFreePool(p)) }",
    ] {
        let left = flat(on("", item));
        let plain = item.replace("#[memtrack::skip] ", "").replace("#[::memtrack::skip] ", "");
        assert_eq!(left, flat(tokens(&plain)));
        assert_eq!(expand::off(tokens(""), tokens(item)).to_string(), tokens(&plain).to_string());
    }
    assert_eq!(tracked("fn f() { #[memtrack::skip] ExFreePool(p); ExFreePool(q); }"), ["ExFreePool"]);
    assert_eq!(tracked("mod m { #[other::skip] fn f() { ExFreePool(p) } }"), ["ExFreePool"]);
    let helper = "mod m { #[derive(D)] struct S { #[skip] a: u8 } #[skip] fn f() {} }";
    assert_eq!(flat(on("", helper)), flat(tokens(helper)), "somebody else's");
    assert_eq!(expand::off(tokens(""), tokens(helper)).to_string(), tokens(helper).to_string());
}

#[test]
fn a_skip_that_comes_too_late_says_so() {
    let late = on("", "fn f() { ExFreePool(p) }");
    let text = fallback::skip(TokenStream::new(), late).to_string();
    assert!(text.contains("write it as `#[memtrack::skip]`"), "{text}");
    let plain = tokens("fn f() { ExFreePool(p) }");
    assert_eq!(fallback::skip(TokenStream::new(), plain.clone()).to_string(), plain.to_string());
}

#[test]
fn an_attribute_inside_is_done_once() {
    let inner = "mod m { #[memtrack::instrument(finish = \"F\")] fn f() { ExFreePool(p) } }";
    let text = on("", inner).to_string();
    assert!(!text.contains("instrument"), "{text}");
    assert_eq!(text.matches("Finish").count(), 1);
    assert_eq!(tracked(inner), ["ExFreePool"]);

    let text = on("crate = ::mt", "mod m { #[mt::instrument(finish = \"F\")] fn f() {} }").to_string();
    assert!(text.contains(":: mt :: __private :: Finish"), "it knows memtrack as the outer one does: {text}");

    let foreign = "mod m { #[tracing::instrument] fn f() { ExFreePool(p) } }";
    assert!(on("", foreign).to_string().contains("# [tracing :: instrument]"));

    let mistaken = "mod m { #[memtrack::instrument(finsh = \"F\")] fn f() { ExFreePool(p) } }";
    let text = on("", mistaken).to_string();
    assert!(text.contains("memtrack :: instrument (finsh"), "it stays, and speaks for itself: {text}");
}

#[test]
fn rewriting_twice_is_rewriting_once() {
    let item = "mod m { fn f() { ExFreePool(ExAllocatePool2(a, b, c)); } }";
    let once = on("", item);
    assert_eq!(expand::on(TokenStream::new(), once.clone()).to_string(), once.to_string());
}

#[test]
fn attributes_of_a_call_stay_on_it() {
    let text = on("", "fn f() { #[allow(x)] ExFreePool(p); }").to_string();
    assert!(text.contains("{ # [allow (x)] (| "), "{text}");
}

#[test]
fn off_is_the_drivers_own_tokens() {
    let item = "#[cfg(x)] pub mod m { #![allow(y)] fn f() { ExAllocatePool2(a, b, c) } quote! { #[memtrack::skip] } }";
    assert_eq!(expand::off(tokens(""), tokens(item)).to_string(), tokens(item).to_string());
    let finish = "fn f() { ExFreePool(p) }";
    assert_eq!(expand::off(tokens("finish = \"F\""), tokens(finish)).to_string(), tokens(finish).to_string());
}

#[test]
fn idle_warns_where_it_may_stand() {
    for item in ["mod m {}", "fn f() {}", "impl S {}", "trait T {}", "fn f(&self) {}"] {
        let text = fallback::idle(tokens(""), tokens(item)).to_string();
        assert_eq!(text.matches("no kernel is chosen").count(), 1, "{text}");
    }
}

#[test]
fn mistakes_are_answered_with_what_to_write() {
    for (options, item, says) in [
        ("", "struct S;", "on the module, fn, impl or trait"),
        ("", "use a::b;", "name them, as in `use wdk_sys::ntddk::{ExAllocatePool2, ExFreePool}`"),
        ("", "use wdk_sys::*;", "name them, as in"),
        ("finish = \"F\"", "use a::ExFreePool;", "on the unload routine itself"),
        ("wrapper", "use a::ExFreePool;", "on that function itself"),
        ("wrapper", "mod m {}", "on that function itself"),
        ("wrapper", "extern \"C\" fn f() {}", "keeps no caller's line for a function with an ABI of its own"),
        ("wrapper", "extern fn f() {}", "keeps no caller's line for a function with an ABI of its own"),
        ("wrapper", "async fn f() {}", "runs when its future is polled"),
        ("wrapper", "fn drop(&mut self) {}", "values are dropped by the compiler"),
        (
            "wrapper",
            "unsafe fn alloc(&self, layout: Layout) -> P {}",
            "a global allocator is called by the compiler",
        ),
        ("wrapper = true", "fn f() {}", "`wrapper` has no value"),
        ("wrapper, wrapper", "fn f() {}", "given twice"),
        ("", "extern \"C\" { fn ExFreePool(p: P); }", "an extern block has no pool calls"),
        ("", "mod device;", "In that file write `memtrack::instrument_items! { … }` round its items"),
        ("", "mod device;", "or `use memtrack::ntddk::{…}` in place of `use wdk_sys::ntddk::{…}`"),
        ("", "mod device;", "or `#[memtrack::instrument]` on its functions and impls"),
        (
            "",
            "mod driver { mod ntddk {} mod device; }",
            "In that file write `memtrack::instrument_items! { … }` round its items",
        ),
        ("crate = \"memtrack\"", "fn f() {}", "write `crate = path`"),
        ("", "fn ExFreePool(p: P) { ntddk::ExFreePool(p) }", "on the code that calls it"),
        ("", "m! {}", "cannot see into a macro"),
        (
            "finsh = \"F\"",
            "fn f() {}",
            "there is no option `finsh`: write `guard = \"full\"`, `finish = \"Driver\"`",
        ),
        (
            "guard = \"head\"",
            "fn f() {}",
            "there is no guard \"head\": write `guard = \"tail\"`, `guard = \"full\"` or",
        ),
        ("guard = full", "fn f() {}", "write `guard = \"tail\"`"),
        ("guard", "fn f() {}", "write `guard = \"tail\"`"),
        ("guard = \"full\"ish", "fn f() {}", "write `guard = \"tail\"`"),
        ("guard = \"full\", guard = \"none\"", "fn f() {}", "given twice"),
        ("finish", "fn f() {}", "write `finish = \"Driver\"`"),
        ("finish = Filemon", "fn f() {}", "write `finish = \"Driver\"`"),
        ("finish = \"F\"", "mod m {}", "on the unload routine itself"),
        ("finish = \"F\"", "async fn f() {}", "on the unload routine that the kernel calls"),
        ("finish = \"F\"", "const fn f() {}", "on the unload routine that the kernel calls"),
        ("finish = \"F\", finish = \"G\"", "fn f() {}", "given twice"),
        ("crate", "fn f() {}", "write `crate = path`"),
        ("12", "fn f() {}", "write `guard = \"full\"`, `finish = \"Driver\"`"),
        ("", "fn f() { let = ; }", "memtrack cannot read this item"),
        ("", "fn f( {}", "memtrack cannot read this item"),
    ] {
        if tokens_of(item).is_none() {
            continue;
        }
        let error = error_of(options, item);
        assert!(error.contains(says), "{options} {item}: {error}");
    }
}

fn tokens_of(source: &str) -> Option<TokenStream> {
    TokenStream::from_str(source).ok()
}

#[test]
fn fragments_of_macros_are_read() {
    let invisible = |source| TokenTree::Group(Group::new(Delimiter::None, tokens(source)));
    let block = invisible("{ let x = 1; }");
    let call = invisible("ExFreePool(p)");
    let callee = invisible("ExFreePool");
    let item = quote!(fn f() { #block unsafe { #call } #callee(p) });
    let text = expand::on(TokenStream::new(), item).to_string();
    assert!(!text.contains("compile_error"), "{text}");
    assert_eq!(text.matches("__private :: free").count(), 2, "{text}");
}

#[test]
fn a_files_items_are_rewritten_as_one_module() {
    let file = "//! What the file is.
        #![instrument(guard = \"full\")]
        use wdk_sys::ntddk::ExAllocatePool as get;
        fn f() { get(a, b) }
        impl Drop for S { fn drop(&mut self) { ExFreePool(p) } }
        #[memtrack::instrument(guard = \"none\", finish = \"F\")] fn unload() { get(a, b) }
        #[memtrack::skip] fn g() { get(a, b) }";
    let text = expand::items(tokens(file)).to_string();
    assert!(!text.contains("compile_error") && !text.contains("doc ="), "{text}");
    assert_eq!(text.matches("__private :: allocate").count(), 2, "{text}");
    assert_eq!(text.matches("__private :: free").count(), 1, "{text}");
    assert_eq!(text.matches("Guard :: Full").count(), 1, "{text}");
    assert_eq!(text.matches("Guard :: None").count(), 1, "{text}");
    assert_eq!(text.matches("Finish :: new").count(), 1, "{text}");
    let off = expand::items_off(tokens(file)).to_string();
    assert!(!off.contains("__private") && off.starts_with("use wdk_sys"), "{off}");
}

#[test]
fn mistakes_in_a_file_are_answered_too() {
    for (file, says) in [
        ("#![allow(dead_code)] fn f() {}", "write other attributes of the file before the macro"),
        ("#![instrument(guard = \"head\")] fn f() {}", "there is no guard \"head\""),
        ("#![instrument(finish = \"F\")] fn f() {}", "on the unload routine itself"),
        ("#![instrument] #![instrument] fn f() {}", "given twice"),
        ("fn f() { let = ; }", "memtrack cannot read this item"),
    ] {
        let text = expand::items(tokens(file)).to_string();
        assert_eq!(text.matches("compile_error").count(), 1, "{text}");
        assert!(text.replace("\\\"", "\"").contains(says), "{file}: {text}");
        assert!(text.starts_with("fn f ()"), "the items stay: {text}");
        assert_eq!(expand::items_off(tokens(file)).to_string(), text);
    }
}

#[test]
fn half_typed_code_comes_back() {
    for item in ["fn f() { foo. }", "fn f() { ExFreePool( }", "impl S { fn f() { let x = } }", "mod m { fn }"]
    {
        let Some(item) = tokens_of(item) else { continue };
        let text = expand::on(TokenStream::new(), item.clone()).to_string();
        assert!(text.starts_with(&item.to_string()), "{text}");
        assert_eq!(text.matches("compile_error").count(), 1);
    }
}
