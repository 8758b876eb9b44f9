//! How values are written in the JSON of the status page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub(super) fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("keys are strings, and writing to memory does not fail")
}

/// Rounds to a millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

pub(super) fn timestamp(at: SystemTime) -> f64 {
    seconds(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Rounds to four significant digits: more are noise, and take bytes.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let shift = 3 - value.abs().log10().floor() as i32;
    // Positive powers of ten are exact, so that 0.3 stays 0.3.
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
    fn values_are_rounded_to_four_digits() {
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
