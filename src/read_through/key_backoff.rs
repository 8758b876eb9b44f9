//! Which keys failed to load, and when each is tried again. Keys fail for reasons of their own: one
//! argument that Postgres rejects must not keep other keys from being loaded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::LoadError;
use crate::backoff::{Backoff, Jitter};
use crate::cache::Key;
use crate::mutex::lock;
use crate::observe::Fault;

/// Waits after the second and every further failure in a row, with full jitter so that keys that failed
/// together do not come back together. After the first failure the next request may try at once.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(10),
    jitter: Jitter::Full,
};

/// Failing keys remembered at once. Beyond that a failing key is tried whenever it is requested, within
/// `max_loads_per_second`.
const KEYS_MAX: usize = 10_000;

/// The keys whose last load failed.
#[derive(Debug, Default)]
pub(super) struct KeyBackoff {
    by_key: Mutex<HashMap<Key, Failure>>,
}

#[derive(Debug)]
struct Failure {
    error: Arc<LoadError>,
    in_a_row: u32,
    retry_at: Instant,
}

impl KeyBackoff {
    /// Why the key must not be loaded now, and how long that lasts.
    pub(super) fn active(&self, key: &Key, now: Instant) -> Option<(Arc<LoadError>, Duration)> {
        let by_key = lock(&self.by_key);
        let failure = by_key.get(key)?;
        let wait = failure.retry_at.saturating_duration_since(now);
        (!wait.is_zero()).then(|| (Arc::clone(&failure.error), wait))
    }

    /// Whether the key's last load failed.
    pub(super) fn is_failing(&self, key: &Key) -> bool {
        lock(&self.by_key).contains_key(key)
    }

    pub(super) fn record_success(&self, key: &Key) {
        lock(&self.by_key).remove(key);
    }

    pub(super) fn record_failure(&self, key: &Key, error: &Arc<LoadError>, now: Instant) {
        if error.fault() == Fault::Client {
            return;
        }
        let mut by_key = lock(&self.by_key);
        if by_key.len() >= KEYS_MAX && !by_key.contains_key(key) {
            by_key.retain(|_, failure| failure.retry_at > now);
            if by_key.len() >= KEYS_MAX {
                return;
            }
        }
        let failure = by_key.entry(key.clone()).or_insert_with(|| Failure {
            error: Arc::clone(error),
            in_a_row: 0,
            retry_at: now,
        });
        failure.error = Arc::clone(error);
        failure.retry_at = now + wait(error, failure.in_a_row);
        failure.in_a_row = failure.in_a_row.saturating_add(1);
    }
}

/// How long to wait after a failure that `earlier` others preceded.
fn wait(error: &LoadError, earlier: u32) -> Duration {
    // The pool spaces its attempts to connect, by shorter waits.
    if error.is_away() || earlier == 0 {
        return Duration::ZERO;
    }
    BACKOFF.wait(earlier - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Arguments, EndpointId};
    use crate::repository::Refusal;
    use crate::repository::RepositoryError;

    fn key(endpoint: usize) -> Key {
        Key::new(EndpointId::new(endpoint), Arguments::default())
    }

    fn too_slow() -> Arc<LoadError> {
        let after = Duration::from_secs(1);
        Arc::new(RepositoryError::TimedOut { after }.into())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_causes_no_wait_and_further_ones_back_off_up_to_a_cap() {
        let backoff = KeyBackoff::default();
        backoff.record_failure(&key(1), &too_slow(), Instant::now());
        assert!(backoff.active(&key(1), Instant::now()).is_none());
        assert!(backoff.is_failing(&key(1)));
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            backoff.record_failure(&key(1), &too_slow(), Instant::now());
            if let Some((_, wait)) = backoff.active(&key(1), Instant::now()) {
                longest = longest.max(wait);
                tokio::time::advance(wait).await;
            }
            assert!(backoff.active(&key(1), Instant::now()).is_none());
        }
        assert!(
            longest > BACKOFF.longest / 2 && longest <= BACKOFF.longest,
            "{longest:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_clears_the_failure_and_other_keys_are_unaffected() {
        let backoff = KeyBackoff::default();
        for _ in 0..10 {
            backoff.record_failure(&key(1), &too_slow(), Instant::now());
        }
        assert!(!backoff.is_failing(&key(2)));
        backoff.record_success(&key(1));
        assert!(!backoff.is_failing(&key(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_argument_is_not_a_failure() {
        let backoff = KeyBackoff::default();
        let refusal = Refusal {
            code: "22P02".to_owned(),
            message: "invalid input syntax".to_owned(),
            detail: None,
            routine: None,
            position: None,
        };
        let refused = Arc::new(RepositoryError::ArgumentRefused { refusal }.into());
        backoff.record_failure(&key(1), &refused, Instant::now());
        assert!(!backoff.is_failing(&key(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_remembered_keys_is_bounded() {
        let backoff = KeyBackoff::default();
        for n in 0..KEYS_MAX + 100 {
            for _ in 0..2 {
                backoff.record_failure(&key(n), &too_slow(), Instant::now());
            }
        }
        assert!(backoff.by_key.lock().unwrap().len() <= KEYS_MAX);
    }
}
