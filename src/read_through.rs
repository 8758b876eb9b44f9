//! The engine: a request finds its entry, or causes one load of it, and a refresh loads the entry again. No
//! SQL, HTTP, JSON or Prometheus in here.
//!
//! | part            | does                                                          |
//! |-----------------|---------------------------------------------------------------|
//! | `served`        | what a request gets                                           |
//! | `error`         | why a load fails, and why a request gets no entry             |
//! | `single_flight` | one load per key at a time, awaited by any number of requests |
//! | `rate_limit`    | how many loads per second clients may cause                   |
//! | `concurrency`   | how many loads run at once, and which comes next              |
//! | `load`          | one load, from admission to the notification of its waiters   |
//! | `source`        | where answers come from: Postgres                             |
//! | `variants`      | formats and codings of an answer, each made once              |
//! | `refresh_ahead` | loads keys in use again before they go stale                  |
//! | `blame`         | whether a failed load was due to its arguments                |
//! | `redescribe`    | describes a statement again when its description may be outdated |
//! | `key_backoff`   | which keys failed, and when each is tried again               |
//! | `health`        | an endpoint's failures: which to report, and the last one     |
//! | `inspect`       | the state of the endpoints, for the status page and the start |
//! | `maintenance`   | what background tasks do besides the verbs                    |
//! | `succession`    | another plan in place of this one, with what did not change   |
//! | `clock`         | the clock for ages and due times, which includes machine sleep |

pub mod error;
pub mod inspect;
pub mod load;
pub mod maintenance;
pub mod refresh_ahead;
pub mod served;
pub mod single_flight;
pub mod source;

mod blame;
mod clock;
mod concurrency;
mod health;
mod key_backoff;
mod rate_limit;
mod redescribe;
mod succession;
mod variants;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

pub use clock::Clock;
pub use error::{LoadError, ReadError};
pub use health::LastFailure;
pub use inspect::{EndpointStatus, Inspector, KeyStats, ResidentEntry};
pub use maintenance::Maintenance;
pub use refresh_ahead::AheadCheck;
pub use served::Served;
pub use source::{PostgresSource, Source};

use crate::cache::{Cache, EndpointVersion, Entry, Freshness, Key, Validated};
use crate::limiter::Limiter;
use crate::mutex::lock;
use crate::observe::{CacheStatus, Observer, RefreshOutcome, Trigger};
use crate::plan::{Arguments, Endpoint, EndpointId, OnMiss, PerEndpoint, Plan};
use blame::RunRecord;
use concurrency::LoadSlots;
use health::Health;
use key_backoff::KeyBackoff;
use rate_limit::RateLimit;
use redescribe::RedescribeLimit;
use single_flight::{InFlight, Waiter};

/// Answers from the cache, filled from the repository. A cheap handle: clones share everything.
#[derive(Debug)]
pub struct ReadThrough<S = PostgresSource> {
    planned: Arc<Planned<S>>,
    engine: Arc<Engine>,
}

/// What a plan declares, and how that is. Another plan may succeed it while loads and requests still use it.
#[derive(Debug)]
struct Planned<S> {
    plan: Arc<Plan>,
    source: S,
    endpoints: PerEndpoint<Arc<EndpointState>>,
    /// The one that succeeded it.
    successor: OnceLock<ReadThrough<S>>,
    ended: succession::Ended,
}

/// What all plans have in common.
#[derive(Debug)]
struct Engine {
    cache: Cache,
    observer: Observer,
    in_flight: InFlight,
    rate_limit: RateLimit,
    slots: LoadSlots,
    /// Limits how many variants are encoded at once for requests.
    encoding_slots: Semaphore,
    key_backoff: KeyBackoff,
    clock: Clock,
    /// Receives the keys to check again at some moment.
    ahead_checks: OnceLock<mpsc::UnboundedSender<AheadCheck>>,
    /// The defect that the simulation must detect.
    #[cfg(test)]
    defect: simulation::Defect,
}

#[derive(Debug, Default)]
struct EndpointState {
    version: ArcSwap<EndpointVersion>,
    health: Mutex<Health>,
    runs: RunRecord,
    redescribe_limit: RedescribeLimit,
    /// When its schedule loads it next.
    due: Mutex<Option<Instant>>,
}

/// Why a load begins.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// A client waits for it.
    Client,
    /// No client waits for it.
    Background(Trigger),
}

/// What a call for a load led to.
enum Start {
    /// It began the load.
    Began(Waiter),
    /// It joined a running load.
    Joined(Waiter),
    /// A load had just ended.
    Loaded(Arc<Entry>),
}

impl<S> Clone for ReadThrough<S> {
    fn clone(&self) -> Self {
        Self {
            planned: Arc::clone(&self.planned),
            engine: Arc::clone(&self.engine),
        }
    }
}

impl<S: Source> ReadThrough<S> {
    /// Reads `source` through `cache`.
    pub fn new(plan: Arc<Plan>, source: S, cache: Cache, observer: Observer) -> Self {
        let engine = Engine {
            ahead_checks: OnceLock::new(),
            in_flight: InFlight::default(),
            rate_limit: RateLimit::new(plan.repository().max_loads_per_second),
            slots: LoadSlots::new(plan.repository().max_connections),
            encoding_slots: variants::encoding_slots(),
            key_backoff: KeyBackoff::default(),
            clock: Clock::default(),
            #[cfg(test)]
            defect: simulation::Defect::default(),
            cache,
            observer,
        };
        let planned = Planned {
            endpoints: plan.per_endpoint(|_| Arc::default()),
            successor: OnceLock::new(),
            ended: succession::Ended::default(),
            plan,
            source,
        };
        Self {
            planned: Arc::new(planned),
            engine: Arc::new(engine),
        }
    }

    /// Answers a request: from the cache if an entry may be served, otherwise by one load, which continues
    /// even if the request does not wait for it.
    ///
    /// # Errors
    /// [`ReadError`] if there is nothing that may be served.
    pub async fn get(&self, key: &Key) -> Result<Served, ReadError> {
        self.get_for(key, None).await
    }

    /// Likewise, for a caller with a limit of loads.
    ///
    /// # Errors
    /// [`ReadError`] if there is nothing that may be served.
    pub async fn get_for(&self, key: &Key, caller: Option<&Limiter>) -> Result<Served, ReadError> {
        let endpoint = key.endpoint();
        let timeout = self.endpoint(endpoint).timeout;
        // The future of a load is boxed to keep that of a hit small: it is moved several times.
        let Some((entry, freshness, age)) = self.find(key) else {
            return Box::pin(self.wait_for_load(key, timeout, caller)).await;
        };
        match freshness {
            Freshness::Fresh => Ok(Served::new(entry, CacheStatus::Hit, age)),
            Freshness::Stale => {
                self.reload(key, caller);
                Ok(Served::new(entry, CacheStatus::Stale, age))
            }
            // While loads are known to fail, waiting for another one is pointless.
            Freshness::StaleIfError if self.is_failing(key) => {
                self.reload(key, caller);
                Ok(Served::stale_if_error(entry, age))
            }
            // No request ever waits for a load of this endpoint: the load that an invalidation calls for
            // has to begin here.
            Freshness::StaleIfError if self.refuses(endpoint) => {
                self.reload(key, caller);
                Ok(Served::new(entry, CacheStatus::Stale, age))
            }
            Freshness::StaleIfError => {
                // The wait ends while the entry may still be served.
                let left = entry.lifetime().stale_if_error.saturating_sub(age);
                let max_wait = timeout.min(left.saturating_sub(TIMER_SLACK));
                let loaded = Box::pin(self.wait_for_load(key, max_wait, caller)).await;
                match self.look_at(key, &entry, self.clock().now()) {
                    (freshness, age) if loaded.is_err() && freshness != Freshness::Expired => {
                        Ok(Served::stale_if_error(entry, age))
                    }
                    _ => loaded,
                }
            }
            Freshness::Expired => Box::pin(self.wait_for_load(key, timeout, caller)).await,
        }
    }

    /// The requested entry, how it may be used now, and its age.
    fn find(&self, key: &Key) -> Option<(Arc<Entry>, Freshness, Duration)> {
        let entry = self.engine.cache.get(key)?;
        let now = self.clock().now();
        if entry.mark_used() {
            self.refresh_ahead_on_first_use(key, &entry, now);
        }
        let (freshness, age) = self.look_at(key, &entry, now);
        Some((entry, freshness, age))
    }

    /// How an entry may be used now, and its age. Both are of the same moment, so that no answer reports an
    /// age at which it would not have been served.
    fn look_at(&self, key: &Key, entry: &Entry, now: Instant) -> (Freshness, Duration) {
        let version = self.version(key.endpoint());
        let as_of = entry.record_validation(&version);
        let age = now.saturating_duration_since(as_of);
        (entry.freshness(age, &version), age)
    }

    fn freshness(&self, key: &Key, entry: &Entry) -> Freshness {
        self.look_at(key, entry, self.clock().now()).0
    }

    fn version(&self, endpoint: EndpointId) -> EndpointVersion {
        #[cfg(test)]
        if self.engine.defect == simulation::Defect::IgnoresInvalidations {
            return EndpointVersion::default();
        }
        **self.state(endpoint).version.load()
    }

    /// Records that the data behind an endpoint have changed: its entries are no longer fresh, nor are those
    /// of loads that are running now.
    pub fn invalidate(&self, endpoint: EndpointId) {
        self.state(endpoint).version.rcu(|version| EndpointVersion {
            generation: version.generation + 1,
            validated: None,
        });
    }

    /// Records that the data behind an endpoint have not changed meanwhile.
    pub fn revalidate(&self, endpoint: EndpointId, validated: Validated) {
        self.state(endpoint).version.rcu(|version| EndpointVersion {
            generation: version.generation,
            validated: Some(validated),
        });
        // Other entries record it when they are requested. A resident entry is never dropped, so it may be
        // requested only after the next change.
        if let Some(entry) = self.engine.cache.get(&statement_key(endpoint)) {
            entry.record_validation(&self.version(endpoint));
        }
    }

    /// The clock of all moments that are passed to or returned from the engine.
    pub fn clock(&self) -> &Clock {
        &self.engine.clock
    }

    /// Loads a key before it is requested.
    ///
    /// # Errors
    /// Why it could not be loaded.
    pub async fn warm(
        &self,
        endpoint: EndpointId,
        arguments: Arguments,
    ) -> Result<(), Arc<LoadError>> {
        let key = Key::new(endpoint, arguments);
        match self.start(&key, Cause::Background(Trigger::Warm)) {
            Ok(Start::Began(waiter) | Start::Joined(waiter)) => waiter.wait().await.map(drop),
            Ok(Start::Loaded(_)) => Ok(()),
            Err(_) => Err(Arc::new(LoadError::Overloaded)),
        }
    }

    /// Loads a resident entry again, unless a load of it is running. If the load must begin after some
    /// moment, waits for the running one, and begins another if that one began earlier or failed.
    pub async fn refresh(
        &self,
        endpoint: EndpointId,
        trigger: Trigger,
        after: Option<Instant>,
    ) -> RefreshOutcome {
        let key = statement_key(endpoint);
        loop {
            let before = self.engine.cache.get(&key);
            match self.start(&key, Cause::Background(trigger)) {
                Ok(Start::Began(waiter)) => {
                    return match waiter.wait().await {
                        Ok(entry) => outcome(before.as_deref(), &entry),
                        Err(_) => RefreshOutcome::Failed,
                    };
                }
                Ok(Start::Joined(waiter)) => {
                    let Some(after) = after else { break };
                    // A client's load may be dropped while it waits for a slot.
                    if waiter.wait().await.is_ok_and(|e| e.began() >= after) {
                        break;
                    }
                }
                Ok(Start::Loaded(_)) | Err(_) => break,
            }
        }
        let outcome = RefreshOutcome::Skipped;
        self.emit_refresh(endpoint, trigger, outcome, Duration::ZERO, None);
        outcome
    }

    fn key_retry_in(&self, key: &Key) -> Duration {
        let own = self.engine.key_backoff.active(key, Instant::now());
        own.map_or(Duration::ZERO, |(_, wait)| wait)
            .max(self.planned.source.retry_in())
    }

    async fn wait_for_load(
        &self,
        key: &Key,
        max_wait: Duration,
        caller: Option<&Limiter>,
    ) -> Result<Served, ReadError> {
        let endpoint = self.endpoint(key.endpoint());
        if self.refuses(endpoint.id) {
            let due = *lock(&self.state(endpoint.id).due);
            let retry_in = due.map_or(Duration::ZERO, |due| due - self.clock().now());
            return Err(ReadError::NotLoaded { retry_in });
        }
        if let Some((error, retry_in)) = self.engine.key_backoff.active(key, Instant::now()) {
            return Err(ReadError::Load { error, retry_in });
        }
        let retry_in = self.planned.source.retry_in();
        if !retry_in.is_zero() {
            return Err(ReadError::Away { retry_in });
        }
        let (waiter, status) = match self.start_for(key, Cause::Client, caller)? {
            Start::Began(waiter) => (waiter, CacheStatus::Miss),
            Start::Joined(waiter) => (waiter, CacheStatus::Coalesced),
            Start::Loaded(entry) => return self.loaded(key, entry, CacheStatus::Hit),
        };
        match tokio::time::timeout(max_wait, waiter.wait()).await {
            Ok(Ok(entry)) => self.loaded(key, entry, status),
            Ok(Err(error)) => Err(ReadError::Load {
                error,
                retry_in: self.key_retry_in(key),
            }),
            Err(_) => Err(ReadError::TooSlow(endpoint.timeout)),
        }
    }

    /// The entry that a load stored, for those who waited. Its age is the time its query took. If that
    /// exceeds the timeout, because the machine was suspended, the entry's own limits apply.
    fn loaded(
        &self,
        key: &Key,
        entry: Arc<Entry>,
        status: CacheStatus,
    ) -> Result<Served, ReadError> {
        let timeout = self.endpoint(key.endpoint()).timeout;
        let (_, age) = self.look_at(key, &entry, self.clock().now());
        if age > entry.lifetime().limit().max(timeout) {
            return Err(ReadError::TooSlow(timeout));
        }
        Ok(Served::new(entry, status, age))
    }

    /// Loads a stale entry again in the background, unless an attempt is not due yet.
    fn reload(&self, key: &Key, caller: Option<&Limiter>) {
        if self.key_retry_in(key).is_zero() {
            // If a limit refuses the load, the stale entry is served all the same.
            let _ = self.start_for(key, Cause::Background(Trigger::Stale), caller);
        }
    }

    /// Whether loading the key is known to fail.
    fn is_failing(&self, key: &Key) -> bool {
        self.engine.key_backoff.is_failing(key) || !self.planned.source.retry_in().is_zero()
    }

    /// Whether requests never wait for a load of the endpoint.
    fn refuses(&self, endpoint: EndpointId) -> bool {
        self.endpoint(endpoint).on_miss == OnMiss::Refuse
    }

    fn endpoint(&self, id: EndpointId) -> &Endpoint {
        self.planned.plan.endpoint(id)
    }

    fn state(&self, id: EndpointId) -> &EndpointState {
        &self.planned.endpoints[id]
    }
}

/// How late a wait may end: timers are exact to a millisecond, and the woken task has to be scheduled.
const TIMER_SLACK: Duration = Duration::from_millis(10);

/// The only key of an endpoint without parameters. For any other endpoint, the key under which failures of
/// its statement are recorded.
fn statement_key(endpoint: EndpointId) -> Key {
    Key::new(endpoint, Arguments::default())
}

fn outcome(previous: Option<&Entry>, loaded: &Entry) -> RefreshOutcome {
    match previous {
        Some(previous) if previous.answer() == loaded.answer() => RefreshOutcome::Unchanged,
        _ => RefreshOutcome::Changed,
    }
}
