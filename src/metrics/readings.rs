//! Current values of the counters, for the status page.

use std::sync::OnceLock;

use prometheus::IntCounter;

use super::Metrics;
use super::endpoints::{CODES, EndpointMetrics, RequestCounters};
use crate::observe::CacheStatus;
use crate::plan::EndpointId;

/// One endpoint's counters since the start. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EndpointReadings {
    /// Answers by a fresh entry.
    pub hits: u64,
    /// Answers by a stale entry.
    pub stale: u64,
    /// Answers by a load of their own, and failures of one.
    pub misses: u64,
    /// Answers by another request's load.
    pub coalesced: u64,
    /// Answers that owe nothing to the cache: refusals.
    pub uncached: u64,
    /// The 5xx answers among all of these.
    pub errors: u64,
    /// Time all these answers took, in seconds.
    pub request_seconds: f64,
    /// Queries sent to Postgres.
    pub queries: u64,
    /// Time that Postgres did not spend, in seconds.
    pub seconds_saved: f64,
}

/// What there is one of, as it was last measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerReadings {
    /// Entries held.
    pub cache_entries: u64,
    /// Bytes they take.
    pub cache_bytes: u64,
    /// Entries evicted to make room since the start.
    pub cache_evictions: u64,
    /// Connections to Postgres that wait for work.
    pub connections_idle: u64,
    /// Connections to Postgres at work.
    pub connections_active: u64,
    /// Clients' connections.
    pub http_connections: u64,
}

impl Metrics {
    /// One endpoint's counters.
    pub fn endpoint_readings(&self, endpoint: EndpointId) -> EndpointReadings {
        self.endpoint(endpoint).readings()
    }

    /// What there is one of.
    pub fn server_readings(&self) -> ServerReadings {
        let server = &self.server;
        let gauge = |value: i64| u64::try_from(value).unwrap_or_default();
        ServerReadings {
            cache_entries: gauge(server.cache_entries.get()),
            cache_bytes: gauge(server.cache_bytes.get()),
            cache_evictions: server.cache_evictions.get(),
            connections_idle: gauge(server.connections_idle.get()),
            connections_active: gauge(server.connections_active.get()),
            http_connections: gauge(server.http_connections.get()),
        }
    }
}

impl EndpointMetrics {
    fn readings(&self) -> EndpointReadings {
        self.saved_until_now(None);
        let requests = &self.requests;
        EndpointReadings {
            hits: requests.counted(CacheStatus::Hit, |_| true),
            stale: requests.counted(CacheStatus::Stale, |_| true),
            misses: requests.counted(CacheStatus::Miss, |_| true),
            coalesced: requests.counted(CacheStatus::Coalesced, |_| true),
            uncached: requests.counted(CacheStatus::None, |_| true),
            errors: CacheStatus::ALL
                .map(|cache| requests.counted(cache, |code| code >= 500))
                .iter()
                .sum(),
            request_seconds: self.request_seconds.get_sample_sum(),
            queries: self.query_seconds.get_sample_count(),
            seconds_saved: self.saved.get(),
        }
    }
}

impl RequestCounters {
    /// How many answers were found in this way and have such a code. One that is not in [`CODES`] has
    /// no counter ahead of time, and is not among them.
    fn counted(&self, cache: CacheStatus, is_such: impl Fn(u16) -> bool) -> u64 {
        let counters = CODES.iter().zip(&self.resolved[cache as usize]);
        counters
            .filter(|(code, _)| is_such(**code))
            .filter_map(|(_, counter)| OnceLock::get(counter))
            .map(IntCounter::get)
            .sum()
    }
}
