//! What a configuration means. A [`Plan`] cannot be wrong: [`Plan::compile`] reports all mistakes of a
//! configuration at once. Pure: no I/O, no clock, no Postgres.

pub mod access; // who may ask what
pub mod argument; // a request's typed values, and the rules for them
mod claim; // what a credential says under one name
mod compile; // makes a plan from a configuration
pub mod cron; // cron expressions with time zones
mod declaration; // where the parts of an endpoint are written
pub mod endpoint; // an endpoint and what it declares
pub mod fingerprint; // what an entry holds, in 128 bits
pub mod format; // the formats of an answer
pub mod freshness; // how long an answer may be served
mod mistake; // mistakes that only Postgres or a file can reveal
pub mod numbering; // endpoints are numbered alike in all plans of a process
mod page; // Larder's own pages
pub mod parameter; // a parameter as it is declared
pub mod path; // declared paths
mod quantity; // durations and sizes
mod restart; // settings that cannot change while Larder runs
pub mod route; // finds the endpoint that answers a path
pub mod run_as; // the role and the settings that a load runs with
pub mod schedule; // what triggers a refresh
pub mod settings; // settings of the whole server
pub mod sql; // `:name` placeholders in SQL

use std::collections::BTreeSet;

pub use access::{
    Access, AccessKey, AccessSettings, Algorithm, ClientId, CredentialKind, DefaultAccess,
    IssuerId, JwksUrl, JwtIssuer, JwtKeys, KeyDigest, Limit, Quota, Requirements, StoredKeys,
};
pub use argument::{ArgumentError, Arguments, Mismatch, ParameterType, Signature};
pub use claim::Claim;
pub use cron::{CronLine, Timezone};
pub use endpoint::{
    CacheControl, Endpoint, EndpointId, PathArguments, QueryArguments, Shape, UnknownParameters,
    Warm,
};
pub use fingerprint::Fingerprint;
pub use format::Format;
pub use freshness::{FreshnessPolicy, Lifetime, OnMiss};
pub use mistake::{Finding, Subject};
pub use numbering::{PerEndpoint, PlanChanges};
pub use page::Page;
pub use parameter::{Parameter, Place, Presence};
pub use path::PathPattern;
pub use route::{Route, Routed};
pub use run_as::{CallerValues, ClaimSetting, RunAs};
pub use schedule::{Probe, ProbeId, Refresh};
pub use settings::{
    CacheSettings, HostName, Listen, Origins, RepositorySettings, ServerSettings, TlsFile,
    TlsSettings,
};
pub use sql::Statement;

use declaration::{EndpointDeclaration, ProbeDeclaration};
use numbering::{IN_THE_PLAN, Places};
use restart::FixedPlaces;
use route::RouteTable;

/// Everything a configuration means.
#[derive(Debug)]
pub struct Plan {
    server: ServerSettings,
    repository: RepositorySettings,
    cache: CacheSettings,
    access: Option<AccessSettings>,
    endpoints: Vec<Endpoint>,
    places: Places,
    probes: Vec<Probe>,
    /// How many numbers of probes there are so far.
    probe_numbers: usize,
    routes: RouteTable,
    longest_path: usize,
    /// One for each endpoint.
    declarations: Vec<EndpointDeclaration>,
    /// One for each probe.
    probe_declarations: Vec<ProbeDeclaration>,
    fixed: FixedPlaces,
    /// A hash of the text it was compiled from, without secrets.
    hash: u64,
}

impl Plan {
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

    /// `[access]`; `None` if the file has none, and every path is public.
    pub fn access(&self) -> Option<&AccessSettings> {
        self.access.as_ref()
    }

    /// Every endpoint, in the order of the file.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoint with this id, which must be of this plan.
    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        self.find(id).expect(IN_THE_PLAN)
    }

    /// The endpoint with this id, if this plan has it.
    pub fn find(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(self.places.get(id)?)
    }

    fn probe_declaration(&self, id: ProbeId) -> &ProbeDeclaration {
        let place = self.probes.iter().position(|probe| probe.id == id);
        &self.probe_declarations[place.expect(IN_THE_PLAN)]
    }

    fn declaration(&self, id: EndpointId) -> &EndpointDeclaration {
        let place = self.places.get(id).expect(IN_THE_PLAN);
        &self.declarations[place]
    }

    /// Every probe, in the order of the file. Endpoints whose probes have the same SQL and interval share
    /// one.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// The probe with this id, if this plan has it.
    pub fn probe(&self, id: ProbeId) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.id == id)
    }

    /// A hash of what it was compiled from: config.toml without its secrets, and the SQL in other files.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The channels of all endpoints, without duplicates, in alphabetical order.
    pub fn channels(&self) -> Vec<&str> {
        let channels = self
            .endpoints
            .iter()
            .filter_map(|e| e.refresh.notify.as_deref());
        channels.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What answers `path`, percent-encoded as in the request line and without its query string. A
    /// literal segment takes precedence over a parameter.
    pub fn route<'p>(&'p self, path: &'p str) -> Option<Route<'p>> {
        let id_at = |place| {
            self.endpoints
                .get(place)
                .map(|endpoint: &Endpoint| endpoint.id)
        };
        self.routes.route(path, id_at)
    }

    /// The length in bytes of the longest path that any endpoint could answer, percent-encoded as in the
    /// request line. Longer paths need not be looked up.
    pub fn longest_path(&self) -> usize {
        self.longest_path
    }
}

#[cfg(test)]
mod tests;
