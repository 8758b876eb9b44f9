//! A load from its beginning to the moment everyone knows.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::blame::Suspects;
use super::concurrency::{LoadClass, LoadPermit};
use super::refresh_ahead::AHEAD_RETRY;
use super::single_flight::{Admission, LoadGuard};
use super::{Cause, ReadError, ReadThrough, Source, Start, outcome};
use crate::cache::{Entry, Freshness, Key, Origin};
use crate::encode::EncodeError;
use crate::lock::lock;
use crate::observe::{Event, Fault, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, EndpointId, Lifetime};
use crate::repository::RepositoryError;

/// A load that has waited this long for its turn, and for which nobody waits any more, is dropped:
/// there are more loads than Postgres can answer, and others are waited for.
const ABANDONED_AFTER: Duration = Duration::from_secs(1);

/// Why a load made no entry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The rows did not come.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The rows make no answer.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Its turn did not come in time.
    #[error("more loads were asked for than the repository could answer")]
    Overloaded,
    /// The load panicked: a defect of Larder.
    #[error("the load was lost")]
    Lost,
}

impl LoadError {
    /// Whether Postgres could not be reached: nobody's query is to blame, and the repository says so
    /// itself.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Repository(RepositoryError::Unavailable { .. }))
    }

    /// Whether Postgres can answer nobody at the moment, whatever is asked.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Repository(error) if error.is_outage())
    }

    /// Whether the request's arguments are to blame.
    pub fn is_of_arguments(&self) -> bool {
        matches!(
            self,
            Self::Repository(RepositoryError::ArgumentRefused { .. })
        )
    }

    /// Whether its session ended, as it does at Postgres's own end.
    pub(super) fn is_session_ended(&self) -> bool {
        matches!(self, Self::Repository(RepositoryError::SessionEnded { .. }))
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Repository(error) => error.fault(),
            Self::Encode(EncodeError::TooLarge { .. } | EncodeError::MoreThanOneRow) => {
                Fault::Configuration
            }
            Self::Overloaded => Fault::Client,
            Self::Encode(EncodeError::Malformed { .. }) | Self::Lost => Fault::Ours,
        }
    }
}

/// What a load was admitted with.
struct Ticket {
    cause: Cause,
    class: LoadClass,
    /// How long it waits first, so that no more loads begin in a second than may.
    wait: Duration,
}

/// Who bears the cost of a load.
fn class(cause: Cause, is_known: impl FnOnce() -> bool) -> LoadClass {
    match cause {
        Cause::Client | Cause::Background(Trigger::Stale | Trigger::Ahead) => {
            if is_known() {
                LoadClass::CachedKey
            } else {
                LoadClass::ColdKey
            }
        }
        Cause::Background(Trigger::Schedule | Trigger::Warm | Trigger::Probe | Trigger::Notify) => {
            LoadClass::Background
        }
    }
}

impl<S: Source> ReadThrough<S> {
    /// Begins a load of the key in a task of its own, unless one is running.
    pub(super) fn start(&self, key: &Key, cause: Cause) -> Result<Start, ReadError> {
        let admit = || {
            let there = self.shared.cache.get(key);
            if let Cause::Client | Cause::Background(Trigger::Stale) = cause {
                // A load that ended since the caller looked has left its entry here.
                let fresh = |entry: &&Arc<Entry>| self.freshness(key, entry) == Freshness::Fresh;
                if let Some(entry) = there.as_ref().filter(fresh) {
                    return Ok(Admission::Loaded(Arc::clone(entry)));
                }
            }
            let class = class(cause, || self.is_known(key, there.as_deref()));
            // Half of the time is left for the query.
            let patience = self.endpoint(key.endpoint()).timeout / 2;
            let taken = self.shared.rate_limit.take(class, patience);
            let wait = taken.map_err(|retry_after| ReadError::TooManyLoads { retry_after })?;
            Ok(Admission::Load(Ticket { cause, class, wait }))
        };
        let begin = |guard, ticket| {
            drop(tokio::spawn(self.clone().run(key.clone(), ticket, guard)));
        };
        self.shared.in_flight.join_or_begin(key, admit, begin)
    }

    /// Whether a key is one that clients use: it is in the cache, or was until a short while ago.
    fn is_known(&self, key: &Key, there: Option<&Entry>) -> bool {
        #[cfg(test)]
        if self.shared.broken == super::simulation::Broken::Reserve {
            return false;
        }
        there.is_some() || self.shared.cache.was_in_use(key)
    }

    /// A load from its beginning to the moment everyone knows.
    async fn run(self, key: Key, ticket: Ticket, guard: LoadGuard) {
        let cause = ticket.cause;
        let began = Instant::now();
        let previous = self.shared.cache.get(&key);
        let load = self.load(&key, ticket, previous.as_deref(), &guard);
        // What a panic leaves half done is dropped with the load; nothing of it is in the cache.
        let loaded = AssertUnwindSafe(load).catch_unwind().await;
        let loaded = loaded.unwrap_or(Err(LoadError::Lost)).map_err(Arc::new);
        let outcome = match &loaded {
            Ok(entry) => {
                self.shared.cache.put(&key, Arc::clone(entry));
                self.succeeded(&key);
                if self.shared.source.lacks(key.endpoint(), key.arguments()) {
                    self.redescribe(key.endpoint());
                }
                outcome(previous.as_deref(), entry)
            }
            Err(error) => {
                self.failed(&key, error);
                if error.is_of_arguments() {
                    self.redescribe(key.endpoint());
                }
                RefreshOutcome::Failed
            }
        };
        if let Cause::Background(trigger) = cause {
            let lifetime = loaded.as_ref().ok().map(|entry| *entry.lifetime());
            self.emit_refresh(key.endpoint(), trigger, outcome, began.elapsed(), lifetime);
        }
        guard.finish(loaded.clone());
        self.follow_up(&key, cause, loaded.ok());
    }

    /// After a load: another one at once, if the data changed while it ran; else a moment to look at
    /// the key again, if it is to be loaded ahead.
    fn follow_up(&self, key: &Key, cause: Cause, loaded: Option<Arc<Entry>>) {
        let endpoint = self.endpoint(key.endpoint());
        let Some(entry) = loaded else {
            let there = self.shared.cache.get(key);
            if let (Cause::Background(Trigger::Ahead), Some(entry)) = (cause, there) {
                let wait = self.key_retry_in(key).max(AHEAD_RETRY);
                self.schedule_ahead_check(key, &entry, self.now() + wait);
            }
            return;
        };
        if entry.generation() != self.version(endpoint.id).generation {
            // Its answer is served to those who waited, and is not the last word.
            let _ = self.start(key, Cause::Background(Trigger::Notify));
        } else if endpoint.refresh.ahead {
            self.report_ahead_speed(endpoint, &entry);
            self.schedule_ahead_check(key, &entry, self.ahead_time(key, &entry));
        }
    }

    fn succeeded(&self, key: &Key) {
        self.shared.key_backoff.record_success(key);
        let endpoint = key.endpoint();
        let health = &self.state(endpoint).health;
        let news = lock(health).succeeded();
        if news {
            let event = Event::LoadsRecovered { endpoint };
            self.shared.observer.emit(&event);
        }
    }

    pub(super) fn failed(&self, key: &Key, error: &Arc<LoadError>) {
        let now = Instant::now();
        self.shared.key_backoff.record_failure(key, error, now);
        let endpoint = key.endpoint();
        let health = &self.state(endpoint).health;
        let news = lock(health).failed(error, now);
        if news {
            let event = Event::LoadsFailing {
                endpoint,
                fault: error.fault(),
                cause: error.to_string(),
            };
            self.shared.observer.emit(&event);
        }
    }

    pub(super) fn emit_refresh(
        &self,
        endpoint: EndpointId,
        trigger: Trigger,
        outcome: RefreshOutcome,
        elapsed: Duration,
        lifetime: Option<Lifetime>,
    ) {
        let at = SystemTime::now();
        let event = Event::RefreshFinished {
            endpoint,
            trigger,
            outcome,
            elapsed,
            at,
            lifetime,
        };
        self.shared.observer.emit(&event);
    }

    async fn load(
        &self,
        key: &Key,
        ticket: Ticket,
        previous: Option<&Entry>,
        guard: &LoadGuard,
    ) -> Result<Arc<Entry>, LoadError> {
        let endpoint = self.endpoint(key.endpoint());
        let permit = self.acquire_permit(endpoint, &ticket, guard).await?;
        // All of this from before the query: a schedule that comes while it runs is not served by
        // it, and neither is a change.
        let due = *lock(&self.state(endpoint.id).due);
        let origin = Origin {
            began: self.now(),
            generation: self.version(endpoint.id).generation,
        };
        let began = origin.began;
        let sent = Instant::now();
        let answer = match self.shared.source.answer(endpoint, key.arguments()).await {
            Ok(answer) => answer,
            Err(error) => {
                let suspects = Suspects::of(ticket.cause, previous.is_some());
                return Err(self.attribute_failure(key, suspects, sent, error).await);
            }
        };
        self.record_arguments_that_work(endpoint.id, key.arguments(), sent);
        let query_time = self.now() - began;
        drop(permit);
        self.prepare_variants(key, &answer, previous).await;
        let until_refresh = due.map(|due| due.saturating_duration_since(began));
        let lifetime = endpoint.freshness.lifetime(until_refresh, endpoint.timeout);
        let entry = Entry::new(answer, origin, query_time, lifetime, previous);
        Ok(Arc::new(entry))
    }

    async fn acquire_permit(
        &self,
        endpoint: &Endpoint,
        ticket: &Ticket,
        guard: &LoadGuard,
    ) -> Result<LoadPermit<'_>, LoadError> {
        let (slots, class) = (&self.shared.slots, ticket.class);
        if class == LoadClass::Background {
            return Ok(slots.acquire(class).await);
        }
        if !ticket.wait.is_zero() {
            tokio::time::sleep(ticket.wait).await;
        }
        let asked = Instant::now();
        let patience = endpoint.timeout.saturating_sub(ticket.wait);
        let permit = tokio::time::timeout(patience, slots.acquire(class)).await;
        let is_abandoned = asked.elapsed() > ABANDONED_AFTER && !guard.is_awaited();
        permit
            .ok()
            .filter(|_| !is_abandoned)
            .ok_or(LoadError::Overloaded)
    }
}
