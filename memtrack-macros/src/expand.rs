//! The rewriting: each pool call stays where it stands, inside a closure that is called at once.
//!
//! ```text
//! ExAllocatePool2(flags, len as _, TAG)
//! ```
//! becomes
//! ```text
//! (|here, a, b, c| {
//!     ::memtrack::__private::allocate(here, Function::ExAllocatePool2, None, (a, b, c), |(a, b, c)| {
//!         ExAllocatePool2(a, b, c)
//!     })
//! })(Location::caller(), flags, len as _, TAG)
//! ```
//! The inner closure holds nothing, so that the runtime may make the call with other arguments, again, or later.
//!
//! The outer closure is checked before its arguments are, and its body fixes the types of its parameters. So the
//! driver's arguments meet the very types that the driver's binding asks for, whatever they are: inference and
//! coercions go on as before, and `?`, `return` and `.await` in an argument stay outside. The call inside needs
//! the `unsafe` around it no more and no less than it did, and temporaries of the arguments live as long as they did.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::Parse;
use syn::token::{Brace, Paren, Semi};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Arm, Attribute, Block, Expr, ExprCall, ExprClosure, ExprConst, ExprField, ExprMatch, ExprParen, FnArg,
    ImplItem, ImplItemFn, ImplItemMacro, Item, ItemFn, ItemMod, LitStr, Local, Macro, Member, Meta, Pat,
    Path, ReturnType, Signature, Stmt, StmtMacro, TraitItem, TraitItemFn, TraitItemMacro, Type, parse_quote,
};

use crate::catalog::{self, Function, Kept};
use crate::checks;
use crate::fallback::{self, PREFIX};
use crate::import;
use crate::model::Names;
use crate::parse::{self, Guard, Items, Options, Target};

/// The item with its pool calls rewritten, or as it was with an error beside it.
pub(crate) fn on(options: TokenStream, item: TokenStream) -> TokenStream {
    try_on(options, &item, Kept::Nothing).unwrap_or_else(|error| fallback::with_error(item, &error))
}

/// The item as it was; where it makes lookaside lists, with those calls rewritten.
pub(crate) fn off(options: TokenStream, item: TokenStream) -> TokenStream {
    if !makes_lists(item.clone()) {
        return fallback::plain(options, item);
    }
    try_on(options, &item, Kept::AllButDepths).unwrap_or_else(|error| fallback::with_error(item, &error))
}

/// Whether an initialiser of lookaside lists is named among the tokens.
fn makes_lists(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(name) => {
            let function = catalog::find(&name.unraw().to_string());
            function.is_some_and(|function| Kept::AllButDepths.rewrites(function))
        }
        TokenTree::Group(group) => makes_lists(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

fn try_on(options: TokenStream, item: &TokenStream, kept: Kept) -> syn::Result<TokenStream> {
    let options: Options = syn::parse2(options)?;
    let mut target = parse::target(item)?;
    checks::check(&options, &target)?;
    let krate = options.krate();
    if let Target::Item(Item::Use(item)) = &target {
        return Ok(import::tracked(item, &krate, options.guard, kept));
    }
    let names = match &target {
        Target::Item(item) => Names::of(item, &krate),
        Target::ImplFn(_) | Target::TraitFn(_) => Names::empty(&krate),
    };
    let mut rewrite = Rewrite::new(&options, names, kept);
    rewrite.target(&options, &mut target);
    let warnings = rewrite.warnings();
    // A parser writes some things in other words: what has not changed stays the driver's own tokens.
    Ok(if rewrite.changed { quote!(#target #(#warnings)*) } else { item.clone() })
}

/// The items of `instrument_items!` with their pool calls rewritten, or as they were with an error beside them.
pub(crate) fn items(tokens: TokenStream) -> TokenStream {
    try_items(tokens.clone(), Kept::Nothing)
        .unwrap_or_else(|error| fallback::with_error(parse::without_settings(tokens), &error))
}

/// The items as they were; where they make lookaside lists, with those calls rewritten.
pub(crate) fn items_off(tokens: TokenStream) -> TokenStream {
    if !makes_lists(tokens.clone()) {
        return fallback::items_plain(tokens);
    }
    try_items(tokens.clone(), Kept::AllButDepths)
        .unwrap_or_else(|error| fallback::with_error(parse::without_settings(tokens), &error))
}

fn try_items(tokens: TokenStream, kept: Kept) -> syn::Result<TokenStream> {
    let own = parse::without_settings(tokens.clone());
    let Items { options, mut items } = syn::parse2(tokens)?;
    checks::items(&options)?;
    let names = Names::of_items(&items, &options.krate());
    let mut rewrite = Rewrite::new(&options, names, kept);
    items.iter_mut().for_each(|item| rewrite.visit_item_mut(item));
    let warnings = rewrite.warnings();
    Ok(if rewrite.changed { quote!(#(#items)* #(#warnings)*) } else { own })
}

/// One call, which the driver says is of `function`, tracked; `None` where its tokens do not read as one afterwards.
pub(crate) fn call(
    krate: Path,
    guard: Option<Guard>,
    call: &ExprCall,
    function: &'static Function,
) -> Option<Expr> {
    let names = Names::empty(&krate);
    Rewrite::new(&Options { krate: Some(krate), guard, ..Options::default() }, names, Kept::Nothing)
        .rewritten(call, function)
}

pub(crate) struct Rewrite {
    pub(crate) kept: Kept,
    pub(crate) krate: Path,
    /// Whether the driver has a name of its own for memtrack.
    pub(crate) renamed: bool,
    /// The guard that the attribute round the visitor chose.
    pub(crate) guard: Option<Guard>,
    pub(crate) names: Names,
    /// Whether the visitor stands in code that the compiler runs, where nothing can be allocated from pool.
    pub(crate) constant: bool,
    /// Whether it stands inside of a macro call.
    pub(crate) within_macro: bool,
    /// Whether it stands in a function that is called by no line of a driver's, whatever its attributes say.
    has_no_caller: bool,
    /// Where pool calls stand that could not be rewritten.
    pub(crate) missed: Vec<Span>,
    /// Whether anything is not as the driver wrote it.
    pub(crate) changed: bool,
}

impl Rewrite {
    fn new(options: &Options, names: Names, kept: Kept) -> Self {
        Self {
            kept,
            krate: options.krate(),
            renamed: options.krate.is_some(),
            guard: options.guard,
            names,
            constant: false,
            within_macro: false,
            has_no_caller: false,
            missed: Vec::new(),
            changed: false,
        }
    }

    /// A warning for each pool call that could not be rewritten since this was asked.
    fn warnings(&mut self) -> Vec<Stmt> {
        self.changed |= !self.missed.is_empty();
        self.missed.drain(..).filter_map(|span| parsed(fallback::missed_warning(span))).collect()
    }

    fn target(&mut self, options: &Options, target: &mut Target) {
        match target {
            Target::Item(Item::Fn(ItemFn { attrs, sig, block, .. })) => {
                self.annotated(options, attrs, sig, block);
            }
            Target::ImplFn(ImplItemFn { attrs, sig, block, .. })
            | Target::TraitFn(TraitItemFn { attrs, sig, default: Some(block), .. }) => {
                self.annotated(options, attrs, sig, block);
            }
            Target::Item(item) => self.visit_item_mut(item),
            Target::TraitFn(_) => {}
        }
    }

    /// A function with the attribute on itself.
    fn annotated(
        &mut self,
        options: &Options,
        attributes: &mut Vec<Attribute>,
        signature: &Signature,
        block: &mut Block,
    ) {
        let is_on = self.kept == Kept::Nothing;
        self.changed |= is_on && (options.wrapper.is_some() || options.finish.is_some());
        if is_on && options.wrapper.is_some() && !is_wrapper(attributes) {
            attributes.push(parse_quote!(#[track_caller]));
        }
        self.body(attributes, signature, block);
        if let Some(name) = options.finish.as_ref().filter(|_| is_on) {
            finish(&self.krate, name, signature, block);
        }
    }

    /// A function inside of what has the attribute, perhaps with an attribute of its own: that one is done here,
    /// where the renames around it are known, and goes. A mistaken one stays and speaks for itself.
    fn function(&mut self, attributes: &mut Vec<Attribute>, signature: &Signature, block: &mut Block) {
        if self.skips(attributes) {
            return;
        }
        match self.own_options(attributes, Some(signature)) {
            Some(options) => {
                self.guarded(options.guard, |this| this.annotated(&options, attributes, signature, block));
            }
            None if catalog::is_wrapper(signature) => {}
            None => self.body(attributes, signature, block),
        }
    }

    /// Does `visit` where an attribute chose this guard, or none.
    fn guarded(&mut self, guard: Option<Guard>, visit: impl FnOnce(&mut Self)) {
        let outer = self.guard;
        self.guard = guard.or(outer);
        visit(self);
        self.guard = outer;
    }

    fn own_options(
        &mut self,
        attributes: &mut Vec<Attribute>,
        signature: Option<&Signature>,
    ) -> Option<Options> {
        let ours = |attribute: &Attribute| fallback::is_ours(attribute.path(), &self.krate, "instrument");
        let place = attributes.iter().position(ours)?;
        let options = match &attributes[place].meta {
            Meta::Path(_) => Options::default(),
            _ => attributes[place].parse_args().ok()?,
        };
        checks::function(&options, signature).ok()?;
        attributes.remove(place);
        self.changed = true;
        Some(options)
    }

    fn body(&mut self, attributes: &[Attribute], signature: &Signature, block: &mut Block) {
        let outer = (self.constant, self.has_no_caller);
        self.constant = signature.constness.is_some();
        self.has_no_caller = is_wrapper(attributes) && checks::without_caller(signature).is_some();
        self.names.enter();
        for input in &signature.inputs {
            match input {
                // May be a closure, which cannot be called from another one.
                FnArg::Typed(input) if is_generic(&input.ty, signature) => self.names.add_other(&input.pat),
                FnArg::Typed(input) => self.names.add_pattern(&input.pat),
                FnArg::Receiver(_) => {}
            }
        }
        self.visit_block_mut(block);
        self.names.leave();
        (self.constant, self.has_no_caller) = outer;
    }

    /// Does `visit` as in code that the compiler runs.
    fn constant(&mut self, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.constant, true);
        visit(self);
        self.constant = outer;
    }

    /// Does `visit` in a scope of its own.
    pub(crate) fn scope(&mut self, visit: impl FnOnce(&mut Self)) {
        self.names.enter();
        visit(self);
        self.names.leave();
    }

    /// Whether `attributes` say to leave what they stand on alone. That attribute goes.
    pub(crate) fn skips(&mut self, attributes: &mut Vec<Attribute>) -> bool {
        let before = attributes.len();
        attributes.retain(|attribute| !fallback::is_skip(attribute.path(), &self.krate));
        let skips = attributes.len() < before;
        self.changed |= skips;
        skips
    }

    /// The tracked form of `call`, or `None` where it is no call of a pool function.
    fn tracked(&mut self, call: &ExprCall) -> Option<Expr> {
        if self.constant {
            return None;
        }
        let function = self.called(call)?;
        let tracked =
            if self.within_macro { self.recorded(call, function) } else { self.rewritten(call, function) };
        match tracked {
            Some(_) => self.changed = true,
            None => self.missed.push(start(&call.func)),
        }
        tracked
    }

    /// The pool function that is called, by its path or as a field of that name.
    fn called(&self, call: &ExprCall) -> Option<&'static Function> {
        let function = match unwrapped(&call.func) {
            Expr::Path(callee) => self.names.resolve(&callee.path, call.args.len())?,
            Expr::Field(ExprField { member: Member::Named(name), .. }) => {
                catalog::find(&name.unraw().to_string()).filter(|found| found.arguments == call.args.len())?
            }
            _ => return None,
        };
        self.kept.rewrites(function).then_some(function)
    }

    /// The tracked form of a call of `function`, whatever it is called by.
    fn rewritten(&self, call: &ExprCall, function: &'static Function) -> Option<Expr> {
        let start = start(&call.func);
        if is_place(&call.func) {
            return self.wrap(call, function, start).map(Expr::Call);
        }
        // What finds the function is done once, and first, as in any call.
        let found = format_ident!("{PREFIX}callee", span = Span::mixed_site().located_at(start));
        let bare = ExprCall { func: Box::new(parse_quote!(#found)), ..call.clone() };
        let tracked = self.wrap(&bare, function, start)?;
        let mut whole: ExprMatch = parse_quote!(match () { #found => #tracked });
        *whole.expr = unwrapped(&call.func).clone();
        Some(Expr::Match(whole))
    }

    /// The guard of what is allocated here, with a comma.
    fn guard(&self, krate: &TokenStream, span: Span) -> TokenStream {
        match self.guard {
            None => quote_spanned!(span=> ::core::option::Option::None,),
            Some(guard) => {
                let guard = Ident::new(guard.name(), span);
                quote_spanned!(span=> ::core::option::Option::Some(#krate::__private::Guard::#guard),)
            }
        }
    }

    /// The tracked form of a call of `function`, with its site at `start`.
    fn wrap(&self, call: &ExprCall, function: &'static Function, start: Span) -> Option<ExprCall> {
        // Located at the driver's call for messages, but in the expansion's own context: names that no code of
        // the driver's can meet, and no lint takes for the driver's.
        let hidden = Span::mixed_site().located_at(start);
        let krate = respanned(&self.krate, hidden);
        let local = |name: &str| format_ident!("{PREFIX}{name}", span = hidden);
        let arguments: Vec<_> = (0..function.arguments).map(|place| local(&place.to_string())).collect();
        // The driver's own call, with the closure's parameters for arguments: what the compiler has to say of it,
        // it says of the driver's line.
        let passed = arguments.iter().map(|argument| parsed::<Expr>(argument.to_token_stream()));
        let kernel = ExprCall { attrs: Vec::new(), args: passed.collect::<Option<_>>()?, ..call.clone() };
        let mut tracked = call.clone();
        let here = local("here");
        // This call alone stands where the driver's does: the compiler reports it as the caller.
        let visible = respanned(&self.krate, start);
        let mut location = quote_spanned!(start=> #visible::__private::Location::caller());
        if self.has_no_caller {
            // A closure is nobody's wrapper: this is its own line.
            location = quote_spanned!(hidden=> (|| #location)());
        }
        tracked.args.insert(0, parsed(location)?);
        let name = Ident::new(function.name, hidden);
        let door = Ident::new(function.does.door(), hidden);
        let guard = function.does.has_guard().then(|| self.guard(&krate, hidden));
        // How long a list is by the driver's own type of it: what is as long as none is none.
        let list = arguments.first().filter(|_| function.does.is_of_a_list());
        let list =
            list.map(|list| quote_spanned!(hidden=> |(#list, ..)| #krate::__private::ListOf(#list).bytes(),));
        let closure = quote_spanned! {hidden=>
            (|#here, #(#arguments),*| {
                #krate::__private::#door(
                    #here, #krate::__private::Function::#name, #guard (#(#arguments,)*), |(#(#arguments,)*)| #kernel,
                    #list
                )
            })
        };
        // What calls the closure stands in the driver's own context, from the driver's first token to the last, so
        // that lints and tools like `cargo fix` see the driver's call there; the closure reaches as far, in the
        // expansion's context, so that they do not see a closure.
        let mut callee: ExprParen = parsed(closure)?;
        callee.paren_token = Paren(start);
        if let Expr::Closure(ExprClosure { body, .. }) = callee.expr.as_mut() {
            if let Expr::Block(body) = body.as_mut() {
                body.block.brace_token = Brace(Span::mixed_site().located_at(call.paren_token.span.join()));
            }
        }
        *tracked.func = Expr::Paren(callee);
        Some(tracked)
    }
}

impl ToTokens for Target {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Item(item) => item.to_tokens(tokens),
            Self::ImplFn(function) => function.to_tokens(tokens),
            Self::TraitFn(function) => function.to_tokens(tokens),
        }
    }
}

/// The tokens of `path` as if they stood at `span`.
pub(crate) fn respanned(path: &Path, span: Span) -> TokenStream {
    let respan = |mut token: TokenTree| {
        token.set_span(span);
        token
    };
    // `$crate` says by its span alone which crate it means.
    let relative = path.segments.first().is_some_and(|first| first.ident == "$crate");
    let tokens = path.to_token_stream();
    if relative { tokens } else { tokens.into_iter().map(respan).collect() }
}

/// What `tokens` are as syntax. Where a driver's tokens among them do not read so, the call stays as it is.
pub(crate) fn parsed<T: Parse>(tokens: TokenStream) -> Option<T> {
    syn::parse2(tokens).ok()
}

/// The expression without parentheses and invisible groups around it.
pub(crate) fn unwrapped(expression: &Expr) -> &Expr {
    match expression {
        Expr::Paren(inner) => unwrapped(&inner.expr),
        Expr::Group(inner) => unwrapped(&inner.expr),
        other => other,
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

/// Where the compiler says that a call of `callee` stands: at its first token.
pub(crate) fn start(callee: &Expr) -> Span {
    fn first(tokens: TokenStream) -> Option<Span> {
        match tokens.into_iter().next()? {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => first(group.stream()),
            TokenTree::Group(group) => Some(group.span_open()),
            token => Some(token.span()),
        }
    }
    first(callee.to_token_stream()).unwrap_or_else(Span::call_site)
}

/// Whether this is a call that an earlier pass has rewritten, as where two attributes meet.
fn is_tracked(call: &ExprCall) -> bool {
    let Expr::Closure(closure) = unwrapped(&call.func) else { return false };
    matches!(closure.inputs.first(), Some(Pat::Ident(first)) if first.ident.to_string().starts_with(PREFIX))
}

/// Makes the leak report the last thing that happens in a function, at every way out of it: it hangs on a local
/// that is declared before all others, so it is dropped after all of them.
fn finish(krate: &Path, name: &LitStr, signature: &Signature, block: &mut Block) {
    let hidden = Span::mixed_site().located_at(name.span());
    let krate = respanned(krate, hidden);
    let guard: Option<Stmt> =
        parsed(quote_spanned!(hidden=> let __memtrack_finish = #krate::__private::Finish::new(#name);));
    // The temporaries of the body's last expression go before the report, which before edition 2024 they would not.
    match &signature.output {
        ReturnType::Default => end_in_semicolon(&mut block.stmts, hidden),
        ReturnType::Type(_, ty) if !is_unnameable(ty) => end_in_result(&mut block.stmts, ty, hidden),
        ReturnType::Type(..) => {}
    }
    block.stmts.splice(0..0, guard);
}

/// Makes a statement of the last expression.
fn end_in_semicolon(body: &mut [Stmt], hidden: Span) {
    match body.last_mut() {
        Some(Stmt::Expr(_, semicolon @ None)) => *semicolon = Some(Semi(hidden)),
        Some(Stmt::Macro(StmtMacro { semi_token: semicolon @ None, .. })) => *semicolon = Some(Semi(hidden)),
        _ => {}
    }
}

/// Gives the body a result of its own. A body that only ever returns or loops never comes to it.
fn end_in_result(body: &mut Vec<Stmt>, ty: &Type, hidden: Span) {
    let whole: Option<Block> = parsed(quote_spanned! {hidden=> {
        let __memtrack_result: #ty = {};
        #[allow(unreachable_code, clippy::needless_return)]
        return __memtrack_result;
    }});
    let Some(mut whole) = whole else { return };
    if let Some(Stmt::Local(Local { init: Some(init), .. })) = whole.stmts.first_mut() {
        if let Expr::Block(inner) = init.expr.as_mut() {
            inner.block.stmts = std::mem::take(body);
        }
    }
    *body = whole.stmts;
}

/// Whether a local cannot have this type written on it, as far as can be seen.
fn is_unnameable(ty: &Type) -> bool {
    struct Unnameable(bool);
    impl VisitMut for Unnameable {
        fn visit_type_mut(&mut self, ty: &mut Type) {
            self.0 |= matches!(ty, Type::ImplTrait(_) | Type::Never(_) | Type::Macro(_));
            visit_mut::visit_type_mut(self, ty);
        }
    }
    let mut unnameable = Unnameable(false);
    unnameable.visit_type_mut(&mut ty.clone());
    unnameable.0
}

/// The attributes that a statement begins with stand, for the parser, on the first thing in it.
fn leading_attributes(expression: &mut Expr) -> Option<&mut Vec<Attribute>> {
    match expression {
        Expr::Assign(inner) => leading_attributes(&mut inner.left),
        Expr::Binary(inner) => leading_attributes(&mut inner.left),
        Expr::Cast(inner) => leading_attributes(&mut inner.expr),
        other => attributes(other),
    }
}

fn attributes(expression: &mut Expr) -> Option<&mut Vec<Attribute>> {
    macro_rules! of {
        ($($kind:ident)*) => {
            match expression {
                $(Expr::$kind(inner) => Some(&mut inner.attrs),)*
                _ => None,
            }
        };
    }
    of! {
        Array Assign Async Await Binary Block Break Call Cast Closure Const Continue Field ForLoop Group If Index
        Infer Let Lit Loop Macro Match MethodCall Paren Path Range RawAddr Reference Repeat Return Struct Try
        TryBlock Tuple Unary Unsafe While Yield
    }
}

impl VisitMut for Rewrite {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        if attributes(expression).is_some_and(|attributes| self.skips(attributes)) {
            return;
        }
        match expression {
            Expr::Call(call) if is_tracked(call) => {
                call.args.iter_mut().for_each(|argument| self.visit_expr_mut(argument));
            }
            Expr::Call(call) => {
                visit_mut::visit_expr_call_mut(self, call);
                if let Some(tracked) = self.tracked(call) {
                    *expression = tracked;
                }
            }
            Expr::Verbatim(tokens) if !self.constant => self.miss_all(tokens.clone()),
            // The length is a constant.
            Expr::Repeat(repeat) => self.visit_expr_mut(&mut repeat.expr),
            Expr::If(_) | Expr::While(_) => self.scope(|this| visit_mut::visit_expr_mut(this, expression)),
            Expr::Let(condition) => {
                self.visit_expr_mut(&mut condition.expr);
                self.names.add_pattern(&condition.pat);
            }
            Expr::ForLoop(each) => {
                self.visit_expr_mut(&mut each.expr);
                self.scope(|this| {
                    this.names.add_pattern(&each.pat);
                    this.visit_block_mut(&mut each.body);
                });
            }
            other => visit_mut::visit_expr_mut(self, other),
        }
    }

    fn visit_expr_const_mut(&mut self, block: &mut ExprConst) {
        self.constant(|this| visit_mut::visit_expr_const_mut(this, block));
    }

    fn visit_stmt_mut(&mut self, statement: &mut Stmt) {
        let attributes = match statement {
            Stmt::Expr(expression, _) => leading_attributes(expression),
            Stmt::Macro(call) => Some(&mut call.attrs),
            Stmt::Local(_) | Stmt::Item(_) => None,
        };
        if !attributes.is_some_and(|attributes| self.skips(attributes)) {
            visit_mut::visit_stmt_mut(self, statement);
        }
    }

    fn visit_local_mut(&mut self, local: &mut Local) {
        if !self.skips(&mut local.attrs) {
            visit_mut::visit_local_mut(self, local);
        }
        // A closure's body is rewritten, so its calls are not.
        match &local.init {
            Some(init) if matches!(unwrapped(&init.expr), Expr::Closure(_)) => {
                self.names.add_other(&local.pat)
            }
            _ => self.names.add_pattern(&local.pat),
        }
    }

    fn visit_block_mut(&mut self, block: &mut Block) {
        let outer = std::mem::take(&mut self.missed);
        self.scope(|this| {
            this.names.add_items(block);
            visit_mut::visit_block_mut(this, block);
        });
        let warnings = self.warnings();
        block.stmts.splice(0..0, warnings);
        self.missed = outer;
    }

    fn visit_macro_mut(&mut self, call: &mut Macro) {
        self.macro_call(call);
    }

    fn visit_expr_closure_mut(&mut self, closure: &mut ExprClosure) {
        let outer = std::mem::replace(&mut self.constant, false);
        self.scope(|this| {
            closure.inputs.iter().for_each(|input| this.names.add_pattern(input));
            this.visit_expr_mut(&mut closure.body);
        });
        self.constant = outer;
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        if !self.skips(&mut arm.attrs) {
            self.scope(|this| {
                this.names.add_pattern(&arm.pat);
                visit_mut::visit_arm_mut(this, arm);
            });
        }
    }

    fn visit_item_mut(&mut self, item: &mut Item) {
        if item_attributes(item).is_some_and(|attributes| self.skips(attributes)) {
            return;
        }
        match item {
            Item::Fn(ItemFn { attrs, sig, block, .. }) => self.function(attrs, sig, block),
            // Such as `thread_local!` has: the first thread that asks runs it.
            Item::Static(_) if self.within_macro => visit_mut::visit_item_mut(self, item),
            Item::Const(_) | Item::Static(_) => self.constant(|this| visit_mut::visit_item_mut(this, item)),
            Item::Mod(_) | Item::Impl(_) | Item::Trait(_) => {
                let options = item_attributes(item).and_then(|attributes| self.own_options(attributes, None));
                let guard = options.and_then(|options| options.guard);
                self.guarded(guard, |this| visit_mut::visit_item_mut(this, item));
            }
            Item::Macro(definition) if definition.mac.path.is_ident("macro_rules") => {
                self.macro_definition(definition);
            }
            Item::Macro(call) => self.macro_call(&mut call.mac),
            Item::Verbatim(tokens) => self.miss_all(tokens.clone()),
            _ => {}
        }
    }

    fn visit_item_mod_mut(&mut self, module: &mut ItemMod) {
        let outer = std::mem::take(&mut self.missed);
        let back = self.names.enter_module(module);
        visit_mut::visit_item_mod_mut(self, module);
        self.names.leave_module(back);
        let warnings = self.warnings();
        if let Some((_, items)) = &mut module.content {
            items.extend(warnings.into_iter().filter_map(|warning| parsed(warning.into_token_stream())));
        }
        self.missed = outer;
    }

    fn visit_impl_item_mut(&mut self, item: &mut ImplItem) {
        match item {
            ImplItem::Fn(ImplItemFn { attrs, sig, block, .. }) => self.function(attrs, sig, block),
            ImplItem::Const(item) => {
                if self.skips(&mut item.attrs) {
                    return;
                }
                self.constant(|this| visit_mut::visit_impl_item_const_mut(this, item));
            }
            ImplItem::Macro(ImplItemMacro { attrs, mac, .. }) => self.macro_item(attrs, mac),
            ImplItem::Verbatim(tokens) => self.miss_all(tokens.clone()),
            _ => {}
        }
    }

    fn visit_trait_item_mut(&mut self, item: &mut TraitItem) {
        match item {
            TraitItem::Fn(TraitItemFn { attrs, sig, default: Some(block), .. }) => {
                self.function(attrs, sig, block);
            }
            TraitItem::Const(item) => {
                if self.skips(&mut item.attrs) {
                    return;
                }
                self.constant(|this| visit_mut::visit_trait_item_const_mut(this, item));
            }
            TraitItem::Macro(TraitItemMacro { attrs, mac, .. }) => self.macro_item(attrs, mac),
            TraitItem::Verbatim(tokens) => self.miss_all(tokens.clone()),
            _ => {}
        }
    }

    // Patterns, but for their guards, types and attributes hold no code that runs.
    fn visit_pat_mut(&mut self, pattern: &mut Pat) {
        if let Pat::Guard(guarded) = pattern {
            self.visit_expr_mut(&mut guarded.guard);
        }
    }
    fn visit_type_mut(&mut self, _: &mut Type) {}
    fn visit_path_mut(&mut self, _: &mut Path) {}
    fn visit_attribute_mut(&mut self, _: &mut Attribute) {}
    fn visit_generics_mut(&mut self, _: &mut syn::Generics) {}
}

/// Whether a parameter of this type may be of any.
fn is_generic(ty: &Type, signature: &Signature) -> bool {
    match ty {
        Type::ImplTrait(_) | Type::TraitObject(_) => true,
        Type::Path(ty) => {
            signature.generics.type_params().any(|parameter| ty.path.is_ident(&parameter.ident))
        }
        Type::Reference(reference) => is_generic(&reference.elem, signature),
        _ => false,
    }
}

/// Whether a function has its caller's lines.
fn is_wrapper(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("track_caller"))
}

fn item_attributes(item: &mut Item) -> Option<&mut Vec<Attribute>> {
    macro_rules! of {
        ($($kind:ident)*) => {
            match item {
                $(Item::$kind(inner) => Some(&mut inner.attrs),)*
                _ => None,
            }
        };
    }
    of! {
        Const Enum ExternCrate Fn ForeignMod Impl Macro Mod Static Struct Trait TraitAlias Type Union Use
    }
}
