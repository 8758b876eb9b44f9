//! When lines come, by the calendar and through changes of clocks.

use chrono::{Datelike, NaiveDate};
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
    let first = |line| runs(line, "UTC", "2024-02-28T10:00:00Z", "2024-03-31T00:00:00Z")[0].clone();
    assert_eq!(first("*/5 * * * *"), "28T10:05:00");
    assert_eq!(first("30 */5 * * * *"), "28T10:00:30");
    assert_eq!(first("@hourly"), "28T11:00:00");
    assert_eq!(first("@daily"), "29T00:00:00");
    assert_eq!(first("@midnight"), "29T00:00:00");
    assert_eq!(first("0 9 * * MON-FRI"), "29T09:00:00");
    assert_eq!(first("0 0 L * *"), "29T00:00:00");
}

#[test]
fn invalid_lines_are_rejected() {
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
            reason(line).contains("exceeds the largest"),
            "{line}: {}",
            reason(line)
        );
    }
    assert!(reason("0 0 1 JANUARY *").ends_with("write JAN instead of JANUARY"));
    assert!(reason("0 9 * * Monday-FRI").ends_with("write MON instead of Monday"));
    for line in ["@every 5s", "@reboot"] {
        assert!(reason(line).contains("the nicknames are @hourly"), "{line}");
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
    let gap = |line| {
        CronLine::parse(line, Timezone::UTC)
            .expect(line)
            .longest_gap()
    };
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
    assert_eq!(gap("*/5 * * * *"), Some(Duration::from_secs(300)));
    assert_eq!(gap("0 9,17 * * *"), hours(16));
    assert_eq!(gap("0 9 * * MON-FRI"), hours(72));
    assert_eq!(gap("0 0 1 1 *"), hours(365 * 24));
}

#[test]
fn a_leap_day_may_be_years_away() {
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
fn a_daily_run_happens_once_when_clocks_go_forward() {
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
fn a_daily_run_happens_once_when_clocks_go_back() {
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
fn a_line_with_several_hours_follows_the_wall_clock() {
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
fn times_out_of_range_have_no_next_run() {
    let cron = CronLine::parse("* * * * *", Timezone::UTC).expect("a line");
    assert_eq!(cron.next_after(UNIX_EPOCH - Duration::from_secs(1)), None);
    assert_eq!(cron.next_after(at("9999-12-31T23:59:59Z")), None);
    assert_eq!(
        cron.next_after(at("2024-01-01T00:00:59.9Z")),
        Some(at("2024-01-01T00:01:00Z"))
    );
}

#[test]
fn a_line_displays_as_written_and_knows_its_most_frequent_runs() {
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

#[test]
fn a_day_is_named_by_either_field_or_by_both_as_in_crontab_5() {
    // The first is a Sunday.
    let days = |line: &str| {
        let runs = runs(line, "UTC", "2024-08-31T23:59:59Z", "2024-09-30T23:59:59Z");
        let days = runs.iter().map(|run| run[..2].parse().unwrap());
        days.collect::<Vec<u32>>()
    };
    for (line, expected) in [
        ("0 0 */2 * MON", &[9, 23][..]),
        ("0 0 0 */2 * MON", &[9, 23]),
        ("0 0 */2 * 1", &[9, 23]),
        ("0 0 ? * MON", &[2, 9, 16, 23, 30]),
        ("0 0 10 * */3", &[]),
        ("0 0 11 * */3", &[11]),
        ("0 0 1-7 * ?", &[1, 2, 3, 4, 5, 6, 7]),
        ("0 0 1,15 * MON", &[1, 2, 9, 15, 16, 23, 30]),
        ("0 0 1-31/10 * mon", &[1, 2, 9, 11, 16, 21, 23, 30]),
        ("0 0 L * MON#1", &[2, 30]),
        ("0 0 1 * FRIL", &[1, 27]),
        ("0 0 1-7 * +MON", &[2]),
        ("0 0 */2,16 * MON", &[9, 16, 23]),
    ] {
        if expected.is_empty() {
            let never = days(line);
            assert!(never.is_empty(), "{line}: {never:?}");
        } else {
            assert_eq!(days(line), expected, "{line}");
        }
    }
}

/// The days that a day-of-month field selects in a month of this length.
fn days_of_month(field: &str, length: u32) -> Vec<u32> {
    named(field, 1, 31, length)
}

/// Numbers that a list of numbers, ranges and steps names; `L` is the last.
fn named(field: &str, least: u32, greatest: u32, last: u32) -> Vec<u32> {
    let mut all = Vec::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None if ["*", "?"].contains(&range) => (least, greatest),
            None if range == "L" => (last, last),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        all.extend((from..=to).step_by(step.parse().unwrap()));
    }
    all
}

/// Whether a day's weekday is one that a field names; days of the week count from Sunday, which is 7 as well.
fn is_weekday(field: &str, date: NaiveDate, length: u32) -> bool {
    const NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let weekday = date.weekday().num_days_from_sunday();
    field.split(',').any(|part| {
        let mut part = part.to_owned();
        for (number, name) in NAMES.iter().enumerate() {
            part = part.replace(name, &number.to_string());
        }
        let is_it = |number: &str| number.parse::<u32>().unwrap() % 7 == weekday;
        if let Some((number, nth)) = part.split_once('#') {
            is_it(number) && nth == ((date.day() - 1) / 7 + 1).to_string()
        } else if let Some(number) = part.strip_suffix('L') {
            is_it(number) && date.day() + 7 > length
        } else {
            let numbers = named(&part, 0, 7, 7);
            numbers.iter().any(|number| number % 7 == weekday)
        }
    })
}

/// crontab(5), and what Vixie's cron makes of a field that begins with a star.
fn is_day(of_month: &str, of_week: &str, date: NaiveDate) -> bool {
    let length = u32::from(date.num_days_in_month());
    let is_of_month = days_of_month(of_month, length).contains(&date.day());
    let is_of_week = is_weekday(of_week, date, length);
    let is_open = |field: &str| field.starts_with(['*', '?']);
    if is_open(of_month) || is_open(of_week) {
        is_of_month && is_of_week
    } else {
        is_of_month || is_of_week
    }
}

fn a_range(least: u32, greatest: u32) -> impl Strategy<Value = String> {
    (least..=greatest, least..=greatest, 1..=greatest).prop_map(|(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        match step {
            1 => format!("{a}-{b}"),
            step => format!("{a}-{b}/{step}"),
        }
    })
}

fn of_month() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        (1..=31_u32).prop_map(|day| day.to_string()),
        a_range(1, 31),
        Just("L".to_owned()),
    ];
    let list = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(","));
    prop_oneof![
        Just("*".to_owned()),
        Just("?".to_owned()),
        (1..=31_u32).prop_map(|step| format!("*/{step}")),
        list,
    ]
}

fn of_week() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]);
    let part = prop_oneof![
        (0..=7_u32).prop_map(|day| day.to_string()),
        a_range(0, 7),
        name.clone().prop_map(str::to_owned),
        (name.clone(), 1..=5_u32).prop_map(|(day, nth)| format!("{day}#{nth}")),
        name.prop_map(|day| format!("{day}L")),
        Just("MON-FRI".to_owned()),
    ];
    let list = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(","));
    prop_oneof![
        Just("*".to_owned()),
        Just("?".to_owned()),
        (1..=7_u32).prop_map(|step| format!("*/{step}")),
        list,
    ]
}

proptest! {
    #[test]
    fn days_come_as_crontab_5_has_them(
        of_month in of_month(),
        of_week in of_week(),
        has_seconds in any::<bool>(),
    ) {
        let seconds = if has_seconds { "0 " } else { "" };
        let line = format!("{seconds}0 0 {of_month} * {of_week}");
        let (first, days) = (NaiveDate::from_ymd_opt(2023, 11, 1).unwrap(), 500);
        let expected: Vec<_> = first
            .iter_days()
            .take(days)
            .filter(|date| is_day(&of_month, &of_week, *date))
            .collect();
        let mut found = Vec::new();
        if let Ok(cron) = CronLine::parse(&line, Timezone::UTC) {
            let mut time = at("2023-10-31T12:00:00Z");
            while let Some(next) = cron.next_after(time) {
                let date = DateTime::<Utc>::from(next).date_naive();
                if (date - first).num_days() >= i64::try_from(days).unwrap() {
                    break;
                }
                found.push(date);
                time = next;
            }
        }
        prop_assert_eq!(found, expected, "{}", line);
    }
}
