//! Cron lines and their time zones: the fields and rules of crontab(5), with croner's `L`, `W`, `#` and `+`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use thiserror::Error;

use crate::config::suggest;

/// A time zone of the IANA database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timezone(Tz);

impl Timezone {
    /// UTC.
    pub const UTC: Self = Self(Tz::UTC);

    /// The zone of this name, as `Europe/Berlin`; the case of its letters counts.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    /// The name of the zone that was probably meant.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        suggest::nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()))
    }
}

/// A cron line in its time zone.
///
/// Where clocks change, a line that names one hour, one minute and one second runs once that day: at
/// its first occurrence where the hour comes twice, right after the gap where it does not come. Any
/// other line runs whenever a clock on the wall shows one of its times: twice in an hour that comes
/// twice, not at all in one that does not come. So `*/5 * * * *` keeps its rhythm in real time, while
/// `30 2,14 * * *` leaves out its night run in spring and has it twice in autumn.
#[derive(Debug, Clone)]
pub struct CronLine {
    line: String,
    timezone: Tz,
    cron: Cron,
}

/// Why a cron line or its time zone was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CronLineError {
    /// The line does not follow cron's rules; in croner's words.
    #[error("this is no cron line: {reason}")]
    Line {
        /// What is wrong with it.
        reason: String,
    },
    /// The line follows the rules and yet never comes, as on the 31st of February.
    #[error("this time never comes")]
    Never,
}

impl CronLine {
    /// A line of 5 fields, or of 6 that begin with the second; `@hourly`, `@daily`, `@weekly`,
    /// `@monthly` and `@yearly` too. A day is named by day of month and day of week as in crontab(5): either
    /// is enough, unless one of the fields begins with `*`.
    ///
    /// # Errors
    /// [`CronLineError`].
    pub fn parse(line: &str, timezone: Timezone) -> Result<Self, CronLineError> {
        if let Some(reason) = too_wide_a_step(line) {
            return Err(CronLineError::Line { reason });
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .dom_and_dow(is_both_days(line))
            .build();
        let cron = parser
            .parse(in_fields(line))
            .map_err(|error| CronLineError::Line {
                reason: reason(line, &error),
            })?;
        let parsed = Self {
            line: line.trim().to_owned(),
            timezone: timezone.0,
            cron,
        };
        // The calendar repeats every 400 years, so a line that does not come after one moment does
        // not come after any.
        match parsed.next_after(UNIX_EPOCH + FROM_EPOCH) {
            Some(_) => Ok(parsed),
            None => Err(CronLineError::Never),
        }
    }

    /// The first of its times after `time`, to the second.
    pub fn next_after(&self, time: SystemTime) -> Option<SystemTime> {
        let since_epoch = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let seconds = i64::try_from(since_epoch).ok()?;
        let start = DateTime::<Utc>::from_timestamp(seconds, 0)?.with_timezone(&self.timezone);
        let next = self.cron.find_next_occurrence(&start, false).ok()?;
        let seconds = u64::try_from(next.timestamp()).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// No minute has more runs than this: as many as seconds are named, for a run that a clock change
    /// moves belongs to a line that names only one.
    pub fn most_per_minute(&self) -> u32 {
        u32::try_from(self.cron.pattern.seconds.values().len()).unwrap_or(60)
    }

    /// No hour has more runs than this: as many as minutes are named, with the seconds in each.
    pub fn most_per_hour(&self) -> u32 {
        let minutes = u32::try_from(self.cron.pattern.minutes.values().len()).unwrap_or(60);
        minutes * self.most_per_minute()
    }

    /// A distance between two of its runs that no other is known to exceed: the longest of those of
    /// a year or so, and of fewer where they are many.
    pub(super) fn long_gap(&self) -> Option<Duration> {
        const RUNS: usize = 1_000;
        const LONGEST: Duration = Duration::from_secs(400 * 86_400);
        let start = UNIX_EPOCH + FROM_EPOCH;
        let mut longest = None;
        let mut before = self.next_after(start)?;
        for _ in 0..RUNS {
            let next = self.next_after(before)?;
            longest = longest.max(next.duration_since(before).ok());
            if next > start + LONGEST {
                break;
            }
            before = next;
        }
        longest
    }

    /// The zone its times are in, as in `Europe/Berlin`.
    pub fn timezone(&self) -> &'static str {
        self.timezone.name()
    }
}

impl fmt::Display for CronLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// 2024-01-01: recent, so that the search for the first time is short.
const FROM_EPOCH: Duration = Duration::from_secs(1_704_067_200);

/// What a field of a cron line counts, and the largest number in it, from the second on.
const FIELDS: [(&str, u32); 6] = [
    ("second", 59),
    ("minute", 59),
    ("hour", 23),
    ("day", 31),
    ("month", 12),
    ("weekday", 7),
];

/// The fields of a line with what they count.
fn fields(line: &str) -> impl Iterator<Item = (&str, &'static str, u32)> {
    let count = line.split_whitespace().count();
    let kinds = FIELDS.iter().skip(FIELDS.len().saturating_sub(count));
    line.split_whitespace()
        .zip(kinds)
        .map(|(field, (kind, largest))| (field, *kind, *largest))
}

/// Whether a day must be both the day of month and the day of week. By crontab(5) either is enough, unless one
/// of the fields is not restricted, and one that begins with a `*` is not: so `0 0 */2 * MON` means Mondays
/// on odd days, and `0 0 1,15 * MON` Mondays and the first and the fifteenth. croner knows that of a lone
/// `*` only.
fn is_both_days(line: &str) -> bool {
    let mut days = fields(line).filter(|(_, kind, _)| ["day", "weekday"].contains(kind));
    days.any(|(field, ..)| field.starts_with(['*', '?']))
}

/// The nickname of crontab(5) that croner does not know, as it knows it.
fn in_fields(line: &str) -> &str {
    if line.trim().eq_ignore_ascii_case("@midnight") {
        "@daily"
    } else {
        line
    }
}

/// A step that is never taken: croner reads `*/90` as `0`.
fn too_wide_a_step(line: &str) -> Option<String> {
    fields(line).find_map(|(field, kind, largest)| {
        let steps = field.split(',').filter_map(|part| part.split_once('/'));
        let too_wide = |step: &str| step.parse::<u32>().is_ok_and(|step| step > largest);
        let (_, step) = steps.into_iter().find(|(_, step)| too_wide(step))?;
        Some(format!(
            "a step of {step} is never taken: the largest {kind} is {largest}"
        ))
    })
}

/// A month or a weekday that is written in full.
fn long_name(line: &str) -> Option<String> {
    const NAMES: [&str; 19] = [
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sept",
    ];
    let words = line.split(|c: char| !c.is_ascii_alphabetic());
    let word = words
        .into_iter()
        .find(|word| NAMES.iter().any(|name| name.eq_ignore_ascii_case(word)))?;
    let short = word[..3].to_ascii_uppercase();
    Some(format!("{word} is written {short}"))
}

/// Croner's words, in ours where they speak of its settings.
fn reason(line: &str, error: &CronError) -> String {
    let line = line.trim();
    if line.starts_with('@') {
        return "known are @hourly, @daily, @weekly, @monthly and @yearly".to_owned();
    }
    let fields = line.split_whitespace().count();
    if !(5..=6).contains(&fields) {
        return format!("it has {fields} fields instead of 5 or 6");
    }
    if let Some(reason) = long_name(line) {
        return reason;
    }
    match error {
        CronError::InvalidPattern(reason)
        | CronError::IllegalCharacters(reason)
        | CronError::ComponentError(reason) => reason.trim_end_matches('.').to_owned(),
        CronError::EmptyPattern
        | CronError::InvalidDate
        | CronError::InvalidTime
        | CronError::TimeSearchLimitExceeded => error.to_string().trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests;
