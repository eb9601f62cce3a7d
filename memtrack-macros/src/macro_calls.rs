//! Pool calls inside of macro calls, and in the macros that a driver defines.
//!
//! Where the tokens of a macro call read as code, each pool call in it becomes one of
//! `memtrack::record_alloc!(ExAllocatePool2, …)`: what a macro prints of its tokens stays readable, and macros of the
//! driver's own still see an expression. Elsewhere it stays as it is, and a warning says so.

use proc_macro2::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Block, Expr, ExprCall, ExprMacro, ItemMacro, Macro, MacroDelimiter};

use crate::catalog::Function;
use crate::expand::{Rewrite, parsed, respanned, start};
use crate::fallback;
use crate::tokens::{self, Call, Piece};

/// Our own macros, which read what stands in them themselves.
const OURS: &[&str] = &["record_alloc", "record_free", "record_list", "instrument_items"];

impl Rewrite {
    /// Rewrites the pool calls in a macro call.
    pub(crate) fn macro_call(&mut self, call: &mut Macro) {
        let name = call.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        let ours = OURS.contains(&name.as_str());
        if self.constant || ours || tokens::is_data(&name) || !self.has_pool_call(call.tokens.clone()) {
            return;
        }
        if self.names.takes_apart(&name) {
            self.miss_all(call.tokens.clone());
            return;
        }
        let outer = std::mem::replace(&mut self.within_macro, true);
        let tokens = self.code(&name, call.tokens.clone());
        self.within_macro = outer;
        call.tokens = match tokens::only_expression(&tokens) {
            // It would print what it was given.
            Some(condition) if ["assert", "debug_assert"].contains(&name.as_str()) => {
                let message = assertion(call);
                quote!(#condition, #message)
            }
            _ => tokens,
        };
    }

    /// Rewrites the pool calls in a macro call among the items of an impl or a trait.
    pub(crate) fn macro_item(&mut self, attributes: &mut Vec<Attribute>, call: &mut Macro) {
        if !self.skips(attributes) {
            self.macro_call(call);
        }
    }

    /// Rewrites the pool calls in what a driver's own macro makes.
    pub(crate) fn macro_definition(&mut self, item: &mut ItemMacro) {
        let definition = item.mac.tokens.clone();
        if !self.has_pool_call(definition.clone()) {
            return;
        }
        let (mut arms, places) = tokens::transcribers(definition);
        // Other crates may know no memtrack.
        let exported = item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
        for place in places {
            let TokenTree::Group(made) = &arms[place] else { continue };
            if exported {
                self.miss_all(made.stream());
            } else {
                arms[place] = regrouped(made, self.transcribed(made.stream()));
            }
        }
        item.mac.tokens = arms.into_iter().collect();
    }

    /// Warns of all pool calls among `tokens`, which stay as they are.
    pub(crate) fn miss_all(&mut self, tokens: TokenStream) {
        let mut missed = Vec::new();
        self.pool_calls(tokens, &mut |call, _| missed.push(call.span));
        self.missed.extend(missed);
    }

    /// Whether a pool call stands among `tokens`, as far as its name and its number of arguments say.
    fn has_pool_call(&self, tokens: TokenStream) -> bool {
        let mut found = false;
        self.pool_calls(tokens, &mut |_, _| found = true);
        found
    }

    fn pool_calls(&self, tokens: TokenStream, found: &mut dyn FnMut(&Call, &'static Function)) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for call in tokens::calls(&tokens) {
            if let Some(function) = self.pool_function(&call) {
                found(&call, function);
            }
        }
        for (place, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                if !tokens::ends_with_data_macro(&tokens[..place]) {
                    self.pool_calls(group.stream(), found);
                }
            }
        }
    }

    fn pool_function(&self, call: &Call) -> Option<&'static Function> {
        let function = match call.arguments {
            Some(arguments) => self.names.resolve_names(&call.path, arguments)?,
            None => (0..=8).find_map(|arguments| self.names.resolve_names(&call.path, arguments))?,
        };
        self.kept.rewrites(function).then_some(function)
    }

    /// The tokens of a call of the macro `name`, rewritten where they read as code.
    fn code(&mut self, name: &str, tokens: TokenStream) -> TokenStream {
        let Some(mut pieces) = tokens::read(name, &tokens) else { return self.partly_code(tokens) };
        self.scope(|this| {
            for piece in &mut pieces {
                match piece {
                    Piece::Code(code) => this.visit_expr_mut(code),
                    Piece::Statements(statements) => {
                        let mut block =
                            Block { brace_token: <_>::default(), stmts: std::mem::take(statements) };
                        this.names.add_items(&block);
                        // No warning among them: the macro may know no constants.
                        visit_mut::visit_block_mut(this, &mut block);
                        *statements = block.stmts;
                    }
                    Piece::Other(_) => {}
                }
            }
        });
        quote!(#(#pieces)*)
    }

    /// Tokens of which what is in braces may read as code; the others stay as they are.
    fn partly_code(&mut self, tokens: TokenStream) -> TokenStream {
        let mut left_alone = Vec::new();
        let mut out = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let code = if self.has_pool_call(group.stream()) {
                        self.code("", group.stream())
                    } else {
                        group.stream()
                    };
                    out.push(regrouped(&group, code));
                }
                other => {
                    left_alone.push(other.clone());
                    out.push(other);
                }
            }
        }
        self.miss_all(left_alone.into_iter().collect());
        out.into_iter().collect()
    }

    /// What a driver's macro makes, token by token: it is no code before its parameters are filled in.
    fn transcribed(&mut self, made: TokenStream) -> TokenStream {
        let tokens: Vec<_> = made.into_iter().collect();
        let calls = tokens::calls(&tokens);
        let mut out = TokenStream::new();
        let mut place = 0;
        while place < tokens.len() {
            if let Some(end) = fallback::skip_at(&tokens, place, &self.krate) {
                // The attribute, which has two tokens, goes; what it stands on stays as it is.
                self.changed = true;
                out.extend(tokens[place + 2..end].iter().cloned());
                place = end;
                continue;
            }
            let call = calls.iter().find(|call| call.start == place);
            match call.and_then(|call| Some((call, self.pool_function(call)?))) {
                Some((call, function)) if call.arguments.is_some() => {
                    let path = &tokens[place..call.end];
                    let arguments = self.transcribed_token(&tokens, call.end);
                    let recorded = self.record(function, quote!(#(#path)* #arguments), call.span);
                    out.extend(recorded);
                    self.changed = true;
                    place = call.end + 1;
                }
                found => {
                    self.missed.extend(found.map(|(call, _)| call.span));
                    out.extend([self.transcribed_token(&tokens, place)]);
                    place += 1;
                }
            }
        }
        out
    }

    fn transcribed_token(&mut self, tokens: &[TokenTree], place: usize) -> TokenTree {
        match &tokens[place] {
            TokenTree::Group(group) if !tokens::ends_with_data_macro(&tokens[..place]) => {
                regrouped(group, self.transcribed(group.stream()))
            }
            token => token.clone(),
        }
    }

    /// The tracked form of a call inside of a macro call.
    pub(crate) fn recorded(&self, call: &ExprCall, function: &'static Function) -> Option<Expr> {
        let bare = ExprCall { attrs: Vec::new(), ..call.clone() };
        let recorded = self.record(function, bare.to_token_stream(), start(&call.func));
        let mut recorded: ExprMacro = parsed(recorded)?;
        recorded.attrs.clone_from(&call.attrs);
        Some(Expr::Macro(recorded))
    }

    /// `memtrack::record_alloc!(ExAllocatePool2, call)`
    fn record(&self, function: &'static Function, call: TokenStream, span: Span) -> TokenStream {
        let hidden = Span::mixed_site().located_at(span);
        let krate = respanned(&self.krate, hidden);
        let macro_name = Ident::new(function.does.recorder().name(), hidden);
        let name = Ident::new(function.name, hidden);
        let guard = self.guard.filter(|_| function.does.has_guard()).map(|guard| {
            let guard = Literal::string(&guard.name().to_lowercase());
            quote_spanned!(hidden=> , guard = #guard)
        });
        let renamed = self.renamed.then(|| quote_spanned!(hidden=> , crate = #krate));
        quote_spanned!(hidden=> #krate::#macro_name!(#name, #call #guard #renamed))
    }
}

/// The message that the assertion `call` fails with, which has none of its own.
fn assertion(call: &Macro) -> TokenStream {
    let span = match &call.delimiter {
        MacroDelimiter::Paren(paren) => paren.span,
        MacroDelimiter::Brace(brace) => brace.span,
        MacroDelimiter::Bracket(bracket) => bracket.span,
    };
    // As the driver wrote it: tokens have forgotten where no space was.
    let written = span.join().source_text().filter(|text| !text.contains("//") && !text.contains("/*"));
    let condition = written.as_deref().and_then(|text| text.get(1..text.len() - 1)).map(one_line);
    let condition = Literal::string(&condition.unwrap_or_else(|| call.tokens.to_string()));
    quote_spanned!(Span::mixed_site()=> "assertion failed: {}", #condition)
}

/// An expression that may be written in several lines, in one.
fn one_line(text: &str) -> String {
    let join = |mut line: String, next: &str| {
        if !line.is_empty() && !next.starts_with('.') {
            line.push(' ');
        }
        line + next
    };
    text.trim().trim_end_matches(',').lines().map(str::trim).fold(String::new(), join)
}

/// The group with other tokens in it.
fn regrouped(group: &Group, tokens: TokenStream) -> TokenTree {
    let mut whole = Group::new(group.delimiter(), tokens);
    whole.set_span(group.span());
    TokenTree::Group(whole)
}
