//! How old an answer is and how long it may be kept, as HTTP says it: `Cache-Control` (RFC 9111, RFC
//! 5861), `Age`, `Cache-Status` (RFC 9211). All in whole seconds.

use std::time::Duration;

use super::lines::Lines;
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
    lines: &mut Lines,
    stored: CacheControl,
    age: Duration,
    lifetime: &Lifetime,
    renews: bool,
) {
    lines.text(stored.as_str());
    if stored == CacheControl::NoStore {
        return;
    }
    let advertised = left(lifetime.advertised, age).max(u64::from(renews));
    let max_age = advertised.min(left_in_all(now_limited_to(lifetime, age), age));
    // Both windows are counted from the end of `max-age`: RFC 5861, 3 and 4.
    let window = |limit| left_in_all(limit, age).saturating_sub(max_age);
    let while_revalidate = window(lifetime.stale_while_revalidate);
    let if_error = window(lifetime.limit());
    lines.text(", max-age=").number(max_age);
    lines
        .text(", stale-while-revalidate=")
        .number(while_revalidate);
    lines.text(", stale-if-error=").number(if_error);
}

/// Whether a 304 may be given for an answer of this age. nginx takes one without anything left in its
/// `max-age` as leave to begin the stored answer's time anew, all windows included, so it is given a
/// second; where there is none, the whole answer is sent.
pub(super) fn can_renew(age: Duration, lifetime: &Lifetime) -> bool {
    left_in_all(now_limited_to(lifetime, age), age) > 0
}

/// The age from which on an answer says something else than at this one. Everything that is said counts
/// whole seconds from the query, or to or from a limit.
pub(super) fn same_until(age: Duration, lifetime: &Lifetime) -> Duration {
    const SECOND: i128 = 1_000_000_000;
    let limits = [
        lifetime.advertised,
        lifetime.fresh,
        lifetime.stale_while_revalidate,
        lifetime.limit(),
    ];
    let nanos = |duration: Duration| duration.as_nanos().cast_signed();
    let to_limits = limits
        .into_iter()
        // What is left is rounded down and what is beyond is rounded up: they change after the moment.
        .map(|limit| (nanos(limit) - nanos(age)).rem_euclid(SECOND) + 1);
    let to_second = SECOND - nanos(age) % SECOND;
    let soonest = to_limits.fold(to_second, i128::min);
    age.saturating_add(Duration::from_nanos(
        soonest.try_into().expect("it is a second at most"),
    ))
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
pub(super) fn cache_status(
    lines: &mut Lines,
    status: CacheStatus,
    age: Duration,
    lifetime: &Lifetime,
) {
    match status {
        CacheStatus::Hit => {
            let ttl = lifetime.fresh.saturating_sub(age).as_secs();
            lines.text("larder; hit; ttl=").number(ttl);
        }
        CacheStatus::Stale => {
            let beyond = age.saturating_sub(lifetime.fresh);
            // None, where it went stale before its time because the data changed.
            let sign = if beyond.is_zero() { "" } else { "-" };
            let ttl = beyond.as_secs() + u64::from(beyond.subsec_nanos() > 0);
            lines.text("larder; hit; ttl=").text(sign).number(ttl);
            lines.text("; detail=stale");
        }
        CacheStatus::Miss => {
            lines.text("larder; fwd=miss; stored");
        }
        CacheStatus::Coalesced => {
            lines.text("larder; fwd=miss; collapsed");
        }
        CacheStatus::None => {
            lines.text("larder");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::FreshnessPolicy;

    fn written(write: impl FnOnce(&mut Lines)) -> String {
        let mut lines = Lines::with_room(0);
        write(&mut lines);
        lines.end().to_str().unwrap().to_owned()
    }

    fn cache_control(
        stored: CacheControl,
        age: Duration,
        lifetime: &Lifetime,
        renews: bool,
    ) -> String {
        written(|lines| super::cache_control(lines, stored, age, lifetime, renews))
    }

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
        let status = |status, ms| {
            written(|lines| cache_status(lines, status, Duration::from_millis(ms), &lifetime))
        };
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

    proptest! {
        #[test]
        fn an_answer_says_the_same_until_it_is_said_to_change(
            limits in [0_u64..9_000_000, 0..9_000_000, 0..9_000_000],
            age in 0_u64..12_000_000,
            part in 0.0..1.0,
        ) {
            let [fresh, revalidate, error] = limits.map(Duration::from_micros);
            let lifetime = FreshnessPolicy {
                max_age: None,
                stale_while_revalidate: revalidate,
                stale_if_error: error,
            }
            .lifetime(Some(fresh), revalidate / 3);
            let age = Duration::from_micros(age);
            let until = same_until(age, &lifetime);
            prop_assert!(until > age);
            let later = age + (until - age).mul_f64(part);
            let later = later.min(until - Duration::from_nanos(1));
            let said = |age: Duration| {
                let control = |renews| cache_control(CacheControl::Public, age, &lifetime, renews);
                let status = |status| {
                    written(|lines| cache_status(lines, status, age, &lifetime))
                };
                [
                    age.as_secs().to_string(),
                    control(false),
                    control(true),
                    status(CacheStatus::Hit),
                    status(CacheStatus::Stale),
                ]
            };
            prop_assert_eq!(said(age), said(later));
        }
    }
}
