//! How long the machine has slept: the difference between Linux's two monotonic clocks, of which one
//! includes sleep.

use std::time::Duration;

/// Compares the clocks.
#[derive(Debug)]
pub(super) struct Sleep {
    /// The difference at the start, which is sleep from before.
    before: Duration,
}

impl Sleep {
    /// Starts to count.
    pub(super) fn start() -> Self {
        // The order matters if this thread is preempted in between: the total is never too large.
        let awake = clocks::awake();
        let before = clocks::always().saturating_sub(awake);
        Self { before }
    }

    /// How long the machine has slept since the start.
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

    /// The clock of [`std::time::Instant`].
    pub(super) fn awake() -> Duration {
        read(ClockId::CLOCK_MONOTONIC)
    }

    pub(super) fn always() -> Duration {
        read(ClockId::CLOCK_BOOTTIME)
    }

    fn read(clock: ClockId) -> Duration {
        // Linux has had both since 2.6.39; without them, sleep goes unnoticed.
        clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
    }
}

/// Sleep goes unnoticed.
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
    fn a_machine_that_runs_this_test_has_not_slept() {
        let sleep = Sleep::start();
        for _ in 0..10_000 {
            assert_eq!(sleep.total(), Duration::ZERO);
        }
    }
}
