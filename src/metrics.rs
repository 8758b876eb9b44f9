//! Events as Prometheus sees them. Each metric is declared once, here, by its contract name; handles
//! are resolved per endpoint ahead of time, so that a hit costs a few atomic adds.

mod readings;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use readings::{EndpointReadings, ServerReadings};

use crate::observe::{CacheStatus, Event, QueryOutcome, RefreshOutcome, Trigger};
use crate::plan::{EndpointId, Plan};

/// The content type of [`Metrics::render`]: Prometheus text format 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Time to answer. A hit takes tens of microseconds, a load as long as its query: five decades in
/// steps of about three, so that both ends can be told apart with twelve buckets.
const REQUEST_SECONDS: &[f64] = &[
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0,
];

/// Age of data when served: from "just loaded" to the longest `stale_if_error` anyone sets in hours.
const AGE_SECONDS: &[f64] = &[
    0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

/// Time a query takes: below a millisecond lies the network, above thirty seconds the default
/// `statement_timeout`.
const QUERY_SECONDS: &[f64] = &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// The status codes an endpoint's answers can have; each has its counter ahead of time.
const CODES: [u16; 11] = [200, 204, 304, 400, 404, 405, 406, 500, 502, 503, 504];

/// The registry and every handle.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    endpoints: Box<[EndpointMetrics]>,
    elsewhere: RequestCounters,
    server: ServerMetrics,
}

impl Metrics {
    /// Metrics for every endpoint of `plan`, labelled by its declared path.
    pub fn new(plan: &Plan) -> Self {
        let registry = Registry::new();
        let families = Families::new(&registry);
        Self {
            endpoints: plan
                .endpoints()
                .iter()
                .map(|e| families.endpoint(e.path.as_str()))
                .collect(),
            elsewhere: RequestCounters::new(&families.requests, ""),
            server: ServerMetrics::new(&registry, plan),
            registry,
        }
    }

    /// Counts an event.
    pub fn record(&self, event: &Event) {
        match event {
            Event::RequestServed {
                endpoint,
                cache,
                code,
                elapsed,
                age,
            } => {
                let Some(endpoint) = endpoint else {
                    return self.elsewhere.count(*cache, *code);
                };
                let endpoint = self.endpoint(*endpoint);
                endpoint.requests.count(*cache, *code);
                endpoint.request_seconds.observe(elapsed.as_secs_f64());
                if let Some(age) = age {
                    endpoint.response_age.observe(age.as_secs_f64());
                }
            }
            Event::QueryFinished {
                endpoint,
                outcome,
                elapsed,
            } => {
                let endpoint = self.endpoint(*endpoint);
                endpoint
                    .queries
                    .with_label_values(&[&endpoint.name, outcome.as_str()])
                    .inc();
                endpoint.query_seconds.observe(elapsed.as_secs_f64());
                if *outcome == QueryOutcome::Ok {
                    endpoint.saved_until_now(Some(*elapsed));
                }
            }
            Event::RefreshFinished {
                endpoint,
                trigger,
                outcome,
                elapsed,
                at,
            } => {
                self.endpoint(*endpoint)
                    .refreshed(*trigger, *outcome, *elapsed, *at);
            }
            Event::RepositoryReached => self.server.repository_up.set(1),
            Event::RepositoryLost { .. } => self.server.repository_up.set(0),
            Event::ConnectionOpened => self.server.http_connections.inc(),
            Event::ConnectionClosed => self.server.http_connections.dec(),
            Event::CacheMeasured { entries, bytes } => {
                self.server.cache_entries.set(gauge(*entries));
                self.server.cache_bytes.set(gauge(*bytes));
            }
            Event::EntryEvicted => self.server.cache_evictions.inc(),
            Event::ConnectionsMeasured { idle, active } => {
                self.server.connections_idle.set(gauge(*idle));
                self.server.connections_active.set(gauge(*active));
            }
            // Lines for people, or no metric of the contract.
            Event::LoadsFailing { .. }
            | Event::LoadsRecovered { .. }
            | Event::StatementRedescribed { .. }
            | Event::ProbeFailing { .. }
            | Event::ProbeRecovered { .. }
            | Event::Listening
            | Event::ListeningFailed { .. }
            | Event::AheadTooSlow { .. }
            | Event::BringUpAdvanced { .. }
            | Event::ReadinessChanged { .. }
            | Event::ConnectionRefused
            | Event::RepresentationFailed { .. }
            | Event::CertificateRenewed
            | Event::CertificateRefused { .. }
            | Event::CertificateOutOfDate { .. }
            | Event::AcceptFailing { .. }
            | Event::AcceptRecovered
            | Event::HandlerPanicked => {}
        }
    }

    /// Everything counted so far, in Prometheus's text format: see [`CONTENT_TYPE`].
    pub fn render(&self) -> Vec<u8> {
        for endpoint in &self.endpoints {
            endpoint.saved_until_now(None);
        }
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and no family is empty");
        text
    }

    fn endpoint(&self, id: EndpointId) -> &EndpointMetrics {
        &self.endpoints[id.index()]
    }
}

/// The families that have one child per endpoint.
struct Families {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    response_age: HistogramVec,
    queries: IntCounterVec,
    query_seconds: HistogramVec,
    refreshes: IntCounterVec,
    refresh_seconds: HistogramVec,
    last_success: GaugeVec,
    saved: CounterVec,
}

impl Families {
    fn new(registry: &Registry) -> Self {
        // Label values are concatenated without separators to find a child, so every family has the
        // free-form label first and closed sets behind it whose words can not be confused.
        let families = Self {
            requests: counters(
                "larder_requests_total",
                "Requests by declared endpoint, how the cache answered, and status code.",
                &["endpoint", "cache", "code"],
            ),
            request_seconds: histograms(
                "larder_request_duration_seconds",
                "Time from the head of a request to the head of its answer.",
                REQUEST_SECONDS,
            ),
            response_age: histograms(
                "larder_response_age_seconds",
                "Age of the data when it was served, since its query began.",
                AGE_SECONDS,
            ),
            queries: counters(
                "larder_repository_queries_total",
                "Queries sent to Postgres, by how they ended.",
                &["endpoint", "outcome"],
            ),
            query_seconds: histograms(
                "larder_repository_query_duration_seconds",
                "Time a query took, with all its rows.",
                QUERY_SECONDS,
            ),
            refreshes: counters(
                "larder_refreshes_total",
                "Loads in the background, by what caused them and how they ended.",
                &["endpoint", "trigger", "outcome"],
            ),
            refresh_seconds: histograms(
                "larder_refresh_duration_seconds",
                "Time a load in the background took, with waiting, query and encoding.",
                QUERY_SECONDS,
            ),
            last_success: GaugeVec::new(
                Opts::new(
                    "larder_last_refresh_success_timestamp_seconds",
                    "When the endpoint was last loaded in the background with success.",
                ),
                &["endpoint"],
            )
            .expect(DECLARED),
            saved: CounterVec::new(
                Opts::new(
                    "larder_repository_seconds_saved_total",
                    "Time that Postgres did not spend: each answer from memory, or from another's load, at \
                     what the endpoint's query took when it last ran.",
                ),
                &["endpoint"],
            )
            .expect(DECLARED),
        };
        families.register(registry);
        families
    }

    fn register(&self, registry: &Registry) {
        register(registry, &self.requests);
        register(registry, &self.request_seconds);
        register(registry, &self.response_age);
        register(registry, &self.queries);
        register(registry, &self.query_seconds);
        register(registry, &self.refreshes);
        register(registry, &self.refresh_seconds);
        register(registry, &self.last_success);
        register(registry, &self.saved);
    }

    fn endpoint(&self, name: &str) -> EndpointMetrics {
        EndpointMetrics {
            name: name.to_owned(),
            requests: RequestCounters::new(&self.requests, name),
            request_seconds: self.request_seconds.with_label_values(&[name]),
            response_age: self.response_age.with_label_values(&[name]),
            queries: self.queries.clone(),
            query_seconds: self.query_seconds.with_label_values(&[name]),
            refreshes: self.refreshes.clone(),
            refresh_seconds: self.refresh_seconds.with_label_values(&[name]),
            last_success: self.last_success.clone(),
            saved: self.saved.with_label_values(&[name]),
            accounted: Mutex::default(),
        }
    }
}

/// One endpoint's handles. What a hit touches is resolved; what a load touches is looked up then.
#[derive(Debug)]
struct EndpointMetrics {
    name: String,
    requests: RequestCounters,
    request_seconds: Histogram,
    response_age: Histogram,
    queries: IntCounterVec,
    query_seconds: Histogram,
    refreshes: IntCounterVec,
    refresh_seconds: Histogram,
    last_success: GaugeVec,
    saved: Counter,
    accounted: Mutex<Accounted>,
}

/// What is in `larder_repository_seconds_saved_total` already. Hits pay nothing for it: they are counted
/// anyway, and multiplied when the time of the query changes or somebody looks.
#[derive(Debug, Default)]
struct Accounted {
    answers: u64,
    query: Duration,
}

impl EndpointMetrics {
    /// Accounts for the answers since the last time, at the time the query took until now; it has just
    /// taken `query`, if it ran.
    fn saved_until_now(&self, query: Option<Duration>) {
        let answers = self.requests.without_query();
        let mut accounted = self
            .accounted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A count read before the lock may be behind one that was read after it.
        let more = answers.saturating_sub(accounted.answers);
        self.saved
            .inc_by(accounted.query.as_secs_f64() * more as f64);
        accounted.answers += more;
        if let Some(query) = query {
            accounted.query = query;
        }
    }

    fn refreshed(
        &self,
        trigger: Trigger,
        outcome: RefreshOutcome,
        elapsed: Duration,
        at: SystemTime,
    ) {
        self.refreshes
            .with_label_values(&[&self.name, trigger.as_str(), outcome.as_str()])
            .inc();
        if outcome == RefreshOutcome::Skipped {
            return; // nothing ran that could have taken time
        }
        self.refresh_seconds.observe(elapsed.as_secs_f64());
        if outcome != RefreshOutcome::Failed {
            let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.last_success
                .with_label_values(&[&self.name])
                .set(since_epoch.as_secs_f64());
        }
    }
}

/// `larder_requests_total` of one endpoint. Each counter is looked up once, when it is first needed,
/// so that a hit finds its own by index and a scrape does not list what never happened.
#[derive(Debug)]
struct RequestCounters {
    name: String,
    family: IntCounterVec,
    resolved: [[OnceLock<IntCounter>; CODES.len()]; CacheStatus::ALL.len()],
}

impl RequestCounters {
    fn new(family: &IntCounterVec, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            family: family.clone(),
            resolved: Default::default(),
        }
    }

    /// How many were answered without a query of their own.
    fn without_query(&self) -> u64 {
        let of = |cache: CacheStatus| {
            let counters = self.resolved[cache as usize].iter();
            counters
                .filter_map(OnceLock::get)
                .map(IntCounter::get)
                .sum::<u64>()
        };
        [CacheStatus::Hit, CacheStatus::Stale, CacheStatus::Coalesced]
            .map(of)
            .iter()
            .sum()
    }

    fn count(&self, cache: CacheStatus, code: u16) {
        let look_up = || {
            self.family
                .with_label_values(&[&self.name, cache.as_str(), &code.to_string()])
        };
        match CODES.iter().position(|known| *known == code) {
            Some(column) => self.resolved[cache as usize][column]
                .get_or_init(look_up)
                .inc(),
            None => look_up().inc(),
        }
    }
}

/// What there is one of.
#[derive(Debug)]
struct ServerMetrics {
    cache_entries: IntGauge,
    cache_bytes: IntGauge,
    cache_evictions: IntCounter,
    connections_idle: IntGauge,
    connections_active: IntGauge,
    repository_up: IntGauge,
    http_connections: IntGauge,
}

impl ServerMetrics {
    fn new(registry: &Registry, plan: &Plan) -> Self {
        let connections = IntGaugeVec::new(
            Opts::new(
                "larder_repository_connections",
                "Connections to Postgres, by state.",
            ),
            &["state"],
        )
        .expect(DECLARED);
        register(registry, &connections);
        let build = IntGaugeVec::new(
            Opts::new(
                "larder_build_info",
                "Always 1; the label says which Larder this is.",
            ),
            &["version"],
        )
        .expect(DECLARED);
        register(registry, &build);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let evictions = IntCounter::new(
            "larder_cache_evictions_total",
            "Entries put out of the cache to make room for others.",
        )
        .expect(DECLARED);
        register(registry, &evictions);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect(DECLARED);
        integer(
            registry,
            "larder_cache_max_bytes",
            "The bound on the part of larder_cache_bytes that belongs to endpoints with parameters.",
        )
        .set(gauge(plan.cache().max_size));
        Self {
            cache_entries: integer(registry, "larder_cache_entries", "Entries held."),
            cache_bytes: integer(
                registry,
                "larder_cache_bytes",
                "Bytes held for entries: bodies, keys and overhead.",
            ),
            cache_evictions: evictions,
            connections_idle: connections.with_label_values(&["idle"]),
            connections_active: connections.with_label_values(&["active"]),
            repository_up: integer(
                registry,
                "larder_repository_up",
                "Whether Postgres could be reached when it was last tried.",
            ),
            http_connections: integer(
                registry,
                "larder_http_connections",
                "Client connections open.",
            ),
        }
    }
}

/// Why declaring a metric can not fail.
const DECLARED: &str = "names and labels are literals that Prometheus allows, each declared once";

fn register(registry: &Registry, collector: &(impl Collector + Clone + 'static)) {
    registry
        .register(Box::new(collector.clone()))
        .expect(DECLARED);
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect(DECLARED)
}

fn histograms(name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    HistogramVec::new(options, &["endpoint"]).expect(DECLARED)
}

fn integer(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::new(name, help).expect(DECLARED);
    register(registry, &gauge);
    gauge
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
