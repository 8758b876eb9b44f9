//! The metrics that exist per endpoint.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, Opts, Registry,
};

use super::{DECLARED, register};
use crate::mutex::lock;
use crate::observe::{CacheStatus, QueryOutcome, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, Lifetime};

/// Buckets of response times. A hit takes tens of microseconds, a load as long as its query: five decades in
/// steps of about three, so that twelve buckets resolve both.
const REQUEST_SECONDS: &[f64] = &[
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0,
];

/// Buckets of the age of served data: from half a second to a `stale_if_error` of a day.
const AGE_SECONDS: &[f64] = &[
    0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

/// Buckets of query times: the network takes up to a millisecond, and the default `statement_timeout`
/// is thirty seconds.
const QUERY_SECONDS: &[f64] = &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// The status codes that an endpoint's responses can have. Each has a counter that is found by index.
pub(super) const CODES: [u16; 14] = [
    200, 204, 304, 400, 401, 403, 404, 405, 406, 429, 500, 502, 503, 504,
];

/// The names of the limits on age, in ascending order of the ages.
pub(super) const LIMITS: [&str; 3] = ["fresh", "stale_while_revalidate", "stale_if_error"];

/// The metric families with one child per endpoint.
#[derive(Debug)]
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
        // The library finds a child by its label values, concatenated without separators. So in every family
        // the free-form label comes first, and no value of a later label is the suffix of another.
        let families = Self {
            requests: counters(
                "larder_requests_total",
                "Requests by declared endpoint, cache status and status code.",
                &["endpoint", "cache", "code"],
            ),
            request_seconds: histograms(
                "larder_request_duration_seconds",
                "Time from the head of a request to the head of its response.",
                REQUEST_SECONDS,
            ),
            response_age: histograms(
                "larder_response_age_seconds",
                "Age of the served data, counted from the start of its query.",
                AGE_SECONDS,
            ),
            queries: counters(
                "larder_repository_queries_total",
                "Queries sent to Postgres, by outcome.",
                &["endpoint", "outcome"],
            ),
            query_seconds: histograms(
                "larder_repository_query_duration_seconds",
                "Time a query took, including all its rows.",
                QUERY_SECONDS,
            ),
            refreshes: counters(
                "larder_refreshes_total",
                "Loads in the background, by their trigger and outcome.",
                &["endpoint", "trigger", "outcome"],
            ),
            refresh_seconds: histograms(
                "larder_refresh_duration_seconds",
                "Time a load in the background took, including waiting, query and encoding.",
                QUERY_SECONDS,
            ),
            last_success: gauges(
                "larder_last_refresh_success_timestamp_seconds",
                "When the endpoint was last loaded in the background successfully.",
                &["endpoint"],
            ),
            stale_if_error: counters(
                "larder_responses_stale_if_error_total",
                "Responses served only because loading failed or took too long: their data were older than \
                 stale_while_revalidate allows, or had been invalidated.",
                &["endpoint"],
            ),
            limits: gauges(
                "larder_response_age_limit_seconds",
                "The age up to which data are served: as fresh, while they are refreshed, while loading \
                 fails. On a schedule, the limit of the last load.",
                &["endpoint", "limit"],
            ),
            problems: counters(
                "larder_problems_total",
                "Responses that are problems, by declared endpoint and the problem's code.",
                &["endpoint", "problem"],
            ),
            saved: float_counters(
                "larder_repository_seconds_saved_total",
                "Time that Postgres did not spend: every response from the cache or from a load that was \
                 already running, times the duration of the endpoint's last query.",
            ),
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

    /// The problems of all endpoints, and of no endpoint. Looked up each time, because hits do not need it.
    pub(super) fn problems(&self) -> IntCounterVec {
        self.problems.clone()
    }

    /// The requests that match no endpoint.
    pub(super) fn unmatched(&self) -> RequestCounters {
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
            saved_so_far: Mutex::default(),
        };
        metrics.record_declared_limits(endpoint);
        metrics
    }

    /// Removes the series of these endpoints.
    pub(super) fn remove(&self, endpoints: &[&str]) {
        remove(&self.requests, "endpoint", endpoints);
        remove(&self.request_seconds, "endpoint", endpoints);
        remove(&self.response_age, "endpoint", endpoints);
        remove(&self.queries, "endpoint", endpoints);
        remove(&self.query_seconds, "endpoint", endpoints);
        remove(&self.refreshes, "endpoint", endpoints);
        remove(&self.refresh_seconds, "endpoint", endpoints);
        remove(&self.last_success, "endpoint", endpoints);
        remove(&self.saved, "endpoint", endpoints);
        remove(&self.stale_if_error, "endpoint", endpoints);
        remove(&self.limits, "endpoint", endpoints);
        remove(&self.problems, "endpoint", endpoints);
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
    saved_so_far: Mutex<Saved>,
}

/// What `larder_repository_seconds_saved_total` includes already. It costs hits nothing: they are counted
/// anyway, and multiplied by the query's duration when that changes and when metrics are read.
#[derive(Debug, Default)]
struct Saved {
    responses: u64,
    /// The duration of the last query.
    query: Duration,
}

impl EndpointMetrics {
    /// Its declared path.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Adds the responses since the last call, at the duration of the query before `query`, which has just
    /// ended.
    pub(super) fn record_saved(&self, query: Option<Duration>) {
        let responses = self.requests.without_query();
        let mut saved = lock(&self.saved_so_far);
        // The count was read before the lock, and another call may have added more since.
        let more = responses.saturating_sub(saved.responses);
        self.saved.inc_by(saved.query.as_secs_f64() * more as f64);
        saved.responses += more;
        if let Some(query) = query {
            saved.query = query;
        }
    }

    pub(super) fn record_query(&self, outcome: QueryOutcome, elapsed: Duration) {
        self.queries
            .with_label_values(&[&self.name, outcome.as_str()])
            .inc();
        self.query_seconds.observe(elapsed.as_secs_f64());
        if outcome == QueryOutcome::Ok {
            self.record_saved(Some(elapsed));
        }
    }

    /// Records the limits that the configuration alone decides. On a schedule without `max_age` it takes a load to
    /// know them.
    pub(super) fn record_declared_limits(&self, endpoint: &Endpoint) {
        if endpoint.freshness.max_age.is_some() {
            self.record_limits(&endpoint.freshness.lifetime(None, endpoint.timeout));
        }
    }

    pub(super) fn record_limits(&self, lifetime: &Lifetime) {
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

    pub(super) fn record_refresh(
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
            return; // no load ran
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

/// `larder_requests_total` of one endpoint. Each counter is looked up once, at first use, so that a hit finds
/// its own by index, and a scrape does not list counters that are zero.
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

    /// The number of requests that caused no query.
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
        match CODES.iter().position(|it| *it == code) {
            Some(column) => self.resolved[cache as usize][column]
                .get_or_init(look_up)
                .inc(),
            None => look_up().inc(),
        }
    }
}

/// Removes the series with one of these values of a label.
pub(super) fn remove<T: MetricVecBuilder>(family: &MetricVec<T>, label: &str, values: &[&str]) {
    if values.is_empty() {
        return;
    }
    for metrics in family.collect() {
        for metric in metrics.get_metric() {
            let pairs = metric.get_label().iter();
            let labels: HashMap<&str, &str> = pairs.map(|it| (it.name(), it.value())).collect();
            if labels.get(label).is_some_and(|it| values.contains(it)) {
                // It was there a moment ago.
                let _ = family.remove(&labels);
            }
        }
    }
}

pub(super) fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect(DECLARED)
}

fn float_counters(name: &str, help: &str) -> CounterVec {
    CounterVec::new(Opts::new(name, help), &["endpoint"]).expect(DECLARED)
}

fn histograms(name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    HistogramVec::new(options, &["endpoint"]).expect(DECLARED)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect(DECLARED)
}
