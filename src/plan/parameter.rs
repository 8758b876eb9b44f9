//! A parameter as an endpoint declares it. Its type comes from Postgres later: see [`super::Signature`].

use regex::Regex;

/// The longest text of one argument in bytes, whatever its `max_length` in characters: keys are kept
/// in memory, and no sensible argument comes near.
pub const ARGUMENT_BYTES_MAX: usize = 64 << 10;

/// A declared parameter.
#[derive(Debug)]
pub struct Parameter {
    /// The name, as in `:name` and `{name}`.
    pub name: String,
    /// Where a request carries it.
    pub place: Place,
    /// What happens if it is absent.
    pub presence: Presence,
    /// The Postgres type to use instead of the inferred one, as in `type = "bigint"`.
    pub declared_type: Option<String>,
    /// The least value allowed, as written.
    pub minimum: Option<String>,
    /// The greatest value allowed, as written.
    pub maximum: Option<String>,
    /// The only values allowed; empty if any is allowed.
    pub values: Vec<String>,
    /// What the whole text must match.
    pub pattern: Option<Regex>,
    /// The longest text allowed, in characters.
    pub max_length: usize,
    /// One line for people.
    pub description: Option<String>,
}

impl Parameter {
    /// A pattern that matches only whole texts, without `^` and `$`.
    pub(super) fn whole_pattern(written: &str) -> Result<Regex, regex::Error> {
        // By itself first: its parentheses must not pair with the ones added around it.
        Regex::new(written)?;
        Regex::new(&format!("{PATTERN_START}{written}{PATTERN_END}"))
    }

    /// The pattern as the operator wrote it.
    pub fn written_pattern(pattern: &Regex) -> &str {
        let whole = pattern.as_str();
        let written = whole
            .strip_prefix(PATTERN_START)
            .and_then(|p| p.strip_suffix(PATTERN_END));
        written.unwrap_or(whole)
    }
}

const PATTERN_START: &str = r"\A(?:";
const PATTERN_END: &str = r")\z";

/// Where a request carries a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A segment of the path.
    Path,
    /// The query string.
    Query,
    /// The claim of this name in its credential.
    Claim(String),
}

impl Place {
    /// Whether it is the credential, and not the request target.
    pub fn is_claim(&self) -> bool {
        matches!(self, Self::Claim(_))
    }
}

/// What happens if a parameter is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The request gets a 400.
    Required,
    /// NULL is bound.
    Optional,
    /// This text is used, parsed like a request's.
    Default(String),
}
