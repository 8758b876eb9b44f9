//! Which endpoint answers a path.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use matchit::Router;
use thiserror::Error;

use super::{EndpointId, Format};

/// Paths that are Larder's own.
pub const RESERVED_PATHS: [&str; 14] = [
    "/metrics",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/docs/docs.css",
    "/docs/docs.js",
    "/status",
    "/status.json",
    "/status/history.json",
    "/status/status.css",
    "/status/status.js",
    "/status/uplot.css",
    "/status/uplot.js",
];

/// A declared path, as `/sales/{country}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// A path of segments that are each literal or one whole `{parameter}`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let Some(segments) = path.strip_prefix('/') else {
            return Err(PathError::NoSlash);
        };
        if let Some(at) = path.find(['?', '#']) {
            return Err(PathError::Query { at: at..path.len() });
        }
        if segments.is_empty() {
            return Err(PathError::Root);
        }
        let mut names: Vec<&str> = Vec::new();
        let mut start = 1;
        for segment in segments.split('/') {
            let at = start..start + segment.len();
            start = at.end + 1;
            if segment.is_empty() && at.end == path.len() && path.len() > 1 {
                return Err(PathError::TrailingSlash {
                    at: at.start - 1..at.end,
                });
            }
            if let Some(name) = check_segment(segment, &at)? {
                if names.contains(&name) {
                    return Err(PathError::Doubled {
                        name: name.to_owned(),
                        at,
                    });
                }
                names.push(name);
            }
        }
        if RESERVED_PATHS.contains(&path) {
            return Err(PathError::Reserved);
        }
        let mut suffixes = Format::ALL.into_iter().filter_map(Format::suffix);
        if let Some(suffix) = suffixes.find(|suffix| path.ends_with(suffix)) {
            let at = path.len() - suffix.len()..path.len();
            return Err(PathError::Format { suffix, at });
        }
        Ok(Self(path.to_owned()))
    }

    /// The path as declared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path that asks for this format, if there is one: not for JSON, which the bare path answers,
    /// and not where the last segment is a parameter.
    pub fn with_suffix(&self, format: Format) -> Option<String> {
        let suffix = format.suffix().filter(|_| !self.0.ends_with('}'))?;
        Some(format!("{}{suffix}", self.0))
    }

    /// The names of its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter_map(parameter_name)
    }

    /// The bytes of the segment `{name}`.
    pub(super) fn parameter_at(&self, name: &str) -> Option<Range<usize>> {
        let start = self.0.find(&format!("{{{name}}}"))?;
        Some(start..start + name.len() + 2)
    }

    /// Equal for paths that match the same requests.
    fn skeleton(&self) -> String {
        let segments: Vec<_> = self
            .0
            .split('/')
            .map(|s| if parameter_name(s).is_some() { "{}" } else { s })
            .collect();
        segments.join("/")
    }
}

/// Why a path can not be declared. Places are bytes of the path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a path begins with `/`")]
    NoSlash,
    /// A `?` or `#`.
    #[error("a path has no query: parameters of the query string are declared under `params`")]
    Query {
        /// All from there on.
        at: Range<usize>,
    },
    /// Two slashes side by side, or nothing after the only one.
    #[error("a segment of the path is empty")]
    EmptySegment {
        /// The place where a segment should be.
        at: Range<usize>,
    },
    /// It ends with `/`.
    #[error("a path does not end with `/`")]
    TrailingSlash {
        /// The slash.
        at: Range<usize>,
    },
    /// `.` or `..`, which clients resolve before they ask.
    #[error("no client would ever ask for `.` or `..`")]
    Dots {
        /// The segment.
        at: Range<usize>,
    },
    /// A character that a URL would have to escape.
    #[error("a path is made of letters, digits and - . _ ~")]
    Character {
        /// The character.
        at: Range<usize>,
    },
    /// Braces that are not around the whole segment or not around a name.
    #[error("a path parameter is a whole segment, as `/{{name}}`")]
    Parameter {
        /// The segment.
        at: Range<usize>,
    },
    /// A parameter as other routers write it: `:name` or `<name>`.
    #[error("a path parameter is written `{{{name}}}`")]
    Foreign {
        /// Its name.
        name: String,
        /// The segment.
        at: Range<usize>,
    },
    /// Nothing but `/`.
    #[error("a path has at least one segment")]
    Root,
    /// A parameter that stands there twice.
    #[error("the path has two parameters called `{name}`")]
    Doubled {
        /// Its name.
        name: String,
        /// The second one.
        at: Range<usize>,
    },
    /// One of [`RESERVED_PATHS`].
    #[error("this path is Larder's own")]
    Reserved,
    /// An end that asks for a format.
    #[error("a path can not end with `{suffix}`: that asks for a format")]
    Format {
        /// The end.
        suffix: &'static str,
        /// Its place.
        at: Range<usize>,
    },
}

impl PathError {
    /// Its place in the path; `None` for the whole of it.
    pub fn at(&self) -> Option<Range<usize>> {
        match self {
            Self::NoSlash | Self::Root | Self::Reserved => None,
            Self::Query { at }
            | Self::EmptySegment { at }
            | Self::TrailingSlash { at }
            | Self::Dots { at }
            | Self::Character { at }
            | Self::Parameter { at }
            | Self::Foreign { at, .. }
            | Self::Doubled { at, .. }
            | Self::Format { at, .. } => Some(at.clone()),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::NoSlash | Self::Root => "for example `/sales/{country}`".to_owned(),
            Self::Query { .. } => "end the path before it".to_owned(),
            Self::EmptySegment { .. } => "put a name there".to_owned(),
            Self::TrailingSlash { .. } | Self::Dots { .. } | Self::Character { .. } => {
                "remove it".to_owned()
            }
            Self::Parameter { .. } => {
                "names have letters, digits and `_`, and do not begin with a digit; there are no \
                 wildcards"
                    .to_owned()
            }
            Self::Foreign { name, .. } => format!("write {{{name}}}, a whole segment"),
            Self::Doubled { .. } => "give one of them another name".to_owned(),
            Self::Reserved => format!("others that are: {}", RESERVED_PATHS.join(" ")),
            Self::Format { suffix, .. } => {
                format!("declare the path without `{suffix}`")
            }
        }
    }
}

/// The name of the parameter that a segment is, if it is one.
fn check_segment<'s>(segment: &'s str, at: &Range<usize>) -> Result<Option<&'s str>, PathError> {
    if segment.is_empty() {
        return Err(PathError::EmptySegment { at: at.clone() });
    }
    if segment.contains(['{', '}', '*']) {
        let name = parameter_name(segment);
        return name
            .map(Some)
            .ok_or_else(|| PathError::Parameter { at: at.clone() });
    }
    let foreign = segment.strip_prefix(':').or_else(|| {
        let inside = segment.strip_prefix('<')?.strip_suffix('>')?;
        // Some name a type before the name.
        Some(inside.rsplit(':').next().unwrap_or(inside))
    });
    if let Some(name) = foreign.filter(|name| is_parameter_name(name)) {
        return Err(PathError::Foreign {
            name: name.to_owned(),
            at: at.clone(),
        });
    }
    if segment == "." || segment == ".." {
        return Err(PathError::Dots { at: at.clone() });
    }
    let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    match segment.char_indices().find(|(_, c)| !unreserved(*c)) {
        Some((offset, character)) => {
            let start = at.start + offset;
            Err(PathError::Character {
                at: start..start + character.len_utf8(),
            })
        }
        None => Ok(None),
    }
}

fn parameter_name(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    is_parameter_name(name).then_some(name)
}

/// Whether `name` can be a parameter's: an ASCII identifier, so that it needs no escaping anywhere.
pub(super) fn is_parameter_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The endpoint a path leads to, with the raw (still percent-encoded) text of its path parameters.
#[derive(Debug)]
pub struct Routed<'p> {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The format that the end of the path asks for.
    pub format: Option<Format>,
    /// Name and raw text of each path parameter.
    pub path_arguments: Vec<(&'p str, &'p str)>,
}

/// Every declared path, and where it ends with a literal segment, the paths that ask for a format. A
/// literal segment is preferred to a parameter.
pub(super) struct RouteTable {
    /// `None` is one of [`RESERVED_PATHS`], which no parameter takes.
    router: Router<Option<(EndpointId, Option<Format>)>>,
    skeletons: HashMap<String, EndpointId>,
}

impl Default for RouteTable {
    fn default() -> Self {
        let mut router = Router::new();
        for path in RESERVED_PATHS {
            router
                .insert(path, None)
                .expect("these are different paths without parameters");
        }
        Self {
            router,
            skeletons: HashMap::new(),
        }
    }
}

impl RouteTable {
    /// Adds a path.
    ///
    /// # Errors
    /// The endpoint that already answers these paths; `None` when the router will not say.
    pub(super) fn insert(
        &mut self,
        path: &PathPattern,
        endpoint: EndpointId,
    ) -> Result<(), Option<EndpointId>> {
        if let Some(other) = self.skeletons.get(&path.skeleton()) {
            return Err(Some(*other));
        }
        self.router
            .insert(path.as_str(), Some((endpoint, None)))
            .map_err(|_| None)?;
        for format in Format::ALL {
            if let Some(suffixed) = path.with_suffix(format) {
                self.router
                    .insert(suffixed, Some((endpoint, Some(format))))
                    .map_err(|_| None)?;
            }
        }
        self.skeletons.insert(path.skeleton(), endpoint);
        Ok(())
    }

    pub(super) fn route<'p>(&'p self, path: &'p str) -> Option<Routed<'p>> {
        let found = self.router.at(path).ok()?;
        let (endpoint, format) = (*found.value)?;
        Some(Routed {
            endpoint,
            format,
            path_arguments: found.params.iter().collect(),
        })
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.skeletons.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_parameter_takes_a_path_that_is_larders_own() {
        let table = table(&["/{page}", "/docs/{part}"]);
        for path in RESERVED_PATHS {
            assert!(table.route(path).is_none(), "{path}");
        }
        assert!(table.route("/count").is_some());
        assert!(table.route("/docs/other").is_some());
    }

    fn table(paths: &[&str]) -> RouteTable {
        let mut table = RouteTable::default();
        for (index, path) in paths.iter().enumerate() {
            let pattern = PathPattern::parse(path).expect(path);
            table.insert(&pattern, EndpointId::new(index)).expect(path);
        }
        table
    }

    #[test]
    fn paths_that_can_be_asked_for_are_accepted() {
        for path in [
            "/count",
            "/sales/{country}",
            "/a-b.c_d~e/{x}/y/{z_1}",
            "/v1.csv/x",
            "/statuses",
        ] {
            assert!(PathPattern::parse(path).is_ok(), "{path}");
        }
        let path = PathPattern::parse("/a/{x}/b/{y}").expect("a path");
        assert_eq!(path.parameters().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(path.parameter_at("y"), Some(9..12));
    }

    #[test]
    fn paths_that_can_not_be_asked_for_are_refused() {
        let check = |path: &str, expected: PathError| {
            assert_eq!(
                PathPattern::parse(path).expect_err(path),
                expected,
                "{path}"
            );
        };
        check("", PathError::NoSlash);
        check("count", PathError::NoSlash);
        check("/", PathError::Root);
        let foreign = |path, at| {
            let name = "id".to_owned();
            check(path, PathError::Foreign { name, at });
        };
        foreign("/a/:id", 3..6);
        foreign("/<id>/b", 1..5);
        foreign("/<int:id>", 1..9);
        check("/:1", PathError::Character { at: 1..2 });
        check("/a//b", PathError::EmptySegment { at: 3..3 });
        check("/a/", PathError::TrailingSlash { at: 2..3 });
        check("/a?b=1", PathError::Query { at: 2..6 });
        check("/a/..", PathError::Dots { at: 3..5 });
        check("/a b", PathError::Character { at: 2..3 });
        check("/ä", PathError::Character { at: 1..3 });
        check("/a%20b", PathError::Character { at: 2..3 });
        for path in [
            "/{*rest}", "/a{b}", "/{a}.csv", "/{}", "/{1a}", "/{a-b}", "/{{a}}", "/*", "/{a",
        ] {
            check(path, PathError::Parameter { at: 1..path.len() });
        }
        check(
            "/{a}/{a}",
            PathError::Doubled {
                name: "a".to_owned(),
                at: 5..8,
            },
        );
        check("/metrics", PathError::Reserved);
        check("/status.json", PathError::Reserved);
        check(
            "/x/report.csv",
            PathError::Format {
                suffix: ".csv",
                at: 9..13,
            },
        );
    }

    #[test]
    fn a_path_leads_to_its_endpoint_with_raw_arguments() {
        let table = table(&[
            "/sales/{country}",
            "/sales/by-country",
            "/sales/{c}/lines/{line}",
        ]);
        let check = |path: &str, expected: Option<(usize, &[(&str, &str)])>| {
            let routed = table.route(path);
            let routed = routed
                .as_ref()
                .map(|r| (r.endpoint.index(), r.path_arguments.as_slice()));
            assert_eq!(routed, expected, "{path}");
        };
        check("/sales/USA", Some((0, &[("country", "USA")])));
        check("/sales/by-country", Some((1, &[])));
        check("/sales/by-countr", Some((0, &[("country", "by-countr")])));
        check(
            "/sales/by-country/lines/2",
            Some((2, &[("c", "by-country"), ("line", "2")])),
        );
        check("/sales/a%2Fb%20c", Some((0, &[("country", "a%2Fb%20c")])));
        for path in [
            "/sales",
            "/sales/",
            "/sales/USA/",
            "/",
            "",
            "sales/USA",
            "/sales/a/b",
            "/Sales/USA",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn the_end_of_a_literal_segment_asks_for_a_format() {
        let table = table(&["/sales", "/sales/{country}", "/{a}/b.c"]);
        let check = |path: &str, endpoint: usize, format: Option<Format>| {
            let routed = table.route(path).expect(path);
            assert_eq!((routed.endpoint.index(), routed.format), (endpoint, format));
        };
        check("/sales", 0, None);
        check("/sales.csv", 0, Some(Format::Csv));
        check("/sales.ndjson", 0, Some(Format::Ndjson));
        check("/x/b.c.csv", 2, Some(Format::Csv));
        check("/sales/a.csv", 1, None);
        assert!(table.route("/sales.json").is_none());
    }

    #[test]
    fn paths_that_match_the_same_requests_conflict() {
        let mut table = table(&["/a/{x}", "/b/{x}/c"]);
        let mut insert =
            |path: &str| table.insert(&PathPattern::parse(path).expect(path), EndpointId::new(9));
        assert_eq!(insert("/a/{x}"), Err(Some(EndpointId::new(0))));
        assert_eq!(insert("/a/{y}"), Err(Some(EndpointId::new(0))));
        assert_eq!(insert("/b/{y}/c"), Err(Some(EndpointId::new(1))));
        assert_eq!(insert("/b/{y}/d"), Ok(()));
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[/a-c{}*.%ä]{0,16}") {
            if let Ok(pattern) = PathPattern::parse(&path) {
                let mut table = RouteTable::default();
                table.insert(&pattern, EndpointId::new(0)).expect("the only one");
                let asked = path.replace(['{', '}'], "x");
                prop_assert!(table.route(&asked).is_some());
            }
            let _ = table(&["/a/{b}", "/{c}/b"]).route(&path);
        }
    }
}
