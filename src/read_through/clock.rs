//! The clock by which things age and fall due. It goes on while the machine sleeps, as the data do;
//! timers do not, nor does the clock under them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Moments of this clock are compared with each other alone: one that was read before a sleep, and one
/// after it, lie as far apart as they were.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// How long the machine has slept, in nanoseconds.
    asleep: AtomicU64,
}

impl Clock {
    pub(super) fn now(&self) -> Instant {
        Instant::now() + Duration::from_nanos(self.asleep.load(Ordering::Relaxed))
    }

    /// Says how long the machine has slept, all in all; and whether that is news.
    pub(super) fn record_sleep(&self, total: Duration) -> bool {
        let total = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        self.asleep.fetch_max(total, Ordering::Relaxed) < total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_in_a_sleep_and_never_back() {
        let clock = Clock::default();
        let hour = Duration::from_secs(3_600);
        let before = clock.now();
        assert_eq!(before, Instant::now());
        assert!(clock.record_sleep(hour) && !clock.record_sleep(hour));
        assert_eq!(clock.now() - before, hour);
        assert!(!clock.record_sleep(hour / 2));
        tokio::time::advance(hour).await;
        assert_eq!(clock.now() - before, 2 * hour);
    }
}
