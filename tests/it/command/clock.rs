//! What the clocks do while it serves: the wall clock is set, or the machine sleeps. The program is shown
//! clocks of the test's: the wall clock by libfaketime, the one that goes on in a sleep by a few lines
//! of C. The clock that its timers go by stays the machine's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use serde_json::json;
use tempfile::TempDir;

use super::serve::{address, wait_for_stderr};
use super::{config, folder};
use crate::support::http::{Answer, Connection};
use crate::support::postgres::Postgres;
use crate::support::program::Program;

const ENDPOINTS: &str = r#"
    [defaults]
    shape = "value"
    max_age = "2h"

    [[endpoint]]
    path = "/daily"
    sql = "SELECT 1"
    refresh = { cron = "0 0 12 * * *" }

    # By this one the test sees that time passes.
    [[endpoint]]
    path = "/every-second"
    sql = "SELECT 1"
    refresh = { cron = "* * * * * *" }

    [[endpoint]]
    path = "/hourly"
    sql = "SELECT 1"
    refresh = { every = "1h" }

    [[endpoint]]
    path = "/key/{n}"
    sql = "SELECT :n::int"
"#;

/// The wall clock that a program sees.
pub(super) struct WallClock {
    folder: TempDir,
    preload: String,
}

impl WallClock {
    /// One that shows this, in UTC, when the program starts.
    pub(super) fn at(time: &str) -> Self {
        let found = Command::new("faketime")
            .args(["-f", "+0", "printenv", "LD_PRELOAD"])
            .output()
            .expect("the tests need faketime: apt-get install -y faketime");
        let clock = Self {
            folder: tempfile::tempdir().unwrap(),
            preload: String::from_utf8(found.stdout).unwrap().trim().to_owned(),
        };
        clock.set(time);
        clock
    }

    /// As if it had shown this when the program started.
    pub(super) fn set(&self, time: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("@{time}")).unwrap();
        // It is read at any moment.
        fs::rename(&new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("time")
    }

    pub(super) fn seen_by(&self, program: Program) -> Program {
        program
            .env("LD_PRELOAD", &self.preload)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("TZ", "UTC")
    }
}

fn time(answer: &Answer, header: &str) -> SystemTime {
    httpdate::parse_http_date(answer.header(header).unwrap()).unwrap()
}

/// How often the endpoint's schedule has loaded it.
async fn runs(connection: &mut Connection, path: &str) -> u64 {
    let metrics = connection.get("/metrics").await;
    let of_schedule = |line: &&str| {
        line.starts_with("larder_refreshes_total{")
            && line.contains(&format!("endpoint=\"{path}\""))
            && line.contains("trigger=\"schedule\"")
            && !line.contains("skipped")
    };
    let counts = metrics.text().lines().filter(of_schedule);
    counts
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

/// Waits until the every-second cron line has run this many more times.
async fn seconds_pass(connection: &mut Connection, count: u64) {
    let end = runs(connection, "/every-second").await + count;
    while runs(connection, "/every-second").await < end {}
}

/// What holds of an entry whatever the wall clock shows.
async fn assert_still_cached(connection: &mut Connection, etag: &str) -> Answer {
    let answer = connection.get("/key/1").await;
    answer
        .assert_status(200)
        .assert_json(json!(1))
        .assert_cache("hit")
        .assert_header("etag", etag);
    let age: u64 = answer.header("age").unwrap().parse().unwrap();
    assert!(age < 3_600, "{answer:?}");
    assert!(
        time(&answer, "last-modified") <= time(&answer, "date"),
        "{answer:?}"
    );
    let again = connection
        .request("GET", "/key/1", &[("if-none-match", etag)])
        .await;
    again.assert_status(304).assert_header("etag", etag);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_the_wall_clock_moves_cron_schedules_but_not_ages() {
    let db = Postgres::with("").await;
    let folder = folder(&[("config.toml", &config(ENDPOINTS))]);
    let clock = WallClock::at("2026-03-10 06:00:00");
    let program = Program::larder(&["serve"]).within(folder.path());
    let mut serving = clock.seen_by(program).on(&db.patient_url()).start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;
    let mut connection = Connection::open(address).await;
    let first = connection.get("/key/1").await;
    let etag = first.header("etag").unwrap();
    assert_eq!(runs(&mut connection, "/daily").await, 0);
    let before = time(&assert_still_cached(&mut connection, etag).await, "date");

    clock.set("2026-03-11 06:00:00");
    while runs(&mut connection, "/daily").await == 0 {}
    seconds_pass(&mut connection, 3).await;
    assert_eq!(
        runs(&mut connection, "/daily").await,
        1,
        "noon went by once"
    );
    let after = assert_still_cached(&mut connection, etag).await;
    let moved = time(&after, "date").duration_since(before).unwrap();
    assert!(moved.as_secs() >= 86_400, "{after:?}");
    // Loaded while the clock is ahead.
    connection.get("/key/2").await.assert_cache("miss");

    clock.set("2026-02-01 06:00:00");
    // At once, whichever thread answers.
    let tomorrow = httpdate::parse_http_date("Mon, 02 Feb 2026 06:00:00 GMT").unwrap();
    for _ in 0..8 {
        let mut first = Connection::open(address).await;
        for target in [
            "/key/1", "/hourly", "/key/x", "/nothing", "/healthz", "/docs",
        ] {
            let answer = first.get(target).await;
            assert!(time(&answer, "date") < tomorrow, "{target}: {answer:?}");
            if answer.header("last-modified").is_some() {
                assert!(
                    time(&answer, "last-modified") <= time(&answer, "date"),
                    "{answer:?}"
                );
            }
        }
    }
    seconds_pass(&mut connection, 3).await;
    assert_still_cached(&mut connection, etag).await;
    let from_ahead = connection.get("/key/2").await;
    from_ahead.assert_cache("hit");
    assert!(
        time(&from_ahead, "last-modified") < tomorrow,
        "{from_ahead:?}"
    );
    assert_eq!(runs(&mut connection, "/daily").await, 1);
    assert_eq!(runs(&mut connection, "/hourly").await, 0);
}

const SLEPT_THROUGH: &str = r#"
    [defaults]
    shape = "value"
    max_age = "10m"

    [[endpoint]]
    path = "/hourly"
    sql = "SELECT 1"
    refresh = { every = "1h" }

    [[endpoint]]
    path = "/daily"
    sql = "SELECT 1"
    refresh = { every = "24h" }
    max_age = "24h"

    [[endpoint]]
    path = "/lasting/{n}"
    sql = "SELECT :n::int"
    stale_while_revalidate = "24h"

    [[endpoint]]
    path = "/expiring/{n}"
    sql = "SELECT :n::int"
    stale_while_revalidate = "0s"
    stale_if_error = "1h"
"#;

/// What has a program believe that the machine slept.
fn preload_asleep(folder: &TempDir) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/command/asleep.c");
    let library = folder.path().join("asleep.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([library.as_os_str(), source.as_ref()])
        .status();
    assert!(built.expect("Rust needs a linker as well").success());
    library
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_the_machine_ages_answers() {
    let db = Postgres::with("").await;
    let folder = folder(&[("config.toml", &config(SLEPT_THROUGH)), ("slept", "0")]);
    let mut serving = Program::larder(&["serve"])
        .within(folder.path())
        .env("LD_PRELOAD", preload_asleep(&folder))
        .env("SLEPT", folder.path().join("slept"))
        .on(&db.patient_url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;
    let mut connection = Connection::open(address).await;
    for target in ["/lasting/1", "/expiring/1"] {
        connection.get(target).await.assert_cache("miss");
        connection.get(target).await.assert_cache("hit");
    }
    let age = |answer: &Answer| -> u64 { answer.header("age").unwrap().parse().unwrap() };
    assert!(age(&connection.get("/daily").await) < 7_200);

    let new = folder.path().join("new");
    fs::write(&new, "7200").unwrap();
    fs::rename(&new, folder.path().join("slept")).unwrap();
    // It is noticed within a second.
    let daily = loop {
        let daily = connection.get("/daily").await;
        if age(&daily) >= 7_200 {
            break daily;
        }
    };
    daily.assert_cache("hit");
    let lasting = connection.get("/lasting/1").await;
    lasting.assert_cache("stale").assert_json(json!(1));
    assert!(age(&lasting) >= 7_200, "{lasting:?}");
    let expired = connection.get("/expiring/1").await;
    expired.assert_cache("miss").assert_json(json!(1));
    assert!(age(&expired) < 7_200, "{expired:?}");
    // What would have been loaded meanwhile is, once.
    while runs(&mut connection, "/hourly").await == 0 {}
    assert!(age(&connection.get("/hourly").await) < 7_200);
    assert_eq!(runs(&mut connection, "/hourly").await, 1);
    assert_eq!(runs(&mut connection, "/daily").await, 0);
}
