//! How old an answer is and how long it may be kept, as HTTP says it: `Cache-Control` (RFC 9111, RFC
//! 5861), `Age`, `Cache-Status` (RFC 9211). All in whole seconds.

use std::time::Duration;

use crate::observe::CacheStatus;
use crate::plan::{CacheControl, Lifetime};

/// `Cache-Control` of an answer of this age: what is left of each limit, rounded down, so that a cache
/// in front can not serve it beyond the endpoint's own limits.
pub(super) fn cache_control(stored: CacheControl, age: Duration, lifetime: &Lifetime) -> String {
    let word = stored.as_str();
    if stored == CacheControl::NoStore {
        return word.to_owned();
    }
    let left = |limit: Duration| limit.saturating_sub(age).as_secs();
    let max_age = left(lifetime.advertised);
    // Both windows are counted from the end of `max-age`: RFC 5861, 3 and 4.
    let while_revalidate = left(lifetime.stale_while_revalidate).saturating_sub(max_age);
    let if_error = left(lifetime.limit()).saturating_sub(max_age);
    format!(
        "{word}, max-age={max_age}, stale-while-revalidate={while_revalidate}, stale-if-error={if_error}"
    )
}

/// `Cache-Status` of an answer of this age.
pub(super) fn cache_status(status: CacheStatus, age: Duration, lifetime: &Lifetime) -> String {
    match status {
        CacheStatus::Hit => {
            let ttl = lifetime.fresh.saturating_sub(age).as_secs();
            format!("larder; hit; ttl={ttl}")
        }
        CacheStatus::Stale => {
            let beyond = age.saturating_sub(lifetime.fresh);
            let ttl = beyond.as_secs() + u64::from(beyond.subsec_nanos() > 0);
            format!("larder; hit; ttl=-{ttl}; detail=stale")
        }
        CacheStatus::Miss => "larder; fwd=miss; stored".to_owned(),
        CacheStatus::Coalesced => "larder; fwd=miss; collapsed".to_owned(),
        CacheStatus::None => "larder".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FreshnessPolicy;

    fn lifetime(max_age: u64, while_revalidate: u64, if_error: u64) -> Lifetime {
        FreshnessPolicy {
            max_age: Some(Duration::from_secs(max_age)),
            stale_while_revalidate: Duration::from_secs(while_revalidate),
            stale_if_error: Duration::from_secs(if_error),
        }
        .lifetime(None, Duration::ZERO)
    }

    fn check(age_ms: u64, lifetime: &Lifetime, expect: &str) {
        assert_eq!(
            cache_control(
                CacheControl::Public,
                Duration::from_millis(age_ms),
                lifetime
            ),
            expect,
            "{age_ms} ms"
        );
    }

    #[test]
    fn what_is_left_shrinks_with_age() {
        let lifetime = lifetime(10, 60, 3600);
        check(
            0,
            &lifetime,
            "public, max-age=10, stale-while-revalidate=60, stale-if-error=3600",
        );
        check(
            2_500,
            &lifetime,
            "public, max-age=7, stale-while-revalidate=60, stale-if-error=3600",
        );
        check(
            12_000,
            &lifetime,
            "public, max-age=0, stale-while-revalidate=58, stale-if-error=3598",
        );
        check(
            90_000,
            &lifetime,
            "public, max-age=0, stale-while-revalidate=0, stale-if-error=3520",
        );
        check(
            9_000_000,
            &lifetime,
            "public, max-age=0, stale-while-revalidate=0, stale-if-error=0",
        );
    }

    #[test]
    fn a_cache_in_front_never_gets_beyond_a_limit() {
        let lifetime = lifetime(3, 5, 11);
        for age_ms in (0..15_000).step_by(130) {
            let age = Duration::from_millis(age_ms);
            let text = cache_control(CacheControl::Public, age, &lifetime);
            let field = |name: &str| -> Duration {
                let (_, value) = text
                    .split(", ")
                    .find_map(|f| f.split_once('=').filter(|(n, _)| *n == name))
                    .unwrap();
                Duration::from_secs(value.parse().unwrap())
            };
            let max_age = field("max-age");
            assert!(
                max_age.is_zero() || age + max_age <= lifetime.advertised,
                "{text}"
            );
            let windows = [
                (
                    field("stale-while-revalidate"),
                    lifetime.stale_while_revalidate,
                ),
                (field("stale-if-error"), lifetime.limit()),
            ];
            for (window, limit) in windows {
                assert!(
                    window.is_zero() || age + max_age + window <= limit,
                    "{text} at {age:?}"
                );
            }
        }
    }

    #[test]
    fn cache_status_says_how_it_was_answered() {
        let lifetime = lifetime(10, 60, 0);
        let status = |s, ms| cache_status(s, Duration::from_millis(ms), &lifetime);
        assert_eq!(status(CacheStatus::Hit, 2_500), "larder; hit; ttl=7");
        assert_eq!(
            status(CacheStatus::Stale, 12_500),
            "larder; hit; ttl=-3; detail=stale"
        );
        assert_eq!(status(CacheStatus::Miss, 0), "larder; fwd=miss; stored");
        assert_eq!(
            status(CacheStatus::Coalesced, 0),
            "larder; fwd=miss; collapsed"
        );
    }
}
