//! The current values of counters and gauges, for the status page.

use std::sync::OnceLock;

use prometheus::IntCounter;

use super::Metrics;
use super::endpoints::{CODES, EndpointMetrics, RequestCounters};
use crate::observe::CacheStatus;
use crate::plan::EndpointId;

/// An endpoint's counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EndpointReadings {
    /// Responses with a fresh entry.
    pub hits: u64,
    /// Responses with a stale entry.
    pub stale: u64,
    /// Responses with a load that the request caused, and failures of one.
    pub misses: u64,
    /// Responses with a load that was already running.
    pub coalesced: u64,
    /// Responses that did not involve the cache: refusals.
    pub uncached: u64,
    /// Of all these, the server errors: 5xx.
    pub errors: u64,
    /// The total time of all these responses, in seconds.
    pub request_seconds: f64,
    /// Queries sent to Postgres.
    pub queries: u64,
    /// The time that Postgres did not spend, in seconds.
    pub seconds_saved: f64,
}

/// The values of the server as a whole, as last measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerReadings {
    /// Entries in the cache.
    pub cache_entries: u64,
    /// Their size in bytes.
    pub cache_bytes: u64,
    /// Entries evicted to make room since the start.
    pub cache_evictions: u64,
    /// Idle connections to Postgres.
    pub connections_idle: u64,
    /// Active connections to Postgres.
    pub connections_active: u64,
    /// Open client connections.
    pub http_connections: u64,
}

impl Metrics {
    /// An endpoint's counters.
    pub fn endpoint_readings(&self, endpoint: EndpointId) -> EndpointReadings {
        self.with(endpoint, EndpointMetrics::readings)
            .unwrap_or_default()
    }

    /// The values of the server as a whole.
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
        self.record_saved(None);
        let requests = &self.requests;
        EndpointReadings {
            hits: requests.sum(CacheStatus::Hit, |_| true),
            stale: requests.sum(CacheStatus::Stale, |_| true),
            misses: requests.sum(CacheStatus::Miss, |_| true),
            coalesced: requests.sum(CacheStatus::Coalesced, |_| true),
            uncached: requests.sum(CacheStatus::None, |_| true),
            errors: CacheStatus::ALL
                .map(|cache| requests.sum(cache, |code| code >= 500))
                .iter()
                .sum(),
            request_seconds: self.request_seconds.get_sample_sum(),
            queries: self.query_seconds.get_sample_count(),
            seconds_saved: self.saved.get(),
        }
    }
}

impl RequestCounters {
    /// The number of responses with this cache status and a code that `is_counted` selects. Those with a code
    /// that is not in [`CODES`] are not included.
    fn sum(&self, cache: CacheStatus, is_counted: impl Fn(u16) -> bool) -> u64 {
        let counters = CODES.iter().zip(&self.resolved[cache as usize]);
        counters
            .filter(|(code, _)| is_counted(**code))
            .filter_map(|(_, counter)| OnceLock::get(counter))
            .map(IntCounter::get)
            .sum()
    }
}
