//! Makes a plan from a configuration. Every check runs, whatever the others find: a wrong part is reported
//! and left out, and the rest is checked all the same.

mod access; // `[access]`, and `access` of an endpoint
mod cors; // `cors`
mod endpoint; // one `[[endpoint]]`
mod field; // reads one value: a duration, a size, a count, a word
mod hosts; // `hosts`
mod limit; // `limit`
mod parameters; // an endpoint's parameters, in its path, under `params` and in its SQL
mod policy; // the keys that `[defaults]` and `[[endpoint]]` share
mod refresh; // `refresh`, and the probes that endpoints share
mod run_as; // `run_as`
mod statement; // SQL, from the one place where it may be written
mod triggers; // what can load an endpoint, and whether that is enough for `on_miss = "refuse"`
mod type_name; // what may be the name of a type
mod warm; // `warm` and `warm_sql`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3Default;

use super::numbering::Places;
use super::restart::FixedPlaces;
use super::route::{RouteTable, longest_path};
use super::{
    CacheSettings, Endpoint, EndpointId, Listen, Plan, RepositorySettings, ServerSettings,
    TlsSettings,
};
use crate::config::schema::{RepositorySection, ServerSection, TlsSection};
use crate::config::{At, Config, Field, Mistake, Report, Secret, Span};
use policy::{Limits, Policy};
use refresh::Probes;

impl Plan {
    /// Compiles the configuration.
    ///
    /// # Errors
    /// All mistakes at once, including those found while reading the file.
    pub fn compile(config: Config) -> Result<Self, Report> {
        let Config {
            server,
            repository,
            cache,
            access,
            defaults,
            endpoints,
            source,
            files: _,
            mistakes,
        } = config;
        let mut report = mistakes;
        let fixed = FixedPlaces::of(source.name(), &server, &repository, &cache);
        let server = server_settings(&server, &mut report);
        let limits = Limits::read(&repository, &mut report);
        let repository = repository_settings(&repository, &limits, source.name(), &mut report);
        let max_size = field::size("max_size", &cache.max_size, &mut report);
        let access = access::settings(&access, &mut report);
        let defaults = Policy::read(&defaults, &mut report);
        defaults.check(&defaults, &limits, &mut report);

        if endpoints.as_ref().is_some_and(Vec::is_empty) {
            report.push(
                Mistake::new("no endpoint is declared")
                    .in_file(source.name())
                    .help("add one: [[endpoint]] with path = \"/now\" and sql = \"SELECT now()\""),
            );
        }
        let mut compiled = Vec::new();
        let mut declarations = Vec::new();
        let mut routes = Routes::default();
        let mut probes = Probes::default();
        for section in endpoints.unwrap_or_default() {
            let context = endpoint::Context {
                defaults: &defaults,
                limits: &limits,
                access: access.as_ref(),
            };
            let id = EndpointId::new(routes.spans.len());
            let parts = endpoint::Parts::read(&section, id, &context, &mut probes, &mut report);
            routes.add(&parts, &mut report);
            if let Some((endpoint, declaration)) = parts.assemble() {
                compiled.push(endpoint);
                declarations.push(declaration);
            }
        }
        check_room(max_size.as_ref(), &compiled, &mut report);

        let mut hash = Xxh3Default::new();
        hash.update(source.text().as_bytes());
        for endpoint in &compiled {
            hash.update(endpoint.statement.text().as_bytes());
        }
        let report = report.sorted();
        let (Some(server), Some(repository), true) = (server, repository, report.is_empty()) else {
            return Err(report);
        };
        let cache = CacheSettings {
            max_size: max_size.map_or(CACHE_BYTES, |size| size.value),
        };
        Ok(Self {
            server,
            repository,
            cache,
            access: access.map(|at| at.value),
            longest_path: compiled.iter().map(longest_path).max().unwrap_or(0),
            places: Places::new(&compiled),
            endpoints: compiled,
            probe_numbers: probes.probes.len(),
            probes: probes.probes,
            routes: routes.table,
            declarations,
            probe_declarations: probes.declarations,
            fixed,
            hash: hash.digest(),
        })
    }
}

/// Enough for 250,000 entries of 1 KiB, and a quarter of the smallest machine that one would rent.
const CACHE_BYTES: u64 = 256 << 20;

fn server_settings(section: &ServerSection, report: &mut Report) -> Option<ServerSettings> {
    /// Each takes a file descriptor and about 20 KiB.
    const CONNECTIONS: u64 = 10_000;
    /// Service managers wait 30 s or more before they kill.
    const SHUTDOWN: Duration = Duration::from_secs(10);
    /// The size of the cache: twenty slow clients can each hold an answer of 12 MiB.
    const PENDING_BYTES: u64 = 256 << 20;

    let max_connections = field::count(
        "max_connections",
        &section.max_connections,
        1..=1_000_000,
        report,
    );
    let shutdown_timeout = field::duration(
        "shutdown_timeout",
        &section.shutdown_timeout,
        Duration::ZERO,
        report,
    );
    Some(ServerSettings {
        listen: listen(&section.listen, report)?,
        max_connections: usize::try_from(max_connections.map_or(CONNECTIONS, |at| at.value))
            .ok()?,
        shutdown_timeout: shutdown_timeout.map_or(SHUTDOWN, |at| at.value),
        cors: cors::origins(&section.cors, report),
        tls: tls(&section.tls, report),
        h2c: h2c(section, report),
        hosts: hosts::names(&section.hosts, report),
        max_pending: field::size("max_pending", &section.max_pending, report)
            .map_or(PENDING_BYTES, |size| size.value),
    })
}

fn h2c(section: &ServerSection, report: &mut Report) -> bool {
    let Some(h2c) = section.h2c.given().filter(|h2c| h2c.value) else {
        return false;
    };
    if section.tls.given().is_some() {
        let mistake = Mistake::new("`h2c` has no effect with `tls`");
        let help = "remove it: over TLS, clients and Larder negotiate HTTP/2";
        report.push(
            mistake
                .at(&h2c.span, "this is HTTP/2 without TLS")
                .help(help),
        );
    }
    true
}

fn tls(section: &Field<TlsSection>, report: &mut Report) -> Option<TlsSettings> {
    let section = section.given()?;
    let mut file = |field: &Field<PathBuf>, key: &str| match field {
        Field::Given(path) => Some(path.clone()),
        Field::Wrong => None,
        Field::Absent => {
            let mistake = Mistake::new(format!("`tls` has no `{key}`"));
            let help = "for example tls = { cert = \"server.crt\", key = \"server.key\" }";
            report.push(
                mistake
                    .at(&section.span, "`cert` and `key` are both needed")
                    .help(help),
            );
            None
        }
    };
    let (cert, key) = (
        file(&section.value.cert, "cert"),
        file(&section.value.key, "key"),
    );
    Some(TlsSettings {
        cert: cert?,
        key: key?,
    })
}

fn listen(field: &Field<String>, report: &mut Report) -> Option<Listen> {
    /// Loopback: nothing is published by accident.
    const LISTEN: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

    let Some(text) = field.given() else {
        return Some(Listen::Address(LISTEN));
    };
    let listen = Listen::parse(&text.value);
    if listen.is_none() {
        report.push(
            Mistake::new("`listen` must be an address or a name, with a port")
                .at(&text.span, "expected `address:port`")
                .help(
                    "for example \"127.0.0.1:8080\", \"[::1]:8080\", \"localhost:8080\", or \":8080\" for all \
                     addresses",
                ),
        );
    }
    listen
}

fn repository_settings(
    section: &RepositorySection,
    limits: &Limits,
    file: &str,
    report: &mut Report,
) -> Option<RepositorySettings> {
    /// Refreshes are short and few, and the 100 connections of a Postgres are shared with other programs.
    const CONNECTIONS: u64 = 4;
    /// A load that a small Postgres does not notice.
    const LOADS_PER_SECOND: u64 = 100;

    let max_connections = field::count(
        "max_connections",
        &section.max_connections,
        1..=10_000,
        report,
    );
    let loads = field::count(
        "max_loads_per_second",
        &section.max_loads_per_second,
        1..=1_000_000,
        report,
    );
    Some(RepositorySettings {
        url: url(section, file, report)?,
        max_connections: usize::try_from(max_connections.map_or(CONNECTIONS, |at| at.value))
            .ok()?,
        statement_timeout: limits.statement_timeout(),
        max_loads_per_second: u32::try_from(loads.map_or(LOADS_PER_SECOND, |at| at.value)).ok()?,
    })
}

fn url(section: &RepositorySection, file: &str, report: &mut Report) -> Option<Secret> {
    const HELP: &str = "for example url = \"${DATABASE_URL}\"";
    match &section.url {
        Field::Given(url) if url.value.expose().trim().is_empty() => {
            let mistake = Mistake::new("`url` of [repository] is empty");
            report.push(mistake.at(&url.span, "names no database").help(HELP));
            None
        }
        Field::Given(url) => Some(url.value.clone()),
        Field::Wrong => None,
        Field::Absent => {
            let mistake = Mistake::new("`url` of [repository] is missing").help(HELP);
            report.push(match &section.span {
                Some(span) => mistake.at(span, "`url` is missing"),
                None => mistake.in_file(file),
            });
            None
        }
    }
}

/// An answer that does not fit into the cache would be loaded again for every request.
fn check_room(max_size: Option<&At<u64>>, endpoints: &[Endpoint], report: &mut Report) {
    let bytes = max_size.map_or(CACHE_BYTES, |size| size.value);
    let largest = endpoints.iter().filter(|endpoint| !endpoint.is_resident());
    let Some(endpoint) = largest.max_by_key(|endpoint| endpoint.max_bytes) else {
        return;
    };
    if endpoint.max_bytes <= bytes {
        return;
    }
    let path = endpoint.path.as_str();
    let mistake = Mistake::new(format!(
        "an answer of {path} may be larger than the whole cache"
    ))
    .note(format!(
        "an answer may take {} bytes, and the cache {bytes}",
        endpoint.max_bytes
    ))
    .help("raise `max_size` of [cache] or lower `max_bytes`");
    report.push(match max_size {
        Some(size) => mistake.at(&size.span, "smaller than one answer"),
        None => mistake,
    });
}

/// The table of paths, and where each is written.
#[derive(Default)]
struct Routes {
    table: RouteTable,
    spans: Vec<Option<Span>>,
}

impl Routes {
    fn add(&mut self, parts: &endpoint::Parts, report: &mut Report) {
        let path = parts.path.as_ref();
        let place = u32::try_from(self.spans.len()).unwrap_or(u32::MAX);
        self.spans.push(path.map(|path| path.span.clone()));
        let Some(path) = path else { return };
        let Err(other) = self.table.insert(&path.value, place) else {
            return;
        };
        let mistake = Mistake::new("two endpoints have the same path")
            .at(&path.span, "answers the same requests")
            .help("paths that differ only in the names of parameters are the same; change one of them");
        let first = other.and_then(|other| self.spans.get(other as usize)?.as_ref());
        report.push(match first {
            Some(first) => mistake.at(first, "first declared here"),
            None => mistake,
        });
    }
}
