//! An error that Postgres reports, with what Larder needs of it.

use tokio_postgres::error::{DbError, ErrorPosition};

use super::sqlstate::is_defined;

/// An error that Postgres reports.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// The detail and the hint, if any.
    pub detail: Option<String>,
    /// The function in Postgres's source code that raised it; it is not translated.
    pub routine: Option<String>,
    /// The position in the statement as it was sent, in characters from 1.
    pub position: Option<u32>,
}

impl Refusal {
    pub(super) fn new(error: &DbError) -> Self {
        Self {
            code: error.code().code().to_owned(),
            message: cut(error.message()),
            detail: match (error.detail(), error.hint()) {
                (Some(detail), Some(hint)) => Some(cut(&format!("{detail}; {hint}"))),
                (one, other) => one.or(other).map(cut),
            },
            routine: error.routine().map(str::to_owned),
            position: match error.position() {
                Some(ErrorPosition::Original(position)) => Some(*position),
                Some(ErrorPosition::Internal { .. }) | None => None,
            },
        }
    }

    /// The first two characters of the SQLSTATE: see Postgres's documentation, appendix A.
    pub(super) fn class(&self) -> &str {
        self.code.get(..2).unwrap_or_default()
    }

    /// The message with the SQLSTATE, unless Postgres does not define it.
    pub(super) fn with_code(&self) -> String {
        let Self { message, code, .. } = self;
        if is_defined(code) {
            format!("{message} ({code})")
        } else {
            message.clone()
        }
    }

    /// Whether it is an arithmetic error. A query that fails like this for any number may still succeed for
    /// NULL, which nothing is computed from.
    pub fn is_arithmetic(&self) -> bool {
        matches!(self.code.as_str(), "22003" | "22008" | "22012")
    }

    /// Whether it was raised explicitly, by a `RAISE` without a code or with a code that neither the SQL
    /// standard nor Postgres defines.
    pub fn is_raised(&self) -> bool {
        let is_own = self
            .code
            .starts_with(|c| matches!(c, '5'..='9' | 'I'..='Z'));
        is_own && !matches!(self.class(), "53" | "54" | "55" | "57" | "58" | "72" | "XX")
    }
}

/// The most bytes of a message that are kept: a function may raise an error of megabytes, and the last error
/// of each key is kept.
const TEXT_MAX: usize = 2048;

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    let rest = if end < text.len() { "..." } else { "" };
    format!("{}{rest}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str) -> Refusal {
        Refusal {
            code: code.to_owned(),
            message: String::new(),
            detail: None,
            routine: None,
            position: None,
        }
    }

    #[test]
    fn codes_that_nobody_defines_are_those_of_a_raise() {
        for raised in ["P0001", "P0002", "LR404", "99001", "ZZ001"] {
            assert!(refusal(raised).is_raised(), "{raised}");
        }
        for own in [
            "22012", "42704", "54000", "55000", "XX000", "HV000", "F0000", "2201B",
        ] {
            assert!(!refusal(own).is_raised(), "{own}");
        }
    }
}
