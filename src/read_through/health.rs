//! Whether an endpoint's loads fail, when to try again, and whether that is news.

use std::time::Duration;

use tokio::time::Instant;

use super::LoadError;
use crate::observe::Fault;
use crate::repository::RepositoryError;

/// Waits between attempts to load a failing endpoint without being asked: doubled from the first to
/// the last, each shortened by up to a half at random, so that endpoints that failed together do not
/// come back together. The pool spaces attempts to connect by itself.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Failing keys of an endpoint beside working ones would be news with every load.
const NEWS_EVERY: Duration = Duration::from_secs(60);

/// How an endpoint's last loads went.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    retry_at: Option<Instant>,
    /// Whether the current failure was told.
    told: bool,
    told_at: Option<Instant>,
}

impl Health {
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn retry_in(&self, now: Instant) -> Duration {
        self.retry_at
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Whether that is news.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.retry_at = None;
        std::mem::take(&mut self.told)
    }

    /// Whether that is news. A refused argument says nothing about the endpoint; and that Postgres
    /// is away is said once, by the repository.
    pub(super) fn failed(&mut self, error: &LoadError, now: Instant) -> bool {
        if error.fault() == Fault::Client {
            return false;
        }
        let (first, last) = BACKOFF;
        let whole = first
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(last);
        self.retry_at = Some(now + whole.mul_f64(fastrand::f64().mul_add(0.5, 0.5)));
        self.failures = self.failures.saturating_add(1);
        let away = matches!(
            error,
            LoadError::Repository(RepositoryError::Unavailable { .. })
        );
        let recently = self
            .told_at
            .is_some_and(|at| now.duration_since(at) < NEWS_EVERY);
        if away || self.told || recently {
            return false;
        }
        self.told = true;
        self.told_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::error::Refusal;

    fn too_slow() -> LoadError {
        RepositoryError::TimedOut {
            after: Duration::from_secs(1),
        }
        .into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_endpoint_is_news_once_and_so_is_its_recovery() {
        let mut health = Health::default();
        assert!(!health.succeeded(), "nothing had failed");
        assert!(health.failed(&too_slow(), Instant::now()));
        assert!(!health.failed(&too_slow(), Instant::now()));
        assert!(health.is_failing());
        assert!(health.succeeded() && !health.is_failing());
        assert!(!health.succeeded());
        assert!(
            !health.failed(&too_slow(), Instant::now()),
            "it was told a moment ago"
        );
        tokio::time::advance(NEWS_EVERY).await;
        assert!(health.failed(&too_slow(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_and_the_wait_is_capped() {
        let mut health = Health::default();
        for _ in 0..40 {
            health.failed(&too_slow(), Instant::now());
            let wait = health.retry_in(Instant::now());
            assert!(wait >= BACKOFF.0 / 2 && wait <= BACKOFF.1, "{wait:?}");
            tokio::time::advance(wait).await;
            assert!(health.retry_in(Instant::now()).is_zero());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_argument_is_not_the_endpoints_failure() {
        let mut health = Health::default();
        let refusal = Refusal {
            code: "22P02".to_owned(),
            message: "invalid input syntax".to_owned(),
            detail: None,
            position: None,
        };
        let refused = RepositoryError::ArgumentRefused { refusal }.into();
        assert!(!health.failed(&refused, Instant::now()));
        assert!(!health.is_failing());
    }
}
