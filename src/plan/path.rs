//! Declared paths, and what can be wrong with them.

use std::ops::Range;

use thiserror::Error;

use super::format::Format;
use super::page::Page;

/// A declared path, such as `/sales/{country}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// Parses a path, each of whose segments is either literal or a `{parameter}`.
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
        if Page::is_at(path) {
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

    /// The path that requests this format. There is none for JSON, which the bare path answers, nor if the
    /// last segment is a parameter.
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
    pub(super) fn skeleton(&self) -> String {
        let segments: Vec<_> = self
            .0
            .split('/')
            .map(|s| if parameter_name(s).is_some() { "{}" } else { s })
            .collect();
        segments.join("/")
    }
}

/// Why a path cannot be declared. Places are bytes of the path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a path must begin with `/`")]
    NoSlash,
    /// It contains `?` or `#`.
    #[error("a path cannot contain a query string; its parameters are declared under `params`")]
    Query {
        /// The rest of the path.
        at: Range<usize>,
    },
    /// Two slashes follow each other.
    #[error("a segment of the path is empty")]
    EmptySegment {
        /// Where a segment should be.
        at: Range<usize>,
    },
    /// It ends with `/`.
    #[error("a path cannot end with `/`")]
    TrailingSlash {
        /// The slash.
        at: Range<usize>,
    },
    /// `.` or `..`, which clients resolve before they send a request.
    #[error("clients resolve `.` and `..`, so no request would match")]
    Dots {
        /// The segment.
        at: Range<usize>,
    },
    /// A character that a URL must escape.
    #[error("a path may contain only letters, digits and - . _ ~")]
    Character {
        /// The character.
        at: Range<usize>,
    },
    /// Braces that are not around a whole segment or not around a name.
    #[error("a path parameter is a whole segment such as `/{{name}}`")]
    Parameter {
        /// The segment.
        at: Range<usize>,
    },
    /// The syntax of other routers: `:name` or `<name>`.
    #[error("a path parameter is written `{{{name}}}`")]
    Foreign {
        /// Its name.
        name: String,
        /// The segment.
        at: Range<usize>,
    },
    /// Nothing but `/`.
    #[error("a path needs at least one segment")]
    Root,
    /// Two parameters with the same name.
    #[error("the path has two parameters named `{name}`")]
    Doubled {
        /// Its name.
        name: String,
        /// The second one.
        at: Range<usize>,
    },
    /// The path of a [`Page`].
    #[error("this path is reserved for Larder")]
    Reserved,
    /// The suffix of a format.
    #[error("a path cannot end with `{suffix}`, which requests a format")]
    Format {
        /// The suffix.
        suffix: &'static str,
        /// Its place.
        at: Range<usize>,
    },
}

impl PathError {
    /// Its place in the path; `None` for all of it.
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
            Self::Query { .. } => "remove it".to_owned(),
            Self::EmptySegment { .. } => "write a name there, or remove a slash".to_owned(),
            Self::TrailingSlash { .. } | Self::Dots { .. } | Self::Character { .. } => {
                "remove it".to_owned()
            }
            Self::Parameter { .. } => {
                "names consist of letters, digits and `_`, and do not begin with a digit; there are \
                 no wildcards"
                    .to_owned()
            }
            Self::Foreign { name, .. } => format!("write {{{name}}} as a whole segment"),
            Self::Doubled { .. } => "rename one of them".to_owned(),
            Self::Reserved => {
                let paths: Vec<_> = Page::ALL.iter().map(|page| page.path()).collect();
                format!("the reserved paths are {}", paths.join(" "))
            }
            Self::Format { suffix, .. } => {
                format!("declare the path without `{suffix}`")
            }
        }
    }
}

/// The parameter's name, if the segment is a parameter.
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
        // Flask puts a type before the name: `<int:id>`.
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

/// Whether `name` is a valid parameter name: an ASCII identifier, which never needs escaping.
pub(super) fn is_parameter_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests;
