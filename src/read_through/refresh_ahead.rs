//! Keys in use, loaded again before they go stale. A key that nobody asks for is left to lapse.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Cause, ReadError, ReadThrough, Source, Start};
use crate::cache::{Entry, Key};
use crate::lock::lock;
use crate::observe::{Event, Trigger};
use crate::plan::Endpoint;

/// At least this long between attempts to load a key ahead.
pub(super) const AHEAD_RETRY: Duration = Duration::from_millis(100);

/// An entry that is to be looked at again at some moment, because its key may be loaded ahead of time.
#[derive(Debug)]
pub struct AheadCheck {
    /// Its key.
    pub key: Key,
    /// When its query began: what has taken its place is looked at in its own time.
    pub began: Instant,
    /// When.
    pub at: Instant,
}

impl<S: Source> ReadThrough<S> {
    /// From now on `keeper` is told when to look at keys that are loaded ahead.
    pub fn send_ahead_checks_to(&self, keeper: mpsc::UnboundedSender<AheadCheck>) {
        // A second keeper would be a mistake of the composition; the first one stays.
        let _ = self.shared.ahead_checks.set(keeper);
    }

    /// Loads a key again before it goes stale, if it was asked for since it was loaded. One that was
    /// not is left to lapse.
    pub fn refresh_ahead(&self, look: &AheadCheck) {
        let key = &look.key;
        let there = self.shared.cache.get(key);
        let Some(entry) = there.filter(|there| there.began() == look.began && there.is_used())
        else {
            return;
        };
        let (now, at) = (self.now(), self.ahead_time(key, &entry));
        if at > now {
            // It was found to be unchanged meanwhile.
            return self.schedule_ahead_check(key, &entry, at);
        }
        let wait = match self.start(key, Cause::Background(Trigger::Ahead)) {
            // Its end says what comes next.
            Ok(Start::Began(_)) => return,
            Ok(Start::Joined(_) | Start::Loaded(_)) => AHEAD_RETRY,
            Err(ReadError::TooManyLoads { retry_after }) => retry_after.max(AHEAD_RETRY),
            Err(_) => AHEAD_RETRY,
        };
        self.schedule_ahead_check(key, &entry, now + wait);
    }

    /// A key was asked for, for the first time since it was loaded: its moment may have passed while
    /// nobody had.
    pub(super) fn refresh_ahead_on_first_use(&self, key: &Key, entry: &Entry, now: Instant) {
        if self.endpoint(key.endpoint()).refresh.ahead && self.ahead_time(key, entry) <= now {
            // If it may not be loaded now, it is when it is stale.
            let _ = self.start(key, Cause::Background(Trigger::Ahead));
        }
    }

    /// When an entry that is loaded ahead is looked at: early enough for a query that takes twice as
    /// long as its last one, and not before half its time is over.
    pub(super) fn ahead_time(&self, key: &Key, entry: &Entry) -> Instant {
        let fresh = entry.lifetime().fresh;
        let lead = (entry.query_time() * 2).clamp(fresh / 10, fresh / 2);
        entry.record_validation(&self.version(key.endpoint())) + (fresh - lead)
    }

    /// Has the keeper of time come back to a key, as long as this entry is what it has.
    pub(super) fn schedule_ahead_check(&self, key: &Key, entry: &Entry, at: Instant) {
        if let Some(keeper) = self.shared.ahead_checks.get() {
            let (key, began) = (key.clone(), entry.began());
            // The receiver is gone only when the server shuts down.
            let _ = keeper.send(AheadCheck { key, began, at });
        }
    }

    /// Says once when an endpoint's queries take too long to keep its keys fresh.
    pub(super) fn report_ahead_speed(&self, endpoint: &Endpoint, entry: &Entry) {
        let is_late = entry.query_time() > entry.lifetime().fresh / 2;
        let health = &self.state(endpoint.id).health;
        let news = lock(health).is_late(is_late);
        if news && is_late {
            self.shared.observer.emit(&Event::AheadTooSlow {
                endpoint: endpoint.id,
                query_time: entry.query_time(),
                max_age: entry.lifetime().fresh,
            });
        }
    }
}
