//! A load from its beginning to the moment everyone knows.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::ahead::AHEAD_RETRY;
use super::blame::Suspects;
use super::flight::{Admitted, Landing};
use super::turns::{Class, Turn};
use super::{Cause, ReadError, ReadThrough, Source, Start, UNPOISONED, outcome};
use crate::cache::{Entry, Freshness, Key, Origin};
use crate::encode::EncodeError;
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
    class: Class,
    /// How long it waits first, so that no more loads begin in a second than may.
    wait: Duration,
}

/// Who bears the cost of a load.
fn class(cause: Cause, is_known: impl FnOnce() -> bool) -> Class {
    match cause {
        Cause::Client | Cause::Background(Trigger::Stale | Trigger::Ahead) => {
            if is_known() {
                Class::Known
            } else {
                Class::New
            }
        }
        Cause::Background(Trigger::Schedule | Trigger::Warm | Trigger::Probe | Trigger::Notify) => {
            Class::Schedules
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
                    return Ok(Admitted::Loaded(Arc::clone(entry)));
                }
            }
            let class = class(cause, || self.is_known(key, there.as_deref()));
            // Half of the time is left for the query.
            let patience = self.endpoint(key.endpoint()).timeout / 2;
            let taken = self.shared.budget.take(class, patience);
            let wait = taken.map_err(|retry_after| ReadError::TooManyLoads { retry_after })?;
            Ok(Admitted::Load(Ticket { cause, class, wait }))
        };
        let begin = |landing, ticket| {
            drop(tokio::spawn(self.clone().run(key.clone(), ticket, landing)));
        };
        self.shared.flights.join_or_begin(key, admit, begin)
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
    async fn run(self, key: Key, ticket: Ticket, landing: Landing) {
        let cause = ticket.cause;
        let began = Instant::now();
        let previous = self.shared.cache.get(&key);
        let load = self.load(&key, ticket, previous.as_deref(), &landing);
        // What a panic leaves half done is dropped with the load; nothing of it is in the cache.
        let loaded = AssertUnwindSafe(load).catch_unwind().await;
        let loaded = loaded.unwrap_or(Err(LoadError::Lost)).map_err(Arc::new);
        let outcome = match &loaded {
            Ok(entry) => {
                self.shared.cache.put(&key, Arc::clone(entry));
                self.succeeded(&key);
                if self.shared.source.lacks(key.endpoint(), key.arguments()) {
                    self.renew(key.endpoint());
                }
                outcome(previous.as_deref(), entry)
            }
            Err(error) => {
                self.failed(&key, error);
                if error.is_of_arguments() {
                    self.renew(key.endpoint());
                }
                RefreshOutcome::Failed
            }
        };
        if let Cause::Background(trigger) = cause {
            let lifetime = loaded.as_ref().ok().map(|entry| *entry.lifetime());
            self.emit_refresh(key.endpoint(), trigger, outcome, began.elapsed(), lifetime);
        }
        landing.land(loaded.clone());
        self.what_comes_next(&key, cause, loaded.ok());
    }

    /// After a load: another one at once, if the data changed while it ran; else a moment to look at
    /// the key again, if it is to be loaded ahead.
    fn what_comes_next(&self, key: &Key, cause: Cause, loaded: Option<Arc<Entry>>) {
        let endpoint = self.endpoint(key.endpoint());
        let Some(entry) = loaded else {
            let there = self.shared.cache.get(key);
            if let (Cause::Background(Trigger::Ahead), Some(entry)) = (cause, there) {
                let wait = self.key_retry_in(key).max(AHEAD_RETRY);
                self.look_again(key, &entry, self.now() + wait);
            }
            return;
        };
        if entry.generation() != self.standing(endpoint.id).generation {
            // Its answer is served to those who waited, and is not the last word.
            let _ = self.start(key, Cause::Background(Trigger::Notify));
        } else if endpoint.refresh.ahead {
            self.tell_of_haste(endpoint, &entry);
            self.look_again(key, &entry, self.ahead_of(key, &entry));
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

    pub(super) fn failed(&self, key: &Key, error: &Arc<LoadError>) {
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
        landing: &Landing,
    ) -> Result<Arc<Entry>, LoadError> {
        let endpoint = self.endpoint(key.endpoint());
        let turn = self.turn(endpoint, &ticket, landing).await?;
        // All of this from before the query: a schedule that comes while it runs is not served by
        // it, and neither is a change.
        let due = *self.state(endpoint.id).due.lock().expect(UNPOISONED);
        let origin = Origin {
            began: self.now(),
            generation: self.standing(endpoint.id).generation,
        };
        let began = origin.began;
        let sent = Instant::now();
        let answer = match self.shared.source.answer(endpoint, key.arguments()).await {
            Ok(answer) => answer,
            Err(error) => {
                let suspects = Suspects::of(ticket.cause, previous.is_some());
                return Err(self.blamed(key, suspects, sent, error).await);
            }
        };
        self.note_success(endpoint.id, key.arguments(), sent);
        let query_time = self.now() - began;
        drop(turn);
        self.make_in_advance(key, &answer, previous).await;
        let until_refresh = due.map(|due| due.saturating_duration_since(began));
        let lifetime = endpoint.freshness.lifetime(until_refresh, endpoint.timeout);
        let entry = Entry::new(answer, origin, query_time, lifetime, previous);
        Ok(Arc::new(entry))
    }

    async fn turn(
        &self,
        endpoint: &Endpoint,
        ticket: &Ticket,
        landing: &Landing,
    ) -> Result<Turn<'_>, LoadError> {
        let (turns, class) = (&self.shared.turns, ticket.class);
        if class == Class::Schedules {
            return Ok(turns.take(class).await);
        }
        if !ticket.wait.is_zero() {
            tokio::time::sleep(ticket.wait).await;
        }
        let asked = Instant::now();
        let patience = endpoint.timeout.saturating_sub(ticket.wait);
        let turn = tokio::time::timeout(patience, turns.take(class)).await;
        let is_abandoned = asked.elapsed() > ABANDONED_AFTER && !landing.is_awaited();
        turn.ok()
            .filter(|_| !is_abandoned)
            .ok_or(LoadError::Overloaded)
    }
}
