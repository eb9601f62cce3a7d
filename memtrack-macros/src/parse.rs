//! What stands in the attribute and what it stands on.

use proc_macro2::{Span, TokenStream};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{ImplItemFn, Item, LitStr, Path, Signature, Token, TraitItemFn, parse_quote};

/// The options of `#[memtrack::instrument(...)]`.
pub(crate) struct Options {
    /// The driver's name for the package `memtrack`.
    pub(crate) krate: Path,
    /// The name under which the leak report is printed at every way out of the function.
    pub(crate) finish: Option<LitStr>,
}

impl Default for Options {
    fn default() -> Self {
        Self { krate: parse_quote!(::memtrack), finish: None }
    }
}

enum Opt {
    Krate(Span, Path),
    Finish(Span, LitStr),
}

impl Parse for Opt {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![crate]) {
            let span = input.parse::<Token![crate]>()?.span;
            input.parse::<Token![=]>().map_err(|_| syn::Error::new(span, CRATE_HELP))?;
            return Ok(Self::Krate(span, input.call(Path::parse_mod_style)?));
        }
        let name: syn::Ident = input.parse().map_err(|error| syn::Error::new(error.span(), UNKNOWN_HELP))?;
        if name != "finish" {
            let message = format!("there is no option `{name}`: {UNKNOWN_HELP}");
            return Err(syn::Error::new(name.span(), message));
        }
        input.parse::<Token![=]>().map_err(|_| syn::Error::new(name.span(), FINISH_HELP))?;
        let value = input.parse().map_err(|error| syn::Error::new(error.span(), FINISH_HELP))?;
        Ok(Self::Finish(name.span(), value))
    }
}

const UNKNOWN_HELP: &str = "write `finish = \"Driver\"` on the unload routine, or `crate = path` where memtrack has \
                            another name";
const CRATE_HELP: &str = "write `crate = path`, with the path under which this crate knows memtrack";
const FINISH_HELP: &str = "write `finish = \"Driver\"`, with the name that the leak report is to carry";

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut krate = None;
        let mut finish = None;
        for option in Punctuated::<Opt, Token![,]>::parse_terminated(input)? {
            let (span, again) = match option {
                Opt::Krate(span, path) => (span, krate.replace(path).is_some()),
                Opt::Finish(span, name) => (span, finish.replace(name).is_some()),
            };
            if again {
                return Err(syn::Error::new(span, "this option is given twice: leave one of them out"));
            }
        }
        let default = Self::default();
        Ok(Self { krate: krate.unwrap_or(default.krate), finish })
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

/// Reads the item. What only makes sense inside an impl (a method) or a trait (a method without a body) is
/// tried when it is no item by itself.
pub(crate) fn target(tokens: &TokenStream) -> syn::Result<Target> {
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
    Err(syn::Error::new(error.span(), format!("memtrack cannot read this item: {error}")))
}
