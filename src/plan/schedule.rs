//! When an endpoint is loaded again without being asked. Says when; what happens then is not known here.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use thiserror::Error;

use crate::config::suggest;

/// `refresh = { … }`: any of these, together, save that `every` excludes `probe`.
#[derive(Debug, Clone, Default)]
pub struct Refresh {
    /// The time between loads.
    pub every: Option<Duration>,
    /// The wall-clock times of loads.
    pub cron: Option<CronLine>,
    /// What is asked whether there is anything new; its own `every` is shorter than the endpoint's
    /// `max_age`.
    pub probe: Option<ProbeId>,
    /// The channel on which Postgres says that there is something new, exactly as `pg_notify` names
    /// it: 1 to 63 bytes, upper and lower case kept apart.
    pub notify: Option<String>,
    /// Whether keys in use are loaded again before they go stale. Only with parameters.
    pub ahead: bool,
}

impl Refresh {
    /// Whether anything is scheduled.
    pub fn is_scheduled(&self) -> bool {
        self.every.is_some() || self.cron.is_some()
    }

    /// Whether anything says when there is something new: data then change between the runs of a
    /// schedule.
    pub fn is_told(&self) -> bool {
        self.probe.is_some() || self.notify.is_some()
    }
}

/// A probe's place in the plan: small, `Copy`, and an index into per-probe tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(u32);

impl ProbeId {
    /// The probe at `index` in [`super::Plan::probes`].
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("a plan holds fewer than 2^32 probes"))
    }

    /// The index into tables that hold one element per probe.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A burst of notifications on a channel is one change, and the next is taken this much later: what a
/// channel can cause is bounded, however often it is notified.
pub const NOTIFIED_EVERY: Duration = Duration::from_millis(250);

/// A question whose answer changes when an endpoint's does. Endpoints that ask the same as often
/// share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its place in the plan.
    pub id: ProbeId,
    /// One statement without parameters, `;` or trailing comment.
    pub sql: String,
    /// The time between two askings; at least 100 ms.
    pub every: Duration,
}

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
    /// `@monthly` and `@yearly` too.
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
            .build();
        let cron = parser.parse(line).map_err(|error| CronLineError::Line {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> Timezone {
        Timezone::parse(name).expect(name)
    }

    fn at(text: &str) -> SystemTime {
        SystemTime::from(DateTime::parse_from_rfc3339(text).expect("a time"))
    }

    /// The runs of `line` from `from`, exclusive, until `to`, inclusive, in UTC.
    fn runs(line: &str, timezone: &str, from: &str, to: &str) -> Vec<String> {
        let cron = CronLine::parse(line, zone(timezone)).expect(line);
        let mut runs = Vec::new();
        let mut time = at(from);
        while let Some(next) = cron.next_after(time).filter(|next| *next <= at(to)) {
            assert!(next > time, "{line} goes back");
            time = next;
            runs.push(
                DateTime::<Utc>::from(next)
                    .format("%dT%H:%M:%S")
                    .to_string(),
            );
        }
        runs
    }

    #[test]
    fn five_fields_six_fields_and_nicknames_are_read() {
        let first =
            |line| runs(line, "UTC", "2024-02-28T10:00:00Z", "2024-03-31T00:00:00Z")[0].clone();
        assert_eq!(first("*/5 * * * *"), "28T10:05:00");
        assert_eq!(first("30 */5 * * * *"), "28T10:00:30");
        assert_eq!(first("@hourly"), "28T11:00:00");
        assert_eq!(first("@daily"), "29T00:00:00");
        assert_eq!(first("0 9 * * MON-FRI"), "29T09:00:00");
        assert_eq!(first("0 0 L * *"), "29T00:00:00");
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "",
            "* * * *",
            "* * * * * * *",
            "60 * * * *",
            "a * * * *",
            "@never",
            "* * 0 * *",
        ] {
            let error = CronLine::parse(line, Timezone::UTC).expect_err(line);
            assert!(
                matches!(error, CronLineError::Line { .. }),
                "{line}: {error}"
            );
        }
        for line in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6 *"] {
            assert_eq!(
                CronLine::parse(line, Timezone::UTC).expect_err(line),
                CronLineError::Never,
                "{line}"
            );
        }
        let reason = |line| {
            CronLine::parse(line, Timezone::UTC)
                .expect_err(line)
                .to_string()
        };
        for line in [
            "*/60 * * * *",
            "*/90 * * * *",
            "0 1-5,*/24 * * *",
            "*/60 * * * * *",
            "0 0 1 */13 *",
        ] {
            assert!(
                reason(line).contains("is never taken"),
                "{line}: {}",
                reason(line)
            );
        }
        assert!(reason("0 0 1 JANUARY *").ends_with("JANUARY is written JAN"));
        assert!(reason("0 9 * * Monday-FRI").ends_with("Monday is written MON"));
        for line in ["@every 5s", "@reboot"] {
            assert!(reason(line).contains("known are @hourly"), "{line}");
        }
        for line in ["*/59 */23 */31 */12 */7", "*/59 * * * * *"] {
            CronLine::parse(line, Timezone::UTC).expect(line);
        }
        assert_eq!(Timezone::parse("Europe/Berln"), None);
        assert_eq!(Timezone::nearest("Europe/Berln"), Some("Europe/Berlin"));
        assert_eq!(Timezone::nearest("europe/berlin"), Some("Europe/Berlin"));
        assert_eq!(Timezone::nearest("Mars"), None);
    }

    #[test]
    fn the_longest_gap_is_found() {
        let gap = |line| CronLine::parse(line, Timezone::UTC).expect(line).long_gap();
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        assert_eq!(gap("*/5 * * * *"), Some(Duration::from_secs(300)));
        assert_eq!(gap("0 9,17 * * *"), hours(16));
        assert_eq!(gap("0 9 * * MON-FRI"), hours(72));
        assert_eq!(gap("0 0 1 1 *"), hours(365 * 24));
    }

    #[test]
    fn leap_days_are_waited_for() {
        let cron = CronLine::parse("0 0 29 2 *", Timezone::UTC).expect("comes");
        let next = cron
            .next_after(at("2024-02-29T00:00:00Z"))
            .expect("comes again");
        assert_eq!(next, at("2028-02-29T00:00:00Z"));
        let cron = CronLine::parse("0 0 29 2 +MON", Timezone::UTC).expect("comes");
        assert_eq!(
            cron.next_after(at("2024-03-01T00:00:00Z")),
            Some(at("2044-02-29T00:00:00Z"))
        );
    }

    #[test]
    fn a_daily_run_comes_once_on_the_day_the_clocks_go_forward() {
        // Berlin: 02:00 becomes 03:00 at 01:00 UTC; New York: 02:00 becomes 03:00 at 07:00 UTC.
        let berlin = |line| {
            runs(
                line,
                "Europe/Berlin",
                "2024-03-30T23:00:00Z",
                "2024-03-31T22:00:00Z",
            )
        };
        assert_eq!(berlin("30 1 * * *"), ["31T00:30:00"]);
        assert_eq!(berlin("30 2 * * *"), ["31T01:00:00"]);
        assert_eq!(berlin("30 3 * * *"), ["31T01:30:00"]);
        let new_york = |line| {
            runs(
                line,
                "America/New_York",
                "2024-03-10T05:00:00Z",
                "2024-03-11T04:00:00Z",
            )
        };
        assert_eq!(new_york("30 1 * * *"), ["10T06:30:00"]);
        assert_eq!(new_york("30 2 * * *"), ["10T07:00:00"]);
        assert_eq!(new_york("30 3 * * *"), ["10T07:30:00"]);
    }

    #[test]
    fn a_daily_run_comes_once_on_the_day_the_clocks_go_back() {
        // Berlin: 03:00 becomes 02:00 at 01:00 UTC; New York: 02:00 becomes 01:00 at 06:00 UTC.
        let berlin = |line| {
            runs(
                line,
                "Europe/Berlin",
                "2024-10-26T22:00:00Z",
                "2024-10-27T23:00:00Z",
            )
        };
        assert_eq!(berlin("30 1 * * *"), ["26T23:30:00"]);
        assert_eq!(berlin("30 2 * * *"), ["27T00:30:00"]);
        assert_eq!(berlin("30 3 * * *"), ["27T02:30:00"]);
        let new_york = |line| {
            runs(
                line,
                "America/New_York",
                "2024-11-03T04:00:00Z",
                "2024-11-04T05:00:00Z",
            )
        };
        assert_eq!(new_york("30 0 * * *"), ["03T04:30:00"]);
        assert_eq!(new_york("30 1 * * *"), ["03T05:30:00"]);
        assert_eq!(new_york("30 2 * * *"), ["03T07:30:00"]);
    }

    #[test]
    fn a_line_of_several_hours_follows_the_clock_on_the_wall() {
        let berlin = |from, to| runs("30 2,14 * * *", "Europe/Berlin", from, to);
        assert_eq!(
            berlin("2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"),
            ["31T12:30:00"]
        );
        assert_eq!(
            berlin("2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z"),
            ["27T00:30:00", "27T01:30:00", "27T13:30:00"]
        );
    }

    #[test]
    fn every_five_minutes_keeps_its_rhythm_through_both_changes() {
        for (timezone, from, to) in [
            (
                "Europe/Berlin",
                "2024-03-30T22:00:00Z",
                "2024-03-31T06:00:00Z",
            ),
            (
                "Europe/Berlin",
                "2024-10-26T22:00:00Z",
                "2024-10-27T06:00:00Z",
            ),
            (
                "America/New_York",
                "2024-03-10T04:00:00Z",
                "2024-03-10T12:00:00Z",
            ),
            (
                "America/New_York",
                "2024-11-03T04:00:00Z",
                "2024-11-03T12:00:00Z",
            ),
        ] {
            let seen = runs("0 */5 * * * *", timezone, from, to);
            assert_eq!(seen, runs("*/5 * * * *", "UTC", from, to), "{timezone}");
            assert_eq!(seen.len(), 8 * 12);
        }
    }

    #[test]
    fn times_out_of_reach_have_no_next() {
        let cron = CronLine::parse("* * * * *", Timezone::UTC).expect("a line");
        assert_eq!(cron.next_after(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(cron.next_after(at("9999-12-31T23:59:59Z")), None);
        assert_eq!(
            cron.next_after(at("2024-01-01T00:00:59.9Z")),
            Some(at("2024-01-01T00:01:00Z"))
        );
    }

    #[test]
    fn it_shows_as_written_and_says_how_often_it_runs() {
        let cron = CronLine::parse(" 0,30 */5 * * * * ", zone("Europe/Berlin")).expect("a line");
        assert_eq!(cron.to_string(), "0,30 */5 * * * *");
        assert_eq!(cron.timezone(), "Europe/Berlin");
        assert_eq!(cron.most_per_minute(), 2);
        let most = |line| {
            let cron = CronLine::parse(line, Timezone::UTC).expect(line);
            (cron.most_per_minute(), cron.most_per_hour())
        };
        assert_eq!(most("* * * * *"), (1, 60));
        assert_eq!(most("* * * * * *"), (60, 3600));
        assert_eq!(most("*/7 * * * * *"), (9, 540));
        assert_eq!(most("0,30 0 6 * * *"), (2, 2));
        assert_eq!(most("@daily"), (1, 1));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "[0-9*,/LW#?+@a-zA-Z -]{0,24}") {
            let _ = CronLine::parse(&line, zone("Europe/Berlin"));
        }

        #[test]
        fn runs_move_forward(start in 0u64..4_000_000_000, zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
        ]), line in prop::sample::select(vec![
            "0 0 * * *", "30 2 * * *", "*/7 1-3 * * *", "*/20 * * * * *", "0 0 29 2 *",
        ])) {
            let cron = CronLine::parse(line, Timezone::parse(zone).expect("a zone")).expect("a line");
            let mut time = UNIX_EPOCH + Duration::from_secs(start);
            for _ in 0..20 {
                let next = cron.next_after(time).expect("there is always a next");
                prop_assert!(next > time);
                time = next;
            }
        }
    }
}
