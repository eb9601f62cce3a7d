//! What stands in the attribute and what it stands on.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, ImplItemFn, Item, LitStr, Meta, Path, Signature, Token, TraitItemFn, parse_quote};

/// The options of `#[memtrack::instrument(...)]`.
#[derive(Default)]
pub(crate) struct Options {
    /// The driver's name for the package `memtrack`, where it says one.
    pub(crate) krate: Option<Path>,
    /// The name under which the leak report is printed at every way out of the function.
    pub(crate) finish: Option<LitStr>,
    /// The guard of blocks that are allocated here.
    pub(crate) guard: Option<Guard>,
    /// Where the function is said to be a wrapper, whose callers are the sites.
    pub(crate) wrapper: Option<Span>,
}

/// A guard, as `memtrack::Guard` has them.
#[derive(Clone, Copy)]
pub(crate) enum Guard {
    None,
    Tail,
    Full,
}

impl Guard {
    /// The name of the variant.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Tail => "Tail",
            Self::Full => "Full",
        }
    }

    fn parse(value: &LitStr) -> syn::Result<Self> {
        match value.value().as_str() {
            "none" => Ok(Self::None),
            "tail" => Ok(Self::Tail),
            "full" => Ok(Self::Full),
            other => {
                let message = format!("there is no guard {other:?}: {GUARD_HELP}");
                Err(syn::Error::new(value.span(), message))
            }
        }
    }
}

impl Options {
    /// The driver's name for the package `memtrack`.
    pub(crate) fn krate(&self) -> Path {
        self.krate.clone().unwrap_or_else(|| parse_quote!(::memtrack))
    }

    /// `Err` for options that one call cannot have.
    pub(crate) fn only_of_a_call(&self) -> syn::Result<()> {
        let span = self.finish.as_ref().map(LitStr::span).or(self.wrapper);
        span.map_or(Ok(()), |span| {
            Err(syn::Error::new(span, "one call has no such option: write `guard = \"full\"`, or nothing"))
        })
    }
}

enum Opt {
    Krate(Span, Path),
    Finish(Span, LitStr),
    Guard(Span, Guard),
    Wrapper(Span),
}

impl Parse for Opt {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![crate]) {
            let span = input.parse::<Token![crate]>()?.span;
            input.parse::<Token![=]>().map_err(|_| syn::Error::new(span, CRATE_HELP))?;
            let path = input.call(Path::parse_mod_style);
            return Ok(Self::Krate(span, path.map_err(|error| syn::Error::new(error.span(), CRATE_HELP))?));
        }
        let name: syn::Ident = input.parse().map_err(|error| syn::Error::new(error.span(), UNKNOWN_HELP))?;
        let help = match name.to_string().as_str() {
            "wrapper" if input.is_empty() || input.peek(Token![,]) => return Ok(Self::Wrapper(name.span())),
            "wrapper" => return Err(syn::Error::new(input.span(), WRAPPER_HELP)),
            "finish" => FINISH_HELP,
            "guard" => GUARD_HELP,
            _ => {
                let message = format!("there is no option `{name}`: {UNKNOWN_HELP}");
                return Err(syn::Error::new(name.span(), message));
            }
        };
        input.parse::<Token![=]>().map_err(|_| syn::Error::new(name.span(), help))?;
        let value: LitStr = input.parse().map_err(|error| syn::Error::new(error.span(), help))?;
        if !value.suffix().is_empty() {
            return Err(syn::Error::new(value.span(), help));
        }
        Ok(if name == "guard" {
            Self::Guard(name.span(), Guard::parse(&value)?)
        } else {
            Self::Finish(name.span(), value)
        })
    }
}

const UNKNOWN_HELP: &str = "write `guard = \"full\"`, `finish = \"Driver\"` on the unload routine, `wrapper` on a \
                            function whose callers are to be named, or `crate = path` where memtrack has another name";
const WRAPPER_HELP: &str = "`wrapper` has no value: write `#[memtrack::instrument(wrapper)]`";
const CRATE_HELP: &str = "write `crate = path`, with the path under which this crate knows memtrack";
const GUARD_HELP: &str = "write `guard = \"tail\"`, `guard = \"full\"` or `guard = \"none\"`";
const FINISH_HELP: &str = "write `finish = \"Driver\"`, with the name that the leak report is to carry";

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut krate = None;
        let mut finish = None;
        let mut guard = None;
        let mut wrapper = None;
        for option in Punctuated::<Opt, Token![,]>::parse_terminated(input)? {
            let (span, again) = match option {
                Opt::Krate(span, path) => (span, krate.replace(path).is_some()),
                Opt::Finish(span, name) => (span, finish.replace(name).is_some()),
                Opt::Guard(span, chosen) => (span, guard.replace(chosen).is_some()),
                Opt::Wrapper(span) => (span, wrapper.replace(span).is_some()),
            };
            if again {
                return Err(syn::Error::new(span, "this option is given twice: leave one of them out"));
            }
        }
        Ok(Self { krate, finish, guard, wrapper })
    }
}

/// What the attribute stands on. A function of an impl or a trait is told from a free one by its receiver only,
/// which a plain item may not have.
pub(crate) enum Target {
    Item(Item),
    ImplFn(ImplItemFn),
    TraitFn(TraitItemFn),
}

impl Target {
    /// The signature, where it is a function that has a body.
    pub(crate) fn signature(&self) -> Option<&Signature> {
        match self {
            Self::Item(Item::Fn(function)) => Some(&function.sig),
            Self::ImplFn(function) => Some(&function.sig),
            Self::TraitFn(function) => function.default.is_some().then_some(&function.sig),
            Self::Item(_) => None,
        }
    }
}

/// What stands in `memtrack::instrument_items! { … }`: a file's items, with the options and the file's documentation
/// in front of them.
pub(crate) struct Items {
    pub(crate) options: Options,
    pub(crate) items: Vec<Item>,
}

impl Parse for Items {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let options = settings(input)?;
        let mut items = Vec::new();
        while !input.is_empty() {
            items.push(input.parse().map_err(unreadable)?);
        }
        Ok(Self { options, items })
    }
}

/// Reads the inner attributes that a file begins with: its documentation, and ours.
fn settings(input: ParseStream<'_>) -> syn::Result<Options> {
    let mut options = None;
    for attribute in input.call(Attribute::parse_inner)? {
        let name = attribute.path();
        if name.is_ident("doc") {
            continue;
        }
        if !name.is_ident("instrument") {
            return Err(syn::Error::new_spanned(name, SETTINGS_HELP));
        }
        let read = match &attribute.meta {
            Meta::Path(_) => Options::default(),
            _ => attribute.parse_args()?,
        };
        if options.replace(read).is_some() {
            return Err(syn::Error::new_spanned(name, "these settings are given twice: write one of them"));
        }
    }
    Ok(options.unwrap_or_default())
}

/// The tokens after the inner attributes that a file begins with.
pub(crate) fn without_settings(tokens: TokenStream) -> TokenStream {
    let mut rest = tokens.into_iter().peekable();
    let mut out = Vec::new();
    while let Some(token) = rest.next() {
        let hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        let bang = matches!(rest.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
        if !hash || !bang {
            out.push(token);
            break;
        }
        rest.nth(1);
    }
    out.into_iter().chain(rest).collect()
}

const SETTINGS_HELP: &str = "only documentation and memtrack's own settings may stand here, such as \
                             `#![instrument(guard = \"full\")]`: write other attributes of the file before the macro";

fn unreadable(error: syn::Error) -> syn::Error {
    syn::Error::new(error.span(), format!("memtrack cannot read this item: {error}"))
}

/// Reads the item. What only makes sense inside an impl (a method) or a trait (a method without a body) is
/// tried when it is no item by itself.
pub(crate) fn target(tokens: &TokenStream) -> syn::Result<Target> {
    read(tokens.clone()).or_else(|error| read(ungrouped(tokens.clone())).map_err(|_| error))
}

fn read(tokens: TokenStream) -> syn::Result<Target> {
    let error = match syn::parse2(tokens.clone()) {
        Ok(Item::Verbatim(_)) => None,
        Ok(item) => return Ok(Target::Item(item)),
        Err(error) => Some(error),
    };
    if let Ok(function) = syn::parse2(tokens.clone()) {
        return Ok(Target::ImplFn(function));
    }
    if let Ok(function) = syn::parse2(tokens.clone()) {
        return Ok(Target::TraitFn(function));
    }
    let error =
        error.unwrap_or_else(|| syn::Error::new_spanned(tokens, "memtrack does not know this syntax"));
    Err(unreadable(error))
}

/// The tokens without invisible groups round single ones, such as a `$block:block` of a macro leaves, which syn
/// does not take for a statement.
fn ungrouped(tokens: TokenStream) -> TokenStream {
    let ungroup = |token| {
        let TokenTree::Group(group) = token else { return token };
        let inner = ungrouped(group.stream());
        let mut trees = inner.clone().into_iter();
        if let (Delimiter::None, Some(only), None) = (group.delimiter(), trees.next(), trees.next()) {
            return only;
        }
        let mut whole = Group::new(group.delimiter(), inner);
        whole.set_span(group.span());
        TokenTree::Group(whole)
    };
    tokens.into_iter().map(ungroup).collect()
}
