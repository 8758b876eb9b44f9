//! The clock that ages and due times are measured by. It includes the time that the machine sleeps,
//! because data age meanwhile; timers and the clock beneath them do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A clock whose moments may only be compared with each other. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// How long the machine has slept since the start, in nanoseconds.
    asleep: Arc<AtomicU64>,
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> Instant {
        Instant::now() + Duration::from_nanos(self.asleep.load(Ordering::Relaxed))
    }

    /// Records how long the machine has slept since the start. Returns whether it slept again.
    pub fn record_sleep(&self, total: Duration) -> bool {
        let total = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        self.asleep.fetch_max(total, Ordering::Relaxed) < total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_includes_sleep_and_never_goes_back() {
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
