//! Replaces secrets in the text that reports quote, byte for byte, so that every span still fits.
//!
//! The worst case is a mistake in the line that holds the password, in a file too broken to tell which line
//! that is. Secrets are therefore recognised by how they look as well as by their keys.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::env;

/// What the parser made of a text.
#[derive(Clone, Copy)]
pub(super) enum Parsed<'t, 'd> {
    /// All of it.
    Complete(&'t DeTable<'d>),
    /// All but something that it dropped, such as the second of two equal keys.
    Partial(&'t DeTable<'d>),
    /// Nothing reliable.
    Invalid,
}

/// `text` with every secret replaced by asterisks. `${NAME}` stays: a name is not a secret, and its value was
/// never in the text. What the parser dropped is searched for line by line.
pub(super) fn redact(text: &str, parsed: Parsed<'_, '_>) -> String {
    let mut secret = Vec::new();
    let mut looks = Vec::new();
    let mut sql = Vec::new();
    if let Parsed::Complete(document) | Parsed::Partial(document) = parsed {
        secret_values(text, document, &mut secret);
        sql_values(document, &mut sql);
    }
    if let Parsed::Partial(_) | Parsed::Invalid = parsed {
        secret_lines(text, &mut looks);
    }
    user_infos(text, &mut looks);
    passwords(text, &mut looks);
    // SQL is never redacted: places in it are found by reading its escapes again.
    looks.retain(|found| {
        !sql.iter()
            .any(|sql| sql.start <= found.start && found.start < sql.end)
    });
    secret.append(&mut looks);

    let mut bytes = text.as_bytes().to_vec();
    for range in secret {
        overwrite(text, range, &mut bytes);
    }
    // Whole characters were replaced, so this is UTF-8. If it were not, nothing could be shown safely.
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

/// Words in a key whose value is a secret.
const SECRET_KEYS: [&str; 8] = [
    "url", "dsn", "secret", "token", "passwd", "pass", "pwd", "pw",
];
/// Words before a `=` that mean a password, inside strings too.
const PASSWORD_WORDS: [&str; 5] = ["password", "passwd", "pass", "pwd", "pw"];
/// Sections without secrets. Any other may be a misspelled `[repository]`.
const OPEN_SECTIONS: [&str; 4] = ["server", "cache", "defaults", "endpoint"];
/// The keys of `[repository]` whose values may be shown. Every other value there is redacted, because any
/// key may be a misspelled `url`.
pub(super) const SHOWN_KEYS: [&str; 5] = [
    "max_connections",
    "statement_timeout",
    "max_rows",
    "max_bytes",
    "max_loads_per_second",
];

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|word| key.contains(word))
}

fn secret_values(text: &str, document: &DeTable<'_>, found: &mut Vec<Range<usize>>) {
    for (section, value) in document {
        let is_open = OPEN_SECTIONS.contains(&&**section.get_ref());
        let tables = value.get_ref().as_table().into_iter();
        let rows = value.get_ref().as_array().into_iter().flatten();
        let rows = rows.filter_map(|row| row.get_ref().as_table());
        let mut has_tables = false;
        for (key, value) in tables.chain(rows).flat_map(DeTable::iter) {
            has_tables = true;
            let key = key.get_ref();
            // Nested tables of an endpoint are not searched: `url` is a good name for a parameter.
            let is_secret = if is_open {
                is_secret_key(key)
            } else {
                let is_nested = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
                is_nested || !SHOWN_KEYS.contains(&&**key)
            };
            if is_secret {
                every_scalar(text, value, found);
            }
        }
        if !is_open && !has_tables {
            every_scalar(text, value, found);
        }
    }
}

/// Every scalar in a value, at any depth.
fn every_scalar(text: &str, value: &Spanned<DeValue<'_>>, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Array(array) => {
            for item in array {
                every_scalar(text, item, found);
            }
        }
        DeValue::Table(table) => {
            for (_, item) in table {
                every_scalar(text, item, found);
            }
        }
        DeValue::String(_) => found.push(without_quotes(text, value.span())),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            found.push(value.span());
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

/// What may be secret in lines that could not be parsed: all of `[repository]` except the keys that may be
/// shown, and elsewhere everything after the `=` of a secret key.
fn secret_lines(text: &str, found: &mut Vec<Range<usize>>) {
    let mut start = 0;
    let mut is_open = true;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let word = line.trim_start_matches(|c: char| c.is_whitespace() || "[\"'".contains(c));
        let has_word = |words: &[&str]| words.iter().any(|known| word.starts_with(known));
        let is_header = line.trim_start().starts_with('[') && !line.contains(['=', ',', '"']);
        if has_word(&["repository"]) {
            is_open = false;
        } else if is_header {
            is_open = has_word(&OPEN_SECTIONS);
        }
        let is_shown = is_open || is_header || has_word(&SHOWN_KEYS);
        let equals = if is_shown {
            let lower = line.to_ascii_lowercase();
            let key = SECRET_KEYS.iter().filter_map(|word| lower.find(word)).min();
            key.and_then(|key| Some(key + line[key..].find('=')?))
        } else {
            // A line without a key continues the value of another.
            Some(line.find('=').unwrap_or(0))
        };
        if let Some(equals) = equals {
            let behind = usize::from(line[equals..].starts_with('='));
            found.push(start + equals + behind..end);
        }
        start = end;
    }
}

/// `user:password` in `scheme://user:password@host`. A password may contain anything, including `@`, `/`,
/// quotes and spaces, so the last `@` of the line ends it.
fn user_infos(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, scheme_end) in text.match_indices("://") {
        let start = at + scheme_end.len();
        let line = text[start..].split('\n').next();
        if let Some(end) = line.and_then(|line| line.rfind('@')) {
            found.push(start..start + end);
        }
    }
}

/// The value in `password=value` and `password = 'value'`.
fn passwords(text: &str, found: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    let words = PASSWORD_WORDS
        .iter()
        .flat_map(|word| lower.match_indices(word));
    for (at, key) in words {
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
        // After an opening quote, `end` counts from behind that quote.
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

fn overwrite(text: &str, range: Range<usize>, bytes: &mut [u8]) {
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

    fn redacted(text: &str) -> String {
        let (document, errors) = DeTable::parse_recoverable(text);
        let is_readable = errors.iter().all(|e| e.message() == "duplicate key");
        let parsed = match document.get_ref() {
            document if errors.is_empty() => Parsed::Complete(document),
            document if is_readable => Parsed::Partial(document),
            _ => Parsed::Invalid,
        };
        redact(text, parsed)
    }

    #[test]
    fn the_url_is_always_redacted() {
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
            "[repository]\nurl = 'x'\nurl = \"postgres://me:it's hunter2@h/d\"",
            "[repository]\nurl = 'x'\nurl = \"host=h passwd=hunter2\"",
            "[repository]\nurl = 'x'\nurl = \"\"\"\nhost=h\n hunter2\"\"\"",
            "[repository]\nurl = 'x'\nurl = [\n 'x',\n 'hunter2'\n]",
            "repository.url = 'x'\nrepository.url = 'hunter2'",
            "[repository]\nurl = 'x'\n[repository]\npas = 'hunter2'",
            "[repository]\nurl = { host = 'db', user = 'me', pass = 'hunter2' }",
            "[repository]\nurl = ['postgres://db', 'hunter2', [{ a = 'hunter2' }]]",
            "[repository]\nurl.primary = 'hunter2'",
            "[repository]\npass = 'hunter2'\npw = 'hunter2'\npasword = 'hunter2'",
            "[repository]\npassword = { a = 'hunter2' }",
            "[repository]\nmax_rows = { a = 'hunter2' }\nmax_bytes = ['hunter2']",
            "[[repository]]\npasword = 'hunter2'",
            "[repositroy]\nkey = 'hunter2'",
            "repository = 'hunter2'",
            "repository = ['hunter2']",
            "[server]\npw = ['hunter2']",
            "[[endpoint]]\ntoken = 'hunter2'",
            "[repository]\npass = hunter2",
            "[repository]\npasword = hunter2\n",
            "[repository]\nurl = [\n\"hunter2\",\n",
            "repository = {\n key = hunter2",
            "[server]\npw = hunter2",
        ] {
            let redacted = redacted(text);
            assert!(!redacted.contains("hunter2"), "{redacted}");
            assert_eq!(redacted.len(), text.len());
        }
    }

    #[test]
    fn what_is_not_secret_is_kept() {
        for text in [
            "[repository]\nurl = \"${DATABASE_URL}\"",
            "[[endpoint]]\nsql = \"select 'postgres://a:b@c'\"",
            "[[endpoint]]\nwarm_sql = \"select 'postgres://a:b@c'\"",
            "[[endpoint]]\nrefresh.probe.sql = \"select 'postgres://a:b@c'\"",
            "[[endpoint]]\nparams.url = { default = \"https://example.org\" }",
            "[[endpoint]]\nparams.password = { optional = true }",
            "[repository]\nmax_rows = 5\nstatement_timeout = \"${T}\"\nmax_bytes = '16'",
            "[[endpoint]]\nsql = 'select 1 where url = :url and pw = 1'\nsql = 'x'",
            "[server]\nlisten = '127.0.0.1:80'\nlisten = '127.0.0.1:80'",
        ] {
            assert_eq!(redacted(text), text);
        }
        assert_eq!(redacted("url = \"a${B}c\""), "url = \"*${B}*\"");
    }

    proptest! {
        #[test]
        fn length_and_lines_are_kept(text in "(url|password|repository|max_rows|pw|=|://|@|\"|'|\\$\\{A\\}|\n|ä| |x|\\[a\\]){0,20}") {
            let redacted = redacted(&text);
            prop_assert_eq!(redacted.len(), text.len());
            prop_assert_eq!(redacted.matches('\n').count(), text.matches('\n').count());
        }
    }
}
