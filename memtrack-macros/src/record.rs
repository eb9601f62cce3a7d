//! `record_alloc!`, `record_free!` and `record_list!`: calls of which the driver says itself which of the kernel's functions
//! they are.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, ExprCall, Ident, Path, Token};

use crate::catalog::{self, Function, Kept, Recorder};
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
pub(crate) fn on(recorder: Recorder, tokens: TokenStream) -> TokenStream {
    give(recorder, tokens, |record| rewritten(record, Kept::Nothing))
}

/// The call as the driver wrote it, but for what stays when memtrack is off.
pub(crate) fn off(recorder: Recorder, tokens: TokenStream) -> TokenStream {
    give(recorder, tokens, |record| rewritten(record, Kept::AllButDepths))
}

/// The call as the driver wrote it.
pub(crate) fn plain(recorder: Recorder, tokens: TokenStream) -> TokenStream {
    give(recorder, tokens, |Record { call, .. }| quote!(#call))
}

/// The call as the driver wrote it, with a warning.
pub(crate) fn idle(recorder: Recorder, tokens: TokenStream) -> TokenStream {
    give(recorder, tokens, |Record { call, .. }| {
        let warning = fallback::idle_warning();
        quote!({ #warning #call })
    })
}

fn rewritten(record: Record, kept: Kept) -> TokenStream {
    let Record { function, call, krate, guard } = record;
    if !kept.rewrites(function) {
        return quote!(#call);
    }
    expand::call(krate, guard, &call, function).map_or_else(|| quote!(#call), |tracked| quote!(#tracked))
}

/// Gives what `made` makes of the record, or an error and the call that it stands on, as far as there is one.
fn give(recorder: Recorder, tokens: TokenStream, made: impl FnOnce(Record) -> TokenStream) -> TokenStream {
    let read = |input: ParseStream<'_>| Record::read(recorder, input);
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
    fn read(recorder: Recorder, input: ParseStream<'_>) -> syn::Result<Self> {
        let help = recorder.help();
        let name: Ident = input.parse().map_err(|error| syn::Error::new(error.span(), help))?;
        let function = recorder.function(&name)?;
        input.parse::<Token![,]>().map_err(|error| syn::Error::new(error.span(), help))?;
        let call: Expr = input.parse()?;
        let Expr::Call(call) = call else { return Err(syn::Error::new_spanned(call, help)) };
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

impl Recorder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alloc => "record_alloc",
            Self::Free => "record_free",
            Self::List => "record_list",
        }
    }

    /// The function `name`, which does what the macro is for.
    fn function(self, name: &Ident) -> syn::Result<&'static Function> {
        let Some(function) = catalog::find(&name.to_string()) else {
            let known = catalog::FUNCTIONS.iter().filter(|known| known.does.recorder() == self);
            let known: Vec<_> = known.map(|known| known.name).collect();
            let message =
                format!("memtrack knows no function `{name}` that {}: {}", self.verb(), known.join(", "));
            return Err(syn::Error::new(name.span(), message));
        };
        let other = function.does.recorder();
        if other != self {
            let message = format!("`{name}` {}: write `memtrack::{}!`", other.verb(), other.name());
            return Err(syn::Error::new(name.span(), message));
        }
        Ok(function)
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Alloc => "allocates",
            Self::Free => "frees",
            Self::List => "makes, empties or deletes a lookaside list",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Alloc => {
                "write `memtrack::record_alloc!(ExAllocatePool2, (routines.allocate)(flags, bytes, tag))`: the kernel's \
                 name of the function, and the call, with `unsafe` round the macro"
            }
            Self::Free => {
                "write `memtrack::record_free!(ExFreePoolWithTag, (routines.free)(block, tag))`: the kernel's name of \
                 the function, and the call, with `unsafe` round the macro"
            }
            Self::List => {
                "write `memtrack::record_list!(ExDeleteLookasideListEx, (routines.delete)(list))`: the kernel's name of \
                 the function, and the call, with `unsafe` round the macro"
            }
        }
    }
}

fn arguments(count: usize) -> String {
    if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") }
}
