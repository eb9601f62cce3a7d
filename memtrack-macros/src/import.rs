//! An annotated `use`: what it brings in of the kernel's pool functions comes from memtrack instead, tracked already.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{ItemUse, Path, UseGroup, UsePath, UseTree};

use crate::catalog::{self, Kept};
use crate::parse::Guard;

/// The module in which `wdk-sys` and its like have the kernel's functions.
pub(crate) const MODULE: &str = "ntddk";

/// A part of a `use` that brings in pool functions.
struct Import {
    /// The path before the last name.
    before: Vec<Ident>,
    what: What,
}

enum What {
    /// One function, perhaps renamed.
    Function(Ident, Option<Ident>),
    /// All of the module.
    Glob(Span),
    /// The module itself, perhaps renamed.
    Module(Ident, Option<Ident>),
}

/// Whether a `use` of `last` from `before` is of the kernel's pool functions: of one of them, or of the module.
pub(crate) fn is_tracked(before: &[String], last: &str) -> bool {
    catalog::find(last).is_some()
        || last == MODULE
        || (last == "*" && before.last().is_some_and(|m| m == MODULE))
}

/// Whether an annotated `use` has anything to track.
pub(crate) fn has_pool_functions(item: &ItemUse) -> bool {
    !imports(item.tree.clone()).0.is_empty()
}

/// The `use` with its pool functions taken from memtrack, and what else it brings in from where the driver says.
pub(crate) fn tracked(item: &ItemUse, krate: &Path, guard: Option<Guard>, kept: Kept) -> TokenStream {
    let guard = guard.filter(|_| kept == Kept::Nothing);
    let (imports, rest) = imports(item.tree.clone());
    let rest = rest.map(|tree| ItemUse { tree, ..item.clone() });
    let imports = imports.iter().map(|import| import.tracked(item, krate, guard));
    quote!(#rest #(#imports)*)
}

/// Takes the pool functions out of `tree`, and returns what is left of it.
fn imports(tree: UseTree) -> (Vec<Import>, Option<UseTree>) {
    let mut imports = Vec::new();
    let rest = split(&mut Vec::new(), tree, &mut imports);
    (imports, rest)
}

fn split(before: &mut Vec<Ident>, tree: UseTree, imports: &mut Vec<Import>) -> Option<UseTree> {
    let mut import = |before: &[Ident], name: Option<&Ident>, what: &dyn Fn() -> What| {
        let names: Vec<_> = before.iter().map(|ident| ident.unraw().to_string()).collect();
        let last = name.map_or_else(|| "*".to_owned(), |name| name.unraw().to_string());
        let ours = is_tracked(&names, &last);
        if ours {
            imports.push(Import { before: before.to_vec(), what: what() });
        }
        ours
    };
    // `ntddk::{self}` is `ntddk`.
    let is_self = |name: &Ident| name == "self";
    let ours = match &tree {
        UseTree::Path(_) | UseTree::Group(_) => false,
        UseTree::Name(name) if is_self(&name.ident) => before
            .split_last()
            .is_some_and(|(last, before)| import(before, Some(last), &|| What::Module(last.clone(), None))),
        UseTree::Rename(rename) if is_self(&rename.ident) => {
            before.split_last().is_some_and(|(last, before)| {
                import(before, Some(last), &|| What::Module(last.clone(), Some(rename.rename.clone())))
            })
        }
        UseTree::Name(name) => import(before, Some(&name.ident), &|| What::named(&name.ident, None)),
        UseTree::Rename(rename) => {
            import(before, Some(&rename.ident), &|| What::named(&rename.ident, Some(&rename.rename)))
        }
        UseTree::Glob(glob) => import(before, None, &|| What::Glob(glob.star_token.span)),
    };
    match tree {
        _ if ours => None,
        UseTree::Path(path) => {
            before.push(path.ident.clone());
            let rest = split(before, *path.tree, imports);
            before.pop();
            rest.map(|tree| UseTree::Path(UsePath { tree: Box::new(tree), ..path }))
        }
        UseTree::Group(group) => {
            let rest: Punctuated<_, _> =
                group.items.into_iter().filter_map(|tree| split(before, tree, imports)).collect();
            (!rest.is_empty()).then_some(UseTree::Group(UseGroup { items: rest, ..group }))
        }
        other => Some(other),
    }
}

impl What {
    fn named(name: &Ident, rename: Option<&Ident>) -> Self {
        let (name, rename) = (name.clone(), rename.cloned());
        if name.unraw() == MODULE { Self::Module(name, rename) } else { Self::Function(name, rename) }
    }
}

impl Import {
    /// The same from memtrack. Its functions are those of one binding, so beside it stands a proof for the compiler that
    /// the driver names that very binding's.
    fn tracked(&self, item: &ItemUse, krate: &Path, guard: Option<Guard>) -> TokenStream {
        let ItemUse { attrs, vis, leading_colon, .. } = item;
        let before = &self.before;
        let conditions = attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
        let ours = match guard {
            None => quote!(#krate::ntddk),
            Some(guard) => {
                let guard = Ident::new(&guard.name().to_lowercase(), Span::call_site());
                quote!(#krate::__private::guarded::#guard::ntddk)
            }
        };
        let (use_tree, proof, path) = match &self.what {
            What::Function(name, rename) => {
                let rename = rename.as_ref().map(|rename| quote!(as #rename));
                (quote!(#ours::#name #rename), name.unraw(), quote!(#leading_colon #(#before::)* #name))
            }
            What::Glob(span) => {
                let star = quote_spanned!(*span=> *);
                let free = Ident::new("ExFreePool", *span);
                (quote!(#ours::#star), free.clone(), quote!(#leading_colon #(#before::)* #free))
            }
            What::Module(name, rename) => {
                let rename = rename.as_ref().map(|rename| quote!(as #rename));
                let free = Ident::new("ExFreePool", name.span());
                let module = quote!(#leading_colon #(#before::)* #name);
                (quote!(#ours #rename), free.clone(), quote!(#module::#free))
            }
        };
        let span = Span::call_site().located_at(proof.span());
        // As of this name alone: that is where the compiler says what is wrong.
        let proof = quote_spanned! {span=>
            #krate::__private::the_same((#path, #krate::__private::binding::#proof))
        };
        quote! {
            #(#attrs)* #vis use #use_tree;
            #(#conditions)* const _: () = #proof;
        }
    }
}
