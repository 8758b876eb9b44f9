//! What the operator meant: a [`Plan`] can not be wrong. [`Plan::compile`] reports every mistake of a
//! configuration at once. Pure: no I/O, no clock, no Postgres.

pub mod argument;
mod compile;
pub mod cron;
pub mod endpoint;
pub mod format;
pub mod freshness;
mod mistake;
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
pub use mistake::{Finding, Subject};
pub use parameter::{Parameter, Place, Presence};
pub use route::{PathPattern, Routed};
pub use schedule::{Probe, ProbeId, Refresh};
pub use settings::{
    CacheSettings, HostName, Listen, Origins, RepositorySettings, ServerSettings, TlsFile,
    TlsSettings,
};
pub use sql::Statement;

use crate::config::{At, Config, Report, Span};
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
}

#[cfg(test)]
mod tests;
