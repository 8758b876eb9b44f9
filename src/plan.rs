//! What the operator meant: a [`Plan`] can not be wrong. [`Plan::compile`] reports every mistake of a
//! configuration at once. Pure: no I/O, no clock, no Postgres.

pub mod argument;
mod compile;
pub mod cron;
pub mod endpoint;
pub mod format;
pub mod freshness;
pub mod parameter;
mod quantity;
pub mod route;
pub mod schedule;
pub mod settings;
pub mod sql;

use std::collections::BTreeSet;

pub use argument::{ArgumentError, Arguments, Mismatch, ParameterType, Signature};
pub use cron::{CronLine, Timezone};
pub use endpoint::{
    CacheControl, Endpoint, EndpointId, PathArguments, QueryArguments, Shape, UnknownParameters,
    Warm,
};
pub use format::Format;
pub use freshness::{FreshnessPolicy, Lifetime, OnMiss};
pub use parameter::{Parameter, Place, Presence};
pub use route::{PathPattern, Routed};
pub use schedule::{Probe, ProbeId, Refresh};
pub use settings::{
    CacheSettings, HostName, Listen, Origins, RepositorySettings, ServerSettings, TlsFile,
    TlsSettings,
};
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
    longest_path: usize,
    /// One for each endpoint.
    written: Vec<Written>,
    /// One for each probe.
    written_probes: Vec<WrittenProbe>,
}

/// What was written of an endpoint that only Postgres can find wrong, and where.
#[derive(Debug)]
struct Written {
    sql: At<String>,
    /// The parameters that are declared under `params`: their names, and where.
    parameters: Vec<(String, Span)>,
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

    /// The bytes of the longest path that any endpoint could answer, as it stands in a request line: of what
    /// is longer there is nothing to find out.
    pub fn longest_path(&self) -> usize {
        self.longest_path
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
        let label = format!("in the SQL of {}", endpoint.path.as_str());
        let mistake = placed(message, sql, &endpoint.statement, &label, position);
        noted(mistake, &endpoint.statement, detail)
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
        noted(mistake, &written.statement, detail).into()
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
        if let (Some(sql), Some(statement)) = (&written.warm_sql, &endpoint.warm.statement) {
            let label = format!("in the `warm_sql` of {path}");
            let mistake = placed(message, sql, statement, &label, position);
            return noted(mistake, statement, detail).into();
        }
        // An endpoint that has none is not wrong about it, but what is said is not lost.
        let mistake = Mistake::new(message).at(&written.sql.span, format!("an endpoint {path}"));
        match detail {
            Some(detail) => mistake.note(detail).into(),
            None => mistake.into(),
        }
    }

    /// What is wrong with a file that `tls` names.
    pub fn tls_mistake(&self, file: TlsFile, message: &str, help: &str) -> Report {
        let mistake = Mistake::new(message);
        match &self.server.tls {
            Some(tls) => {
                let named = tls.named(file);
                let path = named.value.display().to_string();
                mistake.at(&named.span, path).help(help).into()
            }
            None => mistake.help(help).into(),
        }
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

/// A mistake at the character `position` of `statement`, written as `sql`; without one at the first
/// parameter that Postgres names.
fn placed(
    message: &str,
    sql: &At<String>,
    statement: &Statement,
    label: &str,
    position: Option<u32>,
) -> Mistake {
    let place = match position {
        Some(position) => statement.written_at(&sql.value, position),
        None => statement
            .first_named(message)
            .and_then(|name| statement.first_use(name)),
    };
    let mistake = Mistake::new(statement.in_names(message));
    match place {
        Some(range) => mistake.at(&sql.span.within(range), ""),
        None => mistake.at(&sql.span, label),
    }
}

fn noted(mistake: Mistake, statement: &Statement, detail: Option<&str>) -> Mistake {
    match detail {
        Some(detail) => mistake.note(statement.in_names(detail)),
        None => mistake,
    }
}

#[cfg(test)]
mod tests;
