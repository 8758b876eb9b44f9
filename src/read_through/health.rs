//! How an endpoint's loads end: when a failure or a recovery is worth a report, and what the last failure
//! was.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::LoadError;
use crate::observe::Fault;

/// The shortest time between two reports that loads of an endpoint fail. Without it, an endpoint with
/// failing and working keys would cause one with every load.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What was reported of an endpoint, and its last failure.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether the endpoint was last reported as failing.
    failing: bool,
    ahead_too_slow: bool,
    reported_at: Option<Instant>,
    last_failure: Option<LastFailure>,
}

/// The last load of an endpoint that failed.
#[derive(Debug, Clone)]
pub struct LastFailure {
    /// The cause.
    pub error: Arc<LoadError>,
    /// When it failed.
    pub at: Instant,
    /// When it failed, by the wall clock.
    pub at_wall: SystemTime,
    /// Whether no load of the endpoint has succeeded since.
    pub is_unresolved: bool,
}

impl Health {
    /// The last failure, if there was any.
    pub(super) fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure.clone()
    }

    /// Whether the last load failed for a reason of the endpoint's own, while Postgres was reachable.
    pub(super) fn is_refused(&self) -> bool {
        let last = self.last_failure.as_ref().filter(|last| last.is_unresolved);
        last.is_some_and(|last| {
            let may_be_over = last.error.is_session_ended() && !self.failing;
            !last.error.is_outage() && !may_be_over
        })
    }

    /// Returns whether to report a recovery.
    pub(super) fn record_success(&mut self) -> bool {
        if let Some(failure) = &mut self.last_failure {
            failure.is_unresolved = false;
        }
        std::mem::take(&mut self.failing)
    }

    /// Returns whether this changed: whether queries are too slow to load keys ahead of time.
    pub(super) fn record_ahead_speed(&mut self, is_too_slow: bool) -> bool {
        std::mem::replace(&mut self.ahead_too_slow, is_too_slow) != is_too_slow
    }

    /// Returns whether to report the failure. A rejected argument is not the endpoint's failure, and the
    /// repository reports once that Postgres is unreachable. A session that ends during a query may be due
    /// to a shutdown of Postgres: only the second in a row is reported.
    pub(super) fn record_failure(&mut self, error: &Arc<LoadError>, now: Instant) -> bool {
        let last = self.last_failure.as_ref().filter(|last| last.is_unresolved);
        let is_again = last.is_some_and(|last| last.error.is_session_ended());
        if error.fault() != Fault::Client {
            self.last_failure = Some(LastFailure {
                error: Arc::clone(error),
                at: now,
                at_wall: SystemTime::now(),
                is_unresolved: true,
            });
        }
        let recently = self
            .reported_at
            .is_some_and(|at| now.duration_since(at) < REPORT_INTERVAL);
        if error.is_away() || self.failing || recently || error.fault() == Fault::Client {
            return false;
        }
        if error.is_session_ended() && !is_again {
            return false;
        }
        self.failing = true;
        self.reported_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::RepositoryError;

    fn too_slow() -> Arc<LoadError> {
        let after = Duration::from_secs(1);
        Arc::new(RepositoryError::TimedOut { after }.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_and_its_recovery_are_reported_once() {
        let mut health = Health::default();
        assert!(!health.record_success(), "nothing had failed");
        assert!(health.record_failure(&too_slow(), Instant::now()));
        assert!(!health.record_failure(&too_slow(), Instant::now()));
        assert!(health.record_success());
        assert!(!health.record_success());
        assert!(
            !health.record_failure(&too_slow(), Instant::now()),
            "it was reported a moment ago"
        );
        tokio::time::advance(REPORT_INTERVAL).await;
        assert!(health.record_failure(&too_slow(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_kept_and_is_resolved_by_a_success() {
        let mut health = Health::default();
        assert!(health.last_failure().is_none());
        health.record_failure(&Arc::new(LoadError::Overloaded), Instant::now());
        assert!(health.last_failure().is_none(), "that was due to clients");
        health.record_failure(&too_slow(), Instant::now());
        assert!(health.last_failure().is_some_and(|last| last.is_unresolved));
        health.record_success();
        assert!(
            health
                .last_failure()
                .is_some_and(|last| !last.is_unresolved)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_second_ended_session_in_a_row_is_reported() {
        let ended = || {
            let cause = "terminated".to_owned();
            let after = Duration::from_secs(1);
            Arc::new(RepositoryError::SessionEnded { after, cause }.into())
        };
        let mut health = Health::default();
        assert!(!health.record_failure(&ended(), Instant::now()));
        assert!(!health.is_refused(), "Postgres may be shutting down");
        health.record_success();
        assert!(
            !health.record_failure(&ended(), Instant::now()),
            "the first in a row again"
        );
        assert!(health.record_failure(&ended(), Instant::now()));
        assert!(health.is_refused());
        assert!(
            !health.record_failure(&ended(), Instant::now()),
            "it is reported already"
        );
    }
}
