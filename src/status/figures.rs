//! Counters at two moments as rates, ratios and means of the time between.

use serde::Serialize;

use crate::metrics::EndpointReadings;

/// What requests were like in a stretch of time. Ratios and means are of what there was, and none
/// where there was nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    /// As the dashboards have it: answers from memory among those that went by the cache.
    pub(super) hit_ratio: Option<f64>,
    pub(super) stale_ratio: Option<f64>,
    /// The mean.
    pub(super) request_duration_seconds: Option<f64>,
    pub(super) queries_per_second: f64,
    pub(super) repository_seconds_saved_per_second: f64,
}

impl Figures {
    /// Of what was counted from `before` until `now`, so many seconds later.
    pub(super) fn between(before: &EndpointReadings, now: &EndpointReadings, seconds: f64) -> Self {
        // Counters are read one after the other while they grow, so a sum may be ahead of its parts.
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

/// All endpoints' counters together.
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

/// To four significant digits: more are noise, and bytes.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let shift = 3 - value.abs().log10().floor() as i32;
    // Powers of ten are exact this way round, so that 0.3 stays 0.3.
    if shift >= 0 {
        let scale = 10_f64.powi(shift);
        (value * scale).round() / scale
    } else {
        let scale = 10_f64.powi(-shift);
        (value / scale).round() * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_and_ratios_of_what_there_was() {
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
        let figures = Figures::between(&before, &now, 10.0);
        assert_eq!(figures.requests_per_second, 2.0);
        assert_eq!(figures.errors_per_second, 0.1);
        assert_eq!(figures.hit_ratio, Some(0.8));
        assert_eq!(figures.stale_ratio, Some(0.2));
        assert_eq!(figures.request_duration_seconds, Some(0.1));
        assert_eq!(figures.queries_per_second, 0.3);
        assert_eq!(figures.repository_seconds_saved_per_second, 0.5);

        let nothing = Figures::between(&now, &now, 10.0);
        assert_eq!(nothing.requests_per_second, 0.0);
        assert_eq!(nothing.hit_ratio, None);
        assert_eq!(nothing.request_duration_seconds, None);
        let no_time = Figures::between(&before, &now, 0.0);
        assert_eq!(no_time.requests_per_second, 0.0);
    }

    #[test]
    fn four_digits_are_kept() {
        for (value, kept) in [
            (0.0, 0.0),
            (0.3, 0.3),
            (1.0 / 3.0, 0.3333),
            (123_456.7, 123_500.0),
            (0.000_043_219_9, 0.000_043_22),
            (-2.000_04, -2.0),
            (f64::NAN, 0.0),
        ] {
            assert_eq!(rounded(value), kept, "{value}");
        }
    }
}
