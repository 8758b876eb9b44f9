//! What can be wrong with arguments, in words for clients, and with declarations, in words for operators.

use thiserror::Error;

use crate::config::suggest;

/// Why a declaration does not fit what Postgres says of its statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The parameter it is about; `None` for the statement as a whole.
    pub parameter: Option<String>,
    /// What is wrong, and the way out, in a sentence.
    pub text: String,
}

impl Mismatch {
    /// One about the statement as a whole.
    pub fn of_statement(text: impl Into<String>) -> Self {
        Self {
            parameter: None,
            text: text.into(),
        }
    }

    /// One about a parameter's declaration.
    pub fn of_parameter(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            parameter: Some(name.into()),
            text: text.into(),
        }
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a request's arguments were rejected. The texts are for clients.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArgumentError {
    /// A required parameter was not given.
    #[error("parameter `{name}` is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A parameter that the endpoint does not declare.
    #[error("{}", unknown_sentence(name, known))]
    Unknown {
        /// Its name, shortened and escaped.
        name: String,
        /// Those the endpoint takes from the query string.
        known: Vec<String>,
    },
    /// A parameter was given more than once.
    #[error("parameter `{name}` is given more than once")]
    Repeated {
        /// Its name.
        name: String,
    },
    /// A value its parameter does not allow.
    #[error("parameter `{name}` {reason}")]
    Invalid {
        /// Its name.
        name: String,
        /// What it must be, as the rest of the sentence.
        reason: String,
    },
}

fn unknown_sentence(name: &str, known: &[String]) -> String {
    let known = || known.iter().map(String::as_str);
    if known().next().is_none() {
        return format!("there is no parameter `{name}`; the query string takes none");
    }
    let allowed = suggest::list(known());
    match suggest::nearest(name, known()) {
        Some(near) => format!(
            "there is no parameter `{name}`; did you mean `{near}`? The query string takes {allowed}"
        ),
        None => format!("there is no parameter `{name}`; the query string takes {allowed}"),
    }
}

/// What a client sent, as it is quoted back.
pub(super) fn excerpt(text: &str) -> String {
    if text.is_empty() {
        "empty".to_owned()
    } else {
        format!("`{}`", shortened(text))
    }
}

/// At most 32 characters, those that could confuse a log or a terminal escaped.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 32;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
