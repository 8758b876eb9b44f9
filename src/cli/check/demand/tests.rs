//! Figures of small configurations whose queries took a known time.

use std::path::Path;

use super::*;
use crate::config::Config;

/// Four connections, of which schedules get three, and ten loads a second that clients cause.
const HEAD: &str = "repository = { url = 'postgres://db', max_loads_per_second = 10 }\n";

const EVERY_SECOND: &str = "refresh = { every = '1s' }";
const PROBED: &str = "refresh.probe = { sql = 'select 1', every = '2s' }";
const OF_A_KEY: &str = "sql = 'select :n::int'\nparams.n = { default = 1 }";

fn plan(head: &str, endpoints: &[&str]) -> Plan {
    let mut text = head.to_owned();
    for (at, lines) in endpoints.iter().enumerate() {
        let sql = if lines.contains("sql = 'select :") {
            ""
        } else {
            "sql = 'select 1'"
        };
        text.push_str(&format!("[[endpoint]]\npath = '/{at}'\n{sql}\n{lines}\n"));
    }
    let config = Config::parse("config.toml", text, Path::new(""), &|_| None);
    config
        .and_then(Plan::compile)
        .unwrap_or_else(|report| panic!("{report}"))
}

fn runs(times: &[u64]) -> Vec<Measurement> {
    let times = times.iter().copied().map(Duration::from_millis);
    times.map(Measurement::Took).collect()
}

/// The demand of endpoints and probes that took these milliseconds.
fn demand(endpoints: &[(&str, u64)], probes: &[u64]) -> Demand {
    let (lines, times): (Vec<&str>, Vec<u64>) = endpoints.iter().copied().unzip();
    let measured = Measurements {
        endpoints: runs(&times),
        probes: runs(probes),
        rejections: Vec::new(),
    };
    Demand::of(&plan(HEAD, &lines), &measured)
}

/// Compares busy connections: by schedules, by changes, and by clients.
fn check(endpoints: &[(&str, u64)], probes: &[u64], expected: [f64; 3]) {
    let demand = demand(endpoints, probes);
    let found = [demand.by_schedule(), demand.by_changes, demand.clients];
    let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
    assert!(
        found.iter().zip(&expected).all(is_near),
        "{endpoints:?} {probes:?}: {found:?} instead of {expected:?}"
    );
}

#[test]
fn queries_keep_connections_busy_as_often_as_they_are_due() {
    check(&[(EVERY_SECOND, 0)], &[], [0.0, 0.0, 0.0]);
    check(&[(EVERY_SECOND, 300)], &[], [0.3, 0.0, 0.0]);
    // A load waits for the one before, so one answer keeps one connection busy at most.
    check(&[(EVERY_SECOND, 9_000)], &[], [1.0, 0.0, 0.0]);
    check(
        &[(EVERY_SECOND, 300), (EVERY_SECOND, 200)],
        &[],
        [0.5, 0.0, 0.0],
    );
    // Though each falls into some minute, no hour has more than one of them.
    check(&[("refresh.every = '1h'", 3_600)], &[], [0.001, 0.0, 0.0]);
    check(
        &[("refresh.cron = '@daily'", 3_600)],
        &[],
        [0.001, 0.0, 0.0],
    );
    let cron = "refresh.cron = '*/10 0,30 * * * *'";
    check(&[(cron, 3_600)], &[], [0.012, 0.0, 0.0]);
    check(
        &[("refresh = { every = '1s', cron = '* * * * * *' }", 100)],
        &[],
        [0.2, 0.0, 0.0],
    );
}

#[test]
fn changes_come_with_every_probe_and_notification() {
    let probed = format!("{PROBED}\nmax_age = '1000s'");
    // The probe itself is asked in any case, once for all who share it.
    check(&[(&probed, 400)], &[20], [0.01, 0.2, 0.0004]);
    check(
        &[(&probed, 400), (&probed, 400)],
        &[20],
        [0.01, 0.4, 0.0008],
    );
    let notified = "refresh.notify = 'n'\nmax_age = '1000s'";
    check(&[(notified, 100)], &[], [0.0, 0.4, 0.0001]);
    check(&[(notified, 500)], &[], [0.0, 1.0, 0.0005]);
    // What the schedule keeps busy is not busy again.
    let both = "refresh = { every = '1s', notify = 'n' }\nmax_age = '1000s'";
    check(&[(both, 500)], &[], [0.5, 0.5, 0.0005]);
}

#[test]
fn clients_are_bounded_by_the_slowest_query_they_can_cause() {
    check(&[(OF_A_KEY, 50)], &[], [0.0, 0.0, 0.5]);
    check(&[(OF_A_KEY, 50), (OF_A_KEY, 20)], &[], [0.0, 0.0, 0.5]);
    // One answer is loaded again only when it is stale.
    check(&[("max_age = '10s'", 500)], &[], [0.0, 0.0, 0.05]);
    check(
        &[("max_age = '10s'", 500), (OF_A_KEY, 50)],
        &[],
        [0.0, 0.0, 0.55],
    );
    // Together they cause ten loads a second at most.
    let restless = ["max_age = '100ms'"; 20].map(|lines| (lines, 100));
    check(&restless, &[], [0.0, 0.0, 1.0]);
    // What a schedule alone keeps fresh is nothing to them.
    let slow = demand(&[(EVERY_SECOND, 500), (OF_A_KEY, 50)], &[]);
    let of_a_key = EndpointId::new(1);
    assert_eq!(slow.slowest, Some((of_a_key, Duration::from_millis(50))));
}

#[test]
fn schedules_fit_into_all_connections_but_one() {
    let verdict = |head: &str, endpoints: &[(&str, u64)]| {
        let (lines, times): (Vec<&str>, Vec<u64>) = endpoints.iter().copied().unzip();
        let measured = Measurements {
            endpoints: runs(&times),
            probes: Vec::new(),
            rejections: Vec::new(),
        };
        Demand::of(&plan(head, &lines), &measured).verdict()
    };
    let on = |connections: u64| {
        format!("repository = {{ url = 'postgres://db', max_connections = {connections} }}\n")
    };
    let full = (EVERY_SECOND, 1_000);
    let nearly = (EVERY_SECOND, 900);
    let notified = ("refresh.notify = 'n'", 250);
    for (connections, endpoints, expected) in [
        (4, &[full, full][..], Verdict::Fits),
        (4, &[nearly, nearly, nearly], Verdict::Fits),
        (4, &[full, full, full], Verdict::Exceeds),
        (4, &[full, full, notified], Verdict::FitsWithoutChanges),
        (
            4,
            &[notified, notified, notified],
            Verdict::FitsWithoutChanges,
        ),
        (2, &[nearly], Verdict::Fits),
        (2, &[full], Verdict::Exceeds),
        // The only one is for both.
        (1, &[nearly], Verdict::Fits),
        (1, &[full], Verdict::Exceeds),
        (1, &[(OF_A_KEY, 9_000)], Verdict::Fits),
        (1, &[], Verdict::Fits),
    ] {
        // A configuration has at least one endpoint.
        let endpoints = [endpoints, &[("max_age = '1h'", 1)]].concat();
        let found = verdict(&on(connections), &endpoints);
        assert_eq!(found, expected, "{connections} for {endpoints:?}");
    }
}

#[test]
fn a_query_too_slow_for_its_settings_is_late() {
    let ahead = format!("{OF_A_KEY}\nmax_age = '10s'\nrefresh.ahead = true");
    let behind = format!("{OF_A_KEY}\nmax_age = '10s'");
    let due = Duration::from_secs(1);
    let max_age = Duration::from_secs(10);
    for (lines, time, expected) in [
        (EVERY_SECOND, 1_000, None),
        (EVERY_SECOND, 1_100, Some(Late::Schedule(due))),
        ("refresh.cron = '*/20 * * * * *'", 19_000, None),
        ("refresh.cron = '@daily'", 3_000_000, None),
        (&ahead, 5_000, None),
        (&ahead, 5_001, Some(Late::Ahead(max_age))),
        (&behind, 9_999, None),
        (&behind, 10_000, Some(Late::Stale(max_age))),
    ] {
        let demand = demand(&[(lines, time)], &[]);
        let found = demand.late.first().map(|(_, _, late)| *late);
        assert_eq!(found, expected, "{lines} {time}");
    }
    // A probe keeps fresh what is older than its max_age, and has a rhythm itself.
    let demand = demand(&[(PROBED, 60_000)], &[2_100]);
    let (query, _, late) = demand.late[0];
    assert_eq!(demand.late.len(), 1);
    assert!(matches!(query, Query::Probe(_)), "{query:?}");
    assert_eq!(late, Late::Schedule(Duration::from_secs(2)));
}

#[test]
fn the_busiest_comes_first_and_unmeasured_queries_are_named() {
    let plan = plan(HEAD, &[EVERY_SECOND, OF_A_KEY, EVERY_SECOND, PROBED]);
    let measured = Measurements {
        endpoints: [
            runs(&[100]),
            vec![Measurement::NeedsArguments],
            runs(&[300, 100]),
        ]
        .concat(),
        probes: runs(&[400]),
        rejections: Vec::new(),
    };
    let demand = Demand::of(&plan, &measured);
    let busiest: Vec<Query> = demand.scheduled.iter().map(|busy| busy.query).collect();
    let endpoint = |index| Query::Endpoint(EndpointId::new(index));
    let probe = Query::Probe(plan.probes()[0].id);
    assert_eq!(busiest, [endpoint(2), probe, endpoint(0)]);
    assert_eq!(demand.unknown, [EndpointId::new(1)]);
}

#[test]
fn the_bound_counts_every_query_that_can_fall_into_one_minute() {
    let probed = format!("{PROBED}\nmax_age = '7s'");
    let endpoints = [EVERY_SECOND, OF_A_KEY, &probed, "refresh.cron = '@daily'"];
    let plan = plan(HEAD, &endpoints);
    let of_each = plan.endpoints().iter();
    let of_each: Vec<Option<u64>> = of_each.map(|e| Bound::of_endpoint(&plan, e)).collect();
    assert_eq!(of_each, [Some(60), None, Some(39), Some(1)]);
    let expected = Bound {
        by_itself: 60 + 30 + 1 + 30,
        by_clients: 600,
    };
    assert_eq!(Bound::of(&plan), expected);
}
