//! How much one caller may take in a span of time: the generic cell rate algorithm (GCRA; ITU-T I.371), whose
//! whole state is one moment. A caller that was quiet may take its quota at once, and then as much as flows
//! back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::{Limit, Quota};

/// What a caller may take, and has taken. Without a quota, nothing is counted.
#[derive(Debug)]
pub struct Limits {
    /// Of requests.
    pub requests: Option<Limiter>,
    /// Of loads that its requests cause.
    pub loads: Option<Limiter>,
}

/// A quota, and what is left of it.
#[derive(Debug)]
pub struct Limiter {
    quota: Quota,
    began: Instant,
    /// When the whole quota is available again: nanoseconds since `began`.
    full_at: AtomicU64,
}

/// The quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// The quota.
    pub quota: Quota,
    /// How long until one more may be taken.
    pub retry_after: Duration,
}

impl Limits {
    /// Nothing has been taken yet.
    pub fn new(limit: &Limit) -> Self {
        let limiter = |quota: &Option<Quota>| quota.map(Limiter::new);
        Self {
            requests: limiter(&limit.requests),
            loads: limiter(&limit.loads),
        }
    }
}

impl Limiter {
    fn new(quota: Quota) -> Self {
        Self {
            quota,
            began: Instant::now(),
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn take(&self, now: Instant) -> Result<(), Exceeded> {
        let now = nanoseconds(now.saturating_duration_since(self.began));
        let window = nanoseconds(self.quota.window);
        let each = window / u64::from(self.quota.amount.get());
        let taken = |full_at: u64| full_at.max(now).saturating_add(each);
        let take = |full_at| Some(taken(full_at)).filter(|then| then - now <= window);
        let took = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        match took {
            Ok(_) => Ok(()),
            Err(full_at) => Err(Exceeded {
                quota: self.quota,
                retry_after: Duration::from_nanos(taken(full_at) - now - window),
            }),
        }
    }
}

/// Exact for some 500 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn limiter(amount: u32, seconds: u64) -> Limiter {
        Limiter::new(Quota {
            amount: NonZeroU32::new(amount).unwrap(),
            window: Duration::from_secs(seconds),
        })
    }

    /// How many of many attempts succeed.
    fn take_all(limiter: &Limiter, now: Instant) -> usize {
        (0..1_000).filter(|_| limiter.take(now).is_ok()).count()
    }

    #[test]
    fn a_quota_may_be_taken_at_once_and_flows_back_evenly() {
        let limiter = limiter(60, 60);
        let start = limiter.began;
        assert_eq!(take_all(&limiter, start), 60);
        let exceeded = limiter.take(start).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_secs(1));
        assert_eq!(take_all(&limiter, start + Duration::from_millis(999)), 0);
        assert_eq!(take_all(&limiter, start + Duration::from_secs(1)), 1);
        assert_eq!(take_all(&limiter, start + Duration::from_secs(31)), 30);
        let hour = Duration::from_secs(3_600);
        assert_eq!(take_all(&limiter, start + hour), 60, "no more than once");
    }

    #[test]
    fn a_caller_is_admitted_when_retry_after_says_and_not_earlier() {
        for (amount, seconds) in [(1, 1), (3, 1), (7, 60), (1_000_000, 1)] {
            let limiter = limiter(amount, seconds);
            let start = limiter.began;
            while limiter.take(start).is_ok() {}
            let wait = limiter.take(start).unwrap_err().retry_after;
            assert!(
                limiter
                    .take(start + wait - Duration::from_nanos(1))
                    .is_err()
            );
            assert_eq!(limiter.take(start + wait), Ok(()));
        }
    }

    proptest! {
        /// GCRA admits at most the quota at once, and at most once more in each window that follows.
        #[test]
        fn no_window_has_more_than_twice_the_quota_and_the_rate_holds(
            amount in 1..50_u32,
            waits in prop::collection::vec(0..200_u64, 1..500),
        ) {
            let limiter = limiter(amount, 1);
            let mut now = limiter.began;
            let mut admitted = 0;
            for wait in waits {
                now += Duration::from_millis(wait);
                admitted += u64::from(limiter.take(now).is_ok());
                let elapsed = (now - limiter.began).as_secs_f64();
                let most = f64::from(amount) * (1.0 + elapsed);
                prop_assert!(admitted as f64 <= most + 0.001, "{admitted} > {most}");
            }
        }
    }
}
