//! Keys in use, loaded again before they go stale. A key that nobody requests is left to expire.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cause, ReadError, ReadThrough, Source, Start};
use crate::cache::{Entry, Key};
use crate::mutex::lock;
use crate::observe::{Event, Trigger};
use crate::plan::Endpoint;

/// The shortest wait between attempts to load a key ahead of time.
pub(super) const AHEAD_RETRY: Duration = Duration::from_millis(100);

/// A key to check at some moment, because it may have to be loaded ahead of time.
#[derive(Debug)]
pub struct AheadCheck {
    /// The key.
    pub key: Key,
    /// When the query of its entry began. A newer entry has a check of its own.
    pub began: Instant,
    /// When to check.
    pub at: Instant,
}

impl<S: Source> ReadThrough<S> {
    /// See [`Maintenance::refresh_ahead`](super::Maintenance::refresh_ahead).
    pub(super) fn refresh_ahead(&self, check: &AheadCheck) {
        let key = &check.key;
        let there = self.engine.cache.get(key);
        let Some(entry) = there.filter(|there| there.began() == check.began && there.is_used())
        else {
            return;
        };
        let (now, at) = (self.clock().now(), self.ahead_time(key, &entry));
        if at > now {
            // It was validated meanwhile.
            return self.schedule_ahead_check(key, &entry, at);
        }
        let wait = match self.start(key, Cause::Background(Trigger::Ahead)) {
            // The end of the load schedules the next check.
            Ok(Start::Began(_)) => return,
            Ok(Start::Joined(_) | Start::Loaded(_)) => AHEAD_RETRY,
            Err(ReadError::TooManyLoads { retry_after }) => retry_after.max(AHEAD_RETRY),
            Err(_) => AHEAD_RETRY,
        };
        self.schedule_ahead_check(key, &entry, now + wait);
    }

    /// Refreshes a key that is requested for the first time since it was loaded, if its time to be loaded
    /// ahead passed while nobody requested it.
    pub(super) fn refresh_ahead_on_first_use(&self, key: &Key, entry: &Entry, now: Instant) {
        if self.endpoint(key.endpoint()).refresh.ahead && self.ahead_time(key, entry) <= now {
            // If the load is refused now, there is another chance once the entry is stale.
            let _ = self.start(key, Cause::Background(Trigger::Ahead));
        }
    }

    /// When to load an entry's key ahead of time: early enough for a query that takes twice as long as its
    /// last one, and not before half the time it is fresh has passed.
    pub(super) fn ahead_time(&self, key: &Key, entry: &Entry) -> Instant {
        let fresh = entry.lifetime().fresh;
        let lead = (entry.query_time() * 2).clamp(fresh / 10, fresh / 2);
        entry.record_validation(&self.version(key.endpoint())) + (fresh - lead)
    }

    pub(super) fn schedule_ahead_check(&self, key: &Key, entry: &Entry, at: Instant) {
        if let Some(sender) = self.engine.ahead_checks.get() {
            let (key, began) = (key.clone(), entry.began());
            // The receiver is gone only when the server shuts down.
            let _ = sender.send(AheadCheck { key, began, at });
        }
    }

    /// Reports once when an endpoint's queries become too slow to keep its keys fresh.
    pub(super) fn report_ahead_speed(&self, endpoint: &Endpoint, entry: &Entry) {
        let is_too_slow = entry.query_time() > entry.lifetime().fresh / 2;
        let health = &self.state(endpoint.id).health;
        let has_changed = lock(health).record_ahead_speed(is_too_slow);
        if has_changed && is_too_slow {
            self.engine.observer.emit(&Event::AheadTooSlow {
                endpoint: endpoint.id,
                query_time: entry.query_time(),
                max_age: entry.lifetime().fresh,
            });
        }
    }
}
