//! `${NAME}` and `${NAME:-default}` in values. The caller's function looks the names up; nothing here reads
//! the environment.

use std::borrow::Cow;
use std::ops::Range;

/// A reference that cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadReference {
    /// Its bytes in the value.
    pub(super) range: Range<usize>,
    pub(super) reason: Reason,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The variable is not set, and there is no default.
    Unset(String),
    /// `${` that is not followed by a name and `}`.
    Malformed,
}

/// `text` with every reference replaced. `$${` stands for a literal `${`; a default runs to the first
/// `}` and, as in a shell, also replaces an empty variable.
pub(super) fn substitute<'t>(
    text: &'t str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'t, str>, Vec<BadReference>> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut replaced = String::with_capacity(text.len());
    let mut bad = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        if text[at..start].ends_with('$') {
            replaced.push_str(&text[at..start - 1]);
            replaced.push_str("${");
            at = start + 2;
            continue;
        }
        replaced.push_str(&text[at..start]);
        let Some((name, default, end)) = reference(text, start) else {
            bad.push(BadReference {
                range: start..start + 2,
                reason: Reason::Malformed,
            });
            at = start + 2;
            continue;
        };
        match (lookup(name), default) {
            (Some(value), None) => replaced.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => replaced.push_str(&value),
            (_, Some(default)) => replaced.push_str(default),
            (None, None) => bad.push(BadReference {
                range: start..end,
                reason: Reason::Unset(name.to_owned()),
            }),
        }
        at = end;
    }
    replaced.push_str(&text[at..]);
    if bad.is_empty() {
        Ok(Cow::Owned(replaced))
    } else {
        Err(bad)
    }
}

/// The name, the default and the end of the reference that begins at `start`.
fn reference(text: &str, start: usize) -> Option<(&str, Option<&str>, usize)> {
    let body = &text[start + 2..];
    let inside = &body[..body.find('}')?];
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    is_name(name).then_some((name, default, start + 2 + inside.len() + 1))
}

/// Whether every shell accepts `name` for an environment variable.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(substitute(text, &lookup).expect("replaced"), expected);
    }

    #[test]
    fn references_are_replaced_once() {
        check("", "");
        check("a $ b {c} $d", "a $ b {c} $d");
        check("//${HOST}:${PORT:-5432}/x", "//db:5432/x");
        check("${EMPTY}|${EMPTY:-filled}|${HOST:-unused}", "|filled|db");
        check("$${HOST} ${HOST}", "${HOST} db");
        check("${TRICK}", "${HOST}");
        check("${NONE:-}", "");
    }

    #[test]
    fn every_bad_reference_is_named() {
        let bad = substitute("${NONE} ${HOST} ${ ${1X}", &lookup).expect_err("three are bad");
        let ranges: Vec<_> = bad.iter().map(|b| b.range.clone()).collect();
        assert_eq!(ranges, [0..7, 16..18, 19..21]);
        assert_eq!(bad[0].reason, Reason::Unset("NONE".to_owned()));
        assert_eq!(bad[1].reason, Reason::Malformed);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[${}A:\\- ä]{0,20}") {
            let _ = substitute(&text, &lookup);
        }
    }
}
