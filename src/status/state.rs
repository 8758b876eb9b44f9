//! An endpoint's state in one word: a pure function of what is known at a moment.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::incidents::Reachability;
use super::rates::Rates;
use crate::cache::Freshness;
use crate::plan::Endpoint;
use crate::read_through::{EndpointStatus, KeyStats, LastFailure};

/// The state of an endpoint, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Its last load failed, or Postgres is unreachable and there is nothing to serve meanwhile.
    Failing,
    /// Older than it should be: past the limit of its schedule, or most answers are stale.
    Stale,
    /// It cannot answer yet.
    Warming,
    /// Its answers are fresh.
    Fresh,
    /// Its entries are not fresh, and nobody requests them.
    Idle,
}

/// How long the failure of one key makes its endpoint failing: the key may never be requested again, and
/// there are others.
const KEY_FAILURE_COUNTS: Duration = Duration::from_secs(60);

/// What the state is derived from.
pub(super) struct Evidence<'e> {
    pub(super) endpoint: &'e Endpoint,
    pub(super) condition: &'e EndpointStatus,
    pub(super) keyed: &'e KeyStats,
    pub(super) rates: &'e Rates,
    pub(super) repository: Option<Reachability>,
    pub(super) now: Instant,
}

impl Evidence<'_> {
    /// The state.
    pub(super) fn state(&self) -> State {
        if self.is_cut_off() || self.is_failing() {
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
        if self.rates.stale_ratio.is_some_and(|ratio| ratio > 0.5) {
            State::Stale
        } else if self.rates.requests_per_second > 0.0 || self.keyed.fresh > 0 {
            State::Fresh
        } else {
            State::Idle
        }
    }

    /// Whether its last load failed, and that still matters.
    fn is_failing(&self) -> bool {
        let last = self.condition.last_failure.as_ref();
        last.is_some_and(|failure| {
            failure.is_unresolved
                && !self.is_over(failure)
                && (self.endpoint.is_resident() || self.now - failure.at < KEY_FAILURE_COUNTS)
        })
    }

    /// Whether it failed because Postgres was unreachable, which it no longer is.
    fn is_over(&self, failure: &LastFailure) -> bool {
        let reached = self.repository.filter(|reach| reach.is_up);
        failure.error.is_away() && reached.is_some_and(|reach| reach.since >= failure.at)
    }

    /// Whether Postgres is unreachable and clients cannot be served meanwhile.
    fn is_cut_off(&self) -> bool {
        let is_away = self.repository.is_some_and(|reach| !reach.is_up);
        let resident = self.condition.resident.as_ref();
        let has_nothing = resident.is_none_or(|entry| entry.freshness == Freshness::Expired);
        is_away
            && (self.rates.errors_per_second > 0.0 || self.endpoint.is_resident() && has_nothing)
    }

    /// Whether it is refreshed without a request.
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
