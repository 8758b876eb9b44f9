//! How an endpoint's loads end: whether it is news that they fail, or that they succeed again, and
//! what the last failure was.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::LoadError;
use crate::observe::Fault;

/// Failing keys of an endpoint beside working ones would be news with every load.
const NEWS_EVERY: Duration = Duration::from_secs(60);

/// What was told of an endpoint, and what happened to it last.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: bool,
    late: bool,
    told_at: Option<Instant>,
    last_failure: Option<LastFailure>,
}

/// The last load of an endpoint that failed.
#[derive(Debug, Clone)]
pub struct LastFailure {
    /// Why.
    pub error: Arc<LoadError>,
    /// When.
    pub at: Instant,
    /// When, by the wall clock.
    pub at_wall: SystemTime,
    /// Whether no load of the endpoint has succeeded since.
    pub is_last_word: bool,
}

impl Health {
    /// The last failure, if there was any.
    pub(super) fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure.clone()
    }

    /// Whether the last load failed for a reason of the endpoint's own.
    pub(super) fn is_refused(&self) -> bool {
        let last = self.last_failure.as_ref().filter(|last| last.is_last_word);
        last.is_some_and(|last| {
            let may_be_over = last.error.is_session_ended() && !self.failing;
            !last.error.is_outage() && !may_be_over
        })
    }

    /// Whether that is news.
    pub(super) fn succeeded(&mut self) -> bool {
        if let Some(failure) = &mut self.last_failure {
            failure.is_last_word = false;
        }
        std::mem::take(&mut self.failing)
    }

    /// Whether it is news that queries are too slow to be ahead of time, or no longer.
    pub(super) fn is_late(&mut self, is_late: bool) -> bool {
        std::mem::replace(&mut self.late, is_late) != is_late
    }

    /// Whether that is news. A refused argument says nothing about the endpoint; and that Postgres
    /// can not be reached is said once, by the repository. A session that ends once under a query may be
    /// Postgres's own end: twice in a row it is news.
    pub(super) fn failed(&mut self, error: &Arc<LoadError>, now: Instant) -> bool {
        let last = self.last_failure.as_ref().filter(|last| last.is_last_word);
        let is_again = last.is_some_and(|last| last.error.is_session_ended());
        if error.fault() != Fault::Client {
            self.last_failure = Some(LastFailure {
                error: Arc::clone(error),
                at: now,
                at_wall: SystemTime::now(),
                is_last_word: true,
            });
        }
        let recently = self
            .told_at
            .is_some_and(|at| now.duration_since(at) < NEWS_EVERY);
        if error.is_away() || self.failing || recently || error.fault() == Fault::Client {
            return false;
        }
        if error.is_session_ended() && !is_again {
            return false;
        }
        self.failing = true;
        self.told_at = Some(now);
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
    async fn a_failing_endpoint_is_news_once_and_so_is_its_recovery() {
        let mut health = Health::default();
        assert!(!health.succeeded(), "nothing had failed");
        assert!(health.failed(&too_slow(), Instant::now()));
        assert!(!health.failed(&too_slow(), Instant::now()));
        assert!(health.succeeded());
        assert!(!health.succeeded());
        assert!(
            !health.failed(&too_slow(), Instant::now()),
            "it was told a moment ago"
        );
        tokio::time::advance(NEWS_EVERY).await;
        assert!(health.failed(&too_slow(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_remembered_and_is_not_the_last_word_after_a_success() {
        let mut health = Health::default();
        assert!(health.last_failure().is_none());
        health.failed(&Arc::new(LoadError::Overloaded), Instant::now());
        assert!(health.last_failure().is_none(), "that was the clients'");
        health.failed(&too_slow(), Instant::now());
        assert!(health.last_failure().is_some_and(|last| last.is_last_word));
        health.succeeded();
        assert!(health.last_failure().is_some_and(|last| !last.is_last_word));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ends_once_is_nobodys_fault_and_twice_in_a_row_is_the_endpoints() {
        let ended = || {
            let cause = "terminated".to_owned();
            let after = Duration::from_secs(1);
            Arc::new(RepositoryError::SessionEnded { after, cause }.into())
        };
        let mut health = Health::default();
        assert!(!health.failed(&ended(), Instant::now()));
        assert!(!health.is_refused(), "Postgres may be about to end");
        health.succeeded();
        assert!(
            !health.failed(&ended(), Instant::now()),
            "that was another one"
        );
        assert!(health.failed(&ended(), Instant::now()));
        assert!(health.is_refused());
        assert!(!health.failed(&ended(), Instant::now()), "it is known");
    }
}
