//! Strikes secrets out of the text that reports quote, byte for byte, so that every span still fits.
//!
//! Written for the worst day: a mistake in the very line that holds the password, in a file too
//! broken to say which line that is. It therefore goes by how secrets look as well as by their keys.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::env;

/// `text` with every secret replaced by asterisks. `${NAME}` stays: a name is no secret, and what it
/// stands for was never in the text. `document` is what the parser made of it, `None` where it could
/// not.
pub(super) fn strike_out(text: &str, document: Option<&DeTable<'_>>) -> String {
    let mut secret = Vec::new();
    let mut sql = Vec::new();
    match document {
        Some(document) => {
            secret_values(text, document, &mut secret);
            sql_values(document, &mut sql);
        }
        None => secret_lines(text, &mut secret),
    }
    let mut looks = Vec::new();
    user_infos(text, &mut looks);
    passwords(text, &mut looks);
    // Places in SQL are found by reading its escapes again, so SQL stays as it was written.
    looks.retain(|found| {
        !sql.iter()
            .any(|sql| sql.start <= found.start && found.end <= sql.end)
    });
    secret.append(&mut looks);

    let mut bytes = text.as_bytes().to_vec();
    for range in secret {
        strike(text, range, &mut bytes);
    }
    // Whole characters were replaced, so this is UTF-8; were it not, nothing may be shown.
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

/// Words in a key that announce a secret.
const SECRET_KEYS: [&str; 5] = ["url", "password", "passwd", "secret", "dsn"];

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|word| key.contains(word))
}

/// Values of secret keys in `[repository]` and its like. Endpoints are left out: `url` is a fine name
/// for a parameter.
fn secret_values(text: &str, document: &DeTable<'_>, found: &mut Vec<Range<usize>>) {
    let sections = document
        .iter()
        .filter_map(|(_, section)| section.get_ref().as_table());
    for (key, value) in sections.flat_map(DeTable::iter).chain(document.iter()) {
        let is_text = matches!(value.get_ref(), DeValue::String(_));
        if is_text && is_secret_key(key.get_ref()) {
            found.push(without_quotes(text, value.span()));
        }
    }
}

fn sql_values(document: &DeTable<'_>, found: &mut Vec<Range<usize>>) {
    let endpoints = document
        .get("endpoint")
        .and_then(|e| e.get_ref().as_array());
    for endpoint in endpoints.into_iter().flat_map(|array| array.iter()) {
        let endpoint = endpoint.get_ref();
        let probe = endpoint
            .get("refresh")
            .and_then(|r| r.get_ref().get("probe"));
        let written = [
            endpoint.get("sql"),
            endpoint.get("warm_sql"),
            probe.and_then(|probe| probe.get_ref().get("sql")),
        ];
        found.extend(written.into_iter().flatten().map(|sql| sql.span()));
    }
}

/// All that follows a secret key's `=` on its line, in a file that has no keys yet.
fn secret_lines(text: &str, found: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(equals) = line
            .find('=')
            .filter(|equals| is_secret_key(&line[..*equals]))
        {
            found.push(start + equals + 1..start + line.len());
        }
        start += line.len();
    }
}

/// `user:password` in `scheme://user:password@host`. A password may hold a bare `@` or `/`, so the
/// last `@` of the word ends it.
fn user_infos(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, scheme_end) in text.match_indices("://") {
        let start = at + scheme_end.len();
        let word = text[start..]
            .split(|c: char| c.is_whitespace() || c == '"' || c == '\'')
            .next();
        if let Some(end) = word.and_then(|word| word.rfind('@')) {
            found.push(start..start + end);
        }
    }
}

/// The value in `password=value` and `password = 'value'`.
fn passwords(text: &str, found: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for (at, key) in lower.match_indices("password") {
        let after_key = text[at + key.len()..].trim_start_matches([' ', '\t', '"', '\'']);
        let Some(value) = after_key.strip_prefix('=') else {
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let start = text.len() - value.len();
        let (start, end) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => (start + 1, value[1..].find([quote, '\n'])),
            // A parameter of that name, not a password.
            None | Some('{' | '[') => continue,
            Some(_) => (
                start,
                value.find(|c: char| c.is_whitespace() || c == '"' || c == '\''),
            ),
        };
        found.push(start..end.map_or(text.len(), |end| start + end));
    }
}

fn without_quotes(text: &str, range: Range<usize>) -> Range<usize> {
    let quotes = |c: char| c == '"' || c == '\'';
    let value = &text[range.clone()];
    let start = range.end - value.trim_start_matches(quotes).len();
    let end = range.start + value.trim_end_matches(quotes).len();
    start..end.max(start)
}

fn strike(text: &str, range: Range<usize>, bytes: &mut [u8]) {
    let mut at = range.start;
    while at < range.end {
        let rest = &text[at..range.end];
        if let Some(reference) = plain_reference(rest) {
            at += reference;
            continue;
        }
        let Some(character) = rest.chars().next() else {
            return;
        };
        let len = character.len_utf8();
        if character != '\n' && character != '\r' {
            bytes[at..at + len].fill(b'*');
        }
        at += len;
    }
}

/// The length of a `${NAME}` at the start of `rest`.
fn plain_reference(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix("${")?.split_once('}')?.0;
    env::is_name(inside).then_some(inside.len() + 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn struck(text: &str) -> String {
        let (document, errors) = DeTable::parse_recoverable(text);
        strike_out(text, errors.is_empty().then_some(document.get_ref()))
    }

    #[test]
    fn the_url_never_stays() {
        for text in [
            "[repository]\nurl = \"postgres://me:hunter2@db/x\"",
            "[repository]\nurl = \"\"\"\npostgres://me:hunter2@db/x\"\"\"",
            "repository = { url = 'host=db password=hunter2' }",
            "repository.url = \"host=db user=hunter2\"",
            "[repository]\nurl = \"${URL:-postgres://me:hunter2@db/x}\"",
            "[repository]\nulr = \"postgres://me:hunter2@db/x\"",
            "[repository]\nconnection = \"host=db PASSWORD = 'hunter2' port=1\"",
            "[repository]\nurl = \"postgres://me:hunter2@db/x",
            "[repository\nurl = hunter2",
            "# was postgres://me:hun@ter2/hunter2@db/x",
        ] {
            let struck = struck(text);
            assert!(!struck.contains("hunter2"), "{struck}");
            assert_eq!(struck.len(), text.len());
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "[repository]\nurl = \"${DATABASE_URL}\"",
            "[[endpoint]]\nsql = \"select 'postgres://a:b@c'\"",
            "[[endpoint]]\nwarm_sql = \"select 'postgres://a:b@c'\"",
            "[[endpoint]]\nrefresh.probe.sql = \"select 'postgres://a:b@c'\"",
            "[[endpoint]]\nparams.url = { default = \"https://example.org\" }",
            "[[endpoint]]\nparams.password = { optional = true }",
        ] {
            assert_eq!(struck(text), text);
        }
        assert_eq!(struck("url = \"a${B}c\""), "url = \"*${B}*\"");
    }

    proptest! {
        #[test]
        fn length_and_lines_are_kept(text in "(url|password|=|://|@|\"|'|\\$\\{A\\}|\n|ä| |x|\\[a\\]){0,20}") {
            let struck = struck(&text);
            prop_assert_eq!(struck.len(), text.len());
            prop_assert_eq!(struck.matches('\n').count(), text.matches('\n').count());
        }
    }
}
