//! What the attribute refuses, and what it says to write instead.

use proc_macro2::Span;
use syn::{FnArg, Item, ItemMod, Safety, Signature, Type};

use crate::catalog;
use crate::import;
use crate::parse::{Options, Target};

/// `Err` for an item that cannot be annotated, or not with these options.
pub(crate) fn check(options: &Options, target: &Target) -> syn::Result<()> {
    if let Target::Item(item) = target {
        annotatable(item)?;
    }
    function(options, target.signature())
}

/// `Err` for options that a file's items cannot have.
pub(crate) fn items(options: &Options) -> syn::Result<()> {
    function(options, None)
}

/// `Err` for a function that cannot be annotated, or not with these options; and for an option that only a function
/// can have. The signature is that of the function with the attribute, where it stands on one that has a body.
pub(crate) fn function(options: &Options, signature: Option<&Signature>) -> syn::Result<()> {
    if let Some(wrapper) = signature.filter(|signature| catalog::is_wrapper(signature)) {
        let message = "a function of this name stands for the kernel's: its calls are tracked, by their own lines, \
                       and its body is not. Write `#[memtrack::instrument]` on the code that calls it, or give it \
                       another name and `#[memtrack::instrument(wrapper)]`";
        return Err(syn::Error::new(wrapper.ident.span(), message));
    }
    if let Some(span) = options.wrapper {
        wrapper(span, signature)?;
    }
    match (&options.finish, signature) {
        (None, _) => Ok(()),
        (Some(_), Some(signature)) => finishable(signature),
        (Some(name), None) => {
            let message = "`finish` prints the leak report where a function ends: put \
                           `#[memtrack::instrument(finish = …)]` on the unload routine itself";
            Err(syn::Error::new(name.span(), message))
        }
    }
}

fn wrapper(span: Span, signature: Option<&Signature>) -> syn::Result<()> {
    let Some(signature) = signature else {
        let message = "`wrapper` makes the callers of a function the sites: put `#[memtrack::instrument(wrapper)]` on \
                       that function itself";
        return Err(syn::Error::new(span, message));
    };
    without_caller(signature).map_or(Ok(()), |because| {
        let message = format!("{because}: leave `wrapper` out, and the lines of its own calls are the sites");
        Err(syn::Error::new(span, message))
    })
}

/// Why no line of a driver's calls this function, where that is so.
pub(crate) fn without_caller(signature: &Signature) -> Option<&'static str> {
    let is_rust = |abi: &syn::Abi| abi.name.as_ref().is_some_and(|name| name.value() == "Rust");
    let takes_layout = || {
        signature.inputs.iter().any(|input| match input {
            FnArg::Typed(input) => matches!(input.ty.as_ref(), Type::Path(ty) if ty.path.segments.last().is_some_and(|last| last.ident == "Layout")),
            FnArg::Receiver(_) => false,
        })
    };
    let is_method = signature.receiver().is_some();
    let is_allocator =
        ["alloc", "alloc_zeroed", "dealloc", "realloc"].iter().any(|name| signature.ident == name);
    if signature.abi.as_ref().is_some_and(|abi| !is_rust(abi)) {
        Some("the compiler keeps no caller's line for a function with an ABI of its own")
    } else if signature.asyncness.is_some() {
        Some("an async fn runs when its future is polled, not where it is called")
    } else if is_method && signature.ident == "drop" && signature.inputs.len() == 1 {
        Some("values are dropped by the compiler, at no line of the driver's")
    } else if is_method && is_allocator && matches!(signature.safety, Safety::Unsafe(_)) && takes_layout() {
        Some("a global allocator is called by the compiler, at no line of the driver's")
    } else {
        None
    }
}

fn annotatable(item: &Item) -> syn::Result<()> {
    let (what, span) = match item {
        Item::Fn(_) | Item::Impl(_) | Item::Trait(_) => return Ok(()),
        Item::Use(item) if import::has_pool_functions(item) => return Ok(()),
        Item::Use(item) => {
            let message = "this brings in no pool function that memtrack can see: name them, as in \
                           `use wdk_sys::ntddk::{ExAllocatePool2, ExFreePool}`, or write \
                           `#[memtrack::instrument]` on the module, fn, impl or trait that calls them";
            return Err(syn::Error::new(item.use_token.span, message));
        }
        Item::Mod(module) => return in_this_file(module),
        Item::Const(item) => ("a const", item.ident.span()),
        Item::Enum(item) => ("an enum", item.ident.span()),
        Item::ExternCrate(item) => ("an extern crate", item.ident.span()),
        Item::ForeignMod(item) => ("an extern block", item.abi.extern_token.span),
        Item::Macro(item) => {
            let message = "`#[memtrack::instrument]` cannot see into a macro: write it on the functions that the \
                           macro makes";
            return Err(syn::Error::new_spanned(&item.mac.path, message));
        }
        Item::Static(item) => ("a static", item.ident.span()),
        Item::Struct(item) => ("a struct", item.ident.span()),
        Item::TraitAlias(item) => ("a trait alias", item.ident.span()),
        Item::Type(item) => ("a type alias", item.ident.span()),
        Item::Union(item) => ("a union", item.ident.span()),
        _ => ("this", proc_macro2::Span::call_site()),
    };
    let message = format!(
        "{what} has no pool calls to rewrite: write `#[memtrack::instrument]` on the module, fn, impl or trait \
         that has them"
    );
    Err(syn::Error::new(span, message))
}

/// A module's body must be in the file of the attribute, and so must those of the modules in it.
fn in_this_file(module: &ItemMod) -> syn::Result<()> {
    let Some((_, items)) = &module.content else {
        let message = format!(
            "the body of this module is in another file, which an attribute here cannot see. In that file write \
             `memtrack::instrument_items! {{ … }}` round its items; or `use memtrack::ntddk::{{…}}` in place of \
             `use wdk_sys::ntddk::{{…}}`; or `#[memtrack::instrument]` on its functions and impls. Or give the module \
             a body here: `mod {} {{ … }}`",
            module.ident
        );
        return Err(syn::Error::new_spanned(&module.ident, message));
    };
    items.iter().try_for_each(|item| match item {
        Item::Mod(module) => in_this_file(module),
        _ => Ok(()),
    })
}

fn finishable(signature: &Signature) -> syn::Result<()> {
    let because = if let Some(token) = &signature.asyncness {
        Some((token.span, "an async fn ends whenever its future is dropped"))
    } else {
        signature.constness.as_ref().map(|token| (token.span, "a const fn cannot print"))
    };
    match because {
        None => Ok(()),
        Some((span, because)) => {
            let message = format!(
                "{because}: put `#[memtrack::instrument(finish = …)]` on the unload routine that the kernel calls"
            );
            Err(syn::Error::new(span, message))
        }
    }
}
