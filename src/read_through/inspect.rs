//! How things stand with an endpoint, for whoever shows it: nothing here is asked for by a request.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::health::LastFailure;
use super::{PostgresSource, ReadThrough, Source, whole};
use crate::cache::{Freshness, weight};
use crate::lock::lock;
use crate::plan::{EndpointId, Lifetime};

/// How things stand with an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointStatus {
    /// Whether its statement is described: nothing can be loaded before.
    pub is_described: bool,
    /// The entry that answers every request, where there are no parameters and it is loaded.
    pub resident: Option<ResidentEntry>,
    /// When its schedule loads it next, if it has one: of [`ReadThrough::now`].
    pub due: Option<Instant>,
    /// How long until what fails is tried again; zero while nothing fails.
    pub retry_in: Duration,
    /// Its last load that failed.
    pub last_failure: Option<LastFailure>,
}

/// The entry of an endpoint without parameters.
#[derive(Debug, Clone, Copy)]
pub struct ResidentEntry {
    /// How it may be used now.
    pub freshness: Freshness,
    /// How old it is.
    pub age: Duration,
    /// Its limits on age.
    pub lifetime: Lifetime,
    /// The bytes it takes.
    pub bytes: u64,
    /// How long its query took.
    pub query_time: Duration,
    /// When its content last changed.
    pub last_modified: SystemTime,
}

/// The entries of an endpoint with parameters.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyStats {
    /// How many there are.
    pub entries: u64,
    /// How many of them are fresh.
    pub fresh: u64,
    /// The bytes they take.
    pub bytes: u64,
    /// The age of the youngest; none where there is none.
    pub youngest: Option<Duration>,
    /// The age of the oldest that may still be served.
    pub oldest: Option<Duration>,
}

impl KeyStats {
    fn count(&mut self, freshness: Freshness, age: Duration, bytes: u64) {
        if freshness == Freshness::Expired {
            return; // it serves nobody, and goes when the cache is tidied
        }
        self.entries += 1;
        self.fresh += u64::from(freshness == Freshness::Fresh);
        self.bytes += bytes;
        self.youngest = Some(self.youngest.map_or(age, |youngest| youngest.min(age)));
        self.oldest = self.oldest.max(Some(age));
    }
}

impl ReadThrough<PostgresSource> {
    /// How things stand with an endpoint. Holds nothing up.
    pub fn endpoint_status(&self, endpoint: EndpointId) -> EndpointStatus {
        let state = self.state(endpoint);
        EndpointStatus {
            is_described: self.description(endpoint).is_some(),
            resident: self.resident(endpoint),
            due: *lock(&state.due),
            retry_in: self.retry_in(endpoint),
            last_failure: lock(&state.health).last_failure(),
        }
    }
}

impl<S: Source> ReadThrough<S> {
    /// Whether the endpoint's last load failed for a reason of its own: Postgres was there.
    pub fn is_refused(&self, endpoint: EndpointId) -> bool {
        let health = lock(&self.state(endpoint).health);
        health.is_refused()
    }

    fn resident(&self, endpoint: EndpointId) -> Option<ResidentEntry> {
        if !self.is_resident(endpoint) {
            return None;
        }
        let key = whole(endpoint);
        let entry = self.shared.cache.get(&key)?;
        let (freshness, age) = self.look_at(&key, &entry, self.now());
        Some(ResidentEntry {
            freshness,
            age,
            lifetime: *entry.lifetime(),
            bytes: weight(&key, &entry) as u64,
            query_time: entry.query_time(),
            last_modified: entry.last_modified(),
        })
    }

    /// The age of an endpoint's only entry, where it has one and that is loaded.
    pub fn age(&self, endpoint: EndpointId) -> Option<Duration> {
        self.resident(endpoint).map(|resident| resident.age)
    }

    /// What is held for each endpoint with parameters, by its place in the plan. It looks at every
    /// entry, of which there may be a million: not for a thread that answers requests.
    pub fn key_stats(&self) -> Box<[KeyStats]> {
        let mut found = vec![KeyStats::default(); self.shared.plan.endpoints().len()];
        let now = self.now();
        self.shared.cache.for_each_keyed(|key, entry| {
            let (freshness, age) = self.look_at(key, entry, now);
            let bytes = weight(key, entry) as u64;
            found[key.endpoint().index()].count(freshness, age, bytes);
        });
        found.into()
    }
}
