//! `numeric` of any size: base-10,000 digits as decimal digits, with all zeros of its scale.

use super::output::{ValueError, integer};

/// Postgres's sign words, including those of NaN and the infinities.
mod sign {
    pub(super) const POSITIVE: u16 = 0x0000;
    pub(super) const NEGATIVE: u16 = 0x4000;
    pub(super) const NAN: u16 = 0xC000;
    pub(super) const INFINITY: u16 = 0xD000;
    pub(super) const NEGATIVE_INFINITY: u16 = 0xF000;
}

/// The most decimal digits that Postgres keeps after the point.
const MAX_SCALE: u16 = 0x3FFF;

/// Appends a `numeric`. Its bytes are the number of digits, the weight of the first, the sign, the scale, and
/// the digits. Ten bytes may stand for 131,072 decimal digits.
pub(super) fn write(out: &mut Vec<u8>, raw: &[u8]) -> Result<(), ValueError> {
    let (words, odd) = raw.as_chunks::<2>();
    let (&[count, weight, sign, scale], digits) = words
        .split_first_chunk::<4>()
        .filter(|_| odd.is_empty())
        .ok_or(ValueError::Malformed("an incomplete numeric"))?;
    match u16::from_be_bytes(sign) {
        sign::POSITIVE => {}
        sign::NEGATIVE => out.push(b'-'),
        sign::NAN => return special(out, b"\"NaN\""),
        sign::INFINITY => return special(out, b"\"Infinity\""),
        sign::NEGATIVE_INFINITY => return special(out, b"\"-Infinity\""),
        _ => return Err(ValueError::Malformed("a numeric with an unknown sign")),
    }
    if usize::from(u16::from_be_bytes(count)) != digits.len() {
        return Err(ValueError::Malformed(
            "a numeric with missing or spare digits",
        ));
    }
    if digits.iter().any(|digit| u16::from_be_bytes(*digit) > 9999) {
        return Err(ValueError::Malformed("a numeric with a digit above 9999"));
    }
    let scale = u16::from_be_bytes(scale);
    if scale > MAX_SCALE {
        return Err(ValueError::Malformed("a numeric with too large a scale"));
    }
    let digits = Digits {
        digits,
        weight: i16::from_be_bytes(weight).into(),
    };
    digits.write_whole(out);
    digits.write_fraction(out, scale.into());
    Ok(())
}

fn special(out: &mut Vec<u8>, word: &[u8]) -> Result<(), ValueError> {
    out.extend_from_slice(word);
    Ok(())
}

/// Base-10,000 digits; missing ones are zero.
struct Digits<'r> {
    digits: &'r [[u8; 2]],
    /// The power of 10,000 of the first digit.
    weight: i32,
}

impl Digits<'_> {
    /// The digit for 10,000 to the `power`.
    fn at(&self, power: i32) -> u16 {
        usize::try_from(self.weight - power)
            .ok()
            .and_then(|i| self.digits.get(i))
            .map_or(0, |digit| u16::from_be_bytes(*digit))
    }

    fn write_whole(&self, out: &mut Vec<u8>) {
        let mut powers = (0..=self.weight)
            .rev()
            .skip_while(|&power| self.at(power) == 0);
        // JSON allows no leading zeros but requires one before the point.
        integer(out, powers.next().map_or(0, |power| self.at(power)));
        for power in powers {
            out.extend_from_slice(&decimal(self.at(power)));
        }
    }

    fn write_fraction(&self, out: &mut Vec<u8>, scale: usize) {
        if scale == 0 {
            return;
        }
        out.push(b'.');
        let end = out.len() + scale;
        let mut power = -1;
        while out.len() < end {
            out.extend_from_slice(&decimal(self.at(power)));
            power -= 1;
        }
        out.truncate(end);
    }
}

fn decimal(digit: u16) -> [u8; 4] {
    [digit / 1000, digit / 100 % 10, digit / 10 % 10, digit % 10].map(|d| b'0' + d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(words: &[u16]) -> Result<String, ValueError> {
        let raw: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        let mut out = Vec::new();
        write(&mut out, &raw)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn zeros_are_kept_where_the_scale_asks_for_them() {
        assert_eq!(written(&[0, 0, 0, 0]).unwrap(), "0");
        assert_eq!(written(&[0, 0, 0, 3]).unwrap(), "0.000");
        assert_eq!(written(&[2, 0, 0x4000, 6, 12, 3400]).unwrap(), "-12.340000");
        assert_eq!(written(&[1, 2, 0, 1, 7]).unwrap(), "700000000.0");
        assert_eq!(
            written(&[1, (-2_i16).cast_unsigned(), 0, 8, 5]).unwrap(),
            "0.00000005"
        );
        assert_eq!(
            written(&[1, (-1_i16).cast_unsigned(), 0, 2, 1234]).unwrap(),
            "0.12"
        );
    }

    #[test]
    fn leading_zero_digits_never_reach_json() {
        assert_eq!(written(&[3, 2, 0, 0, 0, 0, 7]).unwrap(), "7");
        assert_eq!(written(&[0, 2, 0, 0]).unwrap(), "0");
    }

    #[test]
    fn the_largest_numeric_has_every_digit() {
        let text = written(&[1, 32767, 0, MAX_SCALE, 9]).unwrap();
        assert_eq!(text.len(), 1 + 32767 * 4 + 1 + usize::from(MAX_SCALE));
    }

    #[test]
    fn what_postgres_cannot_have_sent_is_rejected() {
        for words in [
            &[][..],
            &[0, 0, 0],
            &[1, 0, 0, 0],
            &[1, 0, 0, 0, 10_000],
            &[0, 0, 1, 0],
            &[0, 0, 0, MAX_SCALE + 1],
        ] {
            assert!(
                matches!(written(words), Err(ValueError::Malformed(_))),
                "{words:?}"
            );
        }
    }
}
