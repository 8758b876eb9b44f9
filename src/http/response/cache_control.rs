//! How old a response is and how long it may be stored: `Cache-Control` (RFC 9111, RFC 5861) and `Cache-Status`
//! (RFC 9211), in whole seconds.

use std::time::Duration;

use warp::http::StatusCode;

use super::header_writer::HeaderWriter;
use crate::observe::CacheStatus;
use crate::plan::{CacheControl, Lifetime};

/// Writes `Cache-Control` for a response of this age: what is left of each limit, so that a cache in front
/// cannot serve it beyond the endpoint's own limits.
///
/// What is left is rounded down, and the very last second is withheld: nginx counts whole seconds of its
/// clock, and so keeps a response for up to a second longer than it may.
///
/// A 304, which renews a stored response, has at least a second left: see [`can_renew`]. Nothing may be stored
/// for longer than `valid_for`, for which the caller's credential is valid.
pub(super) fn cache_control(
    writer: &mut HeaderWriter,
    directive: CacheControl,
    age: Duration,
    lifetime: &Lifetime,
    status: StatusCode,
    valid_for: Duration,
) {
    writer.text(directive.as_str());
    if directive == CacheControl::NoStore {
        return;
    }
    let least = u64::from(status == StatusCode::NOT_MODIFIED);
    let advertised = left(lifetime.advertised, age).max(least);
    let valid_for = valid_for.as_secs();
    let max_age = advertised.min(left_with_margin(current_limit(lifetime, age), age));
    let max_age = max_age.min(valid_for);
    // Both windows are counted from the end of `max-age`: RFC 5861, 3 and 4.
    let window = |limit| {
        left_with_margin(limit, age)
            .min(valid_for)
            .saturating_sub(max_age)
    };
    let while_revalidate = window(lifetime.stale_while_revalidate);
    let if_error = window(lifetime.limit());
    writer.text(", max-age=").number(max_age);
    writer
        .text(", stale-while-revalidate=")
        .number(while_revalidate);
    writer.text(", stale-if-error=").number(if_error);
}

/// Whether a 304 may be sent at this age. nginx takes a 304 with `max-age=0` as leave to start all of the
/// stored response's windows again, so a 304 has at least a second left. If there is none, the whole
/// response is sent.
pub(in crate::http) fn can_renew(age: Duration, lifetime: &Lifetime, valid_for: Duration) -> bool {
    left_with_margin(current_limit(lifetime, age), age).min(valid_for.as_secs()) > 0
}

/// The age up to which the fields stay the same as at this age. All of them count whole seconds since the
/// query, or to or from a limit.
pub(super) fn unchanged_until(age: Duration, lifetime: &Lifetime) -> Duration {
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
        // Time left is rounded down and time beyond is rounded up: both change just after the moment.
        .map(|limit| (nanos(limit) - nanos(age)).rem_euclid(SECOND) + 1);
    let to_second = SECOND - nanos(age) % SECOND;
    let soonest = to_limits.fold(to_second, i128::min);
    age.saturating_add(Duration::from_nanos(
        soonest.try_into().expect("it is a second at most"),
    ))
}

/// The age up to which a response of this age may be served: the end of `stale_while_revalidate`, unless it
/// is older, which it can only be while loads fail.
fn current_limit(lifetime: &Lifetime, age: Duration) -> Duration {
    if age <= lifetime.stale_while_revalidate {
        lifetime.stale_while_revalidate
    } else {
        lifetime.limit()
    }
}

/// The whole seconds that are left.
fn left(limit: Duration, age: Duration) -> u64 {
    limit.saturating_sub(age).as_secs()
}

/// The same without the last second, which is withheld.
fn left_with_margin(limit: Duration, age: Duration) -> u64 {
    left(limit, age).saturating_sub(1)
}

/// Writes `Cache-Status` for a response of this age.
pub(super) fn cache_status(
    writer: &mut HeaderWriter,
    status: CacheStatus,
    age: Duration,
    lifetime: &Lifetime,
) {
    match status {
        CacheStatus::Hit => {
            let ttl = lifetime.fresh.saturating_sub(age).as_secs();
            writer.text("larder; hit; ttl=").number(ttl);
        }
        CacheStatus::Stale => {
            let beyond = age.saturating_sub(lifetime.fresh);
            // Zero if it is stale because the data changed.
            let sign = if beyond.is_zero() { "" } else { "-" };
            let ttl = beyond.as_secs() + u64::from(beyond.subsec_nanos() > 0);
            writer.text("larder; hit; ttl=").text(sign).number(ttl);
            writer.text("; detail=stale");
        }
        CacheStatus::Miss => {
            writer.text("larder; fwd=miss; stored");
        }
        CacheStatus::Coalesced => {
            writer.text("larder; fwd=miss; collapsed");
        }
        CacheStatus::None => {
            writer.text("larder");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::FreshnessPolicy;

    fn written(write: impl FnOnce(&mut HeaderWriter)) -> String {
        let mut writer = HeaderWriter::with_capacity(0);
        write(&mut writer);
        writer.end().to_str().unwrap().to_owned()
    }

    fn cache_control(age: Duration, lifetime: &Lifetime, status: StatusCode) -> String {
        let directive = CacheControl::Public;
        written(|writer| {
            super::cache_control(writer, directive, age, lifetime, status, Duration::MAX);
        })
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
            cache_control(Duration::from_millis(age_ms), lifetime, StatusCode::OK),
            expect,
            "{age_ms} ms"
        );
    }

    #[test]
    fn the_time_left_shrinks_with_age() {
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
        for status in [StatusCode::OK, StatusCode::NOT_MODIFIED] {
            stays_within(&lifetime(3, 5, 11), status);
            stays_within(&lifetime(3, 0, 0), status);
        }
    }

    fn stays_within(lifetime: &Lifetime, status: StatusCode) {
        let least = u64::from(status == StatusCode::NOT_MODIFIED);
        // What a cache adds that counts whole seconds.
        let rounding = Duration::from_secs(1);
        for age_ms in (0..15_000).step_by(130) {
            let age = Duration::from_millis(age_ms);
            let text = cache_control(age, lifetime, status);
            let field = |name: &str| -> Duration {
                let (_, value) = text
                    .split(", ")
                    .find_map(|f| f.split_once('=').filter(|(n, _)| *n == name))
                    .unwrap();
                Duration::from_secs(value.parse().unwrap())
            };
            let max_age = field("max-age");
            assert!(
                max_age.as_secs() <= least || age + max_age <= lifetime.advertised,
                "{text}"
            );
            let limit = current_limit(lifetime, age);
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
    fn a_304_has_a_second_left() {
        let lifetime = lifetime(2, 2, 6);
        for age_ms in (0..10_000).step_by(130) {
            let age = Duration::from_millis(age_ms);
            if can_renew(age, &lifetime, Duration::MAX) {
                let text = cache_control(age, &lifetime, StatusCode::NOT_MODIFIED);
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
    fn cache_status_names_how_the_request_was_answered() {
        let lifetime = lifetime(10, 60, 0);
        let status = |status, ms| {
            written(|writer| cache_status(writer, status, Duration::from_millis(ms), &lifetime))
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
        fn fields_stay_the_same_until_the_age_that_is_computed(
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
            let until = unchanged_until(age, &lifetime);
            prop_assert!(until > age);
            let later = age + (until - age).mul_f64(part);
            let later = later.min(until - Duration::from_nanos(1));
            let fields = |age: Duration| {
                let control = |status| cache_control(age, &lifetime, status);
                let status = |status| {
                    written(|writer| cache_status(writer, status, age, &lifetime))
                };
                [
                    age.as_secs().to_string(),
                    control(StatusCode::OK),
                    control(StatusCode::NOT_MODIFIED),
                    status(CacheStatus::Hit),
                    status(CacheStatus::Stale),
                ]
            };
            prop_assert_eq!(fields(age), fields(later));
        }
    }
}
