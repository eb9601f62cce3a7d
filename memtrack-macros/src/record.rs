//! `record_alloc!` and `record_free!`: calls of which the driver says itself which pool function they are.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, ExprCall, Ident, Path, Token};

use crate::catalog::{self, Does, Function};
use crate::expand;
use crate::fallback;
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
        expand::call(krate, guard, &call, function).map_or_else(|| quote!(#call), |tracked| quote!(#tracked))
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
