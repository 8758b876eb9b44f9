//! When an endpoint is loaded again without being asked.

use std::time::Duration;

/// `refresh = { … }`: any of these, together.
#[derive(Debug, Clone, Default)]
pub struct Refresh {
    /// The time between loads.
    pub every: Option<Duration>,
    /// The wall-clock times of loads.
    pub cron: Option<CronLine>,
}

/// A cron line in its time zone.
#[derive(Debug, Clone)]
pub struct CronLine {}
