//! Which endpoint answers a path.

mod pattern;

use std::collections::HashMap;
use std::fmt;

use matchit::Router;

pub(super) use pattern::is_parameter_name;
pub use pattern::{PathError, PathPattern};

use super::parameter::ARGUMENT_BYTES_MAX;
use super::{Endpoint, EndpointId, Format};

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

/// The longest path, percent-encoded as lavishly as it can be, that leads to an endpoint and has
/// arguments it may take.
pub(super) fn longest_path(endpoint: &Endpoint) -> usize {
    /// Bytes of an escape, for each byte.
    const ESCAPE: usize = 3;
    /// Bytes of a character of UTF-8, at most.
    const CHARACTER: usize = 4;
    let suffix = Format::ALL.into_iter().filter_map(Format::suffix);
    let literal = ESCAPE * (endpoint.path.as_str().len() + suffix.map(str::len).max().unwrap_or(0));
    let arguments = endpoint.path.parameters().map(|name| {
        let parameter = endpoint.parameters.iter().find(|p| p.name == name);
        let characters = parameter.map_or(ARGUMENT_BYTES_MAX, |p| p.max_length);
        ESCAPE * (CHARACTER * characters).min(ARGUMENT_BYTES_MAX)
    });
    literal + arguments.sum::<usize>()
}

#[cfg(test)]
mod tests;
