//! The macros of memtrack. Drivers name them through the package `memtrack`, whose features choose which of the four
//! `memtrack::instrument` is, and `instrument_items!`, `record_alloc!`, `record_free!` and `record_list!` likewise:
//!
//! - [`macro@instrument`] rewrites pool calls,
//! - [`macro@instrument_off`] leaves the driver's tokens as they are, but for the depths of lookaside lists,
//! - [`macro@instrument_plain`] leaves them as they are, where there is no kernel to make lists for,
//! - [`macro@instrument_idle`] does too, and warns that no kernel was chosen.
//!
//! All four read the same options and refuse the same mistakes with the same words. Their way runs through one
//! room after the other: `parse` reads, `checks` refuses, `model` learns which names mean pool functions,
//! `expand` rewrites, with `macro_calls` where there are only tokens to rewrite, and `fallback` hands the driver's own
//! tokens back whenever there is nothing else to give. An annotated `use` goes through `import`, a single call through
//! `record`.

mod catalog;
mod checks;
mod expand;
mod fallback;
mod import;
mod macro_calls;
mod model;
mod parse;
mod record;
#[cfg(test)]
mod tests;
mod tokens;

use catalog::Recorder;
use proc_macro::TokenStream;

/// Rewrites the pool calls in a module, function, impl or trait into tracked calls.
#[proc_macro_attribute]
pub fn instrument(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::on(options.into(), item.into()).into()
}

/// Checks what [`macro@instrument`] would check, and leaves the item as it is, but for the depths of lookaside lists.
#[proc_macro_attribute]
pub fn instrument_off(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::off(options.into(), item.into()).into()
}

/// Checks what [`macro@instrument`] would check, and leaves the item as it is.
#[proc_macro_attribute]
pub fn instrument_plain(options: TokenStream, item: TokenStream) -> TokenStream {
    fallback::plain(options.into(), item.into()).into()
}

/// As [`macro@instrument_plain`], with a warning that memtrack is not told which kernel to report to.
#[proc_macro_attribute]
pub fn instrument_idle(options: TokenStream, item: TokenStream) -> TokenStream {
    fallback::idle(options.into(), item.into()).into()
}

/// Rewrites the pool calls in a file's items.
#[proc_macro]
pub fn instrument_items(items: TokenStream) -> TokenStream {
    expand::items(items.into()).into()
}

/// As [`macro@instrument_off`] for a file's items.
#[proc_macro]
pub fn instrument_items_off(items: TokenStream) -> TokenStream {
    expand::items_off(items.into()).into()
}

/// As [`macro@instrument_plain`] for a file's items.
#[proc_macro]
pub fn instrument_items_plain(items: TokenStream) -> TokenStream {
    fallback::items_plain(items.into()).into()
}

/// As [`macro@instrument_idle`] for a file's items.
#[proc_macro]
pub fn instrument_items_idle(items: TokenStream) -> TokenStream {
    fallback::items_idle(items.into()).into()
}

/// Tracks one call that allocates, by the name of the kernel's function that it calls.
#[proc_macro]
pub fn record_alloc(call: TokenStream) -> TokenStream {
    record::on(Recorder::Alloc, call.into()).into()
}

/// As [`macro@instrument_off`] for a call that allocates.
#[proc_macro]
pub fn record_alloc_off(call: TokenStream) -> TokenStream {
    record::off(Recorder::Alloc, call.into()).into()
}

/// As [`macro@instrument_plain`] for a call that allocates.
#[proc_macro]
pub fn record_alloc_plain(call: TokenStream) -> TokenStream {
    record::plain(Recorder::Alloc, call.into()).into()
}

/// As [`macro@instrument_idle`] for a call that allocates.
#[proc_macro]
pub fn record_alloc_idle(call: TokenStream) -> TokenStream {
    record::idle(Recorder::Alloc, call.into()).into()
}

/// Tracks one call that frees, by the name of the kernel's function that it calls.
#[proc_macro]
pub fn record_free(call: TokenStream) -> TokenStream {
    record::on(Recorder::Free, call.into()).into()
}

/// As [`macro@instrument_off`] for a call that frees.
#[proc_macro]
pub fn record_free_off(call: TokenStream) -> TokenStream {
    record::off(Recorder::Free, call.into()).into()
}

/// As [`macro@instrument_plain`] for a call that frees.
#[proc_macro]
pub fn record_free_plain(call: TokenStream) -> TokenStream {
    record::plain(Recorder::Free, call.into()).into()
}

/// As [`macro@instrument_idle`] for a call that frees.
#[proc_macro]
pub fn record_free_idle(call: TokenStream) -> TokenStream {
    record::idle(Recorder::Free, call.into()).into()
}

/// Tracks one call that makes, empties or deletes a lookaside list, by the name of the kernel's function that it calls.
#[proc_macro]
pub fn record_list(call: TokenStream) -> TokenStream {
    record::on(Recorder::List, call.into()).into()
}

/// As [`macro@instrument_off`] for a call that makes, empties or deletes a lookaside list.
#[proc_macro]
pub fn record_list_off(call: TokenStream) -> TokenStream {
    record::off(Recorder::List, call.into()).into()
}

/// As [`macro@instrument_plain`] for a call that makes, empties or deletes a lookaside list.
#[proc_macro]
pub fn record_list_plain(call: TokenStream) -> TokenStream {
    record::plain(Recorder::List, call.into()).into()
}

/// As [`macro@instrument_idle`] for a call that makes, empties or deletes a lookaside list.
#[proc_macro]
pub fn record_list_idle(call: TokenStream) -> TokenStream {
    record::idle(Recorder::List, call.into()).into()
}

/// Leaves an item or a statement inside an instrumented one alone. Written as `#[memtrack::skip]`: a bare `#[skip]`
/// may be anybody's.
#[proc_macro_attribute]
pub fn skip(options: TokenStream, item: TokenStream) -> TokenStream {
    fallback::skip(options.into(), item.into()).into()
}
