//! The state of the endpoints, for the status page, the documents and the start: nothing here changes
//! anything, and no request depends on it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::health::LastFailure;
use super::{PostgresSource, ReadThrough, Source, statement_key};
use crate::cache::{Entry, Freshness, Key, weight};
use crate::mutex::lock;
use crate::plan::{Endpoint, EndpointId, Lifetime, PerEndpoint};
use crate::repository::Description;

/// A view of the endpoints' state.
#[derive(Debug)]
pub struct Inspector<'r, S>(&'r ReadThrough<S>);

/// The state of an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointStatus {
    /// Whether its statement is described, without which nothing can be loaded.
    pub is_described: bool,
    /// The only entry of an endpoint without parameters, once it is loaded.
    pub resident: Option<ResidentEntry>,
    /// When its schedule loads it next, by [`ReadThrough::clock`].
    pub due: Option<Instant>,
    /// How long until the next attempt; zero if loading does not fail.
    pub retry_in: Duration,
    /// Its last failed load.
    pub last_failure: Option<LastFailure>,
}

/// The entry of an endpoint without parameters.
#[derive(Debug, Clone, Copy)]
pub struct ResidentEntry {
    /// How it may be used now.
    pub freshness: Freshness,
    /// Its age.
    pub age: Duration,
    /// Its limits on age.
    pub lifetime: Lifetime,
    /// Its size in memory, in bytes.
    pub bytes: u64,
    /// How long its query took.
    pub query_time: Duration,
    /// When its content last changed.
    pub last_modified: SystemTime,
}

/// The entries of an endpoint with parameters, summed up.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyStats {
    /// The number of entries.
    pub entries: u64,
    /// The number of fresh ones.
    pub fresh: u64,
    /// Their size in memory, in bytes.
    pub bytes: u64,
    /// The age of the youngest.
    pub youngest: Option<Duration>,
    /// The age of the oldest that may still be served.
    pub oldest: Option<Duration>,
}

impl KeyStats {
    fn count(&mut self, freshness: Freshness, age: Duration, bytes: u64) {
        if freshness == Freshness::Expired {
            return; // it is never served again, and the next maintenance drops it
        }
        self.entries += 1;
        self.fresh += u64::from(freshness == Freshness::Fresh);
        self.bytes += bytes;
        self.youngest = Some(self.youngest.map_or(age, |youngest| youngest.min(age)));
        self.oldest = self.oldest.max(Some(age));
    }
}

impl<S: Source> ReadThrough<S> {
    /// A view of the endpoints' state.
    pub fn inspect(&self) -> Inspector<'_, S> {
        Inspector(self)
    }
}

impl<'r, S: Source> Inspector<'r, S> {
    /// How long a failing endpoint should not be loaded; zero if loading does not fail.
    pub fn retry_in(&self, endpoint: EndpointId) -> Duration {
        self.0.key_retry_in(&statement_key(endpoint))
    }

    /// Whether the endpoint's last load failed for a reason of its own, while Postgres was reachable.
    pub fn is_refused(&self, endpoint: EndpointId) -> bool {
        let health = lock(&self.0.state(endpoint).health);
        health.is_refused()
    }

    /// The age of the only entry of an endpoint without parameters, once it is loaded.
    pub fn age(&self, endpoint: EndpointId) -> Option<Duration> {
        self.resident(endpoint).map(|resident| resident.age)
    }

    fn resident(&self, endpoint: EndpointId) -> Option<ResidentEntry> {
        if !self.0.endpoint(endpoint).is_resident() {
            return None;
        }
        let key = statement_key(endpoint);
        let entry = self.0.engine.cache.get(&key)?;
        let (freshness, age) = self.0.look_at(&key, &entry, self.0.clock().now());
        Some(ResidentEntry {
            freshness,
            age,
            lifetime: *entry.lifetime(),
            bytes: weight(&key, &entry) as u64,
            query_time: entry.query_time(),
            last_modified: entry.last_modified(),
        })
    }

    /// The entries of each endpoint with parameters. Visits every entry, of which
    /// there may be a million: not for threads that answer requests.
    pub fn key_stats(&self) -> PerEndpoint<KeyStats> {
        let read_through = self.0;
        let mut stats = self.0.planned.plan.per_endpoint(|_| KeyStats::default());
        let now = read_through.clock().now();
        read_through.engine.cache.for_each_keyed(|key, entry| {
            // Entries of an earlier plan are removed a little later than its endpoints.
            if let Some(stats) = stats.get_mut(key.endpoint()) {
                let (freshness, age) = read_through.look_at(key, entry, now);
                stats.count(freshness, age, weight(key, entry) as u64);
            }
        });
        stats
    }
}

impl<'r> Inspector<'r, PostgresSource> {
    /// The state of an endpoint.
    pub fn endpoint(&self, endpoint: EndpointId) -> EndpointStatus {
        let state = self.0.state(endpoint);
        EndpointStatus {
            is_described: self.description(endpoint).is_some(),
            resident: self.resident(endpoint),
            due: *lock(&state.due),
            retry_in: self.retry_in(endpoint),
            last_failure: lock(&state.health).last_failure(),
        }
    }

    /// Postgres's description of the endpoint's statement, once there is one.
    pub fn description(&self, endpoint: EndpointId) -> Option<Arc<Description>> {
        self.0.planned.source.description(endpoint)
    }

    /// The endpoints that cannot answer yet: not described, or without parameters and not loaded.
    pub fn cold(self) -> impl Iterator<Item = &'r Endpoint> {
        let (planned, cache) = (&self.0.planned, &self.0.engine.cache);
        planned.plan.endpoints().iter().filter(|endpoint| {
            planned.source.description(endpoint.id).is_none()
                || endpoint.is_resident() && cache.get(&statement_key(endpoint.id)).is_none()
        })
    }

    /// An entry to show as an example, if one is in memory: the only one, or that of the first key in
    /// `warm`, or that of a request without arguments.
    pub fn example(&self, endpoint: EndpointId) -> Option<Arc<Entry>> {
        let description = self.description(endpoint)?;
        let endpoint = self.0.endpoint(endpoint);
        let texts = endpoint.warm.arguments.first();
        let (path, query) = endpoint.split_arguments(texts.map_or(&[], Vec::as_slice));
        let arguments = description.signature.arguments(endpoint, &path, &query);
        let key = Key::new(endpoint.id, arguments.ok()?);
        self.0.engine.cache.get(&key)
    }
}
