//! One load, from admission to the notification of its waiters.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::blame::Suspect;
use super::concurrency::{LoadClass, LoadPermit};
use super::refresh_ahead::AHEAD_RETRY;
use super::single_flight::{Admission, LoadGuard};
use super::{Cause, LoadError, ReadError, ReadThrough, Source, Start, outcome};
use crate::cache::{Entry, Freshness, Key, Origin};
use crate::limiter::Limiter;
use crate::mutex::lock;
use crate::observe::{Event, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, EndpointId, Lifetime};

/// A load that got its slot only after this long, and that no request waits for any more, is dropped: there
/// are more loads than Postgres can answer, and requests wait for others.
const ABANDONED_AFTER: Duration = Duration::from_secs(1);

/// The terms on which a load was admitted.
struct Ticket {
    cause: Cause,
    class: LoadClass,
    /// How long the rate limit makes it wait before it begins.
    wait: Duration,
}

fn class(cause: Cause, is_in_use: impl FnOnce() -> bool) -> LoadClass {
    match cause {
        Cause::Client | Cause::Background(Trigger::Stale | Trigger::Ahead) => {
            if is_in_use() {
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
        self.start_for(key, cause, None)
    }

    /// Likewise, for a caller with a limit of loads.
    pub(super) fn start_for(
        &self,
        key: &Key,
        cause: Cause,
        caller: Option<&Limiter>,
    ) -> Result<Start, ReadError> {
        let admit = || {
            let there = self.engine.cache.get(key);
            if let Cause::Client | Cause::Background(Trigger::Stale) = cause {
                // A load may have ended since the caller looked.
                let fresh = |entry: &&Arc<Entry>| self.freshness(key, entry) == Freshness::Fresh;
                if let Some(entry) = there.as_ref().filter(fresh) {
                    return Ok(Admission::Loaded(Arc::clone(entry)));
                }
            }
            // First its own share, so that it cannot use up what all callers share.
            if let Some(caller) = caller {
                caller
                    .take(Instant::now())
                    .map_err(ReadError::CallerLimit)?;
            }
            let class = class(cause, || self.is_in_use(key, there.as_deref()));
            // Half of the time is left for the query.
            let max_wait = self.endpoint(key.endpoint()).timeout / 2;
            let taken = self.engine.rate_limit.take(class, max_wait);
            let wait = taken.map_err(|retry_after| ReadError::TooManyLoads { retry_after })?;
            Ok(Admission::Load(Ticket { cause, class, wait }))
        };
        let begin = |guard, ticket| {
            drop(tokio::spawn(self.clone().run(key.clone(), ticket, guard)));
        };
        self.engine.in_flight.join_or_begin(key, admit, begin)
    }

    /// Whether clients use the key: it is in the cache, or was until a short while ago.
    fn is_in_use(&self, key: &Key, there: Option<&Entry>) -> bool {
        #[cfg(test)]
        if self.engine.defect == super::simulation::Defect::NoReserve {
            return false;
        }
        there.is_some() || self.engine.cache.was_in_use(key)
    }

    /// Runs a load from its beginning to the notification of its waiters.
    async fn run(self, key: Key, ticket: Ticket, guard: LoadGuard) {
        let cause = ticket.cause;
        let began = Instant::now();
        let previous = self.engine.cache.get(&key);
        let load = self.load(&key, ticket, previous.as_deref(), &guard);
        // Unwind safe: what a panic leaves half done is dropped with the load, and is not in the cache.
        let loaded = AssertUnwindSafe(load).catch_unwind().await;
        let loaded = loaded.unwrap_or(Err(LoadError::Lost)).map_err(Arc::new);
        let outcome = match &loaded {
            Ok(entry) => {
                self.engine.cache.put(&key, Arc::clone(entry));
                self.judge_again(&key, entry);
                self.record_success(&key);
                if self
                    .planned
                    .source
                    .has_unlisted_labels(key.endpoint(), key.arguments())
                {
                    self.redescribe(key.endpoint());
                }
                outcome(previous.as_deref(), entry)
            }
            Err(error) => {
                self.record_failure(&key, error);
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

    /// After a load: begins another one if the data changed meanwhile, or schedules the next check of a key
    /// that is loaded ahead of time.
    fn follow_up(&self, key: &Key, cause: Cause, loaded: Option<Arc<Entry>>) {
        let endpoint = self.endpoint(key.endpoint());
        let Some(entry) = loaded else {
            let there = self.engine.cache.get(key);
            if let (Cause::Background(Trigger::Ahead), Some(entry)) = (cause, there) {
                let wait = self.key_retry_in(key).max(AHEAD_RETRY);
                self.schedule_ahead_check(key, &entry, self.clock().now() + wait);
            }
            return;
        };
        if entry.generation() != self.version(endpoint.id).generation {
            // Those who waited get this answer, but it is outdated.
            let _ = self.start(key, Cause::Background(Trigger::Notify));
        } else if endpoint.refresh.ahead {
            self.report_ahead_speed(endpoint, &entry);
            self.schedule_ahead_check(key, &entry, self.ahead_time(key, &entry));
        }
    }

    fn record_success(&self, key: &Key) {
        self.engine.key_backoff.record_success(key);
        let endpoint = key.endpoint();
        let health = &self.state(endpoint).health;
        let is_recovery = lock(health).record_success();
        if is_recovery {
            let event = Event::LoadsRecovered { endpoint };
            self.engine.observer.emit(&event);
        }
    }

    pub(super) fn record_failure(&self, key: &Key, error: &Arc<LoadError>) {
        let now = Instant::now();
        self.engine.key_backoff.record_failure(key, error, now);
        let endpoint = key.endpoint();
        let health = &self.state(endpoint).health;
        let should_report = lock(health).record_failure(error, now);
        if should_report {
            let event = Event::LoadsFailing {
                endpoint,
                fault: error.fault(),
                cause: error.to_string(),
            };
            self.engine.observer.emit(&event);
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
        self.engine.observer.emit(&event);
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
        // Read before the query: a schedule that falls due or a change that is reported while it runs calls
        // for another load.
        let due = *lock(&self.state(endpoint.id).due);
        let origin = Origin {
            began: self.clock().now(),
            generation: self.version(endpoint.id).generation,
        };
        let began = origin.began;
        let sent = Instant::now();
        let answer = match self.planned.source.answer(endpoint, key.arguments()).await {
            Ok(answer) => answer,
            Err(error) => {
                let suspect = Suspect::of(ticket.cause, previous.is_some());
                return Err(self.attribute_failure(key, suspect, sent, error).await);
            }
        };
        self.record_valid_arguments(endpoint.id, key.arguments(), sent);
        let query_time = self.clock().now() - began;
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
        let (slots, class) = (&self.engine.slots, ticket.class);
        if class == LoadClass::Background {
            return Ok(slots.acquire(class).await);
        }
        if !ticket.wait.is_zero() {
            tokio::time::sleep(ticket.wait).await;
        }
        let began = Instant::now();
        let max_wait = endpoint.timeout.saturating_sub(ticket.wait);
        let permit = tokio::time::timeout(max_wait, slots.acquire(class)).await;
        let is_abandoned = began.elapsed() > ABANDONED_AFTER && !guard.is_awaited();
        permit
            .ok()
            .filter(|_| !is_abandoned)
            .ok_or(LoadError::Overloaded)
    }
}
