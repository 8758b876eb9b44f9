//! How long the machine has slept. Of Linux's two steady clocks one goes on while it does.

use std::time::Duration;

/// Looks at the clocks.
#[derive(Debug)]
pub(super) struct Sleep {
    /// How far one clock was ahead of the other at first: sleeps before that are nobody's.
    before: Duration,
}

impl Sleep {
    /// Begins to watch.
    pub(super) fn watch() -> Self {
        // Which of them is read first matters where this thread is set aside in between: what was slept
        // is never taken for more than it was.
        let awake = clocks::awake();
        let before = clocks::always().saturating_sub(awake);
        Self { before }
    }

    /// How long it has slept since, all in all.
    pub(super) fn total(&self) -> Duration {
        let always = clocks::always();
        let ahead = always.saturating_sub(clocks::awake());
        ahead.saturating_sub(self.before)
    }
}

#[cfg(target_os = "linux")]
mod clocks {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    /// As [`std::time::Instant`] goes.
    pub(super) fn awake() -> Duration {
        read(ClockId::CLOCK_MONOTONIC)
    }

    pub(super) fn always() -> Duration {
        read(ClockId::CLOCK_BOOTTIME)
    }

    fn read(clock: ClockId) -> Duration {
        // Both are there since Linux 2.6.39; without them nothing is known of a sleep.
        clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
    }
}

/// Nothing is known of a sleep.
#[cfg(not(target_os = "linux"))]
mod clocks {
    use std::time::Duration;

    pub(super) fn awake() -> Duration {
        Duration::ZERO
    }

    pub(super) fn always() -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_this_has_not_slept() {
        let sleep = Sleep::watch();
        for _ in 0..10_000 {
            assert_eq!(sleep.total(), Duration::ZERO);
        }
    }
}
