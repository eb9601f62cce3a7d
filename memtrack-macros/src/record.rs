//! `record_alloc!` and `record_free!`: calls of which the driver says itself which pool function they are.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, ExprCall, ExprMatch, Ident, Path, Token, parse_quote};

use crate::catalog::{self, Does, Function};
use crate::expand;
use crate::fallback::{self, PREFIX};
use crate::parse::{Guard, Options};

/// What stands in `record_alloc!(ExAllocatePool2, (routines.allocate)(flags, bytes, TAG))`.
struct Record {
    function: &'static Function,
    call: ExprCall,
    krate: Path,
    guard: Option<Guard>,
}

/// The call, tracked.
pub(crate) fn on(does: Does, tokens: TokenStream) -> TokenStream {
    give(does, tokens, |record| {
        let Record { function, call, krate, guard } = record;
        if is_place(&call.func) {
            return tracked(krate, guard, &call, function, expand::start(&call.func));
        }
        // What finds the function is done once, and first, as in any call.
        let callee = expand::unwrapped(&call.func).clone();
        let start = expand::start(&call.func);
        let found = format_ident!("{PREFIX}callee", span = Span::mixed_site().located_at(start));
        let call = ExprCall { func: Box::new(parse_quote!(#found)), ..call };
        let tracked = tracked(krate, guard, &call, function, start);
        let mut whole: ExprMatch = parse_quote!(match () { #found => #tracked });
        *whole.expr = callee;
        quote!(#whole)
    })
}

/// The call as the driver wrote it.
pub(crate) fn off(does: Does, tokens: TokenStream) -> TokenStream {
    give(does, tokens, |Record { call, .. }| quote!(#call))
}

/// The call as the driver wrote it, with a warning.
pub(crate) fn idle(does: Does, tokens: TokenStream) -> TokenStream {
    give(does, tokens, |Record { call, .. }| {
        let warning = fallback::idle_warning();
        quote!({ #warning #call })
    })
}

/// The call, tracked, with its site at `start`.
fn tracked(
    krate: Path,
    guard: Option<Guard>,
    call: &ExprCall,
    function: &'static Function,
    start: Span,
) -> TokenStream {
    expand::call(krate, guard, call, function, start)
        .map_or_else(|| quote!(#call), |tracked| quote!(#tracked))
}

/// Gives what `made` makes of the record, or an error and the call that it stands on, as far as there is one.
fn give(does: Does, tokens: TokenStream, made: impl FnOnce(Record) -> TokenStream) -> TokenStream {
    let read = |input: ParseStream<'_>| Record::read(does, input);
    read.parse2(tokens.clone()).map(made).unwrap_or_else(|error| {
        let error = error.to_compile_error();
        let call = second.parse2(tokens).ok();
        quote!({ #error; #call })
    })
}

/// The expression behind the first comma.
fn second(input: ParseStream<'_>) -> syn::Result<Expr> {
    input.parse::<Expr>()?;
    input.parse::<Token![,]>()?;
    let second = input.parse()?;
    input.parse::<TokenStream>()?;
    Ok(second)
}

impl Record {
    fn read(does: Does, input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.parse().map_err(|error| syn::Error::new(error.span(), help(does)))?;
        let function = function(does, &name)?;
        input.parse::<Token![,]>().map_err(|error| syn::Error::new(error.span(), help(does)))?;
        let call: Expr = input.parse()?;
        let Expr::Call(call) = call else { return Err(syn::Error::new_spanned(call, help(does))) };
        if call.args.len() != function.arguments {
            let message = format!(
                "`{}` has {} and this call has {}: name the function that it calls",
                function.name,
                arguments(function.arguments),
                call.args.len()
            );
            return Err(syn::Error::new(call.paren_token.span.join(), message));
        }
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        let options = Options::parse(input)?;
        options.only_of_a_call()?;
        Ok(Self { function, call, krate: options.krate(), guard: options.guard })
    }
}

/// The pool function `name`, which does what the macro is for.
fn function(does: Does, name: &Ident) -> syn::Result<&'static Function> {
    let Some(function) = catalog::find(&name.to_string()) else {
        let known: Vec<_> =
            catalog::FUNCTIONS.iter().filter(|known| known.does == does).map(|known| known.name).collect();
        let message =
            format!("memtrack knows no pool function `{name}` that {}: {}", verb(does), known.join(", "));
        return Err(syn::Error::new(name.span(), message));
    };
    if function.does != does {
        let message = format!(
            "`{name}` {}: write `memtrack::{}!`",
            verb(function.does),
            match function.does {
                Does::Allocate => "record_alloc",
                Does::Free => "record_free",
            }
        );
        return Err(syn::Error::new(name.span(), message));
    }
    Ok(function)
}

fn verb(does: Does) -> &'static str {
    match does {
        Does::Allocate => "allocates",
        Does::Free => "frees",
    }
}

fn arguments(count: usize) -> String {
    if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") }
}

fn help(does: Does) -> &'static str {
    match does {
        Does::Allocate => {
            "write `memtrack::record_alloc!(ExAllocatePool2, (routines.allocate)(flags, bytes, tag))`: the kernel's \
             name of the function, and the call, with `unsafe` round the macro"
        }
        Does::Free => {
            "write `memtrack::record_free!(ExFreePoolWithTag, (routines.free)(block, tag))`: the kernel's name of the \
             function, and the call, with `unsafe` round the macro"
        }
    }
}

/// Whether reading this expression does nothing, so that it may be read late, or twice.
fn is_place(expression: &Expr) -> bool {
    match expression {
        Expr::Path(_) => true,
        Expr::Paren(inner) => is_place(&inner.expr),
        Expr::Group(inner) => is_place(&inner.expr),
        Expr::Field(inner) => is_place(&inner.base),
        _ => false,
    }
}
