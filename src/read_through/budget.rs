//! How many loads a second clients may cause: a token bucket over all endpoints, one second deep. A
//! part of it is kept for keys that are in the cache: whoever asks for ever new ones can not keep them
//! from being loaded again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::UNPOISONED;
use super::turns::Class;

/// The loads clients may still cause.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: f64,
    /// What new keys must leave.
    reserve: f64,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    loads: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        let reserve = f64::from(per_second / 4);
        let per_second = f64::from(per_second);
        Self {
            per_second,
            reserve,
            left: Mutex::new(Left {
                loads: per_second,
                at: Instant::now(),
            }),
        }
    }

    /// Takes one load, or says how long until there is one.
    pub(super) fn take(&self, class: Class) -> Result<(), Duration> {
        let kept = match class {
            Class::New => self.reserve,
            Class::Known => 0.0,
            Class::Schedules => return Ok(()),
        };
        let mut left = self.left.lock().expect(UNPOISONED);
        let now = Instant::now();
        let gained = now.saturating_duration_since(left.at).as_secs_f64() * self.per_second;
        left.loads = (left.loads + gained).min(self.per_second);
        left.at = now;
        let missing = kept + 1.0 - left.loads;
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / self.per_second));
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
        let taken = || {
            (0..100)
                .filter(|_| budget.take(Class::Known).is_ok())
                .count()
        };
        assert_eq!(taken(), 10);
        let wait = budget.take(Class::Known).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        tokio::time::advance(Duration::from_millis(501)).await;
        assert_eq!(taken(), 5);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(), 10, "what was not used is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn new_keys_leave_a_part_to_those_in_the_cache() {
        let budget = Budget::new(10);
        let taken = |class| (0..100).filter(|_| budget.take(class).is_ok()).count();
        assert_eq!(taken(Class::New), 8);
        assert_eq!(taken(Class::Known), 2);
        tokio::time::advance(Duration::from_millis(201)).await;
        assert_eq!(taken(Class::New), 0, "the reserve is filled first");
        let single = Budget::new(1);
        assert!(single.take(Class::New).is_ok());
    }
}
