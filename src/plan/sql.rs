//! `:name` placeholders in SQL.
//!
//! The scanner knows as much of PostgreSQL's lexical rules as it takes to say what is *not* a
//! placeholder: strings, quoted identifiers, dollar quotes, comments and casts. It does not parse SQL;
//! Postgres does.
//!
//! Where psql and the array syntax disagree, psql wins: in `a[x:y]`, `:y` is a parameter, as it would be
//! a variable there. Write `a[x : y]` for the slice. `a[1:2]` is a slice, for no name begins with a
//! digit.

mod lock;
mod scan;

use std::ops::Range;

use thiserror::Error;

use lock::LockFinder;
use scan::{Scanner, Token};

/// One statement, ready to prepare.
#[derive(Debug, Clone)]
pub struct Statement {
    text: String,
    parameters: Vec<String>,
    placeholders: Vec<Placeholder>,
}

/// One `:name` of a statement.
#[derive(Debug, Clone)]
struct Placeholder {
    /// Its index in the parameters.
    parameter: usize,
    /// Its bytes in the SQL as written.
    written: Range<usize>,
    /// The bytes of its `$n` in the text.
    text: Range<usize>,
}

/// Why SQL is not one statement with parameters. Each says where, in bytes of the SQL as written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StatementError {
    /// Nothing but white space and comments.
    #[error("there is no statement here")]
    Empty,
    /// Something follows the first statement's `;`.
    #[error("there is more than one statement here")]
    TwoStatements {
        /// What begins after the `;`.
        at: Range<usize>,
    },
    /// It begins with another word than a query does.
    #[error("only a query can stand here")]
    NotAQuery {
        /// Its first word.
        at: Range<usize>,
    },
    /// A quote or comment is never closed.
    #[error("{what} is never closed")]
    Unterminated {
        /// What was opened.
        what: Quoted,
        /// Where it was opened.
        at: Range<usize>,
    },
    /// `$1` instead of `:name`.
    #[error("parameters are written as `:name`, not by number")]
    Positional {
        /// The `$1`.
        at: Range<usize>,
    },
    /// The character NUL, which Postgres can not read.
    #[error("SQL can not contain the character NUL")]
    Nul {
        /// The character.
        at: Range<usize>,
    },
    /// `FOR UPDATE` and its like.
    #[error("this locks rows, and Larder's sessions are read-only")]
    Lock {
        /// The clause.
        at: Range<usize>,
    },
    /// White space beyond ASCII, which Postgres takes for a letter.
    #[error("U+{:04X} looks like a space, and is a letter to Postgres", u32::from(*character))]
    Space {
        /// Which.
        character: char,
        /// The character.
        at: Range<usize>,
    },
    /// `:'name'`, as psql writes a parameter's text.
    #[error("a parameter is written without quotes")]
    QuotedParameter {
        /// Its name.
        name: String,
        /// All of it.
        at: Range<usize>,
    },
    /// More parameters than the protocol can count.
    #[error("a statement has at most {PARAMETERS_MAX} parameters")]
    TooManyParameters {
        /// The first that is too many.
        at: Range<usize>,
    },
}

/// What can be left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoted {
    /// `'…'`
    String,
    /// `"…"`
    Identifier,
    /// `$tag$…$tag$`
    Dollar,
    /// `/* … */`
    Comment,
}

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::String => "this string",
            Self::Identifier => "this quoted identifier",
            Self::Dollar => "this dollar quote",
            Self::Comment => "this comment",
        })
    }
}

impl StatementError {
    /// Its place in the SQL as written; `None` for the whole of it.
    pub fn at(&self) -> Option<Range<usize>> {
        match self {
            Self::Empty => None,
            Self::TwoStatements { at }
            | Self::NotAQuery { at }
            | Self::Unterminated { at, .. }
            | Self::Positional { at }
            | Self::Nul { at }
            | Self::Lock { at }
            | Self::Space { at, .. }
            | Self::QuotedParameter { at, .. }
            | Self::TooManyParameters { at } => Some(at.clone()),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        let help = match self {
            Self::Empty => "write one SELECT, WITH, VALUES or TABLE statement",
            Self::TwoStatements { .. } => "declare one endpoint for each statement",
            Self::NotAQuery { .. } => "it must begin with SELECT, WITH, VALUES or TABLE",
            Self::Unterminated { what, .. } => match what {
                Quoted::String => "close it with ', and write '' for a quote inside",
                Quoted::Identifier => "close it with \", and write \"\" for a quote inside",
                Quoted::Dollar => "close it with the same tag",
                Quoted::Comment => "close it with */; comments nest",
            },
            Self::Positional { .. } => "give the parameter a name, as in `:country`",
            Self::Nul { .. } => "remove it",
            Self::Lock { .. } => "remove it: a query sees one state of its tables without it",
            Self::Space { .. } => "replace it with a space",
            Self::QuotedParameter { name, .. } => {
                return format!("write :{name} without quotes: it is bound, never spliced");
            }
            Self::TooManyParameters { .. } => "pass an array instead",
        };
        help.to_owned()
    }
}

/// Postgres counts parameters with 16 bits.
const PARAMETERS_MAX: usize = u16::MAX as usize;

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
        };
        let mut locks = LockFinder::new();
        let mut first_word: Option<(&str, Range<usize>)> = None;
        let mut end = None;
        // Neither in strings nor in comments can it be sent.
        if let Some(at) = sql.find('\0') {
            return Err(StatementError::Nul { at: at..at + 1 });
        }
        // Everything up to here has been copied to the text.
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
            // Whether it is a query at all is the first thing to say.
            if let Some(at) = locks.next(&sql[at.clone()], &at)
                && first_word
                    .as_ref()
                    .is_some_and(|(word, _)| is_query_word(word))
            {
                return Err(StatementError::Lock { at });
            }
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

    /// The SQL with `$1`… in place of the names. It ends with its last token, without `;` or a trailing
    /// comment, so that it can be put in parentheses.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parameters' names, in the order of `$1`…
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// Where in the SQL as written the first placeholder of the parameter `name` is.
    pub(super) fn first_use(&self, name: &str) -> Option<Range<usize>> {
        let used = |p: &&Placeholder| self.parameters[p.parameter] == name;
        self.placeholders
            .iter()
            .find(used)
            .map(|p| p.written.clone())
    }

    /// The first parameter that a message of Postgres's names by its `$n`.
    pub(super) fn first_named(&self, message: &str) -> Option<&str> {
        numbers(message).find_map(|at| self.numbered(&message[at]))
    }

    /// A message of Postgres's with `:name` for every `$n`, which nobody wrote.
    pub(super) fn in_names(&self, message: &str) -> String {
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

    /// The parameter that `$n` stands for.
    fn numbered(&self, number: &str) -> Option<&str> {
        let number: usize = number.strip_prefix('$')?.parse().ok()?;
        let parameter = self.parameters.get(number.checked_sub(1)?)?;
        Some(parameter)
    }

    /// The bytes of the SQL as written that the character `position` of the text, counted from 1 as
    /// Postgres does, came from: a whole placeholder or word. `None` where the text ends before it.
    pub(super) fn written_at(&self, written: &str, position: u32) -> Option<Range<usize>> {
        let index = usize::try_from(position).ok()?.checked_sub(1)?;
        let offset = match self.text.char_indices().nth(index) {
            Some((offset, _)) => offset,
            // Postgres points behind the last character when the statement ends too early.
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
        // A space that was put before a `$1` has no counterpart.
        let start = start.min(written.len());
        let rest = written.get(start..)?;
        let word = rest
            .find(|c: char| !scan::continues_identifier(c))
            .unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        Some(start..start + word.max(first))
    }
}

/// Where in a text there is a `$` with digits behind it.
fn numbers(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices('$').filter_map(|(start, _)| {
        let digits = &text[start + 1..];
        let len = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        (len > 0).then_some(start..start + 1 + len)
    })
}

/// What a query begins with. `WITH` may also begin a change, which a read-only session refuses.
fn is_query_word(word: &str) -> bool {
    ["select", "with", "values", "table"]
        .iter()
        .any(|query| word.eq_ignore_ascii_case(query))
}

#[cfg(test)]
mod tests;
