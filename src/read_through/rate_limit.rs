//! How many loads a second clients may cause: a token bucket over all endpoints, one second deep. Keys
//! that clients use come first, and new ones have what those leave: half of it at most stands ready for
//! new ones at once, so that a client that invents keys cannot keep others from being loaded again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::UNPOISONED;
use super::turns::Class;

/// The longest that a load of a key in use waits until it may begin: then there are more keys in use than
/// may be loaded.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

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
    /// Below zero are those that wait to begin.
    loads: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        let reserve = f64::from(per_second / 2);
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

    /// Takes one load, and says how long it has to wait until it may begin: no longer than `patience`.
    /// Otherwise how long until there is one.
    pub(super) fn take(&self, class: Class, patience: Duration) -> Result<Duration, Duration> {
        let (kept, patience) = match class {
            Class::New => (self.reserve, Duration::ZERO),
            Class::Known => (0.0, patience.min(WAIT_MAX)),
            Class::Schedules => return Ok(Duration::ZERO),
        };
        let mut left = self.left.lock().expect(UNPOISONED);
        let now = Instant::now();
        let gained = now.saturating_duration_since(left.at).as_secs_f64() * self.per_second;
        left.loads = (left.loads + gained).min(self.per_second);
        left.at = now;
        let missing = kept + 1.0 - left.loads;
        let wait = Duration::from_secs_f64(missing.max(0.0) / self.per_second);
        if wait > patience {
            return Err(wait);
        }
        left.loads -= 1.0;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a class may begin now.
    fn taken(budget: &Budget, class: Class) -> usize {
        let begins = |_: &_| budget.take(class, Duration::ZERO).is_ok();
        (0..100).filter(begins).count()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_loads_than_allowed_come_through_in_any_second() {
        let budget = Budget::new(10);
        assert_eq!(taken(&budget, Class::Known), 10);
        let wait = budget.take(Class::Known, Duration::ZERO).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        tokio::time::advance(Duration::from_millis(501)).await;
        assert_eq!(taken(&budget, Class::Known), 5);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(
            taken(&budget, Class::Known),
            10,
            "what was not used is not saved up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn new_keys_leave_half_to_those_in_use() {
        let budget = Budget::new(10);
        assert_eq!(taken(&budget, Class::New), 5);
        assert_eq!(taken(&budget, Class::Known), 5);
        tokio::time::advance(Duration::from_millis(501)).await;
        assert_eq!(taken(&budget, Class::New), 0, "the reserve is filled first");
        let single = Budget::new(1);
        assert_eq!(taken(&single, Class::New), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_in_use_wait_for_the_next_load_and_new_ones_for_what_they_leave() {
        let budget = Budget::new(2);
        let known = || budget.take(Class::Known, Duration::MAX);
        assert_eq!((known(), known()), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        let half = Duration::from_millis(500);
        assert_eq!((known(), known()), (Ok(half), Ok(half * 2)));
        assert_eq!(known(), Err(half * 3), "nobody waits for so long");
        for _ in 0..4 {
            assert_eq!(taken(&budget, Class::New), 0);
            tokio::time::advance(half).await;
        }
        assert_eq!(known(), Ok(Duration::ZERO));
    }
}
