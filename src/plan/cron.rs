//! Cron expressions with time zones: the fields and rules of crontab(5), with `L`, `W`, `#` and `+` of
//! croner.

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

    /// The zone with this name, such as `Europe/Berlin`. Case matters.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    /// The zone name that was probably meant.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        suggest::nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()))
    }
}

/// A cron expression in its time zone.
///
/// When clocks change, a line with one hour, one minute and one second runs once that day: at its first
/// occurrence if the hour is repeated, right after the gap if it is skipped. Any other line runs whenever a
/// wall clock shows one of its times: twice in a repeated hour, not at all in a skipped one. So
/// `*/5 * * * *` keeps its rhythm, while `30 2,14 * * *` skips its night run in spring and has it twice in
/// autumn.
#[derive(Debug, Clone, PartialEq)]
pub struct CronLine {
    line: String,
    timezone: Tz,
    cron: Cron,
}

/// Why a cron expression was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CronLineError {
    /// The line does not follow cron's rules.
    #[error("this is not a valid cron expression: {reason}")]
    Line {
        /// What is wrong, mostly in croner's words.
        reason: String,
    },
    /// The line is valid but never matches, as for the 31st of February.
    #[error("this cron expression never matches")]
    Never,
}

impl CronLine {
    /// Parses a line of 5 fields, of 6 fields with the second first, or one of `@hourly`, `@daily`,
    /// `@weekly`, `@monthly` and `@yearly`. As in crontab(5), either the day of month or the day of week
    /// must match; both must if one of the fields begins with `*`.
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
            .dom_and_dow(requires_both_days(line))
            .build();
        let cron = parser
            .parse(known_nickname(line))
            .map_err(|error| CronLineError::Line {
                reason: reason(line, &error),
            })?;
        let parsed = Self {
            line: line.trim().to_owned(),
            timezone: timezone.0,
            cron,
        };
        // The calendar repeats every 400 years, so a line that does not match after one moment never does.
        match parsed.next_after(UNIX_EPOCH + SEARCH_START) {
            Some(_) => Ok(parsed),
            None => Err(CronLineError::Never),
        }
    }

    /// The first match after `time`, to the second.
    pub fn next_after(&self, time: SystemTime) -> Option<SystemTime> {
        let since_epoch = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let seconds = i64::try_from(since_epoch).ok()?;
        let start = DateTime::<Utc>::from_timestamp(seconds, 0)?.with_timezone(&self.timezone);
        let next = self.cron.find_next_occurrence(&start, false).ok()?;
        let seconds = u64::try_from(next.timestamp()).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// The most runs in a minute: the number of seconds in the line. A run that a clock change moves does
    /// not add to them, since only lines with a single second have one.
    pub fn most_per_minute(&self) -> u32 {
        u32::try_from(self.cron.pattern.seconds.values().len()).unwrap_or(60)
    }

    /// The most runs in an hour: the number of minutes in the line times that of seconds.
    pub fn most_per_hour(&self) -> u32 {
        let minutes = u32::try_from(self.cron.pattern.minutes.values().len()).unwrap_or(60);
        minutes * self.most_per_minute()
    }

    /// The longest time between two runs, searched over about a year and at most a thousand runs.
    pub(super) fn longest_gap(&self) -> Option<Duration> {
        const RUNS: usize = 1_000;
        const SEARCHED: Duration = Duration::from_secs(400 * 86_400);
        let start = UNIX_EPOCH + SEARCH_START;
        let mut longest = None;
        let mut before = self.next_after(start)?;
        for _ in 0..RUNS {
            let next = self.next_after(before)?;
            longest = longest.max(next.duration_since(before).ok());
            if next > start + SEARCHED {
                break;
            }
            before = next;
        }
        longest
    }

    /// The name of its time zone, such as `Europe/Berlin`.
    pub fn timezone(&self) -> &'static str {
        self.timezone.name()
    }
}

impl fmt::Display for CronLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// 2024-01-01: recent, so that searches are short.
const SEARCH_START: Duration = Duration::from_secs(1_704_067_200);

/// What each field counts, and its largest number. The first field is optional.
const FIELDS: [(&str, u32); 6] = [
    ("second", 59),
    ("minute", 59),
    ("hour", 23),
    ("day", 31),
    ("month", 12),
    ("weekday", 7),
];

/// The fields of a line, with what they count and their largest number.
fn fields(line: &str) -> impl Iterator<Item = (&str, &'static str, u32)> {
    let count = line.split_whitespace().count();
    let kinds = FIELDS.iter().skip(FIELDS.len().saturating_sub(count));
    line.split_whitespace()
        .zip(kinds)
        .map(|(field, (kind, largest))| (field, *kind, *largest))
}

/// Whether a day must match both the day of month and the day of week. In crontab(5) either is enough,
/// unless one of the fields begins with `*`: `0 0 */2 * MON` means Mondays on odd days, and
/// `0 0 1,15 * MON` Mondays, the first and the fifteenth. croner applies this only to a lone `*`.
fn requires_both_days(line: &str) -> bool {
    let mut days = fields(line).filter(|(_, kind, _)| ["day", "weekday"].contains(kind));
    days.any(|(field, ..)| field.starts_with(['*', '?']))
}

/// Replaces the one nickname of crontab(5) that croner does not know.
fn known_nickname(line: &str) -> &str {
    if line.trim().eq_ignore_ascii_case("@midnight") {
        "@daily"
    } else {
        line
    }
}

/// A step that exceeds its field, which croner takes for `0`.
fn too_wide_a_step(line: &str) -> Option<String> {
    fields(line).find_map(|(field, kind, largest)| {
        let steps = field.split(',').filter_map(|part| part.split_once('/'));
        let too_wide = |step: &str| step.parse::<u32>().is_ok_and(|step| step > largest);
        let (_, step) = steps.into_iter().find(|(_, step)| too_wide(step))?;
        Some(format!(
            "the step {step} exceeds the largest {kind}, {largest}"
        ))
    })
}

/// What to write instead of a month or weekday in full.
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
    Some(format!("write {short} instead of {word}"))
}

/// What is wrong: croner's words, or ours where croner's are about its settings.
fn reason(line: &str, error: &CronError) -> String {
    let line = line.trim();
    if line.starts_with('@') {
        return "the nicknames are @hourly, @daily, @weekly, @monthly and @yearly".to_owned();
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
