//! Splits SQL into tokens by PostgreSQL's lexical rules, as far as it takes to find each `:name`.

use std::ops::Range;

use super::error::{Quoted, StatementError};

/// A token of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// White space or a comment.
    Blank,
    /// `:name`
    Parameter,
    /// `;`
    Semicolon,
    /// `(`
    OpenParenthesis,
    /// Anything else: a word, a number, a quoted thing, a character of an operator.
    Other,
}

/// The tokens of some SQL, without gaps, up to its end or the first error.
pub(super) struct Scanner<'s> {
    sql: &'s str,
    at: usize,
}

impl<'s> Scanner<'s> {
    pub(super) fn new(sql: &'s str) -> Self {
        Self { sql, at: 0 }
    }

    fn rest(&self) -> &'s str {
        &self.sql[self.at..]
    }

    /// The token at the start of the rest, and its length.
    fn token(&self, first: char) -> Result<(Token, usize), StatementError> {
        let rest = self.rest();
        let open = |what, len| self.unterminated(what, len);
        Ok(match first {
            c if is_space(c) => (Token::Blank, prefix_len(rest, is_space)),
            '-' if rest.starts_with("--") => (Token::Blank, prefix_len(rest, |c| !is_newline(c))),
            '/' if rest.starts_with("/*") => (
                Token::Blank,
                comment_len(rest).ok_or_else(|| open(Quoted::Comment, 2))?,
            ),
            '\'' => (
                Token::Other,
                quoted_len(rest, '\'').ok_or_else(|| open(Quoted::String, 1))?,
            ),
            '"' => (
                Token::Other,
                quoted_len(rest, '"').ok_or_else(|| open(Quoted::Identifier, 1))?,
            ),
            '$' => return self.dollar(),
            c if starts_identifier(c) => {
                let word = prefix_len(rest, continues_identifier);
                let is_escape_string =
                    matches!(&rest[..word], "e" | "E") && rest[word..].starts_with('\'');
                if is_escape_string {
                    let string = escape_string_len(&rest[word..]);
                    (
                        Token::Other,
                        word + string.ok_or_else(|| open(Quoted::String, 2))?,
                    )
                } else {
                    (Token::Other, word)
                }
            }
            c if c.is_ascii_digit() => (Token::Other, prefix_len(rest, |c| c.is_ascii_digit())),
            ':' if let Some(name) = quoted_name(&rest[1..]) => {
                return Err(StatementError::QuotedParameter {
                    name: name.to_owned(),
                    at: self.at..self.at + name.len() + 3,
                });
            }
            ':' if rest.starts_with("::") || rest.starts_with(":=") => (Token::Other, 2),
            ':' if rest[1..].starts_with(starts_identifier) => {
                (Token::Parameter, 1 + prefix_len(&rest[1..], continues_name))
            }
            ';' => (Token::Semicolon, 1),
            '(' => (Token::OpenParenthesis, 1),
            other => (Token::Other, other.len_utf8()),
        })
    }

    /// A dollar quote, a positional parameter, or a lone `$`, which Postgres will reject.
    fn dollar(&self) -> Result<(Token, usize), StatementError> {
        let rest = self.rest();
        let digits = prefix_len(&rest[1..], |c| c.is_ascii_digit());
        if digits > 0 {
            return Err(StatementError::Positional {
                at: self.at..self.at + 1 + digits,
            });
        }
        let tag = prefix_len(&rest[1..], continues_name);
        if !rest[1 + tag..].starts_with('$') {
            return Ok((Token::Other, 1));
        }
        let delimiter = &rest[..tag + 2];
        let body = &rest[delimiter.len()..];
        match body.find(delimiter) {
            Some(len) => Ok((Token::Other, len + 2 * delimiter.len())),
            None => Err(self.unterminated(Quoted::Dollar, delimiter.len())),
        }
    }

    /// The token, unless it is a word that contains a character that looks like a space.
    fn without_odd_space(&self, token: (Token, usize)) -> Result<(Token, usize), StatementError> {
        let text = &self.rest()[..token.1];
        let word = text.strip_prefix(':').unwrap_or(text);
        if !word.starts_with(starts_identifier) || word.ends_with('\'') {
            return Ok(token);
        }
        match text.char_indices().find(|(_, c)| is_odd_space(*c)) {
            None => Ok(token),
            Some((offset, character)) => {
                let start = self.at + offset;
                Err(StatementError::Space {
                    character,
                    at: start..start + character.len_utf8(),
                })
            }
        }
    }

    fn unterminated(&self, what: Quoted, len: usize) -> StatementError {
        StatementError::Unterminated {
            what,
            at: self.at..self.at + len,
        }
    }
}

impl Iterator for Scanner<'_> {
    type Item = Result<(Token, Range<usize>), StatementError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.rest().chars().next()?;
        match self
            .token(first)
            .and_then(|token| self.without_odd_space(token))
        {
            Ok((token, len)) => {
                let at = self.at..self.at + len;
                self.at = at.end;
                Some(Ok((token, at)))
            }
            Err(error) => {
                self.at = self.sql.len();
                Some(Err(error))
            }
        }
    }
}

/// Letters, `_` and every character beyond ASCII, as in PostgreSQL.
fn starts_identifier(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// Also digits and `$`: `a$1` is one identifier.
pub(super) fn continues_identifier(c: char) -> bool {
    continues_name(c) || c == '$'
}

/// Whether a character may follow in a parameter's name or a dollar quote's tag.
fn continues_name(c: char) -> bool {
    starts_identifier(c) || c.is_ascii_digit()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// Unicode spaces, which get into SQL by copying, and those of zero width.
fn is_odd_space(c: char) -> bool {
    !c.is_ascii() && c.is_whitespace() || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}')
}

/// The name in a `'name'` at the start of `rest`.
fn quoted_name(rest: &str) -> Option<&str> {
    let (name, _) = rest.strip_prefix('\'')?.split_once('\'')?;
    (name.starts_with(starts_identifier) && name.chars().all(continues_name)).then_some(name)
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

fn prefix_len(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of a quoted text whose inner quotes are doubled.
fn quoted_len(text: &str, quote: char) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(quote)? + 1;
        if !text[at..].starts_with(quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// The length of the string after an `E`, in which `\` escapes the next character. A continuation after a
/// line end follows the same rule.
fn escape_string_len(text: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(['\'', '\\'])?;
        if text[at..].starts_with('\\') {
            at += 1;
            at += text[at..].chars().next()?.len_utf8();
            continue;
        }
        at += 1;
        if text[at..].starts_with('\'') {
            at += 1;
        } else if let Some(gap) = continuation_len(&text[at..]) {
            at += gap + 1;
        } else {
            return Some(at);
        }
    }
}

/// The length of the white space before the continuation of a string, which must contain a line end.
fn continuation_len(text: &str) -> Option<usize> {
    let mut at = 0;
    let mut has_newline = false;
    loop {
        let rest = &text[at..];
        at += match rest.chars().next()? {
            '\'' => return has_newline.then_some(at),
            c if is_space(c) => {
                has_newline |= is_newline(c);
                1
            }
            '-' if rest.starts_with("--") => prefix_len(rest, |c| !is_newline(c)),
            _ => return None,
        };
    }
}

/// The length of a comment, including nested ones.
fn comment_len(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
}

/// Whether a query begins with this word. `WITH` may also begin a change, which a read-only session rejects.
pub(super) fn is_query_word(word: &str) -> bool {
    ["select", "with", "values", "table"]
        .iter()
        .any(|query| word.eq_ignore_ascii_case(query))
}
