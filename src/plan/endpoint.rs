//! An endpoint: a declared path with its SQL, parameters, shape and policy.

use std::borrow::Cow;
use std::time::Duration;

use super::{
    Access, FreshnessPolicy, OnMiss, Parameter, PathPattern, Place, Refresh, RunAs, Statement,
};

/// An endpoint's number: small and `Copy`. In all plans of a process it stands for the same answers: a plan that
/// [follows](super::Plan::following) another one gives new numbers to endpoints with a new fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u32);

impl EndpointId {
    /// The id with this number.
    pub fn new(number: usize) -> Self {
        Self(u32::try_from(number).expect("a process has fewer than 2^32 endpoints"))
    }

    /// The number. In the first plan it is the place in [`super::Plan::endpoints`].
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

/// An endpoint as the operator meant it.
#[derive(Debug)]
pub struct Endpoint {
    /// Its number.
    pub id: EndpointId,
    /// The declared path, such as `/sales/{country}`. It is also the endpoint's name in logs and metrics.
    pub path: PathPattern,
    /// One line for people.
    pub summary: Option<String>,
    /// The SQL, with `$1`… for its parameters.
    pub statement: Statement,
    /// The parameters, in the order of the statement's `$1`…
    pub parameters: Vec<Parameter>,
    /// How rows become one JSON document.
    pub shape: Shape,
    /// How long an answer may be served.
    pub freshness: FreshnessPolicy,
    /// What triggers a refresh.
    pub refresh: Refresh,
    /// The keys to load at startup.
    pub warm: Warm,
    /// The most keys with an entry at a time: at least 1, and at least those that `warm` lists.
    pub max_keys: u64,
    /// What happens to a request when no entry can be served.
    pub on_miss: OnMiss,
    /// The longest that a client waits for a load, and that a query may run.
    pub timeout: Duration,
    /// The most rows an answer may have.
    pub max_rows: u64,
    /// The most bytes an answer may have before compression.
    pub max_bytes: u64,
    /// What happens to undeclared query parameters.
    pub unknown_parameters: UnknownParameters,
    /// What it requires of its callers.
    pub access: Access,
    /// The role and the settings that its loads run with; `None` leaves those of the session.
    pub run_as: Option<RunAs>,
    /// Which caches may store an answer; never [`CacheControl::Public`] if a credential is required.
    pub cache_control: CacheControl,
    /// Which of the caches that honour `CDN-Cache-Control` may store it, if different.
    pub cdn_cache_control: Option<CacheControl>,
}

impl Endpoint {
    /// Whether one entry answers every request. Such an entry is loaded at startup and never evicted.
    pub fn is_resident(&self) -> bool {
        self.parameters.is_empty() && !self.depends_on_caller()
    }

    /// Whether `run_as` makes answers depend on the caller.
    pub fn depends_on_caller(&self) -> bool {
        self.run_as.as_ref().is_some_and(RunAs::depends_on_caller)
    }

    /// The claims that its callers need.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let parameters = self.parameters.iter();
        let of_parameters = parameters.filter_map(|parameter| match &parameter.place {
            Place::Claim(claim) => Some(claim.as_str()),
            Place::Path | Place::Query => None,
        });
        of_parameters.chain(self.run_as.iter().flat_map(RunAs::claims))
    }

    /// What the arguments of a key that the operator lists are named: the parameters, and what stands for the
    /// caller.
    pub fn argument_names(&self) -> impl Iterator<Item = &str> {
        let parameters = self.parameters.iter().map(|p| p.name.as_str());
        parameters.chain(self.run_as.iter().flat_map(RunAs::names))
    }

    /// Whether an entry is served for as long, and with the same header fields, as one of `other`.
    pub fn is_served_like(&self, other: &Self) -> bool {
        self.freshness == other.freshness
            && self.timeout == other.timeout
            && self.refresh.has_schedule_of(&other.refresh)
            && self.cache_control == other.cache_control
            && self.cdn_cache_control == other.cdn_cache_control
            && self.access == other.access
    }

    /// Splits names and texts for [`super::Signature::arguments`] into path and query parameters.
    pub fn split_arguments<'a>(
        &self,
        arguments: &'a [(String, String)],
    ) -> (PathArguments<'a>, QueryArguments<'a>) {
        let mut path = Vec::new();
        let mut query = Vec::new();
        for (name, text) in arguments {
            let is_in_path = |p: &Parameter| p.place == Place::Path && p.name == *name;
            if self.parameters.iter().any(is_in_path) {
                path.push((name.as_str(), Cow::Borrowed(text.as_str())));
            } else {
                query.push((Cow::Borrowed(name.as_str()), Cow::Borrowed(text.as_str())));
            }
        }
        (path, query)
    }
}

/// Names and texts of path parameters.
pub type PathArguments<'a> = Vec<(&'a str, Cow<'a, str>)>;
/// Names and texts of parameters in the query string.
pub type QueryArguments<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The keys to load at startup.
#[derive(Debug, Clone, Default)]
pub struct Warm {
    /// Names and texts as a request would send them, in the order of the file. Every required parameter is
    /// given once. Whether the texts are valid for their types is not known yet.
    pub arguments: Vec<Vec<(String, String)>>,
    /// A statement without parameters that returns one key per row. Its columns are named like the endpoint's
    /// parameters, and NULL means that the parameter is not given.
    pub statement: Option<Statement>,
}

impl Warm {
    /// Whether there are no keys to load.
    pub fn is_empty(&self) -> bool {
        self.arguments.is_empty() && self.statement.is_none()
    }
}

/// How rows become one JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An array of objects.
    Rows,
    /// An object of arrays, one per column.
    Columns,
    /// One object; 404 when there is no row.
    Row,
    /// One array of the row's values; 404 when there is no row.
    Tuple,
    /// The bare value of the only column of the only row; 404 when there is no row.
    Value,
}

impl Shape {
    /// Every shape, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Rows,
        Self::Columns,
        Self::Row,
        Self::Tuple,
        Self::Value,
    ];

    /// The word in config.toml.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Columns => "columns",
            Self::Row => "row",
            Self::Tuple => "tuple",
            Self::Value => "value",
        }
    }

    /// Whether the statement may return at most one row.
    pub fn is_single_row(self) -> bool {
        matches!(self, Self::Row | Self::Tuple | Self::Value)
    }
}

/// Which caches may store an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheControl {
    /// All caches.
    Public,
    /// The client's own cache, and no shared cache.
    Private,
    /// No cache.
    NoStore,
}

impl CacheControl {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Public, Self::Private, Self::NoStore];

    /// The word in config.toml, and the directive: RFC 9111, 5.2.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::NoStore => "no-store",
        }
    }
}

/// What happens to undeclared query parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownParameters {
    /// The request gets a 400 that lists the declared names.
    Reject,
    /// It is ignored and not part of the key, which lets cache busters through.
    Ignore,
}
