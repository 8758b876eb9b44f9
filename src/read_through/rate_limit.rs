//! How many loads per second clients may cause: a token bucket for all endpoints, one second deep. Keys
//! that clients use have priority. A cold key has to leave half of the bucket to them, so that a client
//! that invents keys cannot keep others from being loaded again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::concurrency::LoadClass;
use crate::mutex::lock;

/// The longest that a load of a cached key waits for its token. A longer queue means that more keys are
/// in use than may be loaded.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

/// The token bucket.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: f64,
    /// What cold keys must leave.
    reserve: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Negative while loads wait for their token.
    tokens: f64,
    updated: Instant,
}

impl RateLimit {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        let reserve = f64::from(per_second / 2);
        let per_second = f64::from(per_second);
        Self {
            per_second,
            reserve,
            bucket: Mutex::new(Bucket {
                tokens: per_second,
                updated: Instant::now(),
            }),
        }
    }

    /// Takes one token and returns how long to wait before using it, which is at most `max_wait`.
    ///
    /// # Errors
    /// How long until a token is available, where that is longer.
    pub(super) fn take(&self, class: LoadClass, max_wait: Duration) -> Result<Duration, Duration> {
        let (reserve, max_wait) = match class {
            LoadClass::ColdKey => (self.reserve, Duration::ZERO),
            LoadClass::CachedKey => (0.0, max_wait.min(WAIT_MAX)),
            LoadClass::Background => return Ok(Duration::ZERO),
        };
        let mut bucket = lock(&self.bucket);
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(bucket.updated);
        let gained = elapsed.as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + gained).min(self.per_second);
        bucket.updated = now;
        let missing = reserve + 1.0 - bucket.tokens;
        let wait = Duration::from_secs_f64(missing.max(0.0) / self.per_second);
        if wait > max_wait {
            return Err(wait);
        }
        bucket.tokens -= 1.0;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many loads of a class may begin now.
    fn take_all(limit: &RateLimit, class: LoadClass) -> usize {
        let begins = |_: &_| limit.take(class, Duration::ZERO).is_ok();
        (0..100).filter(begins).count()
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_loads_than_allowed() {
        let limit = RateLimit::new(10);
        assert_eq!(take_all(&limit, LoadClass::CachedKey), 10);
        let wait = limit
            .take(LoadClass::CachedKey, Duration::ZERO)
            .unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        tokio::time::advance(Duration::from_millis(501)).await;
        assert_eq!(take_all(&limit, LoadClass::CachedKey), 5);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(
            take_all(&limit, LoadClass::CachedKey),
            10,
            "unused tokens do not accumulate"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn cold_keys_leave_half_to_cached_keys() {
        let limit = RateLimit::new(10);
        assert_eq!(take_all(&limit, LoadClass::ColdKey), 5);
        assert_eq!(take_all(&limit, LoadClass::CachedKey), 5);
        tokio::time::advance(Duration::from_millis(501)).await;
        assert_eq!(
            take_all(&limit, LoadClass::ColdKey),
            0,
            "the reserve is filled first"
        );
        let single = RateLimit::new(1);
        assert_eq!(take_all(&single, LoadClass::ColdKey), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn cached_keys_wait_for_a_token_and_cold_keys_get_what_they_leave() {
        let limit = RateLimit::new(2);
        let cached = || limit.take(LoadClass::CachedKey, Duration::MAX);
        assert_eq!(
            (cached(), cached()),
            (Ok(Duration::ZERO), Ok(Duration::ZERO))
        );
        let half = Duration::from_millis(500);
        assert_eq!((cached(), cached()), (Ok(half), Ok(half * 2)));
        assert_eq!(cached(), Err(half * 3), "longer than WAIT_MAX");
        for _ in 0..4 {
            assert_eq!(take_all(&limit, LoadClass::ColdKey), 0);
            tokio::time::advance(half).await;
        }
        assert_eq!(cached(), Ok(Duration::ZERO));
    }
}
