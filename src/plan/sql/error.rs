//! Why SQL is not one query with named parameters, and what to do about it.

use std::ops::Range;

use thiserror::Error;

/// Postgres counts parameters with 16 bits.
pub(super) const PARAMETERS_MAX: usize = u16::MAX as usize;

/// Why SQL is not one query with named parameters. Places are bytes of the SQL as written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StatementError {
    /// It has only white space and comments.
    #[error("this SQL has no statement")]
    Empty,
    /// Something follows the first statement's `;`.
    #[error("this SQL has more than one statement")]
    TwoStatements {
        /// The start of the second statement.
        at: Range<usize>,
    },
    /// It does not begin like a query.
    #[error("this is not a query")]
    NotAQuery {
        /// Its first word.
        at: Range<usize>,
    },
    /// A quote or comment is never closed.
    #[error("{what} is never closed")]
    Unterminated {
        /// What is not closed.
        what: Quoted,
        /// Where it begins.
        at: Range<usize>,
    },
    /// `$1` instead of `:name`.
    #[error("parameters are written `:name`, not `$1`")]
    Positional {
        /// The `$1`.
        at: Range<usize>,
    },
    /// It contains the NUL character, which Postgres cannot read.
    #[error("SQL cannot contain the NUL character")]
    Nul {
        /// Its place.
        at: Range<usize>,
    },
    /// `FOR UPDATE` and the like.
    #[error("this locks rows, but Larder's sessions are read-only")]
    Lock {
        /// The clause.
        at: Range<usize>,
    },
    /// It contains white space beyond ASCII, which is a letter to Postgres.
    #[error("U+{:04X} looks like a space but is a letter to Postgres", u32::from(*character))]
    Space {
        /// Which character.
        character: char,
        /// Its place.
        at: Range<usize>,
    },
    /// `:'name'`, psql's syntax for a quoted variable.
    #[error("a parameter is written without quotes")]
    QuotedParameter {
        /// Its name.
        name: String,
        /// Its place, quotes included.
        at: Range<usize>,
    },
    /// It has more parameters than the protocol allows.
    #[error("a statement has at most {PARAMETERS_MAX} parameters")]
    TooManyParameters {
        /// The first one beyond the limit.
        at: Range<usize>,
    },
}

/// What can be left unclosed.
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
    /// Its place in the SQL as written; `None` for all of it.
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
            Self::Lock { .. } => "remove it: a query sees a consistent snapshot without it",
            Self::Space { .. } => "replace it with a space",
            Self::QuotedParameter { name, .. } => {
                return format!("write :{name}: it is bound, never spliced");
            }
            Self::TooManyParameters { .. } => "pass an array instead",
        };
        help.to_owned()
    }
}
