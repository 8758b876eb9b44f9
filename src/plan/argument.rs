//! The typed values of one request, and the rules that make them from text.
//!
//! A [`Signature`] is an endpoint's parameters once Postgres has said their types. It turns what a
//! client sent into [`Arguments`]: canonical text per parameter, so that two spellings of one value
//! are one key. Values are bound as text under the described type, never spliced into SQL.
//!
//! What is accepted is stricter than Postgres where its own spelling depends on settings or on the
//! clock: `01/02/03` is no date here, and neither is `tomorrow`, whose answer could not be kept.

mod number;
mod rule;
mod time;
mod value;

use std::borrow::Cow;

use thiserror::Error;

use super::{Endpoint, Place, UnknownParameters};
use crate::config::suggest;
use rule::Rule;

/// The longest text of one argument in bytes, whatever its `max_length` in characters: keys are kept
/// in memory, and no sensible argument comes near.
pub const ARGUMENT_BYTES_MAX: usize = 64 << 10;

/// A parameter's type, as far as its text can be checked without Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`, `varchar`, `char(n)`, `name`, and domains over them
    Text,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    TimestampTz,
    /// `json` or `jsonb`
    Json,
    /// A type only Postgres can parse, enums among them, by its name: its own refusal becomes the client's 400.
    Other(String),
}

/// The arguments of one request in the order of the statement's `$1`…; `None` binds NULL.
///
/// Canonical: equal values are equal texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Arguments(Box<[Option<Box<str>>]>);

impl Arguments {
    /// The arguments of an endpoint without parameters.
    pub fn none() -> Self {
        Self::default()
    }

    /// Arguments that are known to be canonical.
    pub(super) fn new(values: Vec<Option<Box<str>>>) -> Self {
        Self(values.into_boxed_slice())
    }

    /// The texts to bind.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.0.iter().map(Option::as_deref)
    }

    /// The bytes the texts take.
    pub fn size(&self) -> usize {
        self.0
            .iter()
            .map(|v| size_of::<Option<Box<str>>>() + v.as_ref().map_or(0, |t| t.len()))
            .sum()
    }
}

/// An endpoint's parameters with the types Postgres gave them.
#[derive(Debug)]
pub struct Signature {
    rules: Vec<Rule>,
}

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

/// Why a request's arguments were refused. Written for clients.
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

impl Signature {
    /// The endpoint's parameters with their types, in the order of the statement's `$1`…
    ///
    /// # Errors
    /// A [`Mismatch`] for every default, limit and allowed value that its type does not allow.
    pub fn new(endpoint: &Endpoint, types: Vec<ParameterType>) -> Result<Self, Vec<Mismatch>> {
        if types.len() != endpoint.parameters.len() {
            return Err(vec![Mismatch::of_statement(format!(
                "the statement has {} parameters, and {} are declared",
                types.len(),
                endpoint.parameters.len()
            ))]);
        }
        let mut mistakes = Vec::new();
        let rules = endpoint
            .parameters
            .iter()
            .zip(types)
            .map(|(parameter, kind)| Rule::new(parameter, kind, &mut mistakes))
            .collect();
        if mistakes.is_empty() {
            Ok(Self { rules })
        } else {
            Err(mistakes)
        }
    }

    /// The parameters' types, in the order of the statement's `$1`…
    pub fn types(&self) -> impl ExactSizeIterator<Item = &ParameterType> {
        self.rules.iter().map(Rule::kind)
    }

    /// The arguments of a request: names and percent-decoded values of its path and its query string.
    /// `endpoint` is the one this signature was made for.
    ///
    /// # Errors
    /// [`ArgumentError`], for the client that sent them.
    pub fn arguments(
        &self,
        endpoint: &Endpoint,
        path: &[(&str, Cow<'_, str>)],
        query: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Result<Arguments, ArgumentError> {
        let query = query.iter().map(|(name, text)| {
            let (name, text): (&str, &str) = (name, text);
            Ok((Cow::Borrowed(name), Cow::Borrowed(text)))
        });
        self.read(endpoint, path, query)
    }

    /// The same, of a query string that is read while it is decoded: what follows the first mistake is
    /// not looked at, however much it is.
    ///
    /// # Errors
    /// [`ArgumentError`], and what is wrong with the query string.
    pub fn read<'q, E: From<ArgumentError>>(
        &self,
        endpoint: &Endpoint,
        path: &'q [(&str, Cow<'_, str>)],
        query: impl Iterator<Item = Result<(Cow<'q, str>, Cow<'q, str>), E>>,
    ) -> Result<Arguments, E> {
        let declared = |name: &str, place| {
            endpoint
                .parameters
                .iter()
                .position(|p| p.place == place && p.name == name)
        };
        let mut given: Vec<Option<Cow<'q, str>>> = vec![None; self.rules.len()];
        for (name, text) in path {
            if let Some(slot) = declared(name, Place::Path).and_then(|i| given.get_mut(i)) {
                *slot = Some(Cow::Borrowed(text));
            }
        }
        for pair in query {
            let (name, text) = pair?;
            match declared(&name, Place::Query).and_then(|i| given.get_mut(i)) {
                Some(slot @ None) => *slot = Some(text),
                Some(Some(_)) => {
                    let name = name.into_owned();
                    return Err(ArgumentError::Repeated { name }.into());
                }
                None => match endpoint.unknown_parameters {
                    UnknownParameters::Ignore => {}
                    UnknownParameters::Reject => return Err(unknown(endpoint, &name).into()),
                },
            }
        }
        let values = endpoint.parameters.iter().zip(&self.rules).zip(given);
        let values =
            values.map(|((parameter, rule), given)| rule.argument(parameter, given.as_deref()));
        Ok(Arguments::new(values.collect::<Result<_, _>>()?))
    }
}

impl Signature {
    /// Other arguments than these: values that the endpoint declares, or ordinary ones of the type, each
    /// parameter's its own; and the same with NULL for texts of which only Postgres knows what they mean.
    /// None where these are what a request without arguments stands for.
    pub fn others(&self, endpoint: &Endpoint, these: &Arguments) -> Vec<Arguments> {
        if self.arguments(endpoint, &[], &[]).as_ref() == Ok(these) {
            return Vec::new();
        }
        let given = || self.rules.iter().zip(these.iter()).enumerate();
        let plain = given().map(|(at, (rule, text))| rule.other_than(text, at));
        let bare = given().map(|(at, (rule, text))| {
            let value = rule.other_than(text, at);
            value.filter(|_| rule.is_declared() || *rule.kind() != ParameterType::Text)
        });
        let mut others = vec![
            Arguments::new(plain.collect()),
            Arguments::new(bare.collect()),
        ];
        others.dedup();
        others.retain(|other| other != these);
        others
    }
}

fn unknown(endpoint: &Endpoint, name: &str) -> ArgumentError {
    let known = endpoint
        .parameters
        .iter()
        .filter(|p| p.place == Place::Query);
    ArgumentError::Unknown {
        name: shortened(name),
        known: known.map(|p| p.name.clone()).collect(),
    }
}

fn unknown_sentence(name: &str, known: &[String]) -> String {
    let known = || known.iter().map(String::as_str);
    if known().next().is_none() {
        return format!("there is no parameter `{name}`; the query string takes none");
    }
    let nearest = suggest::nearest(name, known());
    let meant = nearest.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!(
        "there is no parameter `{name}`{meant}; known are {}",
        suggest::list(known())
    )
}

/// What a client sent, as far as it is shown back to it.
fn excerpt(text: &str) -> String {
    if text.is_empty() {
        "empty".to_owned()
    } else {
        format!("`{}`", shortened(text))
    }
}

/// At most 32 characters, those that could confuse a log or a terminal escaped.
fn shortened(text: &str) -> String {
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

#[cfg(test)]
mod tests;
