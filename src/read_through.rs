//! The one room where the story is told: a request finds its entry, or causes one load of it; a
//! refresh loads it again. No SQL, HTTP, JSON or Prometheus in here.
//!
//! | part            | does                                                        |
//! |-----------------|-------------------------------------------------------------|
//! | `single_flight` | one load per key at a time, awaited by any number of requests |
//! | `rate_limit`    | how many loads per second clients may cause                  |
//! | `concurrency`   | how many loads run at once, and which comes next             |
//! | `load`          | one load, from admission to the notification of its waiters  |
//! | `source`        | where answers come from: Postgres                            |
//! | `variants`      | formats and codings of an answer, each made once             |
//! | `refresh_ahead` | loads keys in use again before they go stale                 |
//! | `blame`         | whether a failed load was due to its arguments               |
//! | `redescribe`    | describes a statement again when its description is in doubt |
//! | `key_backoff`   | which keys failed, and when each is tried again              |
//! | `health`        | an endpoint's failures: when to report them, and the last one |
//! | `inspect`       | the state of an endpoint, for the status page                |
//! | `clock`         | the time by which answers age, which includes machine sleep  |

pub mod inspect;
pub mod load;
pub mod refresh_ahead;
pub mod single_flight;
pub mod source;

mod blame;
mod clock;
mod concurrency;
mod health;
mod key_backoff;
mod rate_limit;
mod redescribe;
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

pub use health::LastFailure;
pub use inspect::{EndpointStatus, KeyStats, ResidentEntry};
pub use load::LoadError;
pub use refresh_ahead::AheadCheck;
pub use source::{PostgresSource, Source};

use crate::cache::{Cache, EndpointVersion, Entry, Freshness, Key, Validated};
use crate::lock::lock;
use crate::observe::{CacheStatus, Observer, RefreshOutcome, Trigger};
use crate::plan::{Arguments, Endpoint, EndpointId, OnMiss, Plan};
use crate::repository::RepositoryError;
use blame::Evidence;
use clock::Clock;
use concurrency::LoadSlots;
use health::Health;
use key_backoff::KeyBackoff;
use rate_limit::RateLimit;
use redescribe::RedescribeLimit;
use single_flight::{InFlight, Waiter};

/// Answers from the cache, filled from the repository. A cheap handle: clones share everything.
#[derive(Debug)]
pub struct ReadThrough<S = PostgresSource> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    plan: Arc<Plan>,
    source: S,
    cache: Cache,
    observer: Observer,
    endpoints: Box<[EndpointState]>,
    in_flight: InFlight,
    rate_limit: RateLimit,
    slots: LoadSlots,
    /// Who makes representations.
    encoding_slots: Semaphore,
    key_backoff: KeyBackoff,
    clock: Clock,
    /// Who keeps the time of keys that are loaded ahead.
    ahead_checks: OnceLock<mpsc::UnboundedSender<AheadCheck>>,
    /// What is broken on purpose, to see that it is found.
    #[cfg(test)]
    broken: simulation::Broken,
}

#[derive(Debug, Default)]
struct EndpointState {
    version: ArcSwap<EndpointVersion>,
    health: Mutex<Health>,
    evidence: Evidence,
    doubted: RedescribeLimit,
    /// When its schedule loads it next.
    due: Mutex<Option<Instant>>,
}

/// An entry, and how it was found.
#[derive(Debug, Clone)]
pub struct Served {
    /// What to answer with.
    pub entry: Arc<Entry>,
    /// How it was found.
    pub status: CacheStatus,
    /// How old it is.
    pub age: Duration,
    /// Whether it is served only because loading fails.
    pub stale_if_error: bool,
}

/// Why there is nothing to serve.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The load failed, now or a moment ago.
    #[error("{error}")]
    Load {
        /// Why.
        error: Arc<LoadError>,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The repository can not be reached, and is not to be asked for a moment.
    #[error("the repository is away")]
    Away {
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The load went on for longer than the endpoint's `timeout`.
    #[error("the load took longer than {0:?}")]
    TooSlow(Duration),
    /// Clients cause more loads than `max_loads_per_second` allows.
    #[error("too many loads")]
    TooManyLoads {
        /// When to try again.
        retry_after: Duration,
    },
    /// `on_miss = "refuse"`, and nothing is loaded.
    #[error("nothing is loaded")]
    NotLoaded {
        /// When it is loaded next, as far as that is known.
        retry_in: Duration,
    },
}

/// Who wants a load.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// A client that waits for it.
    Client,
    /// Nobody waits.
    Background(Trigger),
}

/// What asking for a load led to.
enum Start {
    /// This one began.
    Began(Waiter),
    /// One was running.
    Joined(Waiter),
    /// One had just ended.
    Loaded(Arc<Entry>),
}

impl<S> Clone for ReadThrough<S> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared }
    }
}

impl<S: Source> ReadThrough<S> {
    /// Reads `source` through `cache`.
    pub fn new(plan: Arc<Plan>, source: S, cache: Cache, observer: Observer) -> Self {
        let shared = Shared {
            endpoints: plan
                .endpoints()
                .iter()
                .map(|_| EndpointState::default())
                .collect(),
            ahead_checks: OnceLock::new(),
            in_flight: InFlight::default(),
            rate_limit: RateLimit::new(plan.repository().max_loads_per_second),
            slots: LoadSlots::new(plan.repository().max_connections),
            encoding_slots: variants::encoding_slots(),
            key_backoff: KeyBackoff::default(),
            clock: Clock::default(),
            #[cfg(test)]
            broken: simulation::Broken::default(),
            plan,
            source,
            cache,
            observer,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Answers a request: from the cache if an entry may be served, else by one load, which goes on
    /// whether or not the request waits for its end.
    ///
    /// # Errors
    /// [`ReadError`] when there is nothing that may be served.
    pub async fn get(&self, key: &Key) -> Result<Served, ReadError> {
        let endpoint = key.endpoint();
        let timeout = self.endpoint(endpoint).timeout;
        // What only a load needs is boxed: a hit's future is moved about.
        let Some((entry, freshness, age)) = self.find(key) else {
            return Box::pin(self.wait_for_load(key, timeout)).await;
        };
        match freshness {
            Freshness::Fresh => Ok(served(entry, CacheStatus::Hit, age)),
            Freshness::Stale => {
                self.reload(key);
                Ok(served(entry, CacheStatus::Stale, age))
            }
            // While loads are known to fail, nobody waits to hear it again.
            Freshness::StaleIfError if self.is_failing(key) => {
                self.reload(key);
                Ok(last_resort(entry, age))
            }
            // Where nobody waits at all, what was invalidated would be the last word without a load.
            Freshness::StaleIfError if self.refuses(endpoint) => {
                self.reload(key);
                Ok(served(entry, CacheStatus::Stale, age))
            }
            Freshness::StaleIfError => {
                // What is at hand is given while it may be: not waited for until it is too old.
                let left = entry.lifetime().stale_if_error.saturating_sub(age);
                let patience = timeout.min(left.saturating_sub(TIMERS_LATE));
                let loaded = Box::pin(self.wait_for_load(key, patience)).await;
                match self.look_at(key, &entry, self.now()) {
                    (freshness, age) if loaded.is_err() && freshness != Freshness::Expired => {
                        Ok(last_resort(entry, age))
                    }
                    _ => loaded,
                }
            }
            Freshness::Expired => Box::pin(self.wait_for_load(key, timeout)).await,
        }
    }

    /// The entry that a request asks for, how it may be used now, and how old it is.
    fn find(&self, key: &Key) -> Option<(Arc<Entry>, Freshness, Duration)> {
        let entry = self.shared.cache.get(key)?;
        let now = self.now();
        if entry.mark_used() {
            self.refresh_ahead_on_first_use(key, &entry, now);
        }
        let (freshness, age) = self.look_at(key, &entry, now);
        Some((entry, freshness, age))
    }

    /// How an entry may be used now, and how old it is: of one moment, so that no answer tells of an
    /// age at which it would not have been given.
    fn look_at(&self, key: &Key, entry: &Entry, now: Instant) -> (Freshness, Duration) {
        let version = self.version(key.endpoint());
        let as_of = entry.record_validation(&version);
        let age = now.saturating_duration_since(as_of);
        (entry.freshness(age, &version), age)
    }

    fn freshness(&self, key: &Key, entry: &Entry) -> Freshness {
        self.look_at(key, entry, self.now()).0
    }

    fn version(&self, endpoint: EndpointId) -> EndpointVersion {
        #[cfg(test)]
        if self.shared.broken == simulation::Broken::Generations {
            return EndpointVersion::default();
        }
        **self.state(endpoint).version.load()
    }

    /// Says that the data behind an endpoint have changed: nothing loaded before is fresh any more,
    /// nor is what loads that run now will bring.
    pub fn invalidate(&self, endpoint: EndpointId) {
        self.state(endpoint).version.rcu(|version| EndpointVersion {
            generation: version.generation + 1,
            validated: None,
        });
    }

    /// Says that the data behind an endpoint have not changed meanwhile.
    pub fn revalidate(&self, endpoint: EndpointId, validated: Validated) {
        self.state(endpoint).version.rcu(|version| EndpointVersion {
            generation: version.generation,
            validated: Some(validated),
        });
        // Others learn it when they are asked for; what is resident may not be, and stays for longer.
        if let Some(entry) = self.shared.cache.get(&whole(endpoint)) {
            entry.record_validation(&self.version(endpoint));
        }
    }

    /// What time it is: every moment that is given or taken here is of this clock, which goes on while
    /// the machine sleeps.
    pub fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// Says how long the machine has slept since the start; and whether that is news.
    pub fn record_sleep(&self, total: Duration) -> bool {
        self.shared.clock.record_sleep(total)
    }

    /// Loads a key that was named to be there before anyone asks for it.
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

    /// Counts a failure around an endpoint that is not a load's: what its keys are, for one.
    pub fn report_failure(&self, endpoint: EndpointId, error: RepositoryError) {
        self.failed(&whole(endpoint), &Arc::new(error.into()));
    }

    /// Loads a resident entry again, unless a load of it is running. Where it must have begun after
    /// some moment, the running one is waited for, and followed by another if it began before or fails.
    pub async fn refresh(
        &self,
        endpoint: EndpointId,
        trigger: Trigger,
        after: Option<Instant>,
    ) -> RefreshOutcome {
        let key = whole(endpoint);
        loop {
            let before = self.shared.cache.get(&key);
            match self.start(&key, Cause::Background(trigger)) {
                Ok(Start::Began(waiter)) => {
                    return match waiter.wait().await {
                        Ok(entry) => outcome(before.as_deref(), &entry),
                        Err(_) => RefreshOutcome::Failed,
                    };
                }
                Ok(Start::Joined(waiter)) => {
                    let Some(after) = after else { break };
                    // A client's load that waits for its turn may be given up.
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

    /// Says when the endpoint's schedule loads it next: entries loaded before then are fresh until
    /// that load must have ended.
    pub fn set_due(&self, endpoint: EndpointId, due: Instant) {
        *lock(&self.state(endpoint).due) = Some(due);
    }

    /// How long a failing endpoint should be left alone; zero when it does not fail.
    pub fn retry_in(&self, endpoint: EndpointId) -> Duration {
        self.key_retry_in(&whole(endpoint))
    }

    fn key_retry_in(&self, key: &Key) -> Duration {
        let own = self.shared.key_backoff.active(key, Instant::now());
        own.map_or(Duration::ZERO, |(_, wait)| wait)
            .max(self.shared.source.retry_in())
    }

    /// Whether the endpoint has one entry, which is always there.
    pub fn is_resident(&self, endpoint: EndpointId) -> bool {
        self.endpoint(endpoint).is_resident()
    }

    /// Keeps the cache within its bounds while nobody uses it.
    pub fn maintain(&self) {
        self.shared.cache.maintain();
    }

    async fn wait_for_load(&self, key: &Key, patience: Duration) -> Result<Served, ReadError> {
        let endpoint = self.endpoint(key.endpoint());
        if self.refuses(endpoint.id) {
            let due = *lock(&self.state(endpoint.id).due);
            let retry_in = due.map_or(Duration::ZERO, |due| due - self.now());
            return Err(ReadError::NotLoaded { retry_in });
        }
        if let Some((error, retry_in)) = self.shared.key_backoff.active(key, Instant::now()) {
            return Err(ReadError::Load { error, retry_in });
        }
        let retry_in = self.shared.source.retry_in();
        if !retry_in.is_zero() {
            return Err(ReadError::Away { retry_in });
        }
        let (waiter, status) = match self.start(key, Cause::Client)? {
            Start::Began(waiter) => (waiter, CacheStatus::Miss),
            Start::Joined(waiter) => (waiter, CacheStatus::Coalesced),
            Start::Loaded(entry) => return self.loaded(key, entry, CacheStatus::Hit),
        };
        match tokio::time::timeout(patience, waiter.wait()).await {
            Ok(Ok(entry)) => self.loaded(key, entry, status),
            Ok(Err(error)) => Err(ReadError::Load {
                error,
                retry_in: self.key_retry_in(key),
            }),
            Err(_) => Err(ReadError::TooSlow(endpoint.timeout)),
        }
    }

    /// What a load brought, for those who waited. It is as old as its query took; where that is longer
    /// than a query may take, because the machine stood still, the entry's limits hold for it too.
    fn loaded(
        &self,
        key: &Key,
        entry: Arc<Entry>,
        status: CacheStatus,
    ) -> Result<Served, ReadError> {
        let timeout = self.endpoint(key.endpoint()).timeout;
        let (_, age) = self.look_at(key, &entry, self.now());
        if age > entry.lifetime().limit().max(timeout) {
            return Err(ReadError::TooSlow(timeout));
        }
        Ok(served(entry, status, age))
    }

    /// Loads a stale entry again in the background, if that is worth a try now.
    fn reload(&self, key: &Key) {
        if self.key_retry_in(key).is_zero() {
            // Running already, or over the budget: the entry at hand is served meanwhile.
            let _ = self.start(key, Cause::Background(Trigger::Stale));
        }
    }

    /// Whether loading the key is known to fail.
    fn is_failing(&self, key: &Key) -> bool {
        self.shared.key_backoff.is_failing(key) || !self.shared.source.retry_in().is_zero()
    }

    /// Whether nobody waits for a load of the endpoint.
    fn refuses(&self, endpoint: EndpointId) -> bool {
        self.endpoint(endpoint).on_miss == OnMiss::Refuse
    }

    fn endpoint(&self, id: EndpointId) -> &Endpoint {
        self.shared.plan.endpoint(id)
    }

    fn state(&self, id: EndpointId) -> &EndpointState {
        &self.shared.endpoints[id.index()]
    }
}

/// How late a wait may end: timers are exact to a millisecond, and what they wake has to run.
const TIMERS_LATE: Duration = Duration::from_millis(10);

fn served(entry: Arc<Entry>, status: CacheStatus, age: Duration) -> Served {
    Served {
        entry,
        status,
        age,
        stale_if_error: false,
    }
}

/// What is beyond `stale_while_revalidate`, or known to have changed, and can not be loaded again.
fn last_resort(entry: Arc<Entry>, age: Duration) -> Served {
    Served {
        stale_if_error: true,
        ..served(entry, CacheStatus::Stale, age)
    }
}

/// The one key of an endpoint without parameters; of any other, the key that stands for its statement.
fn whole(endpoint: EndpointId) -> Key {
    Key::new(endpoint, Arguments::default())
}

fn outcome(previous: Option<&Entry>, loaded: &Entry) -> RefreshOutcome {
    match previous {
        Some(previous) if previous.answer() == loaded.answer() => RefreshOutcome::Unchanged,
        _ => RefreshOutcome::Changed,
    }
}
