//! `larder check` with what it measures: each query runs once, and what follows from its time.

use regex::Regex;

use super::{config, folder};
use crate::support::postgres::Postgres;
use crate::support::program::{Ended, Program};

async fn check(db: &Postgres, config: &str, arguments: &[&str]) -> Ended {
    let folder = folder(&[("config.toml", config)]);
    Program::larder(&[&["check"], arguments].concat())
        .within(folder.path())
        .on(db.url())
        .run()
        .await
}

/// The text with `_` in the place of whatever depends on a measured time.
fn masked(text: &str) -> String {
    let measured = r"slowest of them .*|(under )?\b\d+(\.\d+)?( %|ms|s\b)|(under )?\b\d+\.\d+";
    let measured = Regex::new(measured).unwrap();
    measured.replace_all(text, "_").into_owned()
}

const IN_TIME: &str = r#"
[[endpoint]]
path = "/alone"
sql = "SELECT 1 AS n"
refresh = { every = "1h" }

[[endpoint]]
path = "/required/{n}"
sql = "SELECT :n::int AS n"

[[endpoint]]
path = "/default"
sql = "SELECT :n::int AS n"
max_age = "1h"
refresh = { ahead = true }
params.n = { default = 1 }

[[endpoint]]
path = "/named/{n}"
sql = "SELECT :n::int AS n"
warm = [{ n = "1" }, { n = "2" }]

[[endpoint]]
path = "/found/{n}"
sql = "SELECT :n::int AS n"
warm_sql = "SELECT n FROM generate_series(1, 3) AS n"

[[endpoint]]
path = "/none-found/{n}"
sql = "SELECT :n::int AS n"
warm_sql = "SELECT 1 AS n WHERE false"

[[endpoint]]
path = "/probed"
sql = "SELECT 1 AS n"
max_age = "2h"
refresh.probe = { sql = "SELECT 1", every = "1h" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_query_times_and_the_share_of_connections() {
    let db = Postgres::with("").await;
    let ended = check(&db, &config(IN_TIME), &[]).await;
    ended.assert_code(0).assert_stderr("");
    let (table, shares) = ended.stdout.split_once("\nAt most ").unwrap();
    let lines: Vec<String> = table.lines().map(masked).collect();
    let last = |line: &String| line.rsplit("  ").next().unwrap().trim().to_owned();
    let took: Vec<String> = lines.iter().map(last).collect();
    let expected = [
        "query time",
        "---------------",
        "_",
        "needs arguments",
        "_",
        "_",
        "_",
        "needs arguments",
        "_",
        "probe _",
    ];
    assert_eq!(took, expected, "{table}");
    let (_, shares) = shares.split_once("\n\n").unwrap();
    assert_eq!(
        masked(shares),
        "\
Each query was run once, alone, on the current data. If queries keep taking this long:
- Schedules need _ of 4 connections on average (_), which fits.
- Changes could need _ more, if every probe found one and notifications never paused.
- Clients could need _ more: with 100 loads a second (max_loads_per_second), the _
- Not included, for lack of arguments: /required/{n}, /none-found/{n}. Adding a key to `warm` is enough.
"
    );
}

const TOO_SLOW: &str = r#"
[[endpoint]]
path = "/slow"
sql = "SELECT 1 AS n FROM pg_sleep(0.3)"
refresh = { every = "100ms" }

[[endpoint]]
path = "/ahead/{n}"
sql = "SELECT :n::int AS n FROM pg_sleep(0.3)"
max_age = "400ms"
refresh = { ahead = true }
warm = [{ n = "1" }]

[[endpoint]]
path = "/stale"
sql = "SELECT 1 AS n FROM pg_sleep(0.3)"
max_age = "200ms"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_cannot_keep_up_are_a_warning() {
    let db = Postgres::with("").await;
    let scarce = config(TOO_SLOW).replace("url =", "max_connections = 1\nurl =");
    let ended = check(&db, &scarce, &[]).await;
    ended.assert_code(0).assert_stderr("");
    let (_, warnings) = ended.stdout.split_once("\nwarning: ").unwrap();
    let warnings: Vec<&str> = warnings.split("\nwarning: ").collect();
    assert_eq!(warnings.len(), 4, "{}", ended.stdout);
    for (warning, [begin, end]) in warnings.iter().zip([
        [
            "/slow took ",
            ", but is due every 100ms: it cannot keep up. Run it less often, or make it faster.\n",
        ],
        [
            "/ahead/{n} took ",
            ", more than half of its max_age (400ms): answers in use go stale before they are \
             refreshed ahead of time. Raise max_age, or make it faster.\n",
        ],
        [
            "/stale took ",
            ", and its max_age (200ms) counts from the start of the query: its answers are never fresh. \
             Raise max_age, or make it faster.\n",
        ],
        [
            "the schedules do not fit: they need 1.0 connections on average, and there is 1 \
             (max_connections). ",
            "The most expensive are /slow (1.0). Run them less often, make them faster, or raise \
             max_connections.\n",
        ],
    ]) {
        assert!(
            warning.starts_with(begin) && warning.ends_with(end),
            "{warning:?} instead of {begin:?} ... {end:?}"
        );
    }
    // Of four, three are for schedules: enough for one answer at a time.
    let ended = check(&db, &config(TOO_SLOW), &[]).await;
    ended.assert_code(0).assert_stderr("");
    assert_eq!(ended.stdout.matches("\nwarning: ").count(), 3);
    assert!(
        ended
            .stdout
            .contains("- Schedules need 1.0 of 4 connections on average (25 %), which fits.\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_runs_once_unless_none_is_to_be_measured() {
    let db = Postgres::own().await;
    let calls = async || -> i64 {
        let statistics = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements \
             WHERE query LIKE '%counted%' AND query NOT LIKE '%pg_stat_statements%'";
        let client = db.client().await;
        client.query_one(statistics, &[]).await.unwrap().get(0)
    };
    let endpoints = "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS counted\"";
    check(&db, &config(endpoints), &["--no-measure"])
        .await
        .assert_code(0);
    assert_eq!(calls().await, 0);
    check(&db, &config(endpoints), &[]).await.assert_code(0);
    assert_eq!(calls().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn measuring_stops_when_postgres_becomes_unreachable() {
    let db = Postgres::with("").await;
    let endpoints = "
        [[endpoint]]
        path = '/lost'
        sql = 'SELECT pg_terminate_backend(pg_backend_pid())'

        [[endpoint]]
        path = '/n'
        sql = 'SELECT 1 AS n'
    ";
    let ended = check(&db, &config(endpoints), &[]).await;
    ended
        .assert_code(1)
        .assert_stderr_has("error: the queries cannot be measured (--no-measure only")
        .assert_stderr_has("Postgres is not available: ");
    let failed = ended
        .stdout
        .lines()
        .filter(|line| line.ends_with("  failed"));
    assert_eq!(failed.count(), 2, "{}", ended.stdout);
    assert!(!ended.stdout.contains("which fits"), "{}", ended.stdout);
}
