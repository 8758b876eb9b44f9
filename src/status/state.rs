//! An endpoint's state in one word: pure, of what is known at a moment.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::figures::Figures;
use super::watch::Reach;
use crate::cache::Freshness;
use crate::plan::Endpoint;
use crate::read_through::{EndpointStatus, KeyStats, LastFailure};

/// How an endpoint is, in the order of who has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Its last load failed; or Postgres is away, and it has nothing to serve meanwhile.
    Failing,
    /// Older than it should be: past the limit of its schedule, or most answers are stale.
    Stale,
    /// It can not answer yet.
    Warming,
    /// As it should be.
    Fresh,
    /// What it has is not fresh, and nobody asks for it.
    Idle,
}

/// A key that failed says nothing of its endpoint after this long: it may never be asked for again,
/// and there are others.
const KEY_FAILURE_COUNTS: Duration = Duration::from_secs(60);

/// What is known of an endpoint.
pub(super) struct Evidence<'e> {
    pub(super) endpoint: &'e Endpoint,
    pub(super) condition: &'e EndpointStatus,
    pub(super) keyed: &'e KeyStats,
    pub(super) figures: &'e Figures,
    pub(super) repository: Option<Reach>,
    pub(super) now: Instant,
}

impl Evidence<'_> {
    /// The word for it.
    pub(super) fn state(&self) -> State {
        if self.is_cut_off() || self.fails() {
            return State::Failing;
        }
        let is_resident = self.endpoint.is_resident();
        let resident = self.condition.resident.as_ref();
        if !self.condition.is_described || is_resident && resident.is_none() {
            return State::Warming;
        }
        let is_fresh = resident.is_some_and(|entry| entry.freshness == Freshness::Fresh);
        if is_resident && (is_fresh || self.is_kept_fresh()) {
            return if is_fresh { State::Fresh } else { State::Stale };
        }
        if self.figures.stale_ratio.is_some_and(|ratio| ratio > 0.5) {
            State::Stale
        } else if self.figures.requests_per_second > 0.0 || self.keyed.fresh > 0 {
            State::Fresh
        } else {
            State::Idle
        }
    }

    /// Whether its last load failed, as far as that says anything now.
    fn fails(&self) -> bool {
        let last = self.condition.last_failure.as_ref();
        last.is_some_and(|failure| {
            failure.is_last_word
                && !self.is_over(failure)
                && (self.endpoint.is_resident() || self.now - failure.at < KEY_FAILURE_COUNTS)
        })
    }

    /// Whether it failed because Postgres was away, which is there again.
    fn is_over(&self, failure: &LastFailure) -> bool {
        let reached = self.repository.filter(|reach| reach.is_up);
        failure.error.is_away() && reached.is_some_and(|reach| reach.since >= failure.at)
    }

    /// Whether Postgres is away and clients can not be served meanwhile.
    fn is_cut_off(&self) -> bool {
        let is_away = self.repository.is_some_and(|reach| !reach.is_up);
        let resident = self.condition.resident.as_ref();
        let has_nothing = resident.is_none_or(|entry| entry.freshness == Freshness::Expired);
        is_away
            && (self.figures.errors_per_second > 0.0 || self.endpoint.is_resident() && has_nothing)
    }

    /// Whether it is loaded again without being asked for.
    fn is_kept_fresh(&self) -> bool {
        let refresh = &self.endpoint.refresh;
        refresh.every.is_some()
            || refresh.cron.is_some()
            || refresh.probe.is_some()
            || refresh.notify.is_some()
    }
}

#[cfg(test)]
mod tests;
