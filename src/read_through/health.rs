//! Whether it is news that an endpoint's loads fail, or that they succeed again.

use std::time::Duration;

use tokio::time::Instant;

use super::LoadError;
use crate::observe::Fault;
use crate::repository::RepositoryError;

/// Failing keys of an endpoint beside working ones would be news with every load.
const NEWS_EVERY: Duration = Duration::from_secs(60);

/// What was told of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: bool,
    late: bool,
    told_at: Option<Instant>,
}

impl Health {
    /// Whether that is news.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failing)
    }

    /// Whether it is news that queries are too slow to be ahead of time, or no longer.
    pub(super) fn is_late(&mut self, is_late: bool) -> bool {
        std::mem::replace(&mut self.late, is_late) != is_late
    }

    /// Whether that is news. A refused argument says nothing about the endpoint; and that Postgres
    /// can not be reached is said once, by the repository.
    pub(super) fn failed(&mut self, error: &LoadError, now: Instant) -> bool {
        let away = matches!(
            error,
            LoadError::Repository(RepositoryError::Unavailable { .. })
        );
        let recently = self
            .told_at
            .is_some_and(|at| now.duration_since(at) < NEWS_EVERY);
        if away || self.failing || recently || error.fault() == Fault::Client {
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

    fn too_slow() -> LoadError {
        let after = Duration::from_secs(1);
        RepositoryError::TimedOut { after }.into()
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
}
