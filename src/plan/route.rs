//! Which endpoint answers a path.

use super::EndpointId;

/// A declared path, as `/sales/{country}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// The path as declared.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The endpoint a path leads to, with the raw (still percent-encoded) text of its path parameters.
#[derive(Debug)]
pub struct Routed<'p> {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Name and raw text of each path parameter.
    pub path_arguments: Vec<(&'p str, &'p str)>,
}
