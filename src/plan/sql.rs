//! `:name` placeholders in SQL.
//!
//! The scanner implements the lexical rules of PostgreSQL that tell what is *not* a placeholder: strings,
//! quoted identifiers, dollar quotes, comments and casts. It does not parse SQL; Postgres does.
//!
//! If psql and array slices conflict, psql wins: in `a[x:y]`, `:y` is a parameter, since psql would take it
//! for a variable. Write `a[x : y]` for the slice. `a[1:2]` is a slice, since no name begins with a digit.

mod error; // why SQL is not one query
mod locking_clause; // finds `FOR UPDATE` and the like
mod scan; // splits SQL into tokens
mod session_values; // finds `current_user` and the like

use std::ops::Range;

pub use error::{Quoted, StatementError};
pub use session_values::SessionValue;

use error::PARAMETERS_MAX;
use locking_clause::LockFinder;
use scan::{Scanner, Token, is_query_word};
use session_values::SessionValueFinder;

/// One statement, ready to be prepared.
#[derive(Debug, Clone)]
pub struct Statement {
    text: String,
    parameters: Vec<String>,
    placeholders: Vec<Placeholder>,
    session_values: Vec<SessionValue>,
}

/// One `:name` of a statement.
#[derive(Debug, Clone)]
struct Placeholder {
    /// The index of its parameter.
    parameter: usize,
    /// Its bytes in the SQL as written.
    written: Range<usize>,
    /// The bytes of its `$n` in the text.
    text: Range<usize>,
}

impl Statement {
    /// Finds the placeholders of `sql`.
    ///
    /// # Errors
    /// The first thing that keeps it from being one query with named parameters.
    pub fn parse(sql: &str) -> Result<Self, StatementError> {
        let mut statement = Self {
            text: String::with_capacity(sql.len()),
            parameters: Vec::new(),
            placeholders: Vec::new(),
            session_values: Vec::new(),
        };
        let mut locks = LockFinder::new();
        let mut finder = SessionValueFinder::default();
        let mut first_word: Option<(&str, Range<usize>)> = None;
        let mut end = None;
        // Not even strings and comments may contain it.
        if let Some(at) = sql.find('\0') {
            return Err(StatementError::Nul { at: at..at + 1 });
        }
        // The text has everything up to this byte.
        let mut copied = 0;
        let mut last_token_end = 0;
        for token in Scanner::new(sql) {
            let (token, at) = token?;
            if matches!(token, Token::Blank) {
                continue;
            }
            if end.is_some() {
                if token == Token::Semicolon {
                    continue;
                }
                return Err(StatementError::TwoStatements { at });
            }
            if first_word.is_none() && token != Token::OpenParenthesis {
                first_word = Some((&sql[at.clone()], at.clone()));
            }
            // If this is not a query at all, that is the error to report.
            if let Some(at) = locks.next(&sql[at.clone()], &at)
                && first_word
                    .as_ref()
                    .is_some_and(|(word, _)| is_query_word(word))
            {
                return Err(StatementError::Lock { at });
            }
            statement
                .session_values
                .extend(finder.next(&sql[at.clone()]));
            match token {
                Token::Semicolon => {
                    end = Some(at.start);
                    continue;
                }
                Token::Parameter => {
                    statement.text.push_str(&sql[copied..at.start]);
                    statement.push_placeholder(&sql[at.start + 1..at.end], at.clone())?;
                    copied = at.end;
                }
                Token::Blank | Token::OpenParenthesis | Token::Other => {}
            }
            last_token_end = at.end;
        }
        statement.text.push_str(&sql[copied..last_token_end]);
        match first_word {
            None => Err(StatementError::Empty),
            Some((";", _)) => Err(StatementError::Empty),
            Some((word, at)) if !is_query_word(word) => Err(StatementError::NotAQuery { at }),
            Some(_) => Ok(statement),
        }
    }

    fn push_placeholder(
        &mut self,
        name: &str,
        written: Range<usize>,
    ) -> Result<(), StatementError> {
        let known = self
            .parameters
            .iter()
            .position(|parameter| parameter == name);
        let parameter = known.unwrap_or_else(|| {
            self.parameters.push(name.to_owned());
            self.parameters.len() - 1
        });
        if parameter >= PARAMETERS_MAX {
            return Err(StatementError::TooManyParameters { at: written });
        }
        // `LIMIT:n` is two tokens, but `LIMIT$1` would be one identifier.
        if self
            .text
            .chars()
            .next_back()
            .is_some_and(scan::continues_identifier)
        {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(&format!("${}", parameter + 1));
        let text = start..self.text.len();
        self.placeholders.push(Placeholder {
            parameter,
            written,
            text,
        });
        Ok(())
    }

    /// The SQL with `$1`… for the names. It ends with its last token, without `;` or a trailing comment, so
    /// that it can be put in parentheses.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parameters' names, in the order of `$1`…
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// The expressions whose values are those of the session, such as `current_user`.
    pub fn session_values(&self) -> &[SessionValue] {
        &self.session_values
    }

    /// The first placeholder of the parameter `name`, in bytes of the SQL as written.
    pub(super) fn first_use(&self, name: &str) -> Option<Range<usize>> {
        let used = |p: &&Placeholder| self.parameters[p.parameter] == name;
        self.placeholders
            .iter()
            .find(used)
            .map(|p| p.written.clone())
    }

    /// The first parameter that a message from Postgres mentions as `$n`.
    pub(super) fn first_mentioned(&self, message: &str) -> Option<&str> {
        numbers(message).find_map(|at| self.numbered(&message[at]))
    }

    /// A message from Postgres with `:name` for every `$n`.
    pub(super) fn with_names(&self, message: &str) -> String {
        let mut named = String::with_capacity(message.len());
        let mut copied = 0;
        for at in numbers(message) {
            if let Some(name) = self.numbered(&message[at.clone()]) {
                named.push_str(&message[copied..at.start]);
                named.push(':');
                named.push_str(name);
                copied = at.end;
            }
        }
        named.push_str(&message[copied..]);
        named
    }

    /// The parameter of a `$n`.
    fn numbered(&self, number: &str) -> Option<&str> {
        let number: usize = number.strip_prefix('$')?.parse().ok()?;
        let parameter = self.parameters.get(number.checked_sub(1)?)?;
        Some(parameter)
    }

    /// The placeholder or word that contains the character `position` of the text, in bytes of the SQL as
    /// written. Postgres counts characters from 1. `None` if the text is shorter.
    pub(super) fn written_at(&self, written: &str, position: u32) -> Option<Range<usize>> {
        let index = usize::try_from(position).ok()?.checked_sub(1)?;
        let offset = match self.text.char_indices().nth(index) {
            Some((offset, _)) => offset,
            // For a statement that ends too early, Postgres points behind its last character.
            None if index == self.text.chars().count() => self.text.len(),
            None => return None,
        };
        let before = self
            .placeholders
            .iter()
            .take_while(|p| p.text.start <= offset)
            .last();
        let start = match before {
            Some(p) if offset < p.text.end => return Some(p.written.clone()),
            Some(p) => p.written.end + (offset - p.text.end),
            None => offset,
        };
        // A space that was inserted before a `$1` has no counterpart.
        let start = start.min(written.len());
        let rest = written.get(start..)?;
        let word = rest
            .find(|c: char| !scan::continues_identifier(c))
            .unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        Some(start..start + word.max(first))
    }
}

/// The places of `$` followed by digits.
fn numbers(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices('$').filter_map(|(start, _)| {
        let digits = &text[start + 1..];
        let len = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        (len > 0).then_some(start..start + 1 + len)
    })
}

#[cfg(test)]
mod tests;
