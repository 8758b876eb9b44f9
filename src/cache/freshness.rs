//! Whether an entry may be served: a pure function of its age and its limits, after RFC 9111 and
//! RFC 5861.

use std::time::Duration;

use crate::plan::Lifetime;

/// How an entry may be used at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Served.
    Fresh,
    /// Served at once, while a load runs in the background.
    Stale,
    /// Served if loading fails.
    StaleIfError,
    /// Not served.
    Expired,
}

impl Freshness {
    /// Of an entry of this age with these limits. Each limit belongs to the time before it.
    pub fn of(age: Duration, lifetime: &Lifetime) -> Self {
        if age <= lifetime.fresh {
            Self::Fresh
        } else if age <= lifetime.stale_while_revalidate {
            Self::Stale
        } else if age <= lifetime.stale_if_error {
            Self::StaleIfError
        } else {
            Self::Expired
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FreshnessPolicy;

    /// `max_age` 10 s, then the two windows, each counted from there.
    fn lifetime(while_revalidate: u64, if_error: u64) -> Lifetime {
        FreshnessPolicy {
            max_age: Some(Duration::from_secs(10)),
            stale_while_revalidate: Duration::from_secs(while_revalidate),
            stale_if_error: Duration::from_secs(if_error),
        }
        .lifetime(None, Duration::from_secs(30))
    }

    fn check(lifetime: &Lifetime, expect: &[(u64, Freshness)]) {
        for (seconds, freshness) in expect {
            let age = Duration::from_secs(*seconds);
            assert_eq!(Freshness::of(age, lifetime), *freshness, "at {seconds} s");
        }
    }

    #[test]
    fn an_entry_is_fresh_then_stale_then_a_resort_then_expired() {
        use Freshness::{Expired, Fresh, Stale, StaleIfError};
        check(
            &lifetime(60, 3600),
            &[
                (0, Fresh),
                (10, Fresh),
                (11, Stale),
                (70, Stale),
                (71, StaleIfError),
                (3610, StaleIfError),
                (3611, Expired),
            ],
        );
    }

    #[test]
    fn a_window_of_zero_is_never_open() {
        use Freshness::{Expired, Fresh, Stale, StaleIfError};
        check(&lifetime(0, 0), &[(10, Fresh), (11, Expired)]);
        check(
            &lifetime(0, 60),
            &[(10, Fresh), (11, StaleIfError), (71, Expired)],
        );
        check(&lifetime(60, 0), &[(11, Stale), (70, Stale), (71, Expired)]);
    }

    #[test]
    fn on_a_schedule_an_entry_is_fresh_until_its_refresh_must_have_ended() {
        let policy = FreshnessPolicy {
            max_age: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        };
        let lifetime = policy.lifetime(Some(Duration::from_secs(5)), Duration::from_secs(30));
        assert_eq!(lifetime.advertised, Duration::from_secs(5));
        check(
            &lifetime,
            &[
                (5, Freshness::Fresh),
                (35, Freshness::Fresh),
                (36, Freshness::Expired),
            ],
        );
    }
}
