//! Dates, times and intervals as JSON strings. `to_json` writes dates and timestamps in XML Schema's form of
//! ISO 8601, whatever `DateStyle` is. The other three types follow the session's settings: UTC, ISO, postgres
//! intervals.

use super::output::{ValueError, integer};

const MICROS_PER_SECOND: u64 = 1_000_000;
const MICROS_PER_MINUTE: u64 = 60 * MICROS_PER_SECOND;
const MICROS_PER_HOUR: u64 = 60 * MICROS_PER_MINUTE;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR.cast_signed();

/// Appends a `date`, in days since 2000-01-01.
pub(super) fn date(out: &mut Vec<u8>, days: i32) {
    out.push(b'"');
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => {
            let day = Day::after_epoch(days.into());
            day.write(out);
            day.write_era(out);
        }
    }
    out.push(b'"');
}

/// Appends a `timestamp`, in microseconds since 2000-01-01.
pub(super) fn timestamp(out: &mut Vec<u8>, micros: i64) {
    instant(out, micros, b"");
}

/// Appends a `timestamptz`, in microseconds since 2000-01-01 UTC. The session's time zone is UTC.
pub(super) fn timestamptz(out: &mut Vec<u8>, micros: i64) {
    instant(out, micros, b"+00:00");
}

fn instant(out: &mut Vec<u8>, micros: i64, zone: &[u8]) {
    out.push(b'"');
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        micros => {
            let day = Day::after_epoch(micros.div_euclid(MICROS_PER_DAY));
            day.write(out);
            out.push(b'T');
            clock(out, micros.rem_euclid(MICROS_PER_DAY).cast_unsigned());
            out.extend_from_slice(zone);
            day.write_era(out);
        }
    }
    out.push(b'"');
}

/// Appends a `time`, in microseconds since midnight. A whole day is 24:00:00.
pub(super) fn time(out: &mut Vec<u8>, micros: i64) -> Result<(), ValueError> {
    let micros = within_day(micros)?;
    out.push(b'"');
    clock(out, micros);
    out.push(b'"');
    Ok(())
}

/// Appends a `timetz`: microseconds since midnight, then seconds west of Greenwich.
pub(super) fn timetz(out: &mut Vec<u8>, raw: [u8; 12]) -> Result<(), ValueError> {
    let (micros, west) = split(&raw);
    let micros = within_day(micros)?;
    let west = i32::from_be_bytes(west);
    out.push(b'"');
    clock(out, micros);
    out.push(if west <= 0 { b'+' } else { b'-' });
    let offset = west.unsigned_abs();
    padded(out, (offset / 3600).into(), 2);
    let (minutes, seconds) = (offset / 60 % 60, offset % 60);
    if minutes != 0 || seconds != 0 {
        out.push(b':');
        padded(out, minutes.into(), 2);
    }
    if seconds != 0 {
        out.push(b':');
        padded(out, seconds.into(), 2);
    }
    out.push(b'"');
    Ok(())
}

/// Appends an `interval` in `IntervalStyle = postgres`: microseconds, days and months, each with its own
/// sign.
pub(super) fn interval(out: &mut Vec<u8>, raw: [u8; 16]) {
    let (micros, rest) = split::<16, 8>(&raw);
    let (days, months) = rest.split_at(4);
    let int = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().expect("eight bytes, halved"));
    let (days, months) = (int(days), int(months));

    out.push(b'"');
    let begin = out.len();
    // A part after a negative one has a sign even if it is positive.
    let mut after_negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count == 0 {
            continue;
        }
        if out.len() > begin {
            out.push(b' ');
        }
        if after_negative && count > 0 {
            out.push(b'+');
        }
        integer(out, count);
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if count != 1 {
            out.push(b's');
        }
        after_negative = count < 0;
    }
    if micros != 0 || out.len() == begin {
        if out.len() > begin {
            out.push(b' ');
        }
        if micros < 0 {
            out.push(b'-');
        } else if after_negative {
            out.push(b'+');
        }
        clock(out, micros.unsigned_abs());
    }
    out.push(b'"');
}

/// The first eight bytes as microseconds, and the rest.
fn split<const N: usize, const REST: usize>(raw: &[u8; N]) -> (i64, [u8; REST]) {
    let (micros, rest) = raw
        .split_first_chunk::<8>()
        .expect("callers pass more than eight bytes");
    let rest = rest.first_chunk().expect("callers ask for what is left");
    (i64::from_be_bytes(*micros), *rest)
}

fn within_day(micros: i64) -> Result<u64, ValueError> {
    if (0..=MICROS_PER_DAY).contains(&micros) {
        Ok(micros.cast_unsigned())
    } else {
        Err(ValueError::Malformed("a time outside the day"))
    }
}

/// Hours, minutes and seconds, with the fraction, if any, without trailing zeros.
fn clock(out: &mut Vec<u8>, micros: u64) {
    padded(out, micros / MICROS_PER_HOUR, 2);
    out.push(b':');
    padded(out, micros / MICROS_PER_MINUTE % 60, 2);
    out.push(b':');
    padded(out, micros / MICROS_PER_SECOND % 60, 2);
    let fraction = micros % MICROS_PER_SECOND;
    if fraction != 0 {
        out.push(b'.');
        padded(out, fraction, 6);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// The number in at least `width` digits.
fn padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    out.extend_from_slice(&b"000000"[..width.saturating_sub(digits.len())]);
    out.extend_from_slice(digits);
}

/// A day of the proleptic Gregorian calendar. The year before year 1 is year 0 here and 1 BC in writing.
struct Day {
    year: i64,
    month: u8,
    day: u8,
}

impl Day {
    /// The day `days` after 2000-01-01.
    fn after_epoch(days: i64) -> Self {
        // Counted from March, a year ends with its leap day, months follow a fixed pattern of 153 days in
        // five, and 400 years always have 146,097 days.
        const FROM_MARCH_OF_2000: i64 = 60;
        const CYCLE: i64 = 146_097;
        let days = days - FROM_MARCH_OF_2000;
        let cycle = days.div_euclid(CYCLE);
        let day_of_cycle = days.rem_euclid(CYCLE);
        let leap_days = day_of_cycle / 1460 - day_of_cycle / 36_524 + day_of_cycle / (CYCLE - 1);
        let year_of_cycle = (day_of_cycle - leap_days) / 365;
        let day_of_year =
            day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Self {
            year: 2000 + 400 * cycle + year_of_cycle + i64::from(month <= 2),
            month: month as u8,
            day: day as u8,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let year = if self.year > 0 {
            self.year
        } else {
            1 - self.year
        };
        padded(out, year.unsigned_abs(), 4);
        out.push(b'-');
        padded(out, self.month.into(), 2);
        out.push(b'-');
        padded(out, self.day.into(), 2);
    }

    /// Written last, after any time and zone.
    fn write_era(&self, out: &mut Vec<u8>) {
        if self.year <= 0 {
            out.extend_from_slice(b" BC");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_day_of_eight_centuries_is_the_day_after_the_previous_one() {
        let is_leap = |y: i64| y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
        let (mut year, mut month, mut day) = (1600, 1, 1);
        for days in -146_097..146_097 {
            let found = Day::after_epoch(days);
            assert_eq!((found.year, found.month, found.day), (year, month, day));
            let length = match month {
                2 => 28 + u8::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, last) if last == length => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn far_dates_and_eras() {
        assert_eq!(written(|o| date(o, 0)), "\"2000-01-01\"");
        assert_eq!(written(|o| date(o, -730_119)), "\"0001-01-01\"");
        assert_eq!(written(|o| date(o, -730_120)), "\"0001-12-31 BC\"");
        assert_eq!(written(|o| date(o, -2_451_545)), "\"4714-11-24 BC\"");
        assert_eq!(written(|o| date(o, 2_145_031_948)), "\"5874897-12-31\"");
        assert_eq!(written(|o| date(o, i32::MAX)), "\"infinity\"");
        assert_eq!(
            written(|o| timestamptz(o, -1)),
            "\"1999-12-31T23:59:59.999999+00:00\""
        );
        assert_eq!(written(|o| timestamptz(o, i64::MIN)), "\"-infinity\"");
    }

    #[test]
    fn interval_signs_affect_only_the_next_part() {
        let parts = |micros: i64, days: i32, months: i32| {
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&micros.to_be_bytes());
            raw[8..12].copy_from_slice(&days.to_be_bytes());
            raw[12..].copy_from_slice(&months.to_be_bytes());
            written(|o| interval(o, raw))
        };
        assert_eq!(parts(0, 0, 0), "\"00:00:00\"");
        assert_eq!(
            parts(1, 1, -13),
            "\"-1 years -1 mons +1 day 00:00:00.000001\""
        );
        assert_eq!(parts(3_600_000_000, -1, 12), "\"1 year -1 days +01:00:00\"");
        assert_eq!(parts(-1_500_000, 0, 0), "\"-00:00:01.5\"");
        assert_eq!(parts(i64::MIN, 0, 0), "\"-2562047788:00:54.775808\"");
    }
}
