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

pub use argument::{ArgumentError, Arguments, Mismatch, ParameterType, Signature};
pub use endpoint::{Endpoint, EndpointId, Shape, UnknownParameters};
pub use freshness::{FreshnessPolicy, Lifetime, OnMiss};
pub use parameter::{Parameter, Place, Presence};
pub use route::{PathPattern, Routed};
pub use schedule::{CronLine, Refresh, Timezone};
pub use settings::{CacheSettings, RepositorySettings, ServerSettings};
pub use sql::Statement;

use crate::config::{At, Config, Mistake, Report, Span};
use route::RouteTable;

/// Everything a configuration means.
#[derive(Debug)]
pub struct Plan {
    server: ServerSettings,
    repository: RepositorySettings,
    cache: CacheSettings,
    endpoints: Vec<Endpoint>,
    routes: RouteTable,
    /// What each endpoint is written as.
    written: Vec<Written>,
}

/// What of an endpoint Postgres may complain about, as it is written.
#[derive(Debug)]
struct Written {
    sql: At<String>,
    /// The parameters that are declared under `params`: their names, and where.
    parameters: Vec<(String, Span)>,
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
    /// without one the first parameter that Postgres names is shown, or the whole statement.
    pub fn statement_mistake(
        &self,
        endpoint: EndpointId,
        message: &str,
        detail: Option<&str>,
        position: Option<u32>,
    ) -> Report {
        let mistake = self.mistake_in_sql(endpoint, message, detail, position);
        mistake.into()
    }

    /// What Postgres said about the type of a parameter that it could not find out, or found out to
    /// be two. Everything else is as in [`Plan::statement_mistake`].
    pub fn type_mistake(
        &self,
        endpoint: EndpointId,
        message: &str,
        detail: Option<&str>,
        position: Option<u32>,
    ) -> Report {
        let mistake = self.mistake_in_sql(endpoint, message, detail, position);
        let statement = &self.endpoint(endpoint).statement;
        match statement.first_named(message) {
            Some(name) => mistake.help(format!(
                "say its type: `params.{name} = {{ type = \"integer\" }}`, or `:{name}::integer` in \
                 the SQL"
            )),
            None => mistake,
        }
        .into()
    }

    /// What is wrong with the declaration of an endpoint's parameter, once its type is known.
    pub fn parameter_mistake(&self, endpoint: EndpointId, name: &str, message: &str) -> Report {
        let written = &self.written[endpoint.index()];
        let declared = written.parameters.iter().find(|(known, _)| known == name);
        match declared {
            Some((_, span)) => Mistake::new(message).at(span, "declared here").into(),
            None => self.statement_mistake(endpoint, message, None, None),
        }
    }

    fn mistake_in_sql(
        &self,
        endpoint: EndpointId,
        message: &str,
        detail: Option<&str>,
        position: Option<u32>,
    ) -> Mistake {
        let sql = &self.written[endpoint.index()].sql;
        let endpoint = self.endpoint(endpoint);
        let statement = &endpoint.statement;
        let place = match position {
            Some(position) => statement.written_at(&sql.value, position),
            None => statement
                .first_named(message)
                .and_then(|name| statement.first_use(name)),
        };
        let mistake = Mistake::new(statement.in_names(message));
        let mistake = match place {
            Some(range) => mistake.at(&sql.span.within(range), ""),
            None => mistake.at(
                &sql.span,
                format!("in the SQL of {}", endpoint.path.as_str()),
            ),
        };
        match detail {
            Some(detail) => mistake.note(statement.in_names(detail)),
            None => mistake,
        }
    }
}

#[cfg(test)]
mod tests;
