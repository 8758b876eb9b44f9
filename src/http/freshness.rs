//! How old an answer is and how long it may be kept, as HTTP says it: `Cache-Control` (RFC 9111, RFC
//! 5861), `Age`, `Cache-Status` (RFC 9211). All in whole seconds.

use std::time::Duration;

use crate::observe::CacheStatus;
use crate::plan::{CacheControl, Lifetime};

/// `Cache-Control` of an answer of this age: what is left of each limit, so that a cache in front can
/// not serve it beyond the endpoint's own limits.
///
/// What is left is rounded down, and the last second of all is not given away: nginx counts whole
/// seconds of its clock, and so keeps an answer for up to a second longer than it is told.
///
/// Where it `renews` what a cache has, there is a second left at least: see [`can_renew`].
pub(super) fn cache_control(
    stored: CacheControl,
    age: Duration,
    lifetime: &Lifetime,
    renews: bool,
) -> String {
    let word = stored.as_str();
    if stored == CacheControl::NoStore {
        return word.to_owned();
    }
    let advertised = left(lifetime.advertised, age).max(u64::from(renews));
    let max_age = advertised.min(left_in_all(now_limited_to(lifetime, age), age));
    // Both windows are counted from the end of `max-age`: RFC 5861, 3 and 4.
    let window = |limit| left_in_all(limit, age).saturating_sub(max_age);
    let while_revalidate = window(lifetime.stale_while_revalidate);
    let if_error = window(lifetime.limit());
    format!(
        "{word}, max-age={max_age}, stale-while-revalidate={while_revalidate}, stale-if-error={if_error}"
    )
}

/// Whether a 304 may be given for an answer of this age. nginx takes one without anything left in its
/// `max-age` as leave to begin the stored answer's time anew, all windows included, so it is given a
/// second; where there is none, the whole answer is sent.
pub(super) fn can_renew(age: Duration, lifetime: &Lifetime) -> bool {
    left_in_all(now_limited_to(lifetime, age), age) > 0
}

/// How long an answer of this age may be served as things are: to the end of `stale_while_revalidate`,
/// unless it is older, which it can only be while loading fails.
fn now_limited_to(lifetime: &Lifetime, age: Duration) -> Duration {
    if age <= lifetime.stale_while_revalidate {
        lifetime.stale_while_revalidate
    } else {
        lifetime.limit()
    }
}

/// In whole seconds.
fn left(limit: Duration, age: Duration) -> u64 {
    limit.saturating_sub(age).as_secs()
}

fn left_in_all(limit: Duration, age: Duration) -> u64 {
    left(limit, age).saturating_sub(1)
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
            // None, where it went stale before its time because the data changed.
            let sign = if beyond.is_zero() { "" } else { "-" };
            let ttl = beyond.as_secs() + u64::from(beyond.subsec_nanos() > 0);
            format!("larder; hit; ttl={sign}{ttl}; detail=stale")
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
                lifetime,
                false
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
            "public, max-age=10, stale-while-revalidate=59, stale-if-error=3599",
        );
        check(
            2_500,
            &lifetime,
            "public, max-age=7, stale-while-revalidate=59, stale-if-error=3599",
        );
        check(
            12_000,
            &lifetime,
            "public, max-age=0, stale-while-revalidate=57, stale-if-error=3597",
        );
        check(
            90_000,
            &lifetime,
            "public, max-age=0, stale-while-revalidate=0, stale-if-error=3519",
        );
        check(
            9_000_000,
            &lifetime,
            "public, max-age=0, stale-while-revalidate=0, stale-if-error=0",
        );
    }

    #[test]
    fn a_cache_in_front_never_gets_beyond_a_limit() {
        for renews in [false, true] {
            never_beyond(&lifetime(3, 5, 11), renews);
            never_beyond(&lifetime(3, 0, 0), renews);
        }
    }

    fn never_beyond(lifetime: &Lifetime, renews: bool) {
        // What a cache adds that counts whole seconds.
        let rounding = Duration::from_secs(1);
        for age_ms in (0..15_000).step_by(130) {
            let age = Duration::from_millis(age_ms);
            let text = cache_control(CacheControl::Public, age, lifetime, renews);
            let field = |name: &str| -> Duration {
                let (_, value) = text
                    .split(", ")
                    .find_map(|f| f.split_once('=').filter(|(n, _)| *n == name))
                    .unwrap();
                Duration::from_secs(value.parse().unwrap())
            };
            let max_age = field("max-age");
            assert!(
                max_age.as_secs() <= u64::from(renews) || age + max_age <= lifetime.advertised,
                "{text}"
            );
            let limit = now_limited_to(lifetime, age);
            assert!(
                max_age.is_zero() || age + max_age + rounding <= limit,
                "{text} at {age:?}"
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
                    window.is_zero() || age + max_age + window + rounding <= limit,
                    "{text} at {age:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_renewed_has_a_second_left() {
        let lifetime = lifetime(2, 2, 6);
        for age_ms in (0..10_000).step_by(130) {
            let age = Duration::from_millis(age_ms);
            if can_renew(age, &lifetime) {
                let text = cache_control(CacheControl::Public, age, &lifetime, true);
                assert!(!text.contains("max-age=0"), "{text} at {age:?}");
            } else {
                assert!(
                    (2_000..=4_000).contains(&age_ms) || age_ms > 6_000,
                    "{age:?}"
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
        assert_eq!(
            status(CacheStatus::Stale, 2_500),
            "larder; hit; ttl=0; detail=stale"
        );
        assert_eq!(status(CacheStatus::Miss, 0), "larder; fwd=miss; stored");
        assert_eq!(
            status(CacheStatus::Coalesced, 0),
            "larder; fwd=miss; collapsed"
        );
    }
}
