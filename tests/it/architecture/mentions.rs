//! What a source file names, found in its tokens. Comments and strings do not count; the arguments of
//! macros do. Code that is compiled for tests alone is skipped.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a source file names outside of its tests.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    /// Paths into the crate, from its root; `*` ends a glob.
    pub(super) paths: BTreeSet<Vec<String>>,
    /// The first segments of all other paths: crates, and much else.
    pub(super) crates: BTreeSet<String>,
    /// What `use` brings into scope, by name, as paths from the crate's root. A path that begins with a
    /// name is taken to begin with a child of the file's own module.
    pub(super) imports: BTreeMap<String, Vec<String>>,
    /// The modules that the file declares for tests alone.
    pub(super) test_modules: BTreeSet<String>,
}

impl Mentions {
    /// Reads the source of a module, which is given by its path from the crate's root.
    pub(super) fn of(source: &str, module: &[String]) -> Self {
        let tokens: TokenStream = source.parse().expect("rustc accepts it");
        let mut mentions = Self::default();
        mentions.read(tokens, &mut module.to_vec());
        mentions
    }

    fn read(&mut self, tokens: TokenStream, module: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if is_test_attribute(&tokens[at..]) {
                let length = item_length(&tokens[at..]);
                self.test_modules
                    .extend(declared_module(&tokens[at..at + length]));
                at += length;
                continue;
            }
            match token {
                TokenTree::Ident(ident) if begins_path(&tokens, at) => {
                    self.read_path(&ident.to_string(), &tokens, at, module);
                }
                // The branches of a `use` were read with its stem.
                TokenTree::Group(_) if follows_colons(&tokens, at) => {}
                TokenTree::Group(group) => {
                    let name = inline_module(&tokens, at);
                    module.extend(name.clone());
                    self.read(group.stream(), module);
                    if name.is_some() {
                        module.pop();
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    fn read_path(&mut self, first: &str, tokens: &[TokenTree], at: usize, module: &[String]) {
        let is_used = at > 0 && is_word(&tokens[at - 1], "use") || is_extern(tokens, at);
        if !is_used && !leads_on(tokens, at + 1) {
            return;
        }
        let mut next = at;
        let mut base = module;
        loop {
            match tokens.get(next) {
                Some(TokenTree::Ident(ident)) if ident == "super" => {
                    let Some((_, parent)) = base.split_last() else {
                        return;
                    };
                    base = parent;
                }
                Some(TokenTree::Ident(ident)) if ident == "self" => {}
                // `larder` is what the binary calls the crate.
                Some(TokenTree::Ident(_)) if next == at && matches!(first, "crate" | "larder") => {
                    base = &[];
                }
                _ => break,
            }
            if !leads_on(tokens, next + 1) {
                return;
            }
            next += 3;
        }
        if next == at {
            self.crates.insert(first.to_owned());
        }
        for Branch { path, alias } in branches(&tokens[next..]) {
            let path = [base, &path].concat();
            if is_used {
                let name = alias.as_ref().or(path.last());
                self.imports
                    .extend(name.map(|name| (name.clone(), path.clone())));
            }
            if next > at {
                self.paths.insert(path);
            }
        }
    }
}

/// One path of a `use` tree, without its stem.
#[derive(Debug, Default)]
struct Branch {
    path: Vec<String>,
    alias: Option<String>,
}

/// The paths that begin here: one, or those in braces.
fn branches(tokens: &[TokenTree]) -> Vec<Branch> {
    match tokens.first() {
        Some(TokenTree::Ident(ident)) if leads_on(tokens, 1) => {
            let mut branches = branches(&tokens[3..]);
            for branch in &mut branches {
                branch.path.insert(0, ident.to_string());
            }
            branches
        }
        Some(TokenTree::Ident(ident)) => {
            let is_renamed = tokens.get(1).is_some_and(|token| is_word(token, "as"));
            let alias = tokens.get(2).filter(|_| is_renamed);
            vec![Branch {
                // `use a::{self}` names `a`.
                path: Vec::from_iter((ident != "self").then(|| ident.to_string())),
                alias: alias.map(TokenTree::to_string),
            }]
        }
        Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => vec![Branch {
            path: vec!["*".to_owned()],
            alias: None,
        }],
        Some(TokenTree::Group(group)) => {
            let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
            let parts = tokens.split(|token| is_punct(token, ','));
            parts
                .filter(|part| !part.is_empty())
                .flat_map(branches)
                .collect()
        }
        // Such as the `<` of a turbofish.
        Some(TokenTree::Punct(_) | TokenTree::Literal(_)) | None => vec![Branch::default()],
    }
}

fn begins_path(tokens: &[TokenTree], at: usize) -> bool {
    let is_keyword = |token: &TokenTree| {
        [
            "use", "as", "in", "dyn", "impl", "for", "return", "mut", "ref", "match", "if", "else",
        ]
        .iter()
        .any(|keyword| is_word(token, keyword))
    };
    if !follows_colons(tokens, at) {
        return true;
    }
    // `::vendor::x` begins a path; in `a::b`, `<T>::b` and `macro!()::b` the `b` does not.
    match at.checked_sub(3).map(|before| &tokens[before]) {
        None => true,
        Some(TokenTree::Punct(punct)) => punct.as_char() != '>',
        Some(TokenTree::Group(_) | TokenTree::Literal(_)) => false,
        Some(word @ TokenTree::Ident(_)) => is_keyword(word),
    }
}

fn follows_colons(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && leads_on(tokens, at - 2)
}

fn leads_on(tokens: &[TokenTree], at: usize) -> bool {
    [at, at + 1]
        .iter()
        .all(|&at| tokens.get(at).is_some_and(|token| is_punct(token, ':')))
}

fn is_extern(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_word(&tokens[at - 1], "crate") && is_word(&tokens[at - 2], "extern")
}

/// The name of the module whose body is the group at this place.
fn inline_module(tokens: &[TokenTree], at: usize) -> Option<String> {
    let is_module = at >= 2 && is_word(&tokens[at - 2], "mod");
    let name = &tokens[at.checked_sub(1)?];
    (is_module && matches!(name, TokenTree::Ident(_))).then(|| name.to_string())
}

/// The module that an item declares and another file holds.
fn declared_module(item: &[TokenTree]) -> Option<String> {
    let [.., keyword, name, end] = item else {
        return None;
    };
    (is_word(keyword, "mod") && is_punct(end, ';')).then(|| name.to_string())
}

fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    is_punct(hash, '#') && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// The number of an item's tokens, attributes included: to its body or its semicolon.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    // The semicolon after the braces of a `use` is left over, and does no harm.
    tokens
        .iter()
        .position(ends)
        .map_or(tokens.len(), |end| end + 1)
}

pub(super) fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

pub(super) fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}
