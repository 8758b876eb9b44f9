//! What there is one of an endpoint.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Counter, CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, Opts, Registry,
};

use super::{DECLARED, register};
use crate::lock::lock;
use crate::observe::{CacheStatus, QueryOutcome, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, Lifetime};

/// Time to answer. A hit takes tens of microseconds, a load as long as its query: five decades in
/// steps of about three, so that twelve buckets distinguish both.
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
pub(super) const CODES: [u16; 11] = [200, 204, 304, 400, 404, 405, 406, 500, 502, 503, 504];

/// What an answer may be used as until an age, in the order of the ages.
pub(super) const LIMITS: [&str; 3] = ["fresh", "stale_while_revalidate", "stale_if_error"];

/// The families that have one child per endpoint.
pub(super) struct Families {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    response_age: HistogramVec,
    queries: IntCounterVec,
    query_seconds: HistogramVec,
    refreshes: IntCounterVec,
    refresh_seconds: HistogramVec,
    last_success: GaugeVec,
    saved: CounterVec,
    stale_if_error: IntCounterVec,
    limits: GaugeVec,
    problems: IntCounterVec,
}

impl Families {
    pub(super) fn new(registry: &Registry) -> Self {
        // Label values are concatenated without separators to find a child, so every family has the
        // free-form label first, then closed sets whose words cannot be confused.
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
            last_success: gauges(
                "larder_last_refresh_success_timestamp_seconds",
                "When the endpoint was last loaded in the background with success.",
                &["endpoint"],
            ),
            stale_if_error: counters(
                "larder_responses_stale_if_error_total",
                "Answers that were given because loading failed or took too long: older than \
                 stale_while_revalidate allows, or known to have changed.",
                &["endpoint"],
            ),
            limits: gauges(
                "larder_response_age_limit_seconds",
                "The age up to which an answer is served: as fresh, while it is loaded again, while \
                 loading fails. On a schedule, that of the last load.",
                &["endpoint", "limit"],
            ),
            problems: counters(
                "larder_problems_total",
                "Answers that are problems, by declared endpoint and the code in their body.",
                &["endpoint", "problem"],
            ),
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
        register(registry, &self.stale_if_error);
        register(registry, &self.limits);
        register(registry, &self.problems);
    }

    /// The problems of all endpoints, and of no endpoint. Looked up each time: there are as many children as
    /// problems have occurred, and none is on the way of a hit.
    pub(super) fn problems(&self) -> IntCounterVec {
        self.problems.clone()
    }

    /// The requests that no endpoint answers.
    pub(super) fn elsewhere(&self) -> RequestCounters {
        RequestCounters::new(&self.requests, "")
    }

    /// An endpoint's handles, labelled by its declared path.
    pub(super) fn endpoint(&self, endpoint: &Endpoint) -> EndpointMetrics {
        let name = endpoint.path.as_str();
        let metrics = EndpointMetrics {
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
            stale_if_error: self.stale_if_error.with_label_values(&[name]),
            limits: self.limits.clone(),
            accounted: Mutex::default(),
        };
        // On a schedule without `max_age` it takes a load to know.
        if endpoint.freshness.max_age.is_some() {
            metrics.limited_to(&endpoint.freshness.lifetime(None, endpoint.timeout));
        }
        metrics
    }
}

/// One endpoint's handles. What a hit touches is resolved; what a load touches is looked up then.
#[derive(Debug)]
pub(super) struct EndpointMetrics {
    name: String,
    pub(super) requests: RequestCounters,
    pub(super) request_seconds: Histogram,
    pub(super) response_age: Histogram,
    queries: IntCounterVec,
    pub(super) query_seconds: Histogram,
    refreshes: IntCounterVec,
    refresh_seconds: Histogram,
    last_success: GaugeVec,
    pub(super) saved: Counter,
    pub(super) stale_if_error: IntCounter,
    limits: GaugeVec,
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
    /// Its declared path.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Accounts for the answers since the last time, at the time the query took until now; it has just
    /// taken `query`, if it ran.
    pub(super) fn saved_until_now(&self, query: Option<Duration>) {
        let answers = self.requests.without_query();
        let mut accounted = lock(&self.accounted);
        // A count read before the lock may be behind one that was read after it.
        let more = answers.saturating_sub(accounted.answers);
        self.saved
            .inc_by(accounted.query.as_secs_f64() * more as f64);
        accounted.answers += more;
        if let Some(query) = query {
            accounted.query = query;
        }
    }

    pub(super) fn queried(&self, outcome: QueryOutcome, elapsed: Duration) {
        self.queries
            .with_label_values(&[&self.name, outcome.as_str()])
            .inc();
        self.query_seconds.observe(elapsed.as_secs_f64());
        if outcome == QueryOutcome::Ok {
            self.saved_until_now(Some(elapsed));
        }
    }

    pub(super) fn limited_to(&self, lifetime: &Lifetime) {
        let ages = [
            lifetime.fresh,
            lifetime.stale_while_revalidate,
            lifetime.stale_if_error,
        ];
        for (limit, age) in LIMITS.into_iter().zip(ages) {
            self.limits
                .with_label_values(&[self.name.as_str(), limit])
                .set(age.as_secs_f64());
        }
    }

    pub(super) fn refreshed(
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
pub(super) struct RequestCounters {
    name: String,
    family: IntCounterVec,
    pub(super) resolved: [[OnceLock<IntCounter>; CODES.len()]; CacheStatus::ALL.len()],
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

    pub(super) fn count(&self, cache: CacheStatus, code: u16) {
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

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect(DECLARED)
}

fn histograms(name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    HistogramVec::new(options, &["endpoint"]).expect(DECLARED)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect(DECLARED)
}
