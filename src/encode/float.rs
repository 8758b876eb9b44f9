//! Floats in the digits that Postgres chooses: the fewest that parse as the same float, and of those the
//! closest. Unlike other shortest-digit algorithms, Postgres never chooses a decimal exactly between two
//! floats, since parsers disagree about which of them it is. So `1e23` is `9.999999999999999e+22`.
//!
//! The digits come from zmij, which may choose such a decimal if the float's last bit is zero. Exact
//! arithmetic detects this here, and other digits are searched for.

use super::output::integer;

/// The most digits before the point in plain notation: those that a `float4` or `float8` always preserves.
const FLOAT4_WHOLE_DIGITS: i32 = 6;
const FLOAT8_WHOLE_DIGITS: i32 = 15;

/// Smaller fractions are in exponent notation.
const LEAST_PLAIN_EXPONENT: i32 = -4;

/// Appends a `float4`.
pub(super) fn write_f32(out: &mut Vec<u8>, value: f32) {
    let Some(magnitude) = write_sign_or_word(out, value.into()) else {
        return;
    };
    let bits = value.to_bits();
    let exact = Binary::new(
        u64::from(bits & 0x7f_ffff),
        (bits >> 23 & 0xff) as i32,
        23,
        127,
    );
    let mut decimal = Decimal::read(zmij::Buffer::new().format_finite(value.abs()));
    if exact.borders_on(decimal) {
        decimal =
            decimal.away_from_border(magnitude, exact, |text| text.parse() == Ok(value.abs()));
    }
    decimal.write(out, FLOAT4_WHOLE_DIGITS);
}

/// Appends a `float8`.
pub(super) fn write_f64(out: &mut Vec<u8>, value: f64) {
    let Some(magnitude) = write_sign_or_word(out, value) else {
        return;
    };
    let bits = value.to_bits();
    let exact = Binary::new(
        bits & 0xf_ffff_ffff_ffff,
        (bits >> 52 & 0x7ff) as i32,
        52,
        1023,
    );
    let mut decimal = Decimal::read(zmij::Buffer::new().format_finite(magnitude));
    if exact.borders_on(decimal) {
        decimal = decimal.away_from_border(magnitude, exact, |text| text.parse() == Ok(magnitude));
    }
    decimal.write(out, FLOAT8_WHOLE_DIGITS);
}

/// Appends the minus sign, or all of a value that is zero or not a JSON number. Returns the magnitude if it
/// is still to be written.
fn write_sign_or_word(out: &mut Vec<u8>, value: f64) -> Option<f64> {
    if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
        return None;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 {
            b"\"Infinity\""
        } else {
            b"\"-Infinity\""
        });
        return None;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value == 0.0 {
        out.push(b'0');
        return None;
    }
    Some(value.abs())
}

/// A float's exact value, `quarters × 2^exponent`, in quarters of its last bit, so that the middle between it
/// and each neighbour is a whole number.
#[derive(Clone, Copy)]
struct Binary {
    quarters: u64,
    exponent: i32,
    /// The distance to the middle between this and the next smaller float, halved if that has a smaller
    /// exponent.
    down: u64,
}

impl Binary {
    fn new(fraction: u64, biased: i32, fraction_bits: u32, bias: i32) -> Self {
        let is_normal = biased > 0;
        let mantissa = if is_normal {
            fraction | 1 << fraction_bits
        } else {
            fraction
        };
        Self {
            quarters: mantissa * 4,
            exponent: biased.max(1) - bias - fraction_bits as i32 - 2,
            down: if fraction == 0 && biased > 1 { 1 } else { 2 },
        }
    }

    /// Whether the decimal is exactly between this float and a neighbour.
    fn borders_on(self, decimal: Decimal) -> bool {
        // With an odd last bit, parsers that round to even choose the neighbour, so no shortest-digit
        // algorithm returns the border.
        self.quarters & 4 == 0
            && [self.quarters + 2, self.quarters - self.down]
                .into_iter()
                .any(|border| decimal.is_exactly(border, self.exponent))
    }
}

/// `digits × 10^exponent`, greater than zero; the last digit is not zero.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u64,
    exponent: i32,
}

impl Decimal {
    /// Parses a positive number in plain or exponent notation with at most 19 digits, including zeros at
    /// either end.
    fn read(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut exponent = exponent
            .parse::<i32>()
            .expect("a printed float's exponent is small");
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction = fraction.trim_end_matches('0');
        exponent -= fraction.len() as i32;
        let digits = whole.bytes().chain(fraction.bytes());
        let digits = digits.fold(0, |sum: u64, d| sum.wrapping_mul(10) + u64::from(d - b'0'));
        Self { digits, exponent }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.digits.is_multiple_of(10) && self.digits > 0 {
            self.digits /= 10;
            self.exponent += 1;
        }
        self
    }

    /// The same value with trailing zeros up to `length` digits.
    fn in_digits(mut self, length: usize) -> Self {
        while self.length() < length {
            self.digits *= 10;
            self.exponent -= 1;
        }
        self
    }

    fn length(self) -> usize {
        self.digits.ilog10() as usize + 1
    }

    /// Whether `self = other × 2^other_exponent`, of any size: compares the powers of two, then the odd
    /// factors.
    fn is_exactly(self, other: u64, other_exponent: i32) -> bool {
        let twos = self.digits.trailing_zeros() as i32 + self.exponent;
        let other_twos = other.trailing_zeros() as i32 + other_exponent;
        if twos != other_twos {
            return false;
        }
        let odd = u128::from(self.digits >> self.digits.trailing_zeros());
        let other_odd = u128::from(other >> other.trailing_zeros());
        // 5^55 is the largest power that fits; a larger one exceeds any 64-bit factor.
        let Some(fives) = 5_u128.checked_pow(self.exponent.unsigned_abs()) else {
            return false;
        };
        if self.exponent >= 0 {
            odd.checked_mul(fives) == Some(other_odd)
        } else {
            other_odd.checked_mul(fives) == Some(odd)
        }
    }

    /// The shortest decimal strictly between the borders, and of those the closest; `self` is the shortest
    /// that may also lie on one of them.
    ///
    /// Few floats need this, so it prints and parses candidates instead of computing.
    #[cold]
    fn away_from_border(
        self,
        magnitude: f64,
        exact: Binary,
        reads_back: impl Fn(&str) -> bool,
    ) -> Self {
        let inside = |decimal: &Self| {
            !exact.borders_on(decimal.trimmed())
                && reads_back(&format!("{}e{}", decimal.digits, decimal.exponent))
        };
        (self.length()..=17)
            .find_map(|length| {
                let nearest = Self::read(&format!("{magnitude:.*e}", length - 1)).in_digits(length);
                // Below a power of two there is half the room, so the nearest may lie outside and its
                // neighbour inside.
                let above = Self {
                    digits: nearest.digits + 1,
                    ..nearest
                };
                let below = Self {
                    digits: nearest.digits - 1,
                    ..nearest
                };
                let below = if below.digits == 0 || below.length() < length {
                    Self {
                        digits: nearest.digits * 10 - 1,
                        exponent: nearest.exponent - 1,
                    }
                } else {
                    below
                };
                [nearest, above, below].into_iter().find(inside)
            })
            .unwrap_or(self)
            .trimmed()
    }

    /// In plain notation from a ten-thousandth up to `whole_digits` digits before the point, like `%g`.
    fn write(self, out: &mut Vec<u8>, whole_digits: i32) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.digits).as_bytes();
        let scientific = digits.len() as i32 - 1 + self.exponent;
        if !(LEAST_PLAIN_EXPONENT..whole_digits).contains(&scientific) {
            write_with_exponent(out, digits, scientific);
        } else if self.exponent >= 0 {
            out.extend_from_slice(digits);
            out.resize(out.len() + self.exponent as usize, b'0');
        } else if scientific >= 0 {
            let (whole, fraction) = digits.split_at(scientific as usize + 1);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        } else {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + (-scientific - 1) as usize, b'0');
            out.extend_from_slice(digits);
        }
    }
}

/// The exponent has a sign and at least two digits.
fn write_with_exponent(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let (first, rest) = digits.split_at(1);
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    integer(out, exponent.abs());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    fn single(value: f32) -> String {
        let mut out = Vec::new();
        write_f32(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn notation_changes_where_postgres_changes_it() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-100.0, "-100"),
            (0.1, "0.1"),
            (12.5, "12.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.000_012_345, "1.2345e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1_234_567_890_123_456.0, "1.234567890123456e+15"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(double(value), text);
        }
        assert_eq!(single(123_456.0), "123456");
        assert_eq!(single(1e5), "100000");
        assert_eq!(single(1e6), "1e+06");
        assert_eq!(single(1_234_567.0), "1.234567e+06");
        assert_eq!(single(0.1), "0.1");
        assert_eq!(single(f32::from_bits(1)), "1e-45");
    }

    #[test]
    fn values_that_are_no_json_numbers_are_strings() {
        assert_eq!(double(f64::NAN), "\"NaN\"");
        assert_eq!(double(-f64::NAN), "\"NaN\"");
        assert_eq!(double(f64::INFINITY), "\"Infinity\"");
        assert_eq!(single(f32::NEG_INFINITY), "\"-Infinity\"");
    }

    #[test]
    fn a_decimal_between_two_floats_is_not_chosen() {
        assert_eq!(double(1e23), "9.999999999999999e+22");
        assert_eq!(double(-1e23), "-9.999999999999999e+22");
    }

    #[test]
    fn of_two_equally_close_decimals_the_even_one_is_chosen() {
        assert_eq!(double(2_251_799_813_685_249.0 / 4.0), "562949953421312.2");
        assert_eq!(double(2_251_799_813_685_251.0 / 4.0), "562949953421312.8");
    }

    proptest! {
        #[test]
        fn any_double_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(double(value).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn any_single_reads_back(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(single(value).parse::<f32>().unwrap().to_bits(), bits);
        }
    }
}
