//! Functions named `is_…` and `has_…`: they answer a question, so they return `bool`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::mentions::{is_punct, is_word};

/// The functions that are named like a predicate and return something else.
pub(super) fn misnamed(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    read(source.parse().expect("rustc accepts it"), &mut found);
    found
}

fn read(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => read(group.stream(), found),
            TokenTree::Ident(name) if at > 0 && is_word(&tokens[at - 1], "fn") => {
                let name = name.to_string();
                let is_predicate = name.starts_with("is_") || name.starts_with("has_");
                if is_predicate && !returns_bool(&tokens[at + 1..]) {
                    found.push(name);
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Whether a function's signature, from behind its name, ends in `-> bool`.
fn returns_bool(signature: &[TokenTree]) -> bool {
    let mut angles = 0;
    let parameters = signature.iter().enumerate().position(|(at, token)| {
        let is_arrow = at > 0 && is_punct(&signature[at - 1], '-');
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => angles += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' && !is_arrow => angles -= 1,
            TokenTree::Group(group) => {
                return angles == 0 && group.delimiter() == Delimiter::Parenthesis;
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        false
    });
    let Some([dash, angle, output, end, ..]) = parameters.map(|at| &signature[at + 1..]) else {
        return false;
    };
    is_punct(dash, '-')
        && is_punct(angle, '>')
        && is_word(output, "bool")
        && (is_word(end, "where") || is_punct(end, ';') || matches!(end, TokenTree::Group(_)))
}
