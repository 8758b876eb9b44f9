//! Rates, ratios and means of a window of time, from the counters at its beginning and at its end.

use serde::Serialize;

use super::json::rounded;
use crate::metrics::EndpointReadings;

/// Rates, ratios and means of a window. A ratio or mean of nothing is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Rates {
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    /// As on the dashboards: the share of answers from memory among those that involved the cache.
    pub(super) hit_ratio: Option<f64>,
    pub(super) stale_ratio: Option<f64>,
    /// The mean.
    pub(super) request_duration_seconds: Option<f64>,
    pub(super) queries_per_second: f64,
    pub(super) repository_seconds_saved_per_second: f64,
}

impl Rates {
    /// From the counters `before` to those `now`, `seconds` later.
    pub(super) fn between(before: &EndpointReadings, now: &EndpointReadings, seconds: f64) -> Self {
        // Counters are read one by one while they grow, so the sums need not agree exactly.
        let more = |of: fn(&EndpointReadings) -> u64| of(now).saturating_sub(of(before)) as f64;
        let (hits, stale) = (more(|r| r.hits), more(|r| r.stale));
        let cached = hits + stale + more(|r| r.misses) + more(|r| r.coalesced);
        let all = cached + more(|r| r.uncached);
        let per_second = |count: f64| rounded(if seconds > 0.0 { count / seconds } else { 0.0 });
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| rounded(part / whole));
        Self {
            requests_per_second: per_second(all),
            errors_per_second: per_second(more(|r| r.errors)),
            hit_ratio: share(hits + stale, cached),
            stale_ratio: share(stale, cached),
            request_duration_seconds: share(now.request_seconds - before.request_seconds, all),
            queries_per_second: per_second(more(|r| r.queries)),
            repository_seconds_saved_per_second: per_second(
                now.seconds_saved - before.seconds_saved,
            ),
        }
    }
}

/// The sums of all endpoints' counters.
pub(super) fn total(readings: &[EndpointReadings]) -> EndpointReadings {
    let mut total = EndpointReadings::default();
    for one in readings {
        total.hits += one.hits;
        total.stale += one.stale;
        total.misses += one.misses;
        total.coalesced += one.coalesced;
        total.uncached += one.uncached;
        total.errors += one.errors;
        total.request_seconds += one.request_seconds;
        total.queries += one.queries;
        total.seconds_saved += one.seconds_saved;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_of_the_window_and_ratios_are_of_its_requests() {
        let before = EndpointReadings {
            hits: 100,
            misses: 5,
            request_seconds: 2.0,
            ..Default::default()
        };
        let now = EndpointReadings {
            hits: 106,
            stale: 2,
            misses: 6,
            coalesced: 1,
            uncached: 10,
            errors: 1,
            request_seconds: 4.0,
            queries: 3,
            seconds_saved: 5.0,
        };
        let rates = Rates::between(&before, &now, 10.0);
        assert_eq!(rates.requests_per_second, 2.0);
        assert_eq!(rates.errors_per_second, 0.1);
        assert_eq!(rates.hit_ratio, Some(0.8));
        assert_eq!(rates.stale_ratio, Some(0.2));
        assert_eq!(rates.request_duration_seconds, Some(0.1));
        assert_eq!(rates.queries_per_second, 0.3);
        assert_eq!(rates.repository_seconds_saved_per_second, 0.5);

        let nothing = Rates::between(&now, &now, 10.0);
        assert_eq!(nothing.requests_per_second, 0.0);
        assert_eq!(nothing.hit_ratio, None);
        assert_eq!(nothing.request_duration_seconds, None);
        let no_time = Rates::between(&before, &now, 0.0);
        assert_eq!(no_time.requests_per_second, 0.0);
    }
}
