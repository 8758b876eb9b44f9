//! The typed values of one request, and the rules that make them from text.
//!
//! A [`Signature`] is an endpoint's parameters once Postgres has said their types. It turns what a
//! client sent into [`Arguments`]: canonical text per parameter, so that two spellings of one value
//! are one key. Values are bound as text under the described type, never spliced into SQL.

use std::sync::Arc;

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
    /// An enum, with its labels
    Enum(Arc<[String]>),
    /// A type only Postgres can parse, by its name: its own refusal becomes the client's 400.
    Other(String),
}

/// The arguments of one request in the order of the statement's `$1`…; `None` binds NULL.
///
/// Canonical: equal values are equal texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Arguments(Box<[Option<Box<str>>]>);

impl Arguments {
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
pub struct Signature {}

/// Why a request's arguments were refused.
#[derive(Debug)]
pub enum ArgumentError {}
