//! How many loads a second clients may cause: a token bucket over all endpoints, one second deep.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::UNPOISONED;

/// The loads clients may still cause.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: f64,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    loads: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self {
            per_second,
            left: Mutex::new(Left {
                loads: per_second,
                at: Instant::now(),
            }),
        }
    }

    /// Takes one load, or says how long until there is one.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let mut left = self.left.lock().expect(UNPOISONED);
        let now = Instant::now();
        let gained = now.saturating_duration_since(left.at).as_secs_f64() * self.per_second;
        left.loads = (left.loads + gained).min(self.per_second);
        left.at = now;
        if left.loads < 1.0 {
            return Err(Duration::from_secs_f64(
                (1.0 - left.loads) / self.per_second,
            ));
        }
        left.loads -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_loads_than_allowed_come_through_in_any_second() {
        let budget = Budget::new(10);
        let taken = || (0..100).filter(|_| budget.take().is_ok()).count();
        assert_eq!(taken(), 10);
        let wait = budget.take().unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        tokio::time::advance(Duration::from_millis(501)).await;
        assert_eq!(taken(), 5);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(), 10, "what was not used is not saved up");
    }
}
