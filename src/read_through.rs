//! The one room where the story is told: a request finds its entry, or causes one load of it; a
//! refresh loads it again. No SQL, HTTP, JSON or Prometheus in here.
//!
//! | part       | does                                                      |
//! |------------|-----------------------------------------------------------|
//! | `flight`   | one load per key at a time, and everyone who waits for it |
//! | `budget`   | how many loads a second clients may cause                 |
//! | `turns`    | how many load at once, and who comes next                 |
//! | `load`     | description, query, encoding: one entry, or one error     |
//! | `failures` | what failed, per key, and when it is tried again          |
//! | `health`   | whether a failure is news                                 |

pub mod flight;
pub mod load;

mod budget;
mod failures;
mod health;
mod turns;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use load::LoadError;

use crate::cache::{Cache, Entry, Freshness, Key, Slot, Slots, Standing, Unchanged};
use crate::observe::{CacheStatus, Event, Observer, RefreshOutcome, Trigger};
use crate::plan::{Arguments, Endpoint, EndpointId, OnMiss, Plan};
use crate::repository::{Description, Repository, RepositoryError};
use budget::Budget;
use failures::Failures;
use flight::{Admitted, Flight, Flights, Landing};
use health::Health;
use turns::Turns;

/// Answers from the cache, filled from the repository. A cheap handle: clones share everything.
#[derive(Debug, Clone)]
pub struct ReadThrough {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Arc<Plan>,
    repository: Repository,
    cache: Cache,
    observer: Observer,
    endpoints: Box<[EndpointState]>,
    flights: Flights,
    budget: Budget,
    turns: Turns,
    failures: Failures,
    /// Who keeps the time of keys that are loaded ahead.
    ahead: OnceLock<mpsc::UnboundedSender<Ahead>>,
}

#[derive(Debug)]
struct EndpointState {
    description: ArcSwapOption<Description>,
    standing: ArcSwap<Standing>,
    slots: Slots,
    health: Mutex<Health>,
    /// When its schedule loads it next.
    due: Mutex<Option<Instant>>,
}

impl EndpointState {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            description: ArcSwapOption::empty(),
            standing: ArcSwap::default(),
            slots: Slots::new(endpoint.max_keys),
            health: Mutex::default(),
            due: Mutex::default(),
        }
    }
}

/// A key that is to be looked at again at some moment, because it may be loaded ahead of time.
#[derive(Debug)]
pub struct Ahead {
    /// Which.
    pub key: Key,
    /// When.
    pub at: Instant,
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
    /// The load went on for longer than the endpoint's `timeout`.
    #[error("the load took longer than {0:?}")]
    TooSlow(Duration),
    /// Clients cause more loads than `max_loads_per_second` allows.
    #[error("too many loads")]
    TooManyLoads {
        /// When to try again.
        retry_after: Duration,
    },
    /// The endpoint has as many keys as `max_keys` allows, and this is another.
    #[error("too many keys")]
    TooManyKeys {
        /// When some of them may have lapsed.
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
    Began(Flight),
    /// One was running.
    Joined(Flight),
    /// One had just ended.
    Loaded(Arc<Entry>),
}

impl ReadThrough {
    /// Reads `repository` through `cache`.
    pub fn new(plan: Arc<Plan>, repository: Repository, cache: Cache, observer: Observer) -> Self {
        let shared = Shared {
            endpoints: plan.endpoints().iter().map(EndpointState::new).collect(),
            ahead: OnceLock::new(),
            flights: Flights::default(),
            budget: Budget::new(plan.repository().max_loads_per_second),
            turns: Turns::new(plan.repository().max_connections),
            failures: Failures::default(),
            plan,
            repository,
            cache,
            observer,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What Postgres said of the endpoint's statement, once it has.
    pub fn description(&self, endpoint: EndpointId) -> Option<Arc<Description>> {
        self.state(endpoint).description.load_full()
    }

    /// Has Postgres describe the endpoint's statement, for the first time or again. A failure counts
    /// as one of the endpoint's loads.
    ///
    /// # Errors
    /// As [`Repository::describe`].
    pub async fn describe(
        &self,
        endpoint: EndpointId,
    ) -> Result<Arc<Description>, RepositoryError> {
        let described = self.describe_now(self.endpoint(endpoint)).await;
        if let Err(error) = &described {
            self.failed(&whole(endpoint), &Arc::new(error.clone().into()));
        }
        described
    }

    async fn describe_now(&self, endpoint: &Endpoint) -> Result<Arc<Description>, RepositoryError> {
        let description = Arc::new(self.shared.repository.describe(endpoint).await?);
        let state = self.state(endpoint.id);
        state.description.store(Some(Arc::clone(&description)));
        Ok(description)
    }

    /// Endpoints that can not answer yet: not described, or resident and not loaded.
    pub fn cold(&self) -> impl Iterator<Item = &Endpoint> {
        self.shared.plan.endpoints().iter().filter(|endpoint| {
            self.state(endpoint.id).description.load().is_none()
                || endpoint.is_resident() && self.shared.cache.get(&whole(endpoint.id)).is_none()
        })
    }

    /// Answers a request: from the cache if an entry may be served, else by one load, which goes on
    /// whether or not the request waits for its end.
    ///
    /// # Errors
    /// [`ReadError`] when there is nothing that may be served.
    pub async fn get(
        &self,
        endpoint: EndpointId,
        arguments: Arguments,
    ) -> Result<Served, ReadError> {
        let key = Key::new(endpoint, arguments);
        let Some(entry) = self.shared.cache.get(&key) else {
            return self.wait_for_load(&key).await;
        };
        entry.mark_used();
        match self.freshness(&key, &entry) {
            Freshness::Fresh => Ok(self.served(entry, &key, CacheStatus::Hit)),
            Freshness::Stale => {
                self.reload(&key);
                Ok(self.served(entry, &key, CacheStatus::Stale))
            }
            // While loads are known to fail, nobody waits to hear it again.
            Freshness::StaleIfError if self.is_failing(&key) => {
                self.reload(&key);
                Ok(self.served(entry, &key, CacheStatus::Stale))
            }
            Freshness::StaleIfError => match self.wait_for_load(&key).await {
                Err(_) if self.freshness(&key, &entry) != Freshness::Expired => {
                    Ok(self.served(entry, &key, CacheStatus::Stale))
                }
                loaded => loaded,
            },
            Freshness::Expired => self.wait_for_load(&key).await,
        }
    }

    fn served(&self, entry: Arc<Entry>, key: &Key, status: CacheStatus) -> Served {
        let age = entry.age(Instant::now(), &self.standing(key.endpoint()));
        Served { entry, status, age }
    }

    fn freshness(&self, key: &Key, entry: &Entry) -> Freshness {
        entry.freshness(Instant::now(), &self.standing(key.endpoint()))
    }

    fn standing(&self, endpoint: EndpointId) -> Standing {
        **self.state(endpoint).standing.load()
    }

    /// Says that the data behind an endpoint have changed: nothing loaded before is fresh any more,
    /// nor is what loads that run now will bring.
    pub fn invalidate(&self, endpoint: EndpointId) {
        self.state(endpoint).standing.rcu(|standing| Standing {
            generation: standing.generation + 1,
            unchanged: None,
        });
    }

    /// Says that the data behind an endpoint have not changed meanwhile.
    pub fn confirm(&self, endpoint: EndpointId, unchanged: Unchanged) {
        self.state(endpoint).standing.rcu(|standing| Standing {
            generation: standing.generation,
            unchanged: Some(unchanged),
        });
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
            Ok(Start::Began(flight) | Start::Joined(flight)) => flight.landed().await.map(drop),
            Ok(Start::Loaded(_)) => Ok(()),
            Err(_) => Err(Arc::new(LoadError::Overloaded)),
        }
    }

    /// Counts a failure around an endpoint that is not a load's: what its keys are, for one.
    pub fn tell_failed(&self, endpoint: EndpointId, error: RepositoryError) {
        self.failed(&whole(endpoint), &Arc::new(error.into()));
    }

    /// From now on `keeper` is told when to look at keys that are loaded ahead.
    pub fn keep_time_with(&self, keeper: mpsc::UnboundedSender<Ahead>) {
        // A second keeper would be a mistake of the composition; the first one stays.
        let _ = self.shared.ahead.set(keeper);
    }

    /// Loads a key again before it goes stale, if it was asked for since it was loaded. One that was
    /// not is left to lapse.
    pub fn load_ahead(&self, key: &Key) {
        let Some(entry) = self.shared.cache.get(key) else {
            return;
        };
        let now = Instant::now();
        if !entry.is_used() || ahead_of(&entry) > now {
            return;
        }
        let wait = match self.start(key, Cause::Background(Trigger::Ahead)) {
            Ok(_) => return,
            Err(ReadError::TooManyLoads { retry_after }) => retry_after,
            Err(_) => AHEAD_RETRY,
        };
        self.look_again(key, now + wait.max(AHEAD_RETRY));
    }

    /// Has the keeper of time come back to a key.
    fn look_again(&self, key: &Key, at: Instant) {
        if let Some(keeper) = self.shared.ahead.get() {
            let key = key.clone();
            // The receiver is gone only when the server shuts down.
            let _ = keeper.send(Ahead { key, at });
        }
    }

    /// Loads a resident entry again, unless a load of it is running. Where it must have begun after
    /// some moment, an older one is waited for and followed by another.
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
                Ok(Start::Began(flight)) => {
                    return match flight.landed().await {
                        Ok(entry) => outcome(before.as_deref(), &entry),
                        Err(_) => RefreshOutcome::Failed,
                    };
                }
                Ok(Start::Joined(flight)) if after.is_some_and(|after| flight.began() < after) => {
                    drop(flight.landed().await);
                }
                Ok(Start::Joined(_) | Start::Loaded(_)) | Err(_) => {
                    let outcome = RefreshOutcome::Skipped;
                    self.emit_refresh(endpoint, trigger, outcome, Duration::ZERO);
                    return outcome;
                }
            }
        }
    }

    /// Says when the endpoint's schedule loads it next: entries loaded before then are fresh until
    /// that load must have ended.
    pub fn set_due(&self, endpoint: EndpointId, due: Instant) {
        *self.state(endpoint).due.lock().expect(UNPOISONED) = Some(due);
    }

    /// How long a failing endpoint should be left alone; zero when it does not fail.
    pub fn retry_in(&self, endpoint: EndpointId) -> Duration {
        self.key_retry_in(&whole(endpoint))
    }

    fn key_retry_in(&self, key: &Key) -> Duration {
        let own = self.shared.failures.backing_off(key, Instant::now());
        own.map_or(Duration::ZERO, |(_, wait)| wait)
            .max(self.shared.repository.retry_in())
    }

    /// Whether the endpoint has one entry, which is always there.
    pub fn is_resident(&self, endpoint: EndpointId) -> bool {
        self.endpoint(endpoint).is_resident()
    }

    /// Keeps the cache within its bounds while nobody uses it.
    pub fn maintain(&self) {
        self.shared.cache.maintain();
    }

    /// Tells the observers how much is held, and how many connections there are.
    pub fn measure(&self) {
        self.shared.cache.measure();
        self.shared.repository.measure();
    }

    async fn wait_for_load(&self, key: &Key) -> Result<Served, ReadError> {
        let endpoint = self.endpoint(key.endpoint());
        if endpoint.on_miss == OnMiss::Refuse {
            let due = *self.state(endpoint.id).due.lock().expect(UNPOISONED);
            let retry_in = due.map_or(Duration::ZERO, |due| due - Instant::now());
            return Err(ReadError::NotLoaded { retry_in });
        }
        if let Some((error, retry_in)) = self.shared.failures.backing_off(key, Instant::now()) {
            return Err(ReadError::Load { error, retry_in });
        }
        let (flight, status) = match self.start(key, Cause::Client)? {
            Start::Began(flight) => (flight, CacheStatus::Miss),
            Start::Joined(flight) => (flight, CacheStatus::Coalesced),
            Start::Loaded(entry) => {
                return Ok(self.served(entry, key, CacheStatus::Hit));
            }
        };
        match tokio::time::timeout(endpoint.timeout, flight.landed()).await {
            Ok(Ok(entry)) => Ok(self.served(entry, key, status)),
            Ok(Err(error)) => Err(ReadError::Load {
                error,
                retry_in: self.key_retry_in(key),
            }),
            Err(_) => Err(ReadError::TooSlow(endpoint.timeout)),
        }
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
        self.shared.failures.contains(key) || !self.shared.repository.retry_in().is_zero()
    }

    /// Begins a load of the key in a task of its own, unless one is running.
    fn start(&self, key: &Key, cause: Cause) -> Result<Start, ReadError> {
        let admit = || {
            let there = self.shared.cache.get(key);
            if let Cause::Client | Cause::Background(Trigger::Stale) = cause {
                // A load that ended since the caller looked has left its entry here.
                let fresh = |entry: &&Arc<Entry>| self.freshness(key, entry) == Freshness::Fresh;
                if let Some(entry) = there.as_ref().filter(fresh) {
                    return Ok(Admitted::Loaded(Arc::clone(entry)));
                }
            }
            let slot = self.slot(key, there.as_deref())?;
            if let Cause::Client | Cause::Background(Trigger::Stale | Trigger::Ahead) = cause {
                let taken = self.shared.budget.take();
                taken.map_err(|retry_after| ReadError::TooManyLoads { retry_after })?;
            }
            Ok(Admitted::Load(slot))
        };
        let begin = |landing, slot| {
            drop(tokio::spawn(self.clone().run(
                key.clone(),
                cause,
                landing,
                slot,
            )));
        };
        self.shared.flights.join_or_begin(key, admit, begin)
    }

    /// The place of a key among its endpoint's: the one it has, or another.
    fn slot(&self, key: &Key, there: Option<&Entry>) -> Result<Option<Arc<Slot>>, ReadError> {
        if key.is_resident() {
            return Ok(None);
        }
        let endpoint = self.endpoint(key.endpoint());
        let own = there.and_then(|entry| entry.slot().cloned());
        let slot = own.or_else(|| self.state(endpoint.id).slots.take());
        let lapse = || {
            endpoint
                .freshness
                .max_age
                .unwrap_or(KEYS_LAPSE)
                .min(KEYS_LAPSE)
        };
        match slot {
            Some(slot) => Ok(Some(slot)),
            None => Err(ReadError::TooManyKeys {
                retry_after: lapse(),
            }),
        }
    }

    /// A load from its beginning to the moment everyone knows.
    async fn run(self, key: Key, cause: Cause, landing: Landing, slot: Option<Arc<Slot>>) {
        let began = Instant::now();
        let previous = self.shared.cache.get(&key);
        let loaded = self
            .load(&key, cause, previous.as_deref(), &landing, slot)
            .await;
        let loaded = loaded.map_err(Arc::new);
        let outcome = match &loaded {
            Ok(entry) => {
                self.shared.cache.put(&key, Arc::clone(entry));
                self.succeeded(&key);
                outcome(previous.as_deref(), entry)
            }
            Err(error) => {
                self.failed(&key, error);
                RefreshOutcome::Failed
            }
        };
        if let Cause::Background(trigger) = cause {
            self.emit_refresh(key.endpoint(), trigger, outcome, began.elapsed());
        }
        landing.land(loaded.clone());
        self.what_comes_next(&key, cause, loaded.ok());
    }

    /// After a load: another one at once, if the data changed while it ran; else a moment to look at
    /// the key again, if it is to be loaded ahead.
    fn what_comes_next(&self, key: &Key, cause: Cause, loaded: Option<Arc<Entry>>) {
        let endpoint = self.endpoint(key.endpoint());
        let Some(entry) = loaded else {
            if let Cause::Background(Trigger::Ahead) = cause {
                let wait = self.key_retry_in(key).max(AHEAD_RETRY);
                self.look_again(key, Instant::now() + wait);
            }
            return;
        };
        if entry.generation() != self.standing(endpoint.id).generation {
            // Its answer is served to those who waited, and is not the last word.
            let _ = self.start(key, Cause::Background(Trigger::Notify));
        } else if endpoint.refresh.ahead {
            self.tell_of_haste(endpoint, &entry);
            self.look_again(key, ahead_of(&entry));
        }
    }

    /// Says once when an endpoint's queries take too long to keep its keys fresh.
    fn tell_of_haste(&self, endpoint: &Endpoint, entry: &Entry) {
        let is_late = entry.query_time() > entry.lifetime().fresh / 2;
        let health = &self.state(endpoint.id).health;
        let news = health.lock().expect(UNPOISONED).is_late(is_late);
        if news && is_late {
            self.shared.observer.emit(&Event::AheadTooSlow {
                endpoint: endpoint.id,
                query_time: entry.query_time(),
                max_age: entry.lifetime().fresh,
            });
        }
    }

    fn succeeded(&self, key: &Key) {
        self.shared.failures.succeeded(key);
        let endpoint = key.endpoint();
        let health = &self.state(endpoint).health;
        let news = health.lock().expect(UNPOISONED).succeeded();
        if news {
            let event = Event::LoadsRecovered { endpoint };
            self.shared.observer.emit(&event);
        }
    }

    fn failed(&self, key: &Key, error: &Arc<LoadError>) {
        let now = Instant::now();
        self.shared.failures.failed(key, error, now);
        let endpoint = key.endpoint();
        let health = &self.state(endpoint).health;
        let news = health.lock().expect(UNPOISONED).failed(error, now);
        if news {
            let event = Event::LoadsFailing {
                endpoint,
                fault: error.fault(),
                cause: error.to_string(),
            };
            self.shared.observer.emit(&event);
        }
    }

    fn emit_refresh(
        &self,
        endpoint: EndpointId,
        trigger: Trigger,
        outcome: RefreshOutcome,
        elapsed: Duration,
    ) {
        let at = SystemTime::now();
        let event = Event::RefreshFinished {
            endpoint,
            trigger,
            outcome,
            elapsed,
            at,
        };
        self.shared.observer.emit(&event);
    }

    fn endpoint(&self, id: EndpointId) -> &Endpoint {
        self.shared.plan.endpoint(id)
    }

    fn state(&self, id: EndpointId) -> &EndpointState {
        &self.shared.endpoints[id.index()]
    }
}

/// When an entry that is loaded ahead is looked at: early enough for a query that takes twice as long as
/// its last one, and not before half its time is over.
fn ahead_of(entry: &Entry) -> Instant {
    let fresh = entry.lifetime().fresh;
    let lead = (entry.query_time() * 2).clamp(fresh / 10, fresh / 2);
    entry.began() + (fresh - lead)
}

/// At least this long between attempts to load a key ahead.
const AHEAD_RETRY: Duration = Duration::from_millis(100);

/// What a client is told of an endpoint that has all its keys: they lapse later, but not all at once.
const KEYS_LAPSE: Duration = Duration::from_secs(60);

/// Why these locks are never poisoned.
const UNPOISONED: &str = "nothing panics while it holds the lock";

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
