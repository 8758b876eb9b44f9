//! Finds what answers a path.

use std::collections::HashMap;
use std::fmt;

use matchit::Router;

use super::page::Page;
use super::parameter::ARGUMENT_BYTES_MAX;
use super::path::PathPattern;
use super::{Endpoint, EndpointId, Format};

/// What answers a path.
#[derive(Debug)]
pub enum Route<'p> {
    /// One of Larder's own pages.
    Page(Page),
    /// A declared endpoint.
    Endpoint(Routed<'p>),
}

/// The endpoint that answers a path, with the raw (percent-encoded) texts of its path parameters.
#[derive(Debug)]
pub struct Routed<'p> {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The format that the suffix of the path requests.
    pub format: Option<Format>,
    /// Name and raw text of each path parameter.
    pub path_arguments: Vec<(&'p str, &'p str)>,
}

/// All declared paths and, for those that end with a literal segment, the same paths with the suffix of a
/// format. A literal segment takes precedence over a parameter.
pub(super) struct RouteTable {
    router: Router<Target>,
    /// The place of each endpoint in the plan.
    skeletons: HashMap<String, u32>,
}

#[derive(Clone, Copy)]
enum Target {
    /// A literal path, so no path with parameters takes precedence over it.
    Page(Page),
    /// The endpoint at this place in the plan.
    Endpoint(u32, Option<Format>),
}

impl Default for RouteTable {
    fn default() -> Self {
        let mut router = Router::new();
        for page in Page::ALL {
            router
                .insert(page.path(), Target::Page(*page))
                .expect("these are different paths without parameters");
        }
        Self {
            router,
            skeletons: HashMap::new(),
        }
    }
}

impl RouteTable {
    /// Adds the path of the endpoint at this place in the plan.
    ///
    /// # Errors
    /// The place of the endpoint that already answers this path; `None` if the router cannot tell.
    pub(super) fn insert(&mut self, path: &PathPattern, endpoint: u32) -> Result<(), Option<u32>> {
        if let Some(other) = self.skeletons.get(&path.skeleton()) {
            return Err(Some(*other));
        }
        self.router
            .insert(path.as_str(), Target::Endpoint(endpoint, None))
            .map_err(|_| None)?;
        for format in Format::ALL {
            if let Some(suffixed) = path.with_suffix(format) {
                self.router
                    .insert(suffixed, Target::Endpoint(endpoint, Some(format)))
                    .map_err(|_| None)?;
            }
        }
        self.skeletons.insert(path.skeleton(), endpoint);
        Ok(())
    }

    /// What answers a path; `id_at` is the endpoint at a place in the plan.
    pub(super) fn route<'p>(
        &'p self,
        path: &'p str,
        id_at: impl FnOnce(usize) -> Option<EndpointId>,
    ) -> Option<Route<'p>> {
        let found = self.router.at(path).ok()?;
        Some(match *found.value {
            Target::Page(page) => Route::Page(page),
            Target::Endpoint(place, format) => Route::Endpoint(Routed {
                endpoint: id_at(place as usize)?,
                format,
                path_arguments: found.params.iter().collect(),
            }),
        })
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.skeletons.keys()).finish()
    }
}

/// The length of the longest path that the endpoint could answer, with every byte percent-encoded.
pub(super) fn longest_path(endpoint: &Endpoint) -> usize {
    /// Bytes of a percent-encoded byte.
    const ESCAPE: usize = 3;
    /// The most bytes of a UTF-8 character.
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
