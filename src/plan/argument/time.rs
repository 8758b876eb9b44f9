//! Dates and times in ISO 8601's extended form only, because the meaning of `01/02/03` depends on a server's
//! settings. They are read as Postgres reads them in a session in UTC: a `timestamp` ignores an offset, a
//! `date` ignores a time, a `timestamptz` without an offset is in UTC, and fractions are rounded to
//! microseconds. `now`, `today` and the like are rejected: what they mean changes.

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta};

/// Microseconds of a day. Postgres accepts `24:00:00` as a time.
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// A little more than the longest date or time that Postgres accepts.
const LENGTH_MAX: usize = 128;

/// `2003-01-31`, optionally followed by a time. `infinity` and `-infinity` are the greatest and the least
/// date.
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    infinity(text).or_else(|| moment(text).map(|moment| moment.date))
}

/// `23:59`, `23:59:59` or `23:59:59.123456`, optionally after a date and before an offset, in microseconds
/// since midnight.
pub(super) fn time(text: &str) -> Option<i64> {
    if let Some((time, rest)) = time_prefix(bounded(text)?) {
        offset(rest)?;
        return Some(time);
    }
    // Postgres accepts a date before a time if a space separates them, but not `T`.
    let is_of_date = |c: char| c.is_ascii_digit() || c == '-';
    let is_spaced = text.trim_start_matches(is_of_date).starts_with(' ');
    (is_spaced && text.contains(':')).then(|| moment(text).map(|moment| moment.time))?
}

/// A date, or a date and a time separated by `T` or a space.
pub(super) fn timestamp(text: &str) -> Option<NaiveDateTime> {
    if let Some(date) = infinity(text) {
        return Some(date.into());
    }
    let Moment { date, time, .. } = moment(text)?;
    shifted(date, time)
}

/// The same with an optional offset such as `Z`, `+01`, `+01:00` or `+0100`. In UTC.
pub(super) fn timestamptz(text: &str) -> Option<NaiveDateTime> {
    if let Some(date) = infinity(text) {
        return Some(date.into());
    }
    let Moment { date, time, offset } = moment(text)?;
    shifted(date, time - offset * 1_000_000)
}

pub(super) fn date_text(date: NaiveDate) -> String {
    with_era(date, "")
}

pub(super) fn time_text(micros: i64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (minutes, second) = (seconds / 60, seconds % 60);
    let whole = format!("{:02}:{:02}:{second:02}", minutes / 60, minutes % 60);
    if micros == 0 {
        return whole;
    }
    let fraction = format!("{micros:06}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// `zone` is written after the time.
pub(super) fn timestamp_text(timestamp: NaiveDateTime, zone: &str) -> String {
    let since_midnight = timestamp.time() - chrono::NaiveTime::MIN;
    let time = time_text(since_midnight.num_microseconds().unwrap_or_default());
    with_era(timestamp.date(), &format!("T{time}{zone}"))
}

/// A text's date, time and offset.
struct Moment {
    date: NaiveDate,
    /// In microseconds.
    time: i64,
    /// In seconds east of Greenwich.
    offset: i64,
}

fn moment(text: &str) -> Option<Moment> {
    let text = bounded(text)?;
    let (text, is_before_christ) = match text.split_at_checked(text.len().saturating_sub(3)) {
        Some((rest, era)) if era.eq_ignore_ascii_case(" BC") => (rest, true),
        Some((rest, era)) if era.eq_ignore_ascii_case(" AD") => (rest, false),
        _ => (text, false),
    };
    let (date, rest) = date_prefix(text, is_before_christ)?;
    // An offset needs a time: Postgres has several meanings for one right after a date.
    let (time, offset) = if rest.is_empty() {
        (0, 0)
    } else {
        let (time, rest) = time_prefix(rest.strip_prefix(['T', 't', ' '])?)?;
        (time, offset(rest)?)
    };
    Some(Moment {
        date: bounded_date(date)?,
        time,
        offset,
    })
}

fn bounded(text: &str) -> Option<&str> {
    (text.len() <= LENGTH_MAX).then_some(text)
}

fn infinity(text: &str) -> Option<NaiveDate> {
    match text {
        _ if text.eq_ignore_ascii_case("infinity") => Some(NaiveDate::MAX),
        _ if text.eq_ignore_ascii_case("-infinity") => Some(NaiveDate::MIN),
        _ => None,
    }
}

/// From 4714-11-24 BC, the first date of Postgres, to the last year but one of chrono.
fn bounded_date(date: NaiveDate) -> Option<NaiveDate> {
    const FIRST: Option<NaiveDate> = NaiveDate::from_ymd_opt(-4713, 11, 24);
    (Some(date) >= FIRST && date.year() < NaiveDate::MAX.year()).then_some(date)
}

/// The moment `micros` microseconds after midnight of the date.
fn shifted(date: NaiveDate, micros: i64) -> Option<NaiveDateTime> {
    let moment = NaiveDateTime::from(date).checked_add_signed(TimeDelta::microseconds(micros))?;
    bounded_date(moment.date())?;
    Some(moment)
}

/// Years before year 1 are written with their era.
fn with_era(date: NaiveDate, time: &str) -> String {
    match date {
        NaiveDate::MAX => "infinity".to_owned(),
        NaiveDate::MIN => "-infinity".to_owned(),
        _ => {
            let year = date.year();
            let (year, era) = if year > 0 {
                (year, "")
            } else {
                (1 - year, " BC")
            };
            format!("{year:04}-{:02}-{:02}{time}{era}", date.month(), date.day())
        }
    }
}

fn date_prefix(text: &str, is_before_christ: bool) -> Option<(NaiveDate, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = digits(text, (4..=6).contains(&length).then_some(length)?)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let year = i32::try_from(year).ok().filter(|year| *year > 0)?;
    let year = if is_before_christ { 1 - year } else { year };
    Some((NaiveDate::from_ymd_opt(year, month, day)?, rest))
}

fn time_prefix(text: &str) -> Option<(i64, &str)> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    // A fraction without seconds would be ambiguous: Postgres may take the minutes for seconds.
    let (second, micros, rest) = match rest.strip_prefix(':') {
        Some(rest) => seconds(rest)?,
        None => (0, 0, rest),
    };
    // Second 60 is the first of the next minute.
    if minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    let time = seconds * 1_000_000 + micros;
    (time <= DAY).then_some((time, rest))
}

/// Seconds, and microseconds.
fn seconds(text: &str) -> Option<(u32, i64, &str)> {
    let (second, rest) = digits(text, 2)?;
    let Some(decimals) = rest.strip_prefix('.') else {
        return Some((second, 0, rest));
    };
    let count = decimals.bytes().take_while(u8::is_ascii_digit).count();
    let (decimals, rest) = decimals.split_at(count);
    Some((second, fraction(decimals)?, rest))
}

/// Microseconds, computed as Postgres does.
fn fraction(decimals: &str) -> Option<i64> {
    if decimals.is_empty() {
        return None;
    }
    let fraction: f64 = format!("0.{decimals}").parse().ok()?;
    Some((fraction * 1e6).round_ties_even() as i64)
}

/// Seconds east of Greenwich, less than 16 hours as in Postgres; 0 without an offset.
fn offset(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let text = text.strip_prefix(' ').unwrap_or(text);
    if ["z", "utc"]
        .iter()
        .any(|zone| text.eq_ignore_ascii_case(zone))
    {
        return Some(0);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, rest) = digits(rest, 2)?;
    let (minutes, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2)?,
        None if rest.is_empty() => (0, rest),
        None => (digits(rest, 2)?.0, &rest[2..]),
    };
    let (seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2)?,
        None => (0, rest),
    };
    let is_offset = rest.is_empty() && hours < 16 && minutes < 60 && seconds < 60;
    is_offset.then(|| sign * i64::from(hours * 3_600 + minutes * 60 + seconds))
}

/// Exactly `count` digits at the start of `text`, and the rest.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let are_digits = number.bytes().all(|b| b.is_ascii_digit());
    if are_digits {
        Some((number.parse().ok()?, rest))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(of: impl Fn(&str) -> Option<String>, cases: &[(&str, Option<&str>)]) {
        for (text, expected) in cases {
            assert_eq!(of(text).as_deref(), *expected, "{text}");
        }
    }

    fn reject(of: impl Fn(&str) -> Option<String>, texts: &[&str]) {
        for text in texts {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_checked_against_the_calendar() {
        let date = |text: &str| date(text).map(date_text);
        for text in [
            "2003-01-06",
            "2024-02-29",
            "0001-01-01",
            "9999-12-31",
            "10000-01-01",
            "0044-03-15 BC",
            "4714-11-24 BC",
            "infinity",
            "-infinity",
        ] {
            check(date, &[(text, Some(text))]);
        }
        for text in [
            "2024-02-29T10:20:30.000Z",
            "2024-02-29T23:59:59.9999999-15:00",
            "2024-02-29 24:00:00",
            "2024-02-29T10:20",
            "2024-02-29 AD",
        ] {
            check(date, &[(text, Some("2024-02-29"))]);
        }
        reject(
            date,
            &[
                "",
                "2023-02-29",
                "2003-13-01",
                "0000-01-01",
                "2003-1-6",
                "20030106",
                "2003/01/06",
                "1000000-01-01",
                "4714-11-23 BC",
                "-2003-01-06",
                "2003-01-06 ",
                "2003-01-06T",
                "2003-01-06T25:00",
                "2003-01-06+01:00",
                "2003-01-06T10:00+16:00",
                "today",
                "now",
                "+infinity",
                "2003-01-0ä",
                "ä BC",
            ],
        );
    }

    #[test]
    fn times_keep_microseconds() {
        let time = |text: &str| time(text).map(time_text);
        check(
            time,
            &[
                ("23:59", Some("23:59:00")),
                ("23:59:59", Some("23:59:59")),
                ("00:00:00.500", Some("00:00:00.5")),
                ("00:00:00.000001", Some("00:00:00.000001")),
                ("01:00:00.1234567", Some("01:00:00.123457")),
                ("01:00:00.0000005", Some("01:00:00")),
                ("24:00:00", Some("24:00:00")),
                ("23:59:60", Some("24:00:00")),
                ("23:59:59.9999999", Some("24:00:00")),
                ("10:20:30.000Z", Some("10:20:30")),
                ("10:20:30+01:00", Some("10:20:30")),
                ("2024-02-29 10:20:30+00", Some("10:20:30")),
                ("2024-02-29 10:20:30 UTC", Some("10:20:30")),
                ("2024-02-29 10:20 AD", Some("10:20:00")),
            ],
        );
        reject(
            time,
            &[
                "",
                "24:00:00.000001",
                "23:60",
                "23:59:61",
                "1:00",
                "01:00:00.",
                "10:20.5",
                "01",
                "now",
                "2024-02-29T10:20:30Z",
                "2024-02-29",
            ],
        );
    }

    #[test]
    fn timestamps_ignore_an_offset_and_timestamptz_applies_it() {
        let plain = |text: &str| timestamp(text).map(|at| timestamp_text(at, ""));
        let zoned = |text: &str| timestamptz(text).map(|at| timestamp_text(at, "Z"));
        check(
            plain,
            &[
                ("2003-01-06", Some("2003-01-06T00:00:00")),
                ("2003-01-06 07:30", Some("2003-01-06T07:30:00")),
                ("2003-01-06T07:30:00.10", Some("2003-01-06T07:30:00.1")),
                ("2003-01-06T07:30:00.000Z", Some("2003-01-06T07:30:00")),
                ("2003-01-06T07:30:00+05:00", Some("2003-01-06T07:30:00")),
                ("2003-12-31T24:00", Some("2004-01-01T00:00:00")),
                ("0044-03-15T10:00:00+01 BC", Some("0044-03-15T10:00:00 BC")),
                ("-INFINITY", Some("-infinity")),
            ],
        );
        for text in [
            "2003-01-06T06:30:00Z",
            "2003-01-06t06:30:00z",
            "2003-01-06T06:30:00",
            "2003-01-06 06:30:00 UTC",
            "2003-01-06 07:30:00+01",
            "2003-01-06 07:30:00 +0100",
            "2003-01-06T07:30:00+01:00",
            "2003-01-06T07:30+0100",
            "2003-01-05T23:00:00-07:30",
            "2003-01-06T07:23:28+00:53:28",
        ] {
            check(zoned, &[(text, Some("2003-01-06T06:30:00Z"))]);
        }
        check(
            zoned,
            &[
                ("2003-01-06", Some("2003-01-06T00:00:00Z")),
                ("0001-01-01T00:00:00+01:00", Some("0001-12-31T23:00:00Z BC")),
                ("9999-12-31T23:59:59-01:00", Some("10000-01-01T00:59:59Z")),
                ("infinity", Some("infinity")),
            ],
        );
        for of in [&plain as &dyn Fn(&str) -> Option<String>, &zoned] {
            reject(
                of,
                &[
                    "2003-01-06T",
                    "2003-01-06T06:30.5",
                    "2003-01-06T06:30:00+16:00",
                    "2003-01-06T06:30:00+01:60",
                    "2003-01-06T06:30:00+01:00:60",
                    "2003-01-06T06:30:00+1",
                    "2003-01-06T06:30:00 01:00",
                    "2003-01-06T06:30:00+01:00[Europe/Berlin]",
                    "2003-01-06T06:30:00+ä",
                    "262142-12-31T00:00:00",
                    "4714-11-23T00:00:00 BC",
                    "tomorrow",
                ],
            );
        }
        reject(zoned, &["4714-11-24T00:00:00+01 BC"]);
        let long = format!("2003-01-06T06:30:00.{}", "1".repeat(LENGTH_MAX));
        reject(zoned, &[&long]);
    }
}
