//! Which names mean pool functions where: the modules of the annotated item with their `use … as` renames, and
//! the scopes of blocks inside them.

use std::collections::{HashMap, HashSet};

use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Expr, Ident, ImplItem, Item, ItemMacro, ItemMod, ItemUse, Pat, PatIdent, Path, Stmt,
    Type, UseTree,
};

use crate::catalog::{self, Function};
use crate::{fallback, import, tokens};

/// A module by its place in [`Names::modules`].
type ModuleId = usize;

/// What a name stands for, as far as it matters here.
#[derive(Clone, Copy)]
enum Meaning {
    /// A rename of a pool function.
    Pool(&'static Function),
    /// Something of the driver's own.
    Other,
}

/// The segments of a path.
type Segments = Vec<String>;

#[derive(Default)]
struct Module {
    parent: Option<ModuleId>,
    children: HashMap<String, ModuleId>,
    definitions: HashMap<String, Meaning>,
    imports: Imports,
}

/// How many imports are followed for one name, so that a circle of them ends.
const IMPORTS_FOLLOWED: usize = 16;

enum Local {
    /// Where a scope begins.
    Scope,
    Name(String, Meaning),
    /// A name of memtrack's own module of kernel functions.
    Tracked(String),
    /// The path of a `use path::*`.
    Glob(Segments),
}

/// The names of an annotated item, and the scope that a visitor of it stands in.
pub(crate) struct Names {
    /// The driver's name for the package `memtrack`.
    krate: Path,
    modules: Vec<Module>,
    here: ModuleId,
    /// What blocks, parameters and patterns brought in, innermost last.
    locals: Vec<Local>,
    /// `Type::name` of what is named like a pool function and is none: variants of enums, and methods, whose bodies
    /// are tracked.
    members: HashSet<(String, String)>,
    /// The driver's own macros that may take a call apart.
    apart: HashSet<String>,
}

impl Names {
    /// Reads the modules of `item`, the root being the module that it stands in.
    pub(crate) fn of(item: &Item, krate: &Path) -> Self {
        let mut names = Self::empty(krate);
        names.read(0, item);
        names
    }

    /// Reads a file's items.
    pub(crate) fn of_items(items: &[Item], krate: &Path) -> Self {
        let mut names = Self::empty(krate);
        items.iter().for_each(|item| names.read(0, item));
        names
    }

    /// For an item whose surroundings say nothing: a method.
    pub(crate) fn empty(krate: &Path) -> Self {
        Self {
            krate: krate.clone(),
            modules: vec![Module::default()],
            here: 0,
            locals: Vec::new(),
            members: HashSet::new(),
            apart: HashSet::new(),
        }
    }

    fn read(&mut self, module: ModuleId, item: &Item) {
        match item {
            Item::Mod(ItemMod { ident, content: Some((_, items)), .. }) => {
                let child = self.modules.len();
                self.modules.push(Module { parent: Some(module), ..Module::default() });
                self.modules[module].children.insert(ident.unraw().to_string(), child);
                items.iter().for_each(|item| self.read(child, item));
            }
            Item::Use(item) => {
                let imports = self.imports(item);
                let Imports { named, globs, .. } = &mut self.modules[module].imports;
                named.extend(imports.named);
                globs.extend(imports.globs);
            }
            _ => {
                if let Some((name, meaning)) = defined(item) {
                    self.modules[module].definitions.insert(name, meaning);
                }
                self.read_members(item);
                self.read_macro(item);
            }
        }
    }

    fn read_macro(&mut self, item: &Item) {
        if let Item::Macro(ItemMacro { ident: Some(name), mac, .. }) = item {
            if tokens::takes_apart(mac.tokens.clone()) {
                self.apart.insert(name.unraw().to_string());
            }
        }
    }

    /// Whether the macro `name` is one of the driver's that may take a call apart into its name and its arguments.
    pub(crate) fn takes_apart(&self, name: &str) -> bool {
        self.apart.contains(name)
    }

    fn read_members(&mut self, item: &Item) {
        let is_pool = |name: &Ident| catalog::find(&name.unraw().to_string()).is_some();
        let (owner, names): (String, Vec<&Ident>) = match item {
            Item::Enum(item) => {
                (item.ident.to_string(), item.variants.iter().map(|variant| &variant.ident).collect())
            }
            Item::Impl(item) => {
                let Type::Path(owner) = item.self_ty.as_ref() else { return };
                let Some(owner) = owner.path.segments.last() else { return };
                let methods = item.items.iter().filter_map(|item| match item {
                    ImplItem::Fn(function) => function.sig.receiver().map(|_| &function.sig.ident),
                    _ => None,
                });
                (owner.ident.to_string(), methods.collect())
            }
            _ => return,
        };
        let named = names.into_iter().filter(|name| is_pool(name));
        self.members.extend(named.map(|name| (owner.clone(), name.unraw().to_string())));
    }

    /// The pool function that a call of `path` with so many arguments calls from here, if it calls one.
    pub(crate) fn resolve(&self, path: &Path, arguments: usize) -> Option<&'static Function> {
        let names: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
        self.resolve_names(&names, arguments)
    }

    /// As [`resolve`](Self::resolve), of the names in a path.
    pub(crate) fn resolve_names(&self, names: &[String], arguments: usize) -> Option<&'static Function> {
        let (last, before) = names.split_last()?;
        if self.is_tracked(self.here, before, IMPORTS_FOLLOWED) {
            return None;
        }
        let function = match self.meaning(before, last) {
            Some(Meaning::Pool(function)) => function,
            Some(Meaning::Other) => return None,
            None => catalog::find(last)?,
        };
        let member = before.last().is_some_and(|owner| self.members.contains(&(owner.clone(), last.clone())));
        (function.arguments == arguments && !member).then_some(function)
    }

    fn meaning(&self, before: &[String], last: &str) -> Option<Meaning> {
        let member = |path: &[String]| {
            self.lookup(self.walk(self.here, path, IMPORTS_FOLLOWED)?, last, IMPORTS_FOLLOWED)
        };
        let local = |local: &Local| match local {
            Local::Name(name, meaning) => (name == last).then_some(*meaning),
            Local::Glob(path) if self.is_tracked(self.here, path, IMPORTS_FOLLOWED) => pool_is_tracked(last),
            Local::Glob(path) => member(path),
            Local::Scope | Local::Tracked(_) => None,
        };
        let locals = if before.is_empty() { self.locals.as_slice() } else { &[] };
        locals.iter().rev().find_map(local).or_else(|| member(before))
    }

    /// Whether `path` leads from `module` to memtrack's own `ntddk`, the functions of which are tracked already.
    fn is_tracked(&self, module: ModuleId, path: &[String], follow: usize) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let known = self.krate.segments.last();
        let ours = |name: &str| name == "memtrack" || known.is_some_and(|known| known.ident == name);
        if path.windows(2).any(|pair| ours(&pair[0]) && pair[1] == import::MODULE) {
            return true;
        }
        if self.locals.iter().any(|local| matches!(local, Local::Tracked(name) if name == first)) {
            return true;
        }
        let Module { parent, children, imports, .. } = &self.modules[module];
        let into = match first.as_str() {
            "self" => Some(module),
            "super" => *parent,
            child => children.get(child).copied(),
        };
        if let Some(into) = into {
            return self.is_tracked(into, rest, follow);
        }
        let (Some(import), Some(follow)) = (imports.named.get(first), follow.checked_sub(1)) else {
            return false;
        };
        self.is_tracked(module, &[import.as_slice(), rest].concat(), follow)
    }

    /// The imports of a `use`. Where it has our attribute, what that takes from memtrack is written down as memtrack's.
    fn imports(&self, item: &ItemUse) -> Imports {
        let ours = |attribute: &Attribute| fallback::is_ours(attribute.path(), &self.krate, "instrument");
        let mut imports = Imports { ours: item.attrs.iter().any(ours), ..Imports::default() };
        imports.read(&mut Vec::new(), &item.tree);
        imports
    }

    /// The module that `path` leads to from `module`; `None` where it leaves the annotated item.
    fn walk(&self, module: ModuleId, path: &[String], follow: usize) -> Option<ModuleId> {
        path.iter().try_fold(module, |module, step| match step.as_str() {
            "self" => Some(module),
            "super" => self.modules[module].parent,
            step => self.modules[module].children.get(step).copied().or_else(|| {
                let import = self.modules[module].imports.named.get(step)?;
                self.walk(module, import, follow.checked_sub(1)?)
            }),
        })
    }

    fn lookup(&self, module: ModuleId, name: &str, follow: usize) -> Option<Meaning> {
        let Module { definitions, imports, .. } = &self.modules[module];
        if let Some(meaning) = definitions.get(name) {
            return Some(*meaning);
        }
        let follow = follow.checked_sub(1)?;
        if let Some(path) = imports.named.get(name) {
            return self.imported(module, path, name, follow);
        }
        imports.globs.iter().find_map(|path| {
            if self.is_tracked(module, path, follow) {
                return pool_is_tracked(name);
            }
            self.lookup(self.walk(module, path, follow)?, name, follow)
        })
    }

    /// What `use path as name` means in `module`.
    fn imported(&self, module: ModuleId, path: &[String], name: &str, follow: usize) -> Option<Meaning> {
        let (last, before) = path.split_last()?;
        if self.is_tracked(module, before, follow) {
            return Some(Meaning::Other);
        }
        let inside = || self.lookup(self.walk(module, before, follow)?, last, follow);
        inside().or_else(|| catalog::find(last).map(Meaning::Pool)).or_else(|| {
            // Something renamed to a kernel's name stands in for the kernel's function.
            catalog::find(name).is_none().then_some(Meaning::Other)
        })
    }

    /// Steps into a module of the one where the visitor stands, and returns the way back. One that stands in the
    /// body of a function is met here for the first time.
    pub(crate) fn enter_module(&mut self, module: &ItemMod) -> ModuleId {
        let from = self.here;
        if !self.modules[from].children.contains_key(&module.ident.unraw().to_string()) {
            self.read(from, &Item::Mod(module.clone()));
        }
        self.here =
            self.modules[from].children.get(&module.ident.unraw().to_string()).copied().unwrap_or(from);
        from
    }

    pub(crate) fn leave_module(&mut self, back: ModuleId) {
        self.here = back;
    }

    /// Opens a scope: of a block, a function, a match arm.
    pub(crate) fn enter(&mut self) {
        self.locals.push(Local::Scope);
    }

    pub(crate) fn leave(&mut self) {
        while !matches!(self.locals.pop(), None | Some(Local::Scope)) {}
    }

    /// Brings the items of `block` into scope, which hold in all of it.
    pub(crate) fn add_items(&mut self, block: &Block) {
        for statement in &block.stmts {
            let Stmt::Item(item) = statement else { continue };
            if let Item::Use(item) = item {
                let imports = self.imports(item);
                for (name, path) in imports.named {
                    if self.is_tracked(self.here, &path, IMPORTS_FOLLOWED) {
                        self.locals.push(Local::Tracked(name.clone()));
                    }
                    let meaning = self.imported(self.here, &path, &name, IMPORTS_FOLLOWED);
                    self.locals.extend(meaning.map(|meaning| Local::Name(name, meaning)));
                }
                self.locals.extend(imports.globs.into_iter().map(Local::Glob));
            } else if let Some((name, meaning)) = defined(item) {
                self.locals.push(Local::Name(name, meaning));
            }
            self.read_members(item);
            self.read_macro(item);
        }
    }

    /// Brings what `pattern` binds into scope. A binding that is named like a pool function is a pool function
    /// found at run time, so only renames are hidden by it.
    pub(crate) fn add_pattern(&mut self, pattern: &Pat) {
        self.add_bindings(pattern, by_name);
    }

    /// Brings what `pattern` binds into scope, none of which is a pool function.
    pub(crate) fn add_other(&mut self, pattern: &Pat) {
        self.add_bindings(pattern, |name| (name.unraw().to_string(), Meaning::Other));
    }

    fn add_bindings(&mut self, pattern: &Pat, meaning: fn(&Ident) -> (String, Meaning)) {
        struct Bindings<'a>(&'a mut Names, fn(&Ident) -> (String, Meaning));
        impl Visit<'_> for Bindings<'_> {
            fn visit_pat_ident(&mut self, pattern: &PatIdent) {
                let (name, meaning) = (self.1)(&pattern.ident);
                self.0.locals.push(Local::Name(name, meaning));
                visit::visit_pat_ident(self, pattern);
            }
            fn visit_expr(&mut self, _: &Expr) {}
        }
        Bindings(self, meaning).visit_pat(pattern);
    }
}

/// What a value of the driver's own that is called `name` stands for: with the name of a pool function, for that.
fn by_name(name: &Ident) -> (String, Meaning) {
    let name = name.unraw().to_string();
    let meaning = catalog::find(&name).map_or(Meaning::Other, Meaning::Pool);
    (name, meaning)
}

/// What an item that is not a `use` or a module defines in the namespace of calls.
fn defined(item: &Item) -> Option<(String, Meaning)> {
    match item {
        // A driver's own function of a kernel's name wraps the kernel's: its calls are what is tracked.
        Item::Fn(item) => Some(by_name(&item.sig.ident)),
        Item::Static(item) => Some(by_name(&item.ident)),
        Item::Const(item) => Some(by_name(&item.ident)),
        Item::Struct(item) if matches!(item.fields, syn::Fields::Unnamed(_)) => {
            Some((item.ident.unraw().to_string(), Meaning::Other))
        }
        _ => None,
    }
}

/// What a function of the kernel's means that comes from memtrack: no more than any other name.
fn pool_is_tracked(name: &str) -> Option<Meaning> {
    catalog::find(name).map(|_| Meaning::Other)
}

#[derive(Default)]
struct Imports {
    /// Whether pool functions come from memtrack, whatever the path says.
    ours: bool,
    /// The path of each imported name.
    named: HashMap<String, Segments>,
    /// Paths of `use path::*`.
    globs: Vec<Segments>,
}

/// Where memtrack has its functions of the kernel's names.
fn tracked_module() -> Segments {
    vec!["memtrack".to_owned(), import::MODULE.to_owned()]
}

impl Imports {
    fn read(&mut self, path: &mut Segments, tree: &UseTree) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.unraw().to_string());
                self.read(path, &tree.tree);
                path.pop();
            }
            UseTree::Name(tree) => self.import(path, &tree.ident, &tree.ident),
            UseTree::Rename(tree) => self.import(path, &tree.ident, &tree.rename),
            UseTree::Glob(_) if self.ours && import::is_tracked(path, "*") => {
                self.globs.push(tracked_module())
            }
            UseTree::Glob(_) => self.globs.push(path.clone()),
            UseTree::Group(tree) => tree.items.iter().for_each(|tree| self.read(path, tree)),
        }
    }

    fn import(&mut self, path: &Segments, original: &Ident, name: &Ident) {
        let last = (original != "self").then(|| original.unraw().to_string());
        // `use a::b::{self}` brings in `b`.
        let name =
            if name == "self" { path.last().cloned().unwrap_or_default() } else { name.unraw().to_string() };
        let mut path: Segments = path.iter().cloned().chain(last).collect();
        if let Some((last, before)) = path.split_last().filter(|_| self.ours) {
            if last == import::MODULE {
                path = tracked_module();
            } else if import::is_tracked(before, last) {
                path = [tracked_module(), vec![last.clone()]].concat();
            }
        }
        self.named.insert(name, path);
    }
}
