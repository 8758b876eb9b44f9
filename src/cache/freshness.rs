//! Whether an entry may be served: a pure function of its age, its limits and its endpoint's version,
//! after RFC 9111 and RFC 5861.

use std::time::Duration;

use tokio::time::Instant;

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
    /// The freshness of an entry of this age with these limits. The moment of a limit is still within it. An
    /// entry that is not of the current generation is never fresh; its other limits hold.
    pub fn of(age: Duration, lifetime: &Lifetime, is_current: bool) -> Self {
        if age <= lifetime.fresh && is_current {
            Self::Fresh
        } else if age <= lifetime.stale_while_revalidate
            && lifetime.stale_while_revalidate > lifetime.fresh
        {
            Self::Stale
        } else if age <= lifetime.stale_if_error && lifetime.stale_if_error > lifetime.fresh {
            Self::StaleIfError
        } else {
            Self::Expired
        }
    }
}

/// What is known of the data behind an endpoint, and applies to all its entries.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndpointVersion {
    /// Incremented when the data have changed: an entry whose query began under an older generation may
    /// hold the old data.
    pub generation: u64,
    /// When the data were last validated.
    pub validated: Option<Validated>,
}

/// A probe found that the data did not change between these two moments.
#[derive(Debug, Clone, Copy)]
pub struct Validated {
    /// When the first of its equal answers in a row had arrived.
    pub since: Instant,
    /// When it was run for the last of them.
    pub until: Instant,
}

impl EndpointVersion {
    /// The last moment as of which an entry is known to be current. An entry whose query began after an
    /// answer of the probe had arrived, and under the current generation, holds what the probe saw, and
    /// stays current until that answer changes.
    pub fn as_of(&self, began: Instant, generation: u64) -> Instant {
        match self.validated {
            Some(validated) if generation == self.generation && began >= validated.since => {
                began.max(validated.until)
            }
            _ => began,
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
            assert_eq!(
                Freshness::of(age, lifetime, true),
                *freshness,
                "at {seconds} s"
            );
        }
    }

    #[test]
    fn an_entry_is_fresh_then_stale_then_stale_if_error_then_expired() {
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
    fn an_invalidated_entry_is_never_fresh_and_its_other_limits_hold() {
        let of = |lifetime: &Lifetime, seconds| {
            Freshness::of(Duration::from_secs(seconds), lifetime, false)
        };
        assert_eq!(of(&lifetime(60, 3600), 0), Freshness::Stale);
        assert_eq!(of(&lifetime(60, 3600), 70), Freshness::Stale);
        assert_eq!(of(&lifetime(60, 3600), 71), Freshness::StaleIfError);
        assert_eq!(of(&lifetime(60, 3600), 3611), Freshness::Expired);
        assert_eq!(of(&lifetime(0, 60), 0), Freshness::StaleIfError);
        assert_eq!(of(&lifetime(0, 0), 0), Freshness::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_keeps_young_what_was_loaded_after_its_first_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let version = EndpointVersion {
            generation: 7,
            validated: Some(Validated {
                since: at(10),
                until: at(50),
            }),
        };
        assert_eq!(version.as_of(at(10), 7), at(50));
        assert_eq!(version.as_of(at(60), 7), at(60), "younger than the probe");
        assert_eq!(
            version.as_of(at(9), 7),
            at(9),
            "it may have missed a change"
        );
        assert_eq!(version.as_of(at(20), 6), at(20), "of another generation");
    }

    #[test]
    fn a_window_of_zero_does_not_exist() {
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
