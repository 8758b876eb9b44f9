//! What a source text names, found in its tokens: comments and strings are none, and macros' arguments
//! are tokens like all others. It knows nothing of what may be named.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a source text names outside of its tests, in code and in macros' arguments alike.
#[derive(Default)]
pub(super) struct Mentions {
    /// Children of the crate's root; `*` for all of them.
    pub(super) modules: BTreeSet<String>,
    /// Everything that a path begins with: crates, and much else.
    pub(super) crates: BTreeSet<String>,
}

impl Mentions {
    /// Reads a source text from which so many `super`s lead to the crate's root.
    pub(super) fn of(source: &str, depth: usize) -> Self {
        let tokens: TokenStream = source.parse().expect("rustc has read it");
        let mut mentions = Self::default();
        mentions.read(tokens, depth);
        mentions
    }

    fn read(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if is_test_attribute(&tokens[at..]) {
                at += item_length(&tokens[at..]);
                continue;
            }
            match token {
                TokenTree::Ident(ident) if begins_path(&tokens, at) => {
                    self.read_path(&ident.to_string(), &tokens, at, depth);
                }
                // The branches of a `use` were read with its stem.
                TokenTree::Group(_) if follows_colons(&tokens, at) => {}
                TokenTree::Group(group) => {
                    let inner = depth + usize::from(is_inline_module(&tokens, at));
                    self.read(group.stream(), inner);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    fn read_path(&mut self, first: &str, tokens: &[TokenTree], at: usize, depth: usize) {
        let is_used = at > 0 && is_word(&tokens[at - 1], "use") || is_extern(tokens, at);
        if !is_used && !leads_on(tokens, at + 1) {
            return;
        }
        let mut next = at;
        let mut ups = 0;
        loop {
            match tokens.get(next) {
                Some(TokenTree::Ident(ident)) if ident == "super" => ups += 1,
                Some(TokenTree::Ident(ident)) if ident == "self" => {}
                _ => break,
            }
            if !leads_on(tokens, next + 1) {
                return;
            }
            next += 3;
        }
        // `larder` is what the binary calls the crate.
        if matches!(first, "crate" | "larder") {
            self.modules.extend(children(tokens.get(at + 3)));
        } else if next == at {
            self.crates.insert(first.to_owned());
        } else if ups > 0 && ups >= depth {
            self.modules.extend(children(tokens.get(next)));
        }
    }
}

/// The names at the first level of what follows a path's stem: one, or those in braces.
fn children(token: Option<&TokenTree>) -> Vec<String> {
    match token {
        Some(TokenTree::Ident(ident)) => vec![ident.to_string()],
        Some(TokenTree::Punct(_)) => vec!["*".to_owned()],
        Some(TokenTree::Group(group)) => {
            let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
            let branches = tokens.split(|token| is_punct(token, ','));
            branches
                .flat_map(|branch| children(branch.first()))
                .filter(|name| name != "self")
                .collect()
        }
        Some(TokenTree::Literal(_)) | None => Vec::new(),
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

fn is_inline_module(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_word(&tokens[at - 2], "mod") && matches!(tokens[at - 1], TokenTree::Ident(_))
}

fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    is_punct(hash, '#') && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// How many tokens an item takes, attributes included: to its body or its semicolon.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    // A `use` with braces has a semicolon after them, which belongs to nobody and harms nothing.
    tokens
        .iter()
        .position(ends)
        .map_or(tokens.len(), |end| end + 1)
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}
