//! Dates and times in ISO 8601's extended form, and in no other: what `01/02/03` means depends on a
//! server's settings. Years have four digits, seconds at most six decimals, as Postgres keeps them.

use chrono::{Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::ParameterType;

/// `2003-01-31`
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let (date, rest) = date_prefix(text)?;
    rest.is_empty().then_some(date)
}

/// `23:59`, `23:59:59`, `23:59:59.123456`
pub(super) fn time(text: &str) -> Option<NaiveTime> {
    let (time, rest) = time_prefix(text)?;
    rest.is_empty().then_some(time)
}

/// A date, or a date and a time with `T` or a space between them.
pub(super) fn timestamp(text: &str) -> Option<NaiveDateTime> {
    if let Some(date) = date(text) {
        return Some(date.and_time(NaiveTime::MIN));
    }
    let (timestamp, rest) = timestamp_prefix(text)?;
    rest.is_empty().then_some(timestamp)
}

/// A date, a time and an offset: `Z`, `+01`, `+01:00` or `+0100`. In UTC.
pub(super) fn timestamptz(text: &str) -> Option<NaiveDateTime> {
    let (local, rest) = timestamp_prefix(text)?;
    let utc = local.checked_sub_signed(Duration::minutes(offset_minutes(rest)?))?;
    // Beyond these years the text would have another form.
    (1..=9999).contains(&utc.year()).then_some(utc)
}

pub(super) fn date_text(date: NaiveDate) -> String {
    date.format("%Y-%m-%d").to_string()
}

pub(super) fn time_text(time: NaiveTime) -> String {
    let micros = time.nanosecond() / 1_000;
    let whole = time.format("%H:%M:%S").to_string();
    if micros == 0 {
        return whole;
    }
    let fraction = format!("{micros:06}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

pub(super) fn timestamp_text(timestamp: NaiveDateTime) -> String {
    format!(
        "{}T{}",
        date_text(timestamp.date()),
        time_text(timestamp.time())
    )
}

/// A `+` that was not escaped reaches a server as a space: the commonest reason for a wrong offset.
pub(super) fn plus_hint(kind: &ParameterType, text: &str) -> &'static str {
    let is_time = matches!(kind, ParameterType::TimestampTz);
    let with_plus = text
        .rfind(' ')
        .map(|at| format!("{}+{}", &text[..at], &text[at + 1..]));
    match with_plus {
        Some(text) if is_time && timestamptz(&text).is_some() => {
            "; in a query string, write + as %2B"
        }
        Some(_) | None => "",
    }
}

fn date_prefix(text: &str) -> Option<(NaiveDate, &str)> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let year = i32::try_from(year).ok().filter(|year| *year > 0)?;
    Some((NaiveDate::from_ymd_opt(year, month, day)?, rest))
}

fn time_prefix(text: &str) -> Option<(NaiveTime, &str)> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let Some(rest) = rest.strip_prefix(':') else {
        return Some((NaiveTime::from_hms_opt(hour, minute, 0)?, rest));
    };
    let (second, rest) = digits(rest, 2)?;
    let Some(rest) = rest.strip_prefix('.') else {
        return Some((NaiveTime::from_hms_opt(hour, minute, second)?, rest));
    };
    let count = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=6).contains(&count) {
        return None;
    }
    let (fraction, rest) = digits(rest, count)?;
    let micros = fraction * 10_u32.pow(6 - u32::try_from(count).ok()?);
    Some((
        NaiveTime::from_hms_micro_opt(hour, minute, second, micros)?,
        rest,
    ))
}

fn timestamp_prefix(text: &str) -> Option<(NaiveDateTime, &str)> {
    let (date, rest) = date_prefix(text)?;
    let (time, rest) = time_prefix(rest.strip_prefix(['T', 't', ' '])?)?;
    Some((date.and_time(time), rest))
}

/// Minutes east of Greenwich, less than 16 hours as in Postgres.
fn offset_minutes(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, rest) = digits(rest, 2)?;
    let minutes = if rest.is_empty() {
        0
    } else {
        let (minutes, rest) = digits(rest.strip_prefix(':').unwrap_or(rest), 2)?;
        if !rest.is_empty() {
            return None;
        }
        minutes
    };
    (hours < 16 && minutes < 60).then(|| sign * i64::from(hours * 60 + minutes))
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

    #[test]
    fn dates_are_checked_against_the_calendar() {
        let check = |text: &str, is_date: bool| {
            assert_eq!(
                date(text).map(date_text).as_deref(),
                is_date.then_some(text),
                "{text}"
            );
        };
        check("2003-01-06", true);
        check("2024-02-29", true);
        check("0001-01-01", true);
        check("9999-12-31", true);
        for text in [
            "",
            "2023-02-29",
            "2003-13-01",
            "0000-01-01",
            "2003-1-6",
            "20030106",
            "2003/01/06",
            "10000-01-01",
            "-2003-01-06",
            "2003-01-06 ",
            "today",
            "infinity",
            "2003-01-0ä",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn times_keep_microseconds() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(time(text).map(time_text).as_deref(), expected, "{text}");
        };
        check("23:59", Some("23:59:00"));
        check("23:59:59", Some("23:59:59"));
        check("00:00:00.500", Some("00:00:00.5"));
        check("00:00:00.000001", Some("00:00:00.000001"));
        for text in [
            "",
            "24:00:00",
            "23:60",
            "23:59:60",
            "1:00",
            "01:00:00.",
            "01:00:00.1234567",
            "01",
            "now",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn timestamps_have_no_offset_or_must_have_one() {
        let plain = |text: &str| timestamp(text).map(timestamp_text);
        assert_eq!(plain("2003-01-06").as_deref(), Some("2003-01-06T00:00:00"));
        assert_eq!(
            plain("2003-01-06 07:30").as_deref(),
            Some("2003-01-06T07:30:00")
        );
        assert_eq!(
            plain("2003-01-06T07:30:00.10").as_deref(),
            Some("2003-01-06T07:30:00.1")
        );
        assert_eq!(plain("2003-01-06T07:30:00Z"), None);
        assert_eq!(plain("2003-01-06T"), None);

        let zoned = |text: &str| timestamptz(text).map(timestamp_text);
        let utc = Some("2003-01-06T06:30:00");
        for text in [
            "2003-01-06T06:30:00Z",
            "2003-01-06t06:30:00z",
            "2003-01-06 07:30:00+01",
            "2003-01-06T07:30:00+01:00",
            "2003-01-06T07:30+0100",
            "2003-01-05T23:00:00-07:30",
        ] {
            assert_eq!(zoned(text).as_deref(), utc, "{text}");
        }
        for text in [
            "2003-01-06",
            "2003-01-06T06:30:00",
            "2003-01-06T06:30:00+16:00",
            "2003-01-06T06:30:00+01:60",
            "2003-01-06T06:30:00+1",
            "2003-01-06T06:30:00 01:00",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(zoned(text), None, "{text}");
        }
    }

    #[test]
    fn a_plus_lost_on_the_way_is_explained() {
        let hint = |text| plus_hint(&ParameterType::TimestampTz, text);
        assert!(hint("2003-01-06T06:30:00 01:00").contains("%2B"));
        assert_eq!(hint("2003-01-06 06:30:00"), "");
        assert_eq!(hint("nonsense"), "");
    }
}
