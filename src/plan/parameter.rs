//! What an endpoint declares about a parameter. Its type comes from Postgres, later: see
//! [`super::Signature`].

use regex::Regex;

/// A declared parameter.
#[derive(Debug)]
pub struct Parameter {
    /// The name, as in `:name` and `{name}`.
    pub name: String,
    /// Where a request carries it.
    pub place: Place,
    /// What its absence means.
    pub presence: Presence,
    /// The Postgres type to prepare with instead of the one Postgres infers, as in `type = "bigint"`.
    pub declared_type: Option<String>,
    /// The least value allowed, as written.
    pub minimum: Option<String>,
    /// The greatest value allowed, as written.
    pub maximum: Option<String>,
    /// The only values allowed; empty when any is.
    pub values: Vec<String>,
    /// What the whole text must match.
    pub pattern: Option<Regex>,
    /// The longest text allowed, in characters.
    pub max_length: usize,
    /// One line for people.
    pub description: Option<String>,
}

/// Where a request carries a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A segment of the path.
    Path,
    /// The query string.
    Query,
}

/// What a parameter's absence means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// 400.
    Required,
    /// NULL is bound.
    Optional,
    /// This text is used, parsed as a request's would be.
    Default(String),
}
