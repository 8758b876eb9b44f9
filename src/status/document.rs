//! The current state as JSON. Names and units are those of the metrics: seconds, bytes, ratios from 0 to 1.
//! An absent value is null. No text in it comes from Postgres, from a client or from the SQL.

use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use super::Status;
use super::history::STEP;
use super::incidents::Snapshot;
use super::json::{rounded, seconds, timestamp, to_json};
use super::rates::Rates;
use super::state::{Evidence, State};
use crate::plan::{Endpoint, Lifetime, PerEndpoint, Refresh};
use crate::read_through::{
    EndpointStatus, KeyStats, LastFailure, LoadError, ReadThrough, ResidentEntry,
};

/// Why a load failed, in words that may be public.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Explanation {
    /// The stable code of the problem that a client gets.
    pub code: &'static str,
    /// A sentence.
    pub detail: &'static str,
}

#[derive(Serialize)]
struct Now<'n> {
    version: &'static str,
    timestamp_seconds: f64,
    uptime_seconds: f64,
    readiness: &'static str,
    /// The length of the window, ending now, that rates, ratios and means cover.
    window_seconds: f64,
    /// The number of samples taken for the history. It grows by one every `sample_step_seconds`.
    samples: u64,
    sample_step_seconds: f64,
    troubles: Vec<IncidentNow>,
    repository: Repository,
    cache: CacheNow,
    http: Http,
    states: States,
    total: Rates,
    endpoints: Vec<EndpointNow<'n>>,
}

#[derive(Serialize)]
struct IncidentNow {
    kind: &'static str,
    detail: &'static str,
    timestamp_seconds: f64,
}

#[derive(Serialize)]
struct Repository {
    /// Null until the first attempt to connect.
    up: Option<bool>,
    since_timestamp_seconds: Option<f64>,
    connections: Connections,
}

#[derive(Serialize)]
struct Connections {
    idle: u64,
    active: u64,
    max: u64,
}

#[derive(Serialize)]
struct CacheNow {
    entries: u64,
    bytes: u64,
    max_bytes: u64,
    evictions_per_second: f64,
}

#[derive(Serialize)]
struct Http {
    connections: u64,
    max_connections: u64,
}

#[derive(Default, Serialize)]
struct States {
    failing: usize,
    stale: usize,
    warming: usize,
    fresh: usize,
    idle: usize,
}

#[derive(Serialize)]
struct EndpointNow<'n> {
    endpoint: &'n str,
    state: State,
    #[serde(flatten)]
    rates: Rates,
    refresh: Vec<&'static str>,
    next_refresh_seconds: Option<f64>,
    limits: Option<Limits>,
    entry: Option<EntryNow>,
    keys: Option<Keys>,
    last_error: Option<LastError>,
}

/// The ages up to which an answer is fresh, is served while it is refreshed, and is served while loads fail.
#[derive(Serialize)]
struct Limits {
    fresh_seconds: f64,
    stale_while_revalidate_seconds: f64,
    stale_if_error_seconds: f64,
}

/// The one entry of an endpoint without parameters.
#[derive(Serialize)]
struct EntryNow {
    age_seconds: f64,
    bytes: u64,
    query_duration_seconds: f64,
    last_modified_timestamp_seconds: f64,
}

/// The entries of an endpoint with parameters.
#[derive(Serialize)]
struct Keys {
    entries: u64,
    max_entries: u64,
    fresh: u64,
    bytes: u64,
    youngest_age_seconds: Option<f64>,
    oldest_age_seconds: Option<f64>,
}

#[derive(Serialize)]
struct LastError {
    #[serde(flatten)]
    explained: Explanation,
    fault: &'static str,
    timestamp_seconds: f64,
}

/// The current state.
pub(super) fn now(
    status: &Status,
    keyed: &PerEndpoint<KeyStats>,
    explain: &dyn Fn(&LoadError) -> Explanation,
) -> Vec<u8> {
    let history = status.lock_history();
    let serving = status.current.load();
    let (plan, at) = (&*serving.plan, Instant::now());
    let current = status.incidents.snapshot();
    let server = status.metrics.server_readings();
    let readings = status.readings(plan);
    let window = history.window(at);
    let endpoints = plan.endpoints().iter().enumerate();
    let endpoints = endpoints.map(|(index, endpoint)| {
        let rates = window.of(index, &readings[index]);
        let keys = keyed.get(endpoint.id).copied().unwrap_or_default();
        EndpointNow::new(
            &serving.read_through,
            endpoint,
            rates,
            &keys,
            &current,
            explain,
        )
    });
    let endpoints: Vec<EndpointNow<'_>> = endpoints.collect();
    let now = Now {
        version: env!("CARGO_PKG_VERSION"),
        timestamp_seconds: timestamp(SystemTime::now()),
        uptime_seconds: seconds(at - status.started),
        readiness: current.readiness.as_str(),
        window_seconds: rounded(window.seconds),
        samples: history.taken(),
        sample_step_seconds: STEP.as_secs_f64(),
        troubles: current
            .incidents
            .iter()
            .map(|(incident, since)| IncidentNow {
                kind: incident.kind(),
                detail: incident.detail(),
                timestamp_seconds: timestamp(*since),
            })
            .collect(),
        repository: Repository {
            up: current.repository.map(|reach| reach.is_up),
            since_timestamp_seconds: current.repository.map(|reach| timestamp(reach.since_wall)),
            connections: Connections {
                idle: server.connections_idle,
                active: server.connections_active,
                max: plan.repository().max_connections as u64,
            },
        },
        cache: CacheNow {
            entries: server.cache_entries,
            bytes: server.cache_bytes,
            max_bytes: plan.cache().max_size,
            evictions_per_second: rounded(window.evictions_per_second(server.cache_evictions)),
        },
        http: Http {
            connections: server.http_connections,
            max_connections: plan.server().max_connections as u64,
        },
        states: States::of(&endpoints),
        total: window.total(&readings),
        endpoints,
    };
    to_json(&now)
}

impl States {
    fn of(endpoints: &[EndpointNow<'_>]) -> Self {
        let mut states = Self::default();
        for endpoint in endpoints {
            *match endpoint.state {
                State::Failing => &mut states.failing,
                State::Stale => &mut states.stale,
                State::Warming => &mut states.warming,
                State::Fresh => &mut states.fresh,
                State::Idle => &mut states.idle,
            } += 1;
        }
        states
    }
}

impl<'n> EndpointNow<'n> {
    fn new(
        read_through: &ReadThrough,
        endpoint: &'n Endpoint,
        rates: Rates,
        keyed: &KeyStats,
        current: &Snapshot,
        explain: &dyn Fn(&LoadError) -> Explanation,
    ) -> Self {
        let condition = read_through.inspect().endpoint(endpoint.id);
        let evidence = Evidence {
            endpoint,
            condition: &condition,
            keyed,
            rates: &rates,
            repository: current.repository,
            now: Instant::now(),
        };
        let state = evidence.state();
        let resident = condition.resident.as_ref();
        Self {
            endpoint: endpoint.path.as_str(),
            state,
            rates,
            refresh: refresh_keys(&endpoint.refresh),
            next_refresh_seconds: next_refresh(&condition, state, read_through.clock().now()),
            limits: limits(endpoint, resident),
            entry: resident.map(EntryNow::of),
            keys: (!endpoint.is_resident()).then(|| Keys::of(keyed, endpoint.max_keys)),
            last_error: condition
                .last_failure
                .as_ref()
                .map(|failure| LastError::of(failure, explain)),
        }
    }
}

/// What refreshes the endpoint without a request, by the keys of config.toml.
fn refresh_keys(refresh: &Refresh) -> Vec<&'static str> {
    [
        (refresh.every.is_some(), "every"),
        (refresh.cron.is_some(), "cron"),
        (refresh.probe.is_some(), "probe"),
        (refresh.notify.is_some(), "notify"),
        (refresh.ahead, "ahead"),
    ]
    .into_iter()
    .filter_map(|(is_set, word)| is_set.then_some(word))
    .collect()
}

/// The schedule is suspended while the endpoint fails: the next refresh is the next retry.
fn next_refresh(condition: &EndpointStatus, state: State, now: Instant) -> Option<f64> {
    let due = condition.due?;
    Some(if state == State::Failing {
        seconds(condition.retry_in)
    } else {
        seconds(due.saturating_duration_since(now))
    })
}

/// The limits of the entry, or for an endpoint with parameters the declared ones.
fn limits(endpoint: &Endpoint, resident: Option<&ResidentEntry>) -> Option<Limits> {
    let declared = || {
        endpoint.freshness.max_age?;
        Some(endpoint.freshness.lifetime(None, endpoint.timeout))
    };
    let Lifetime {
        fresh,
        stale_while_revalidate,
        stale_if_error,
        ..
    } = resident.map(|entry| entry.lifetime).or_else(declared)?;
    Some(Limits {
        fresh_seconds: seconds(fresh),
        stale_while_revalidate_seconds: seconds(stale_while_revalidate),
        stale_if_error_seconds: seconds(stale_if_error),
    })
}

impl EntryNow {
    fn of(entry: &ResidentEntry) -> Self {
        Self {
            age_seconds: seconds(entry.age),
            bytes: entry.bytes,
            query_duration_seconds: rounded(entry.query_time.as_secs_f64()),
            last_modified_timestamp_seconds: timestamp(entry.last_modified),
        }
    }
}

impl Keys {
    fn of(keyed: &KeyStats, max_entries: u64) -> Self {
        Self {
            entries: keyed.entries,
            max_entries,
            fresh: keyed.fresh,
            bytes: keyed.bytes,
            youngest_age_seconds: keyed.youngest.map(seconds),
            oldest_age_seconds: keyed.oldest.map(seconds),
        }
    }
}

impl LastError {
    fn of(failure: &LastFailure, explain: &dyn Fn(&LoadError) -> Explanation) -> Self {
        Self {
            explained: explain(&failure.error),
            fault: failure.error.fault().as_str(),
            timestamp_seconds: timestamp(failure.at_wall),
        }
    }
}
