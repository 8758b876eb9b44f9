//! What the operator meant: a [`Plan`] can not be wrong. [`Plan::compile`] reports every mistake of a
//! configuration at once. Pure: no I/O, no clock, no Postgres.

pub mod argument;
mod compile;
pub mod endpoint;
pub mod freshness;
pub mod parameter;
mod quantity;
pub mod route;
pub mod schedule;
pub mod settings;
pub mod sql;

pub use argument::{ArgumentError, Arguments, ParameterType, Signature};
pub use endpoint::{Endpoint, EndpointId, Shape, UnknownParameters};
pub use freshness::{FreshnessPolicy, Lifetime, OnMiss};
pub use parameter::{Parameter, Place, Presence};
pub use route::{PathPattern, Routed};
pub use schedule::{CronLine, Refresh};
pub use settings::{CacheSettings, RepositorySettings, ServerSettings};
pub use sql::Statement;

use crate::config::{At, Config, Mistake, Report};
use route::RouteTable;

/// Everything a configuration means.
#[derive(Debug)]
pub struct Plan {
    server: ServerSettings,
    repository: RepositorySettings,
    cache: CacheSettings,
    endpoints: Vec<Endpoint>,
    routes: RouteTable,
    /// Each endpoint's SQL as written, and where.
    written: Vec<At<String>>,
}

impl Plan {
    /// Compiles the configuration.
    ///
    /// # Errors
    /// Every mistake in it at once, those of its writing included.
    pub fn compile(config: Config) -> Result<Self, Report> {
        compile::compile(config)
    }

    /// `[server]`
    pub fn server(&self) -> &ServerSettings {
        &self.server
    }

    /// `[repository]`
    pub fn repository(&self) -> &RepositorySettings {
        &self.repository
    }

    /// `[cache]`
    pub fn cache(&self) -> &CacheSettings {
        &self.cache
    }

    /// Every endpoint, in the order of the file.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoint of this plan that `id` stands for.
    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.endpoints[id.index()]
    }

    /// The endpoint that answers `path`, as it stands in a request line: still percent-encoded and
    /// without its query. A literal segment is preferred to a parameter.
    pub fn route<'p>(&'p self, path: &'p str) -> Option<Routed<'p>> {
        self.routes.route(path)
    }

    /// What Postgres said about an endpoint's statement, as a mistake in the file the statement is
    /// written in. `position` counts the characters of [`Statement::text`] from 1, as Postgres does;
    /// without one the whole statement is shown.
    pub fn statement_mistake(
        &self,
        endpoint: EndpointId,
        message: &str,
        detail: Option<&str>,
        position: Option<u32>,
    ) -> Report {
        let written = &self.written[endpoint.index()];
        let endpoint = self.endpoint(endpoint);
        let place = position.and_then(|at| endpoint.statement.written_at(&written.value, at));
        let mistake = match place {
            Some(range) => Mistake::new(message).at(&written.span.within(range), ""),
            None => Mistake::new(message).at(
                &written.span,
                format!("in the SQL of {}", endpoint.path.as_str()),
            ),
        };
        match detail {
            Some(detail) => mistake.note(detail).into(),
            None => mistake.into(),
        }
    }
}

#[cfg(test)]
mod tests;
