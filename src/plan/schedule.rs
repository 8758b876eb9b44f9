//! When an endpoint is loaded again without being asked. Says when; what happens then is not known here.

use std::time::Duration;

use super::CronLine;

/// `refresh = { … }`: any of these, together, save that `every` excludes `probe`.
#[derive(Debug, Clone, Default)]
pub struct Refresh {
    /// The time between loads.
    pub every: Option<Duration>,
    /// The wall-clock times of loads.
    pub cron: Option<CronLine>,
    /// What is asked whether there is anything new; its own `every` is shorter than the endpoint's
    /// `max_age`.
    pub probe: Option<ProbeId>,
    /// The channel on which Postgres says that there is something new, exactly as `pg_notify` names
    /// it: 1 to 63 bytes, upper and lower case kept apart.
    pub notify: Option<String>,
    /// Whether keys in use are loaded again before they go stale. Only with parameters.
    pub ahead: bool,
}

impl Refresh {
    /// Whether anything is scheduled.
    pub fn is_scheduled(&self) -> bool {
        self.every.is_some() || self.cron.is_some()
    }

    /// Whether anything says when there is something new: data then change between the runs of a
    /// schedule.
    pub fn is_told(&self) -> bool {
        self.probe.is_some() || self.notify.is_some()
    }
}

/// A probe's place in the plan: small, `Copy`, and an index into per-probe tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(u32);

impl ProbeId {
    /// The probe at `index` in [`super::Plan::probes`].
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("a plan holds fewer than 2^32 probes"))
    }

    /// The index into tables that hold one element per probe.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A burst of notifications on a channel is one change, and the next is taken this much later: what a
/// channel can cause is bounded, however often it is notified.
pub const NOTIFIED_EVERY: Duration = Duration::from_millis(250);

/// A question whose answer changes when an endpoint's does. Endpoints that ask the same as often
/// share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its place in the plan.
    pub id: ProbeId,
    /// One statement without parameters, `;` or trailing comment.
    pub sql: String,
    /// The time between two askings; at least 100 ms.
    pub every: Duration,
}
