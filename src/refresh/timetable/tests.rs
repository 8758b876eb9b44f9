//! Schedules over time, with both clocks in the hands of the test.

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::plan::Plan;

const SECOND: Duration = Duration::from_secs(1);

/// 2026-01-01 00:00:00 UTC.
fn new_year() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// One endpoint for each `refresh = …`.
fn plan(refreshes: &[String]) -> Plan {
    let mut text = "[repository]\nurl = \"postgres://localhost/d\"\n".to_owned();
    for (n, refresh) in refreshes.iter().enumerate() {
        text.push_str(&format!(
            "[[endpoint]]\npath = \"/n{n}\"\nsql = \"SELECT 1\"\nrefresh = {refresh}\n"
        ));
    }
    let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
    Plan::compile(config).unwrap()
}

/// The endpoints due in each of the next `seconds`.
fn run(
    timetable: &mut Timetable,
    start: (Instant, SystemTime),
    seconds: u32,
) -> Vec<Vec<EndpointId>> {
    (1..=seconds)
        .map(|n| {
            let (now, wall) = (start.0 + SECOND * n, start.1 + SECOND * n);
            timetable.record_clocks(now, wall);
            let due = timetable.take_due(now, wall);
            due.into_iter().map(|due| due.endpoint).collect()
        })
        .collect()
}

#[test]
fn an_interval_recurs_regularly() {
    let plan = plan(&[r#"{ every = "5s" }"#.to_owned()]);
    let (now, wall) = (Instant::now(), new_year());
    let mut timetable = Timetable::new(plan.endpoints(), now, wall);
    let due = run(&mut timetable, (now, wall), 100);
    let times: Vec<usize> = (0..100).filter(|n| !due[*n].is_empty()).collect();
    assert_eq!(times.len(), 20);
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] == 5),
        "{times:?}"
    );
}

#[test]
fn a_thousand_schedules_of_the_same_second_all_run() {
    for refresh in [
        r#"{ every = "1s" }"#,
        r#"{ cron = "0 0 12 * * *" }"#,
        r#"{ cron = "* * * * * *" }"#,
    ] {
        let plan = plan(&vec![refresh.to_owned(); 1_000]);
        let (now, wall) = (Instant::now(), new_year() + SECOND * 12 * 3_600 - SECOND);
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        let due = run(&mut timetable, (now, wall), 15);
        let mut seen: Vec<EndpointId> = due.into_iter().flatten().collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1_000, "{refresh}");
    }
}

#[test]
fn equal_schedules_are_spread_the_same_way_at_every_start() {
    let plan = plan(&vec![r#"{ every = "10s" }"#.to_owned(); 1_000]);
    let (now, wall) = (Instant::now(), new_year());
    let spread = || {
        run(
            &mut Timetable::new(plan.endpoints(), now, wall),
            (now, wall),
            10,
        )
    };
    let due = spread();
    assert!(
        due.iter().all(|now| (50..200).contains(&now.len())),
        "{:?}",
        due.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert_eq!(due, spread());
}

#[test]
fn missed_runs_are_one_run() {
    let plan = plan(&[
        r#"{ every = "1s" }"#.to_owned(),
        r#"{ cron = "*/5 * * * * *" }"#.to_owned(),
    ]);
    let (now, wall) = (Instant::now(), new_year());
    let mut timetable = Timetable::new(plan.endpoints(), now, wall);
    let hour = SECOND * 3_600;
    assert_eq!(timetable.take_due(now + hour, wall + hour).len(), 2);
    assert_eq!(
        timetable.take_due(now + hour, wall + hour),
        [],
        "and not once more"
    );
    let later = run(&mut timetable, (now + hour, wall + hour), 10);
    assert_eq!(later.concat().len(), 10 + 2);
}

#[test]
fn a_clock_set_back_does_not_stop_a_schedule() {
    let plan = plan(&[r#"{ cron = "0 * * * * *" }"#.to_owned()]);
    let (now, wall) = (Instant::now(), new_year());
    let id = plan.endpoints()[0].id;
    let mut timetable = Timetable::new(plan.endpoints(), now, wall);
    run(&mut timetable, (now, wall), 90);
    let (now, back) = (now + SECOND * 90, wall - SECOND * 3_600);
    assert!(timetable.record_clocks(now, back));
    let due = timetable.due(id, now, back).unwrap() - now;
    assert!(due > SECOND * 59 && due < SECOND * 70, "{due:?}");
    assert!(!timetable.record_clocks(now, back), "it is reported once");
    let due = run(&mut timetable, (now, back), 90);
    assert_eq!(due.concat().len(), 1);
}

#[test]
fn a_clock_set_forward_causes_one_run_and_does_not_affect_intervals() {
    let plan = plan(&[
        r#"{ cron = "0 0 * * * *" }"#.to_owned(),
        r#"{ every = "1h" }"#.to_owned(),
    ]);
    let (now, wall) = (Instant::now(), new_year());
    let [cron, interval] = [0, 1].map(|n| plan.endpoints()[n].id);
    let mut timetable = Timetable::new(plan.endpoints(), now, wall);
    let due = timetable.due(interval, now, wall);
    let (now, forward) = (now + SECOND, wall + SECOND * (86_400 + 1_800));
    assert!(timetable.record_clocks(now, forward));
    let taken = timetable.take_due(now, forward);
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].endpoint, cron);
    assert_eq!(timetable.due(interval, now, forward), due);
    let later = run(&mut timetable, (now, forward), 10);
    assert_eq!(later.concat(), []);
    let due = timetable.due(cron, now, forward).unwrap() - now;
    assert!(due >= SECOND * 1_800 && due < SECOND * 1_810, "{due:?}");
}

#[test]
fn a_slewed_clock_does_not_count_as_set() {
    let (now, wall) = (Instant::now(), new_year());
    for pace in [0.9, 1.1] {
        let mut timetable = Timetable::new(&[], now, wall);
        for n in 1..=100 {
            let wall = wall + SECOND.mul_f64(f64::from(n) * pace);
            assert!(!timetable.record_clocks(now + SECOND * n, wall));
        }
    }
}

#[test]
fn a_failed_endpoint_is_suspended_until_a_single_retry() {
    let plan = plan(&[r#"{ every = "1s" }"#.to_owned()]);
    let (now, wall) = (Instant::now(), new_year());
    let mut timetable = Timetable::new(plan.endpoints(), now, wall);
    let id = plan.endpoints()[0].id;
    for seconds in [3, 7, 5] {
        timetable.retry(id, Some(now + SECOND * seconds));
    }
    let due = run(&mut timetable, (now, wall), 10);
    let times: Vec<usize> = (0..10)
        .filter(|n| !due[*n].is_empty())
        .map(|n| n + 1)
        .collect();
    assert_eq!(times, [5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_success_cancels_the_retry() {
    let plan = plan(&[r#"{ every = "1h" }"#.to_owned()]);
    let (now, wall) = (Instant::now(), new_year());
    let mut timetable = Timetable::new(plan.endpoints(), now, wall);
    let id = plan.endpoints()[0].id;
    let due = timetable.due(id, now, wall);
    timetable.retry(id, Some(now + SECOND));
    timetable.retry(id, None);
    assert_eq!(timetable.take_due(now + SECOND, wall + SECOND), []);
    assert_eq!(
        timetable.due(id, now, wall),
        due,
        "the schedule is unchanged"
    );
}

#[test]
fn a_cron_schedule_with_a_timezone_follows_daylight_saving_time() {
    let line = r#"{ cron = "0 30 8 * * *", timezone = "Europe/Berlin" }"#;
    let plan = plan(&[line.to_owned()]);
    // 2026-03-28 00:00 UTC; the clocks go forward in the night to the 29th.
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_774_656_000);
    let now = Instant::now();
    let mut timetable = Timetable::new(plan.endpoints(), now, wall);
    let due = run(&mut timetable, (now, wall), 48 * 3_600);
    let hours: Vec<usize> = (0..due.len())
        .filter(|n| !due[*n].is_empty())
        .map(|n| (n + 1) / 1_800)
        .collect();
    // 08:30 is 07:30 UTC on the 28th and 06:30 UTC on the 29th.
    assert_eq!(hours, [15, 48 + 13]);
}

#[test]
fn a_timetable_that_follows_keeps_the_moments_of_what_did_not_change() {
    let [cron, every] = [r#"{ cron = "*/7 * * * * *" }"#, r#"{ every = "20s" }"#];
    let first = plan(&[cron, every, r#"{ every = "9s" }"#].map(str::to_owned));
    let (now, wall) = (Instant::now(), new_year());
    let start = || Timetable::new(first.endpoints(), now, wall);
    let expected = run(&mut start(), (now, wall), 100);
    let of = |due: &[Vec<EndpointId>], id: EndpointId| -> Vec<usize> {
        (0..due.len()).filter(|n| due[*n].contains(&id)).collect()
    };
    let ids: Vec<EndpointId> = first.endpoints().iter().map(|it| it.id).collect();

    // The third has another interval, and there is a fourth.
    let next = plan(&[cron, every, r#"{ every = "8s" }"#, every].map(str::to_owned));
    let next = next.following(&first);
    let mut timetable = start();
    timetable.retry(ids[1], Some(now + SECOND * 90));
    let mut due = Vec::new();
    for n in 1..=100 {
        let at = (now + SECOND * n, wall + SECOND * n);
        // Every second, which is more often than any schedule.
        timetable = timetable.following(next.endpoints(), at.0, at.1);
        due.push(run(&mut timetable, (at.0 - SECOND, at.1 - SECOND), 1).remove(0));
    }
    assert_eq!(of(&due, ids[0]), of(&expected, ids[0]), "cron");
    let times = of(&due, ids[1]);
    assert_eq!(times[0], 89, "{times:?}: the retry");
    assert_eq!(
        of(&due, ids[2]).len(),
        12,
        "{due:?}: every 8 s from its first moment on"
    );
    assert_eq!(of(&due, next.endpoints()[3].id).len(), 5);
    let gone = timetable.following(&[], now, wall);
    assert!(gone.next().is_none());
}
