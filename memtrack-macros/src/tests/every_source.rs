//! Every source file at hand: the workspace's own, and those of the packages that it depends on, among them the
//! parsers, the standard library's neighbours and all of `windows-sys`. Nobody wrote them with memtrack in mind.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Item, ItemMod};

use crate::{catalog, expand, import};

/// With fewer packages than this the test would prove too little: Cargo.lock has a hundred.
const FEWEST_PACKAGES: usize = 20;

/// Files of fewer bytes are rewritten item by item, too.
const ALONE: usize = 100_000;

/// Sources nest deeply, and unoptimised parsers take much stack for each level.
const STACK: usize = 256 << 20;

#[test]
fn every_source_file_at_hand_comes_through() {
    let (mut files, packages) = sources();
    assert!(packages >= FEWEST_PACKAGES, "only {packages} packages of Cargo.lock are unpacked here");
    // Largest first, so that no thread is left alone with one at the end.
    files.sort_by_cached_key(|file| std::cmp::Reverse(fs::metadata(file).map_or(0, |data| data.len())));
    let seen = in_threads(&files, |file| {
        catch_unwind(AssertUnwindSafe(|| come_through(file))).unwrap_or_else(|_| Seen::failed("it panics"))
    });

    let count = |what: fn(&Seen) -> usize| seen.iter().map(what).sum::<usize>();
    let (items, naming) = (count(|seen| seen.items), count(|seen| usize::from(seen.names_pool)));
    let (calls, unread) = (count(|seen| seen.calls), count(|seen| usize::from(seen.unread)));
    println!(
        "{} files of {packages} packages and the workspace, {items} items; {naming} files name a pool function, \
         and {calls} calls in them are tracked; \
         {unread} files that syn cannot read",
        files.len(),
    );
    let failures: Vec<String> = files
        .iter()
        .zip(&seen)
        .flat_map(|(file, seen)| seen.failures.iter().map(|failure| format!("{}: {failure}", file.display())))
        .collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(calls > 0, "nothing was rewritten");
    assert!(unread * 50 <= files.len(), "more than one file in fifty cannot be read");
}

/// What came of one file.
#[derive(Default)]
struct Seen {
    items: usize,
    /// Whether syn cannot read the file: broken on purpose, of another edition, or newer than syn.
    unread: bool,
    names_pool: bool,
    /// Calls that are tracked now.
    calls: usize,
    failures: Vec<String>,
}

impl Seen {
    fn failed(how: &str) -> Self {
        Self { failures: vec![how.to_owned()], ..Self::default() }
    }
}

/// Rewrites the file as a whole and each of its items alone.
fn come_through(file: &Path) -> Seen {
    let Some((text, source)) = read(file) else { return Seen { unread: true, ..Seen::default() } };
    let names_pool = catalog::FUNCTIONS.iter().any(|function| text.contains(function.name));
    let may_change = names_pool || text.contains("memtrack::");
    let mut failures = Vec::new();

    let rest = || source.items.iter().map(|(_, tokens)| tokens.clone()).collect::<TokenStream>();
    let whole = expand::items(source.docs.into_iter().chain(rest()).collect());
    let calls = if names_pool { calls(whole.clone()) } else { 0 };
    failures.extend(wrong(rest(), whole, None, may_change).map(|wrong| format!("as a whole: {wrong}")));
    // An item alone takes the same way as among others: of the long lists of bindings that some packages are, the whole
    // will do.
    let alone = if names_pool || text.len() < ALONE { source.items.as_slice() } else { &[] };
    for (place, (item, tokens)) in alone.iter().enumerate() {
        let out = expand::on(TokenStream::new(), tokens.clone());
        // An annotated import is another import.
        let replaced = matches!(item, Item::Use(item) if import::has_pool_functions(item));
        let input = if replaced { out.clone() } else { tokens.clone() };
        let wrong = wrong(input, out, refusal(item), may_change);
        failures.extend(wrong.map(|wrong| format!("item {place}: {wrong}")));
    }
    Seen { items: source.items.len(), unread: false, names_pool, calls, failures }
}

/// What is wrong with `out`, which came of `input`: it must be the same tokens, but for what memtrack adds. Where
/// something is refused, that must be said with these words.
fn wrong(input: TokenStream, out: TokenStream, refused: Option<&str>, may_change: bool) -> Option<String> {
    if let Some(says) = refused {
        // Most of what is refused has nothing to undo, and there is much of it.
        let (input, out) = if may_change { (undone(input), undone(out)) } else { (input, out) };
        return wrongly_refused(input, out, says);
    }
    if !may_change {
        // What is the same reads the same.
        return difference(input, out).map(|(was, is)| format!("`{was}` became `{is}`"));
    }
    let parsed: syn::File = match syn::parse2(out.clone()) {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("the output does not parse: {error}")),
    };
    if let Some(error) = parsed.items.last().and_then(error_of) {
        return Some(format!("refused: {error}"));
    }
    let warns = out.to_string().contains("untracked_pool_call");
    if warns || has_annotated_use(input.clone()) {
        return None;
    }
    difference(undone(input), undone(out)).map(|(was, is)| format!("`{was}` became `{is}`"))
}

/// What is wrong with a refusal: it is the item's own tokens, which have been parsed before, and one error.
fn wrongly_refused(input: TokenStream, out: TokenStream, says: &str) -> Option<String> {
    let length = input.clone().into_iter().count();
    let mut added = out.into_iter();
    let kept = added.by_ref().take(length).collect();
    if let Some((was, is)) = difference(input, kept) {
        return Some(format!("refused, and `{was}` became `{is}`"));
    }
    let error = syn::parse2(added.collect()).ok().and_then(|item| error_of(&item)).unwrap_or_default();
    (!error.contains(says)).then(|| format!("not refused with \"{says}\" but with \"{error}\""))
}

/// What memtrack's error says, where the item is one: other crates' have no `::core` in front.
fn error_of(item: &Item) -> Option<String> {
    let Item::Macro(item) = item else { return None };
    let path = &item.mac.path;
    let ours = path.leading_colon.is_some() && path.segments.last()?.ident == "compile_error";
    ours.then(|| item.mac.tokens.to_string())
}

/// With which words the attribute refuses to stand on an item, if it does.
fn refusal(item: &Item) -> Option<&'static str> {
    match item {
        Item::Fn(function) => catalog::is_wrapper(&function.sig).then_some("stands for the kernel's"),
        Item::Impl(_) | Item::Trait(_) => None,
        Item::Mod(module) => is_elsewhere(module).then_some("the body of this module is in another file"),
        Item::Macro(_) => Some("cannot see into a macro"),
        Item::Verbatim(_) => Some("memtrack does not know this syntax"),
        Item::Use(item) => (!import::has_pool_functions(item)).then_some("this brings in no pool function"),
        _ => Some("has no pool calls to rewrite"),
    }
}

/// Whether the body of the module, or of one in it, is in another file.
fn is_elsewhere(module: &ItemMod) -> bool {
    let Some((_, items)) = &module.content else { return true };
    items.iter().any(|item| matches!(item, Item::Mod(module) if is_elsewhere(module)))
}

/// Whether there is a `use` among the tokens that takes its functions from memtrack.
fn has_annotated_use(tokens: TokenStream) -> bool {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let is_use = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Ident(word)) if word == "use" || word == "pub");
    tokens.iter().enumerate().any(|(place, token)| match token {
        TokenTree::Group(group) if is_ours(token) => {
            is_use(tokens.get(place + 1)) && group.stream().to_string().contains("instrument")
        }
        TokenTree::Group(group) => has_annotated_use(group.stream()),
        _ => false,
    })
}

/// Where the tokens first differ, but for their spacing, which a parser does not keep, and for what syn writes in
/// another way: `x.0.1` as `x . 0 . 1`, and the `...` that patterns of edition 2015 have as `..=`.
fn difference(left: TokenStream, right: TokenStream) -> Option<(String, String)> {
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    let mut dots = 0;
    loop {
        let (was, is) = (left.next(), right.next());
        let same = match (&was, &is) {
            (None, None) => return None,
            (Some(TokenTree::Group(was)), Some(TokenTree::Group(is))) => {
                let inside = difference(was.stream(), is.stream());
                if inside.is_some() {
                    return inside;
                }
                was.delimiter() == is.delimiter()
            }
            (Some(TokenTree::Ident(was)), Some(TokenTree::Ident(is))) => was == is,
            (Some(TokenTree::Punct(was)), Some(TokenTree::Punct(is))) => {
                let ellipsis = dots == 2 && was.as_char() == '.' && is.as_char() == '=';
                was.as_char() == is.as_char() || ellipsis
            }
            (Some(TokenTree::Literal(was)), Some(TokenTree::Literal(is))) => {
                let (was, is) = (was.to_string(), is.to_string());
                was == is
                    || dots == 1
                        && was == right.by_ref().take(2).fold(is, |is, token| is + &token.to_string())
            }
            _ => false,
        };
        if !same {
            return Some((start(was, left), start(is, right)));
        }
        let dot = matches!(&was, Some(TokenTree::Punct(punct)) if punct.as_char() == '.');
        dots = if dot { dots + 1 } else { 0 };
    }
}

/// The tokens without memtrack: its attributes, tracked and recorded calls, and reports at the end.
fn undone(tokens: TokenStream) -> TokenStream {
    let mut out = Vec::new();
    let mut rest = without_message(without_finish(tokens)).into_iter().peekable();
    while let Some(token) = rest.next() {
        if let (Some(_), Some(TokenTree::Group(group))) = (recorded(&out, &token), rest.peek()) {
            out.truncate(out.len() - RECORD.len());
            let call = group.stream().into_iter().skip_while(|token| !is_punct(token, ',')).skip(1);
            let call: Vec<_> = call.collect();
            let end = call.iter().position(|token| is_punct(token, ',')).unwrap_or(call.len());
            out.extend(undone(call.into_iter().take(end).collect()));
            rest.next();
            continue;
        }
        let TokenTree::Group(group) = &token else {
            if is_punct(&token, '#')
                && rest.peek().is_some_and(|inside| is_ours(inside) || is_wrapper(inside))
            {
                rest.next();
            } else {
                out.push(token);
            }
            continue;
        };
        if let (Some(callee), Some(TokenTree::Group(arguments))) = (tracked(group), rest.peek()) {
            let behind_location =
                arguments.stream().into_iter().skip_while(|token| !is_punct(token, ',')).skip(1);
            out.extend(callee);
            out.push(Group::new(Delimiter::Parenthesis, undone_inside(behind_location.collect())).into());
            rest.next();
        } else {
            out.push(Group::new(group.delimiter(), undone_inside(group.stream())).into());
        }
    }
    out.into_iter().collect()
}

/// The tokens in a group without memtrack, and without a last comma or semicolon: a report at the end makes a statement
/// of the last expression, and an assertion that is given a message needs no comma at its end.
fn undone_inside(tokens: TokenStream) -> TokenStream {
    let mut tokens: Vec<_> = undone(tokens).into_iter().collect();
    if tokens.last().is_some_and(|last| is_punct(last, ',') || is_punct(last, ';')) {
        tokens.pop();
    }
    tokens.into_iter().collect()
}

/// What stands before the mark of a recorded call.
const RECORD: [&str; 6] = [":", ":", "memtrack", ":", ":", "record"];

/// Whether `token` is the mark of `::memtrack::record_alloc!` or `record_free!`.
fn recorded(before: &[TokenTree], token: &TokenTree) -> Option<()> {
    let last = before.len().checked_sub(RECORD.len())?;
    let names = |(token, name): (&TokenTree, &&str)| token.to_string().split('_').next() == Some(*name);
    let last_name = before.last()?.to_string();
    let ours = before[last..].iter().zip(&RECORD).all(names) && last_name.contains('_');
    (ours && is_punct(token, '!')).then_some(())
}

/// The tokens of an assertion, without the message that memtrack gave it.
fn without_message(tokens: TokenStream) -> TokenStream {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let message = tokens.iter().position(|token| token.to_string() == "\"assertion failed: {}\"");
    message.map_or_else(
        || tokens.iter().cloned().collect(),
        |place| tokens[..place - 1].iter().cloned().collect(),
    )
}

/// What is called in `group`, where that is the closure of a tracked call: it stands behind the inner closure's
/// parameters, and in front of the last parentheses.
fn tracked(group: &Group) -> Option<Vec<TokenTree>> {
    let TokenTree::Ident(first) = group.stream().into_iter().nth(1)? else { return None };
    let TokenTree::Group(body) = group.stream().into_iter().last()? else { return None };
    if first != "__memtrack_here" {
        return None;
    }
    let TokenTree::Group(passed) = body.stream().into_iter().last()? else { return None };
    let mut passed: Vec<TokenTree> = passed.stream().into_iter().collect();
    // A call on a lookaside list has a closure more, which says how long the list is.
    let bars: Vec<_> = (0..passed.len()).filter(|place| is_punct(&passed[*place], '|')).collect();
    let (close, end) = match bars.as_slice() {
        [_, close, next, _] => (*close, *next),
        [_, close] => (*close, passed.len()),
        _ => return None,
    };
    passed.truncate(end);
    let mut call = passed.split_off(close + 1);
    call.truncate(call.iter().rposition(|token| matches!(token, TokenTree::Group(_)))?);
    Some(call)
}

/// The tokens of a function's body, without the report at its end.
fn without_finish(tokens: TokenStream) -> TokenStream {
    let second = tokens.clone().into_iter().nth(1);
    if !matches!(second, Some(TokenTree::Ident(ident)) if ident == "__memtrack_finish") {
        return tokens;
    }
    let body = tokens.into_iter().skip_while(|token| !is_punct(token, ';')).skip(1);
    let mut body = body.collect::<Vec<_>>();
    if matches!(body.get(1), Some(TokenTree::Ident(ident)) if ident == "__memtrack_result") {
        body.retain(
            |token| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace),
        );
        if let Some(TokenTree::Group(inner)) = body.pop() {
            return inner.stream();
        }
    }
    body.into_iter().collect()
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

/// Whether this is the inside of an attribute of memtrack's.
fn is_ours(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let text = group.stream().to_string();
    group.delimiter() == Delimiter::Bracket && text.trim_start_matches([':', ' ']).starts_with("memtrack ::")
}

/// Whether this is the inside of what the option `wrapper` adds.
fn is_wrapper(token: &TokenTree) -> bool {
    token.to_string() == "[track_caller]"
}

/// How many calls among the tokens are tracked.
fn calls(tokens: TokenStream) -> usize {
    let calls_in = |token| match token {
        TokenTree::Group(group) => usize::from(tracked(&group).is_some()) + calls(group.stream()),
        _ => 0,
    };
    tokens.into_iter().map(calls_in).sum()
}

/// A few tokens, for a message.
fn start(first: Option<TokenTree>, rest: impl Iterator<Item = TokenTree>) -> String {
    let tokens: TokenStream = first.into_iter().chain(rest.take(8)).collect();
    tokens.to_string().chars().take(200).collect()
}

/// A file, without the inner attributes that only a file may have.
struct Source {
    docs: TokenStream,
    /// Each with its own tokens, as they stand in the file.
    items: Vec<(Item, TokenStream)>,
}

impl Parse for Source {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let inner = input.call(Attribute::parse_inner)?;
        let docs = inner.iter().filter(|attribute| attribute.path().is_ident("doc"));
        let docs = docs.map(ToTokens::to_token_stream).collect();
        let mut items = Vec::new();
        while !input.is_empty() {
            let mut cursor = input.cursor();
            let item = input.parse()?;
            let mut tokens = Vec::new();
            while cursor < input.cursor() {
                let Some((token, next)) = cursor.token_tree() else { break };
                tokens.push(token);
                cursor = next;
            }
            items.push((item, tokens.into_iter().collect()));
        }
        Ok(Self { docs, items })
    }
}

/// The file's text and what is in it; `None` where syn cannot read it.
fn read(file: &Path) -> Option<(String, Source)> {
    let text = fs::read_to_string(file).ok()?;
    let mut code = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if code.starts_with("#!") && !code[2..].trim_start().starts_with('[') {
        code = code.split_once('\n').map_or("", |(_, rest)| rest);
    }
    let source = syn::parse2(TokenStream::from_str(code).ok()?).ok()?;
    Some((text, source))
}

/// The files, and in how many packages other than the workspace's they are.
fn sources() -> (Vec<PathBuf>, usize) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    walk(&workspace, &mut files);
    let packages = unpacked(&workspace);
    packages.iter().for_each(|package| walk(package, &mut files));
    (files, packages.len())
}

/// Collects the `.rs` files below `folder`, but for what is hidden or was built.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            walk(&path, files);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The folders of the packages in Cargo.lock that cargo has unpacked.
fn unpacked(workspace: &Path) -> BTreeSet<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).expect("cargo has a home");
    let registries: Vec<PathBuf> = fs::read_dir(home.join("registry/src"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let lock = fs::read_to_string(workspace.join("Cargo.lock")).expect("the workspace has a Cargo.lock");
    let mut packages = BTreeSet::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key| package.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix('"'));
        if let (Some(name), Some(version)) = (value("name = \""), value("version = \"")) {
            let folders = registries.iter().map(|registry| registry.join(format!("{name}-{version}")));
            packages.extend(folders.filter(|folder| folder.is_dir()));
        }
    }
    packages
}

/// What `each` makes of the files, in their order, with as many threads as there are processors.
fn in_threads(files: &[PathBuf], each: impl Fn(&Path) -> Seen + Sync) -> Vec<Seen> {
    let next = AtomicUsize::new(0);
    let seen: Mutex<Vec<(usize, Seen)>> = Mutex::default();
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(place) else { return };
            let one = each(file);
            seen.lock().expect("a file's panic is caught").push((place, one));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, work)
                .expect("there is memory for a stack");
        }
    });
    let mut seen = seen.into_inner().expect("a file's panic is caught");
    seen.sort_by_key(|(place, _)| *place);
    seen.into_iter().map(|(_, seen)| seen).collect()
}
