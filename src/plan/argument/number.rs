//! Numbers as clients write them: integers, floats, and exact decimals.

use std::cmp::Ordering;
use std::fmt;

use super::parameter_type::NUMERIC_DIGITS_MAX;

/// A whole number in `least..=greatest`: an optional sign, then digits.
pub(super) fn integer(text: &str, least: i64, greatest: i64) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let integer: i64 = text.parse().ok()?;
    (least..=greatest).contains(&integer).then_some(integer)
}

pub(super) fn float4(text: &str) -> Option<f32> {
    let float: f32 = text.parse().ok()?;
    (float.is_finite() || !overflowed(text)).then_some(if float == 0.0 { 0.0 } else { float })
}

pub(super) fn float8(text: &str) -> Option<f64> {
    let float: f64 = text.parse().ok()?;
    (float.is_finite() || !overflowed(text)).then_some(if float == 0.0 { 0.0 } else { float })
}

/// Whether a text that parsed as infinite or NaN has digits, so that it was too large.
fn overflowed(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
}

pub(super) fn float4_text(float: f32) -> String {
    match special(float.into()) {
        Some(word) => word.to_owned(),
        None if is_plain(float.abs().into()) => float.to_string(),
        None => format!("{float:e}"),
    }
}

pub(super) fn float8_text(float: f64) -> String {
    match special(float) {
        Some(word) => word.to_owned(),
        None if is_plain(float.abs()) => float.to_string(),
        None => format!("{float:e}"),
    }
}

fn special(float: f64) -> Option<&'static str> {
    match float {
        f if f.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        0.0 => Some("0"),
        _ => None,
    }
}

/// Whether it is written without an exponent.
fn is_plain(magnitude: f64) -> bool {
    (1e-5..1e16).contains(&magnitude)
}

/// A `numeric`: exact, however many digits it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Numeric {
    NaN,
    NegativeInfinity,
    Infinity,
    Finite {
        /// Never for zero.
        negative: bool,
        /// The digits before the decimal point, without leading zeros.
        whole: String,
        /// The digits after it, without trailing zeros.
        fraction: String,
    },
}

impl Numeric {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if unsigned.eq_ignore_ascii_case("nan") {
            return Some(Self::NaN);
        }
        if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
            return Some(if negative {
                Self::NegativeInfinity
            } else {
                Self::Infinity
            });
        }
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, self::exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let are_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        Self::shifted(negative, whole, fraction, exponent)
    }

    /// `whole.fraction` with its point moved `exponent` digits to the right. `None` beyond
    /// [`NUMERIC_DIGITS_MAX`].
    fn shifted(negative: bool, whole: &str, fraction: &str, exponent: i32) -> Option<Self> {
        let all = format!("{whole}{fraction}");
        let leading = all.len() - all.trim_start_matches('0').len();
        let significant = all.trim_matches('0');
        if significant.is_empty() {
            return Some(Self::Finite {
                negative: false,
                whole: String::new(),
                fraction: String::new(),
            });
        }
        // The position of the point, counted from the first significant digit.
        let offset = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
        let point = offset + i64::from(exponent);
        let digits = i64::try_from(significant.len()).ok()?;
        let length = digits.max(point).max(digits - point);
        if length > i64::try_from(NUMERIC_DIGITS_MAX).ok()? {
            return None;
        }
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
        let (whole, fraction) = if point <= 0 {
            (String::new(), format!("{}{significant}", zeros(-point)))
        } else if point >= digits {
            (
                format!("{significant}{}", zeros(point - digits)),
                String::new(),
            )
        } else {
            let (whole, fraction) = significant.split_at(usize::try_from(point).ok()?);
            (whole.to_owned(), fraction.to_owned())
        };
        Some(Self::Finite {
            negative,
            whole,
            fraction,
        })
    }

    /// The numerical order; `None` for [`Numeric::NaN`].
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        /// -2 for the negative infinity up to 2 for the positive one.
        fn sign(numeric: &Numeric) -> Option<i8> {
            match numeric {
                Numeric::NaN => None,
                Numeric::NegativeInfinity => Some(-2),
                Numeric::Infinity => Some(2),
                Numeric::Finite {
                    whole, fraction, ..
                } if whole.is_empty() && fraction.is_empty() => Some(0),
                Numeric::Finite { negative: true, .. } => Some(-1),
                Numeric::Finite {
                    negative: false, ..
                } => Some(1),
            }
        }
        let by_sign = sign(self)?.cmp(&sign(other)?);
        let (
            Self::Finite {
                negative,
                whole,
                fraction,
            },
            Self::Finite {
                whole: other_whole,
                fraction: other_fraction,
                ..
            },
            Ordering::Equal,
        ) = (self, other, by_sign)
        else {
            return Some(by_sign);
        };
        // Without leading zeros, more digits are a larger number; without trailing zeros, fractions sort as
        // text.
        let by_size =
            (whole.len(), whole, fraction).cmp(&(other_whole.len(), other_whole, other_fraction));
        Some(if *negative {
            by_size.reverse()
        } else {
            by_size
        })
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NaN => f.write_str("NaN"),
            Self::NegativeInfinity => f.write_str("-Infinity"),
            Self::Infinity => f.write_str("Infinity"),
            Self::Finite {
                negative,
                whole,
                fraction,
            } => {
                let sign = if *negative { "-" } else { "" };
                let whole = if whole.is_empty() { "0" } else { whole };
                let point = if fraction.is_empty() { "" } else { "." };
                write!(f, "{sign}{whole}{point}{fraction}")
            }
        }
    }
}

/// An optional sign, then digits. Any that fits, because a long mantissa may offset it.
fn exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let are_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if are_digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numeric(text: &str) -> Option<String> {
        Numeric::parse(text).map(|numeric| numeric.to_string())
    }

    #[test]
    fn integers_are_parsed_within_their_range() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(
                integer(text, i16::MIN.into(), i16::MAX.into()),
                expected,
                "{text}"
            );
        };
        check("7", Some(7));
        check("+007", Some(7));
        check("-0", Some(0));
        check("-32768", Some(-32768));
        check(&format!("{}1", "0".repeat(500)), Some(1));
        for text in [
            "32768", "-32769", "", "+", "-", "1.0", "1e3", " 1", "0x10", "1_000", "٣", "--1",
        ] {
            check(text, None);
        }
        let eight = |text| integer(text, i64::MIN, i64::MAX);
        assert_eq!(eight("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(eight("9223372036854775808"), None);
    }

    #[test]
    fn floats_are_as_short_as_they_can_be() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(float8(text).map(float8_text).as_deref(), expected, "{text}");
        };
        check("1.50", Some("1.5"));
        check("+1e0", Some("1"));
        check("-0.0", Some("0"));
        check(".5", Some("0.5"));
        check("1e300", Some("1e300"));
        check("0.000001", Some("1e-6"));
        check("nan", Some("NaN"));
        check("inf", Some("Infinity"));
        check("-Infinity", Some("-Infinity"));
        for text in ["1e999", "-1e999", "", ".", "1,5", " 1", "0x1", "1f"] {
            check(text, None);
        }
        assert_eq!(float4("0.1").map(float4_text).as_deref(), Some("0.1"));
        assert_eq!(float4("1e39"), None);
    }

    #[test]
    fn numerics_are_exact() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(numeric(text).as_deref(), expected, "{text}");
        };
        check("001.500", Some("1.5"));
        check("-0.00", Some("0"));
        check("1e3", Some("1000"));
        check("1.25E-3", Some("0.00125"));
        check("-123.456e1", Some("-1234.56"));
        check(".5", Some("0.5"));
        check("5.", Some("5"));
        check("0e99999", Some("0"));
        check(
            "12345678901234567890.123456789",
            Some("12345678901234567890.123456789"),
        );
        check("NAN", Some("NaN"));
        check("-inf", Some("-Infinity"));
        for text in [
            "",
            ".",
            "-",
            "e5",
            "1e",
            "1e+",
            "1e1.5",
            "1 ",
            "1e99999999999",
            "1e1001",
            "1e-1001",
        ] {
            check(text, None);
        }
        let nines = "9".repeat(NUMERIC_DIGITS_MAX);
        check(&nines, Some(&nines));
        check(&format!("{nines}9"), None);
        check(&format!("{nines}e1"), None);
        check(
            &format!("0.{}1", "0".repeat(NUMERIC_DIGITS_MAX - 1)),
            Some(&format!("0.{}1", "0".repeat(NUMERIC_DIGITS_MAX - 1))),
        );
    }

    proptest! {
        #[test]
        fn numerics_are_ordered_as_numbers(a in -999_999i64..999_999, b in -999_999i64..999_999, scale in 0i32..6) {
            let text = |n: i64| format!("{n}e-{scale}");
            let (x, y) = (Numeric::parse(&text(a)), Numeric::parse(&text(b)));
            let (x, y) = (x.expect("a number"), y.expect("a number"));
            prop_assert_eq!(x.compare(&y), Some(a.cmp(&b)));
            prop_assert_eq!(x == y, a == b);
        }

        #[test]
        fn numerics_agree_with_floats(text in "[+-]?[0-9]{1,6}(\\.[0-9]{0,6})?(e[+-]?[0-9]{1,2})?") {
            let exact: f64 = numeric(&text).expect("a number").parse().expect("a float");
            let float: f64 = text.parse().expect("a float");
            prop_assert!(exact == float, "{} {}", exact, float);
        }
    }
}
