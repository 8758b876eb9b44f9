//! What failed to load, per key, and when it is tried again. Keys fail for reasons of their own: one
//! argument that Postgres chokes on must not keep the others from being loaded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::{LoadError, UNPOISONED};
use crate::cache::Key;
use crate::observe::Fault;

/// Waits after the second failure in a row and later ones: doubled from the first to the last, each
/// drawn from zero to that, so that what failed together does not come back together. After the first
/// failure whoever asks may try at once.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Failures remembered at once. Beyond it a failing key is tried whenever it is asked for, within
/// `max_loads_per_second`.
const KEYS_MAX: usize = 10_000;

/// The keys whose last load failed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    by_key: Mutex<HashMap<Key, Failure>>,
}

#[derive(Debug)]
struct Failure {
    error: Arc<LoadError>,
    in_a_row: u32,
    retry_at: Instant,
}

impl Failures {
    /// Why the key is left alone for now, and for how long.
    pub(super) fn backing_off(
        &self,
        key: &Key,
        now: Instant,
    ) -> Option<(Arc<LoadError>, Duration)> {
        let by_key = self.by_key.lock().expect(UNPOISONED);
        let failure = by_key.get(key)?;
        let wait = failure.retry_at.saturating_duration_since(now);
        (!wait.is_zero()).then(|| (Arc::clone(&failure.error), wait))
    }

    /// Whether the key's last load failed.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.by_key.lock().expect(UNPOISONED).contains_key(key)
    }

    pub(super) fn succeeded(&self, key: &Key) {
        self.by_key.lock().expect(UNPOISONED).remove(key);
    }

    pub(super) fn failed(&self, key: &Key, error: &Arc<LoadError>, now: Instant) {
        if error.fault() == Fault::Client {
            return;
        }
        let mut by_key = self.by_key.lock().expect(UNPOISONED);
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

/// How long to wait after so many failures before this one.
fn wait(error: &LoadError, before: u32) -> Duration {
    // Attempts to connect are spaced by the pool, and end sooner.
    if error.is_away() || before == 0 {
        return Duration::ZERO;
    }
    let (first, last) = BACKOFF;
    let whole = first.saturating_mul(2_u32.saturating_pow(before - 1));
    whole.min(last).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Arguments, EndpointId};
    use crate::repository::RepositoryError;
    use crate::repository::error::Refusal;

    fn key(endpoint: usize) -> Key {
        Key::new(EndpointId::new(endpoint), Arguments::default())
    }

    fn too_slow() -> Arc<LoadError> {
        let after = Duration::from_secs(1);
        Arc::new(RepositoryError::TimedOut { after }.into())
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_costs_no_wait_and_more_are_spaced_up_to_a_cap() {
        let failures = Failures::default();
        failures.failed(&key(1), &too_slow(), Instant::now());
        assert!(failures.backing_off(&key(1), Instant::now()).is_none());
        assert!(failures.contains(&key(1)));
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            failures.failed(&key(1), &too_slow(), Instant::now());
            if let Some((_, wait)) = failures.backing_off(&key(1), Instant::now()) {
                longest = longest.max(wait);
                tokio::time::advance(wait).await;
            }
            assert!(failures.backing_off(&key(1), Instant::now()).is_none());
        }
        assert!(
            longest > BACKOFF.1 / 2 && longest <= BACKOFF.1,
            "{longest:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_forgets_and_other_keys_are_left_alone() {
        let failures = Failures::default();
        for _ in 0..10 {
            failures.failed(&key(1), &too_slow(), Instant::now());
        }
        assert!(!failures.contains(&key(2)));
        failures.succeeded(&key(1));
        assert!(!failures.contains(&key(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_argument_is_no_failure() {
        let failures = Failures::default();
        let refusal = Refusal {
            code: "22P02".to_owned(),
            message: "invalid input syntax".to_owned(),
            detail: None,
            routine: None,
            position: None,
        };
        let refused = Arc::new(RepositoryError::ArgumentRefused { refusal }.into());
        failures.failed(&key(1), &refused, Instant::now());
        assert!(!failures.contains(&key(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let failures = Failures::default();
        for n in 0..KEYS_MAX + 100 {
            for _ in 0..2 {
                failures.failed(&key(n), &too_slow(), Instant::now());
            }
        }
        assert!(failures.by_key.lock().unwrap().len() <= KEYS_MAX);
    }
}
