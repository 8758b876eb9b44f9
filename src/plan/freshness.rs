//! How long an answer may be served.

use std::time::Duration;

/// The declared limits on age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshnessPolicy {
    /// How long an entry is fresh. `None` if a schedule decides: see [`FreshnessPolicy::lifetime`].
    ///
    /// An endpoint with a probe or notifications always has one, counted from the load or from the last probe
    /// that found no change. A probe runs more often than this: without a `max_age` in the file, and with an
    /// interval of 10 s or more, this is twice the interval plus the `timeout` of a load, so that an answer
    /// stays fresh even if a probe is missed or slow.
    pub max_age: Option<Duration>,
    /// How long after that an entry is served while a load runs in the background.
    pub stale_while_revalidate: Duration,
    /// How long after `max_age` an entry is served while the repository fails.
    pub stale_if_error: Duration,
}

/// The limits of one entry, each counted from the moment its query began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The end of the `max-age` sent to clients.
    pub advertised: Duration,
    /// The entry is fresh until here; never before `advertised`.
    pub fresh: Duration,
    /// Served at once, with a load in the background, until here.
    pub stale_while_revalidate: Duration,
    /// Served while the repository fails, until here.
    pub stale_if_error: Duration,
}

impl Lifetime {
    /// The age beyond which nothing may serve the entry.
    pub fn limit(&self) -> Duration {
        self.fresh
            .max(self.stale_while_revalidate)
            .max(self.stale_if_error)
    }
}

impl FreshnessPolicy {
    /// The limits of an entry whose query begins now, `until_refresh` before the endpoint's next
    /// scheduled refresh, which may take `timeout`.
    ///
    /// With a schedule and without `max_age`, an entry is fresh until the refresh that replaces it must have
    /// ended, and `max-age` ends when that refresh begins.
    pub fn lifetime(&self, until_refresh: Option<Duration>, timeout: Duration) -> Lifetime {
        let (advertised, fresh) = match (self.max_age, until_refresh) {
            (Some(max_age), _) => (max_age, max_age),
            (None, Some(due)) => (due, due.saturating_add(timeout)),
            (None, None) => (Duration::ZERO, Duration::ZERO),
        };
        Lifetime {
            advertised,
            fresh,
            stale_while_revalidate: fresh.saturating_add(self.stale_while_revalidate),
            stale_if_error: fresh.saturating_add(self.stale_if_error),
        }
    }
}

/// What happens to a request when no entry can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMiss {
    /// It waits for a load, at most `timeout`.
    Load,
    /// It gets a 503 until something else loads an entry.
    Refuse,
}
