//! What triggers a refresh of an endpoint.

use std::time::Duration;

use super::CronLine;

/// `refresh = { … }`: any combination of triggers, except `every` with `probe`.
#[derive(Debug, Clone, Default)]
pub struct Refresh {
    /// The interval between loads.
    pub every: Option<Duration>,
    /// The wall-clock times of loads.
    pub cron: Option<CronLine>,
    /// The probe that detects changes. Its interval is shorter than the endpoint's `max_age`.
    pub probe: Option<ProbeId>,
    /// The channel on which Postgres notifies of changes, exactly as given to `pg_notify`: 1 to 63 bytes,
    /// case-sensitive.
    pub notify: Option<String>,
    /// Whether keys in use are refreshed before they go stale. Only with parameters.
    pub ahead: bool,
}

impl Refresh {
    /// Whether a schedule triggers loads.
    pub fn is_scheduled(&self) -> bool {
        self.every.is_some() || self.cron.is_some()
    }

    /// Whether the schedules are the same.
    pub fn has_schedule_of(&self, other: &Self) -> bool {
        self.every == other.every && self.cron == other.cron
    }

    /// Whether a probe or notifications trigger loads when data changes.
    pub fn follows_changes(&self) -> bool {
        self.probe.is_some() || self.notify.is_some()
    }
}

/// A probe's number: small and `Copy`. In all plans of a process it stands for the same query and interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(u32);

impl ProbeId {
    /// The id with this number.
    pub fn new(number: usize) -> Self {
        Self(u32::try_from(number).expect("a process has fewer than 2^32 probes"))
    }

    /// The number. In the first plan it is the place in [`super::Plan::probes`].
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

/// The shortest time between two changes on a channel. A burst of notifications counts as one change, so
/// that the load that a channel can cause is bounded.
pub const NOTIFIED_EVERY: Duration = Duration::from_millis(250);

/// A query whose result changes when an endpoint's does. Endpoints with the same query and interval share
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its number.
    pub id: ProbeId,
    /// One statement without parameters, `;` or trailing comment.
    pub sql: String,
    /// The interval between two runs, at least 100 ms.
    pub every: Duration,
}

impl Probe {
    /// Whether it is the same query at the same interval.
    pub fn is_like(&self, other: &Self) -> bool {
        self.every == other.every && self.sql.trim_start() == other.sql.trim_start()
    }
}
