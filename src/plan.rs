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

use std::collections::BTreeSet;

pub use argument::{ArgumentError, Arguments, ParameterType, Signature};
pub use endpoint::{
    Endpoint, EndpointId, PathArguments, QueryArguments, Shape, UnknownParameters, Warm,
};
pub use freshness::{FreshnessPolicy, Lifetime, OnMiss};
pub use parameter::{Parameter, Place, Presence};
pub use route::{PathPattern, Routed};
pub use schedule::{CronLine, Probe, ProbeId, Refresh};
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
    probes: Vec<Probe>,
    routes: RouteTable,
    /// One for each endpoint.
    written: Vec<Written>,
    /// One for each probe.
    written_probes: Vec<WrittenProbe>,
}

/// What was written of an endpoint that only Postgres can find wrong, and where.
#[derive(Debug)]
struct Written {
    sql: At<String>,
    /// The keys of `warm`.
    warm: Vec<Span>,
    warm_sql: Option<At<String>>,
}

/// A probe where it is written first.
#[derive(Debug)]
struct WrittenProbe {
    sql: At<String>,
    statement: Statement,
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

    /// Every probe, in the order of the file. Endpoints whose probes have the same SQL, but for its
    /// surroundings, and the same `every` share one.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// The channels that endpoints listen to, each once, in alphabetical order.
    pub fn channels(&self) -> Vec<&str> {
        let channels = self
            .endpoints
            .iter()
            .filter_map(|e| e.refresh.notify.as_deref());
        channels.collect::<BTreeSet<_>>().into_iter().collect()
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
        let label = format!("in the SQL of {}", endpoint.path.as_str());
        let mistake = placed(message, &written.sql, &endpoint.statement, &label, position);
        noted(mistake, detail)
    }

    /// What Postgres said about a probe, as a mistake at the first endpoint that has it; otherwise
    /// as [`Plan::statement_mistake`], the characters being those of [`Probe::sql`].
    pub fn probe_mistake(
        &self,
        probe: ProbeId,
        message: &str,
        detail: Option<&str>,
        position: Option<u32>,
    ) -> Report {
        let written = &self.written_probes[probe.index()];
        let label = "in the SQL of this probe";
        let mistake = placed(message, &written.sql, &written.statement, label, position);
        noted(mistake, detail)
    }

    /// What is wrong with an endpoint's `warm_sql`; otherwise as [`Plan::statement_mistake`], the
    /// characters being those of its [`Warm::statement`].
    pub fn warm_mistake(
        &self,
        endpoint: EndpointId,
        message: &str,
        detail: Option<&str>,
        position: Option<u32>,
    ) -> Report {
        let written = &self.written[endpoint.index()];
        let endpoint = self.endpoint(endpoint);
        let path = endpoint.path.as_str();
        let mistake = match (&written.warm_sql, &endpoint.warm.statement) {
            (Some(sql), Some(statement)) => {
                let label = format!("in the `warm_sql` of {path}");
                placed(message, sql, statement, &label, position)
            }
            // An endpoint that has none is not wrong about it, but what is said is not lost.
            _ => Mistake::new(message).at(&written.sql.span, format!("an endpoint {path}")),
        };
        noted(mistake, detail)
    }

    /// What is wrong with the key at `index` in [`Warm::arguments`], as a mistake where it is written.
    pub fn warm_argument_mistake(
        &self,
        endpoint: EndpointId,
        index: usize,
        message: &str,
    ) -> Report {
        let written = &self.written[endpoint.index()];
        let path = self.endpoint(endpoint).path.as_str();
        let place = written.warm.get(index).unwrap_or(&written.sql.span);
        Mistake::new(message)
            .at(place, format!("a key of {path} to load at start"))
            .into()
    }
}

/// A mistake at the character `position` of `statement`, written as `sql`.
fn placed(
    message: &str,
    sql: &At<String>,
    statement: &Statement,
    label: &str,
    position: Option<u32>,
) -> Mistake {
    let place = position.and_then(|at| statement.written_at(&sql.value, at));
    match place {
        Some(range) => Mistake::new(message).at(&sql.span.within(range), ""),
        None => Mistake::new(message).at(&sql.span, label),
    }
}

fn noted(mistake: Mistake, detail: Option<&str>) -> Report {
    match detail {
        Some(detail) => mistake.note(detail).into(),
        None => mistake.into(),
    }
}

#[cfg(test)]
mod tests;
