//! The driver's own tokens, given back: because memtrack is off, or because something is wrong.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::{Item, Path, parse_quote};

use crate::checks;
use crate::parse::{self, Items, Options, Target};
use crate::tokens;

/// Every name that an expansion brings along begins so; no driver's does.
pub(crate) const PREFIX: &str = "__memtrack_";

/// The item as it was, after the checks that every door makes.
pub(crate) fn plain(options: TokenStream, item: TokenStream) -> TokenStream {
    match read(options, &item) {
        Ok(options) => unskipped(item, &options.krate()),
        Err(error) => with_error(item, &error),
    }
}

/// The item as it was, with a warning at the attribute.
pub(crate) fn idle(options: TokenStream, item: TokenStream) -> TokenStream {
    match read(options, &item) {
        Ok(options) => warned(unskipped(item, &options.krate())),
        Err(error) => with_error(item, &error),
    }
}

/// The items of `instrument_items!` as they were, after the checks that every door makes.
pub(crate) fn items_plain(tokens: TokenStream) -> TokenStream {
    let items = parse::without_settings(tokens.clone());
    match read_items(tokens) {
        Ok(options) => unskipped(items, &options.krate()),
        Err(error) => with_error(items, &error),
    }
}

/// The items as they were, with a warning at the macro.
pub(crate) fn items_idle(tokens: TokenStream) -> TokenStream {
    let items = parse::without_settings(tokens.clone());
    match read_items(tokens) {
        Ok(options) => {
            let (items, warning) = (unskipped(items, &options.krate()), idle_warning());
            quote!(#items #warning)
        }
        Err(error) => with_error(items, &error),
    }
}

fn read_items(tokens: TokenStream) -> syn::Result<Options> {
    let Items { options, .. } = syn::parse2(tokens)?;
    checks::items(&options)?;
    Ok(options)
}

/// The item and the warning: inside of a function, which may stand in an impl where nothing else may; beside
/// anything else.
fn warned(item: TokenStream) -> TokenStream {
    let warning = idle_warning();
    match parse::target(&item) {
        Ok(Target::Item(Item::Fn(mut function))) => {
            function.block.stmts.insert(0, parse_quote!(#warning));
            quote!(#function)
        }
        Ok(Target::ImplFn(mut function)) => {
            function.block.stmts.insert(0, parse_quote!(#warning));
            quote!(#function)
        }
        Ok(Target::TraitFn(_)) | Err(_) => item,
        Ok(Target::Item(_)) => quote!(#item #warning),
    }
}

fn read(options: TokenStream, item: &TokenStream) -> syn::Result<Options> {
    let options = syn::parse2(options)?;
    checks::check(&options, &parse::target(item)?)?;
    Ok(options)
}

/// Stable Rust lets a macro warn in one way only: by using something deprecated.
pub(crate) fn idle_warning() -> TokenStream {
    let span = Span::call_site();
    quote_spanned! {span=>
        const _: () = {
            #[deprecated(note = "memtrack tracks nothing here: no kernel is chosen. Turn on one of its features, \
                                 `sim` for tests or `wdk` for the driver; or `off`, which says so on purpose")]
            #[allow(non_upper_case_globals)]
            const memtrack_without_a_kernel: () = ();
            memtrack_without_a_kernel
        };
    }
}

/// Warns that a pool call at `span` is not tracked.
pub(crate) fn missed_warning(span: Span) -> TokenStream {
    let span = Span::call_site().located_at(span);
    quote_spanned! {span=>
        const _: () = {
            #[deprecated(note = "memtrack does not track this call: the tokens round it do not read as code, or are \
                                 taken apart by a macro. Move the call out of the macro, or write \
                                 `#[memtrack::skip]` on the statement or item")]
            #[allow(non_upper_case_globals)]
            const untracked_pool_call: () = ();
            untracked_pool_call
        };
    }
}

/// The item as it was, and one error beside it.
pub(crate) fn with_error(item: TokenStream, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    let item = unskipped(item, &Options::default().krate());
    quote!(#item #error)
}

/// What `#[memtrack::skip]` is outside of an instrumented item: nothing. Inside, it is gone before it comes here,
/// unless it was written in a way that an instrumented item does not recognise.
pub(crate) fn skip(options: TokenStream, item: TokenStream) -> TokenStream {
    if !options.is_empty() {
        let error = syn::Error::new_spanned(options, "`#[memtrack::skip]` takes no options");
        return with_error(item, &error);
    }
    if is_rewritten(item.clone()) {
        let message = "the `#[memtrack::instrument]` round this cannot tell that it is to be skipped: write it as \
                       `#[memtrack::skip]`, with memtrack's name and without `cfg_attr`";
        return with_error(item, &syn::Error::new(Span::call_site(), message));
    }
    item
}

/// Whether an expansion is among the tokens.
fn is_rewritten(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident.to_string().starts_with(PREFIX),
        TokenTree::Group(group) => is_rewritten(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Whether an attribute of this path is our `skip`, where the driver calls memtrack `krate`.
pub(crate) fn is_skip(path: &Path, krate: &Path) -> bool {
    is_ours(path, krate, "skip")
}

/// Whether `path` is `name` in memtrack. Without memtrack's name it may be anybody's.
pub(crate) fn is_ours(path: &Path, krate: &Path, name: &str) -> bool {
    let mut segments = path.segments.iter().rev().map(|segment| &segment.ident);
    let (Some(last), Some(package)) = (segments.next(), segments.next()) else { return false };
    let known = krate.segments.last().is_some_and(|segment| segment.ident == *package);
    *last == name && (known || *package == "memtrack")
}

/// Where what stands under a `#[memtrack::skip]` ends, if one begins at `place` among tokens: after its semicolon or
/// its braces.
pub(crate) fn skip_at(tokens: &[TokenTree], place: usize, krate: &Path) -> Option<usize> {
    let (TokenTree::Punct(hash), TokenTree::Group(group)) = (&tokens[place], tokens.get(place + 1)?) else {
        return None;
    };
    if hash.as_char() != '#' || !is_skip_group(group, krate) {
        return None;
    }
    let is_end = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let length = tokens[place + 2..].iter().position(is_end);
    Some(length.map_or(tokens.len(), |length| place + 2 + length + 1))
}

/// The tokens without the `#[memtrack::skip]`s in them, which only an instrumenting memtrack understands on a
/// statement. What is text or data to a macro stays.
fn unskipped(tokens: TokenStream, krate: &Path) -> TokenStream {
    if !has_skip(tokens.clone(), krate) {
        return tokens;
    }
    let mut out = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        match (&token, rest.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group)))
                if hash.as_char() == '#' && is_skip_group(group, krate) =>
            {
                rest.next();
            }
            (TokenTree::Group(group), _) if !tokens::ends_with_data_macro(&out) => {
                let mut inner = Group::new(group.delimiter(), unskipped(group.stream(), krate));
                inner.set_span(group.span());
                out.push(TokenTree::Group(inner));
            }
            _ => out.push(token),
        }
    }
    out.into_iter().collect()
}

/// Groups without a skip keep their tokens untouched, and with them the spans of their delimiters.
fn has_skip(tokens: TokenStream, krate: &Path) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => is_skip_group(&group, krate) || has_skip(group.stream(), krate),
        _ => false,
    })
}

fn is_skip_group(group: &Group, krate: &Path) -> bool {
    group.delimiter() == Delimiter::Bracket
        && syn::parse2::<Path>(group.stream()).is_ok_and(|path| is_skip(&path, krate))
}
