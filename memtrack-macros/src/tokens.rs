//! What stands in macro calls: tokens, which may be code or anything else.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Block, Expr, Pat, Stmt, Token};

use crate::catalog;

/// Macros to which tokens are text or data, and nothing is called.
const DATA: &[&str] = &[
    "asm",
    "cfg",
    "column",
    "compile_error",
    "concat",
    "concat_bytes",
    "concat_idents",
    "env",
    "file",
    "global_asm",
    "include",
    "include_bytes",
    "include_str",
    "line",
    "module_path",
    "naked_asm",
    "option_env",
    "parse_quote",
    "parse_quote_spanned",
    "quote",
    "quote_spanned",
    "stringify",
];

/// Whether the macro of that name is one of those to which tokens are text or data.
pub(crate) fn is_data(name: &str) -> bool {
    DATA.contains(&name)
}

/// The tokens of a macro call, as far as they read as code.
pub(crate) enum Piece {
    Code(Expr),
    Statements(Vec<Stmt>),
    /// Commas, patterns and what else stands between.
    Other(TokenStream),
}

impl ToTokens for Piece {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Code(code) => code.to_tokens(tokens),
            Self::Statements(statements) => statements.iter().for_each(|one| one.to_tokens(tokens)),
            Self::Other(other) => other.to_tokens(tokens),
        }
    }
}

/// Reads what is in a call of the macro `name`: expressions in a row, an expression that is matched with a pattern, or
/// statements.
pub(crate) fn read(name: &str, tokens: &TokenStream) -> Option<Vec<Piece>> {
    let tokens = || tokens.clone();
    if name == "matches" || name.ends_with("assert_matches") {
        if let Ok(pieces) = matched.parse2(tokens()) {
            return Some(pieces);
        }
    }
    let statements = |input: ParseStream<'_>| Ok(vec![Piece::Statements(input.call(Block::parse_within)?)]);
    row.parse2(tokens()).or_else(|_| statements.parse2(tokens())).ok()
}

/// The expression, where there is one and nothing else but a comma.
pub(crate) fn only_expression(tokens: &TokenStream) -> Option<Expr> {
    let one = |input: ParseStream<'_>| {
        let expression = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        Ok(expression)
    };
    one.parse2(tokens.clone()).ok()
}

/// `expression, expression, …`
fn row(input: ParseStream<'_>) -> syn::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    while !input.is_empty() {
        pieces.push(Piece::Code(input.parse()?));
        if !input.is_empty() {
            pieces.push(Piece::Other(input.parse::<Token![,]>()?.into_token_stream()));
        }
    }
    Ok(pieces)
}

/// `expression, pattern if expression, expression, …`
fn matched(input: ParseStream<'_>) -> syn::Result<Vec<Piece>> {
    let matched = Piece::Code(input.parse()?);
    let comma: Token![,] = input.parse()?;
    let pattern = Pat::parse_multi_with_leading_vert(input)?;
    let mut pieces = vec![matched, Piece::Other(quote!(#comma #pattern))];
    if let Some(guard) = input.parse::<Option<Token![if]>>()? {
        pieces.push(Piece::Other(guard.into_token_stream()));
        pieces.push(Piece::Code(input.parse()?));
    }
    if let Some(comma) = input.parse::<Option<Token![,]>>()? {
        pieces.push(Piece::Other(comma.into_token_stream()));
        pieces.extend(row(input)?);
    }
    Ok(pieces)
}

/// Something among tokens that looks like a call: a path and parentheses.
pub(crate) struct Call {
    /// Where the path begins among the tokens.
    pub(crate) start: usize,
    /// Where the parentheses are.
    pub(crate) end: usize,
    /// The names of the path.
    pub(crate) path: Vec<String>,
    /// How many arguments it has, where no repetition of a macro's makes that unknown.
    pub(crate) arguments: Option<usize>,
    pub(crate) span: Span,
}

/// The calls that stand among `tokens` themselves, not in groups of them.
pub(crate) fn calls(tokens: &[TokenTree]) -> Vec<Call> {
    (0..tokens.len()).filter_map(|end| call(tokens, end)).collect()
}

/// The call whose arguments stand at `end`.
fn call(tokens: &[TokenTree], end: usize) -> Option<Call> {
    let TokenTree::Group(group) = &tokens[end] else { return None };
    if group.delimiter() != Delimiter::Parenthesis {
        return None;
    }
    let mut back = Back(&tokens[..end]);
    if let Some((name, start)) = back.field() {
        return Some(Call {
            start,
            end,
            span: tokens[start].span(),
            path: vec![name],
            arguments: arguments(group),
        });
    }
    let mut path = Vec::new();
    loop {
        back.generics();
        let Some(name) = back.ident() else { break };
        path.insert(0, name);
        if !back.marks("::") {
            break;
        }
    }
    // `$crate::…` is a path, and `$name` may be any.
    if path.is_empty() || (back.marks("$") && path[0] != "crate") {
        return None;
    }
    let start = back.0.len();
    let span = tokens[start].span();
    let is_method = back.ends_with(".") && !back.ends_with("..");
    let is_definition = back.ident().is_some_and(|word| word == "fn");
    (!is_method && !is_definition).then(|| Call { start, end, path, arguments: arguments(group), span })
}

/// Tokens, read from the last to the first.
struct Back<'a>(&'a [TokenTree]);

impl Back<'_> {
    fn ident(&mut self) -> Option<String> {
        let [rest @ .., TokenTree::Ident(name)] = self.0 else { return None };
        self.0 = rest;
        Some(name.unraw().to_string())
    }

    /// `(… .name)`: the name, and where that begins.
    fn field(&self) -> Option<(String, usize)> {
        let [rest @ .., TokenTree::Group(group)] = self.0 else { return None };
        let inner: Vec<_> = group.stream().into_iter().collect();
        let mut inner = Back(&inner);
        let name = inner.ident()?;
        (group.delimiter() == Delimiter::Parenthesis && inner.ends_with(".")).then_some((name, rest.len()))
    }

    fn ends_with(&self, marks: &str) -> bool {
        let last = self.0.iter().rev().zip(marks.chars().rev());
        self.0.len() >= marks.len() && last.into_iter().all(|(token, mark)| is_mark(token, mark))
    }

    fn marks(&mut self, marks: &str) -> bool {
        let found = self.ends_with(marks);
        if found {
            self.0 = &self.0[..self.0.len() - marks.len()];
        }
        found
    }

    /// Passes over `<…>`, and `::` before it.
    fn generics(&mut self) {
        if !self.ends_with(">") {
            return;
        }
        let mut open = 0_usize;
        for place in (0..self.0.len()).rev() {
            let is_arrow = place > 0 && is_mark(&self.0[place - 1], '-');
            if is_mark(&self.0[place], '>') && !is_arrow {
                open += 1;
            } else if is_mark(&self.0[place], '<') {
                open = open.saturating_sub(1);
                if open == 0 {
                    self.0 = &self.0[..place];
                    self.marks("::");
                    return;
                }
            }
        }
    }
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

fn arguments(group: &Group) -> Option<usize> {
    let tokens: Vec<_> = group.stream().into_iter().collect();
    let repeats = |pair: &[TokenTree]| is_mark(&pair[0], '$') && matches!(&pair[1], TokenTree::Group(_));
    if tokens.windows(2).any(repeats) {
        return None;
    }
    let commas = tokens.iter().filter(|token| is_mark(token, ',')).count();
    let trails = tokens.last().is_none_or(|last| is_mark(last, ','));
    Some(if trails { commas } else { commas + 1 })
}

/// Whether what comes after `before` belongs to a macro to which it is text or data.
pub(crate) fn ends_with_data_macro(before: &[TokenTree]) -> bool {
    let mut back = Back(before);
    back.marks("!") && back.ident().is_some_and(|name| is_data(&name))
}

/// Whether a `macro_rules!` of these tokens may take a call apart, into its name and its arguments: such a macro gets
/// it as the driver wrote it.
pub(crate) fn takes_apart(definition: TokenStream) -> bool {
    let tokens: Vec<_> = definition.into_iter().collect();
    let is_matcher = |place: usize| tokens.get(place + 1).is_some_and(|next| is_mark(next, '='));
    tokens.iter().enumerate().any(|(place, token)| match token {
        TokenTree::Group(group) => is_matcher(place) && matches_calls(group.stream()),
        _ => false,
    })
}

/// Whether a matcher has parentheses behind a name or a repetition, or one of the pool functions itself.
fn matches_calls(matcher: TokenStream) -> bool {
    let tokens: Vec<_> = matcher.into_iter().collect();
    tokens.iter().enumerate().any(|(place, token)| match token {
        TokenTree::Ident(name) => catalog::find(&name.to_string()).is_some(),
        TokenTree::Group(group) => {
            let mut back = Back(&tokens[..place]);
            let repeated = back.ends_with("+") || back.ends_with("*") || back.ends_with("?");
            let named = back.ident().is_some() && back.ends_with(":");
            let takes = group.delimiter() == Delimiter::Parenthesis && (repeated || named);
            takes || matches_calls(group.stream())
        }
        _ => false,
    })
}

/// The arms of a `macro_rules!`: its tokens, and where among them the transcribers are.
pub(crate) fn transcribers(definition: TokenStream) -> (Vec<TokenTree>, Vec<usize>) {
    let tokens: Vec<_> = definition.into_iter().collect();
    let places = (0..tokens.len())
        .filter(|place| {
            matches!(tokens[*place], TokenTree::Group(_)) && Back(&tokens[..*place]).ends_with("=>")
        })
        .collect();
    (tokens, places)
}
