//! The program as an operator runs it: what it prints, how it ends, and what signals do to it.

mod check; // what it measures
#[cfg(target_os = "linux")] // libfaketime goes about it in another way elsewhere
mod clock; // the wall clock is set while it serves, or the machine sleeps
mod demo; // a Postgres of its own, gone at its end
#[cfg(target_os = "linux")]
mod expiry; // a credential expires on a kept connection
mod key; // makes keys, and says what one may do
mod lines; // what it writes to stderr, and what that costs
mod reload; // its configuration is read again
mod serve; // comes up, answers, drains
mod url; // what it says of the url, and what it does not

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::support::postgres::Postgres;
use crate::support::program::Program;

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A configuration on `${DATABASE_URL}` with these endpoints.
fn config(endpoints: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n\n[repository]\nurl = \"${{DATABASE_URL}}\"\n{endpoints}"
    )
}

/// The URL of a Postgres that is not there, for as long as its port is kept.
fn nowhere() -> (TcpSocket, String) {
    // A port that is taken and not listened on refuses connections, and is nobody else's meanwhile.
    let port = TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = port.local_addr().unwrap();
    (
        port,
        format!("postgresql://larder:hunter2-of-nowhere@{address}/larder"),
    )
}

#[tokio::test]
async fn check_offline_reports_every_mistake_at_once_with_its_line() {
    let diagnostics = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/diagnostics");
    let folder = folder(&[]);
    fs::copy(
        diagnostics.join("ten_mistakes.toml"),
        folder.path().join("config.toml"),
    )
    .unwrap();
    let report = fs::read_to_string(diagnostics.join("ten_mistakes.txt")).unwrap();
    Program::larder(&["check", "--offline"])
        .within(folder.path())
        .on("postgresql://larder:hunter2-of-ten@db/sales")
        .run()
        .await
        .assert_code(1)
        .assert_stdout("")
        .assert_stderr(&report);
}

#[tokio::test]
async fn check_offline_does_not_connect() {
    Program::larder(&["check", "--offline"])
        .within(env!("CARGO_MANIFEST_DIR").as_ref())
        .on(&nowhere().1)
        .run()
        .await
        .assert_code(0)
        .assert_stdout("config.toml: no mistakes in 9 endpoints; not checked against Postgres\n")
        .assert_stderr("");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_the_types_and_the_most_queries_a_minute() {
    let db = Postgres::with(
        "CREATE TABLE sales (country text, year_id int, sales numeric(12,2), sold timestamptz)",
    )
    .await;
    let endpoints = r#"
        [[endpoint]]
        path = "/count"
        sql = "SELECT count(*) FROM sales"
        refresh = { every = "5s" }

        [[endpoint]]
        path = "/sales/{country}"
        sql = "SELECT sales, sold FROM sales WHERE country = :country AND (:year::int IS NULL OR year_id = :year) LIMIT :limit"
        params.year = { optional = true }
        params.limit = { default = 50 }

        [[endpoint]]
        path = "/revenue"
        sql = "SELECT sum(sales) AS revenue FROM sales"
        refresh = { cron = "*/20 * * * * *" }

        [[endpoint]]
        path = "/now"
        sql = "SELECT now()"
        max_age = "10s"
    "#;
    let folder = folder(&[("other.toml", &config(endpoints))]);
    Program::larder(&["check", "-c", "other.toml", "--no-measure"])
        .within(folder.path())
        .on(db.url())
        .run()
        .await
        .assert_code(0)
        .assert_stderr("")
        .assert_stdout(
            "\
endpoint          parameters               columns                         refresh                    queries/minute, at most
----------------  -----------------------  ------------------------------  -------------------------  -----------------------
/count                                     count: bigint                   every 5s                   12
/sales/{country}  country: text            sales: numeric(12,2)            on request                 up to clients
                  year: integer, optional  sold: timestamp with time zone
                  limit: bigint = 50
/revenue                                   revenue: numeric                cron */20 * * * * * (UTC)  3
/now                                       now: timestamp with time zone   on request                 6

At most 6015 queries a minute, 4 at a time: 15 by schedules, probes and notifications, and up to 6000 by \
clients (max_loads_per_second = 100), however many clients there are. A failed query is retried before \
its schedule is due, with growing waits.
",
        );
}

/// Three statements that Postgres refuses, each for another reason, one of them in a file.
const REFUSED: &str = r#"
[[endpoint]]
path = "/columns"
sql = "SELECT n, colum FROM (VALUES (1)) AS v (n)"

[[endpoint]]
path = "/fine"
sql = "SELECT 1 AS one"

[[endpoint]]
path = "/tables"
sql = """
SELECT 'größer', :x::int AS x
FROM nowhere"""
params.x = {}

[[endpoint]]
path = "/in-a-file"
sql_file = "in_a_file.sql"
params.country = {}
"#;

const IN_A_FILE: &str = "\
-- Sales of one country.
SELECT :country::text AS country,
       lower(1)
";

const REFUSALS: &str = r#"error: Postgres refuses this statement: column "colum" does not exist
 --> config.toml:9:18
  |
9 | sql = "SELECT n, colum FROM (VALUES (1)) AS v (n)"
  |                  ^^^^^

error: Postgres refuses this statement: relation "nowhere" does not exist
  --> config.toml:19:6
   |
19 | FROM nowhere"""
   |      ^^^^^^^

error: Postgres refuses this statement: function lower(integer) does not exist
 --> in_a_file.sql:3:8
  |
3 |        lower(1)
  |        ^^^^^
  |
  = note: No function matches the given name and argument types. You might need to add explicit type casts.

error: 3 mistakes
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_that_does_not_prepare_is_underlined_where_it_is_wrong() {
    let db = Postgres::with("").await;
    let folder = folder(&[
        ("config.toml", &config(REFUSED)),
        ("in_a_file.sql", IN_A_FILE),
    ]);
    for command in ["check", "serve"] {
        let ended = Program::larder(&[command])
            .within(folder.path())
            .on(db.url())
            .run()
            .await;
        ended.assert_code(1).assert_stdout("");
        let report = &ended.stderr[ended.stderr.find("error: ").unwrap()..];
        assert_eq!(report, REFUSALS, "{command}");
    }
}

#[tokio::test]
async fn check_reports_an_unreachable_postgres() {
    let (_port, url) = nowhere();
    let folder = folder(&[
        ("config.toml", &config(REFUSED)),
        ("in_a_file.sql", IN_A_FILE),
    ]);
    let ended = Program::larder(&["check"])
        .within(folder.path())
        .on(&url)
        .run()
        .await;
    let (_, address) = url.split_once('@').unwrap();
    let address = address.trim_end_matches("/larder");
    ended
        .assert_code(1)
        .assert_stdout("")
        .assert_stderr_has("Postgres is not available")
        .assert_stderr_has(address)
        .assert_stderr_has("Connection refused")
        .assert_stderr_has("--offline");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_url_is_reported_without_the_password() {
    let (_port, url) = nowhere();
    let folder = folder(&[(
        "config.toml",
        &config("[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\""),
    )]);
    let missing = format!("{url}?sslmode=verify-full&sslrootcert=/nowhere/root.pem");
    let db = Postgres::own().await;
    let (_, place) = db.url().split_once('@').unwrap();
    let wrong_password = format!("postgresql://larder:hunter2-of-another@{place}");
    for (url, reason) in [
        (&*missing, "sslrootcert /nowhere/root.pem: "),
        (
            "postgresql://larder:hunter2-of-nowhere@db/x?sslmode=sometimes",
            "sslmode is not one of disable, allow",
        ),
        (
            "mysql://larder:hunter2-of-mysql@db/x",
            "its scheme is not postgres",
        ),
        (
            &wrong_password,
            "password authentication failed for user \"larder\"",
        ),
    ] {
        for command in ["check", "serve"] {
            Program::larder(&[command])
                .within(folder.path())
                .on(url)
                .run()
                .await
                .assert_code(1)
                .assert_stdout("")
                .assert_stderr_has("error: ")
                .assert_stderr_has("the repository's url cannot be used: ")
                .assert_stderr_has(reason);
        }
    }
}

#[tokio::test]
async fn nothing_starts_without_the_configuration_and_its_variables() {
    let folder = folder(&[("config.toml", &config(""))]);
    for command in ["check", "serve", "demo"] {
        Program::larder(&[command, "-c", "nowhere.toml"])
            .within(folder.path())
            .run()
            .await
            .assert_code(1)
            .assert_stdout("")
            .assert_stderr_has("--> nowhere.toml")
            .assert_stderr_has("No such file or directory")
            .assert_stderr_has("name the file with -c");
    }
    for command in ["check", "serve"] {
        Program::larder(&[command])
            .within(folder.path())
            .run()
            .await
            .assert_code(1)
            .assert_stdout("")
            .assert_stderr_has("DATABASE_URL")
            .assert_stderr_has("--> config.toml:5:");
    }
}

#[tokio::test]
async fn wrong_usage_has_its_own_exit_code() {
    for arguments in [
        &[][..],
        &["server"],
        &["check", "--online"],
        &["check", "config.toml"],
        &["check", "--offline", "--offline"],
        &["check", "--offline", "--no-measure"],
        &["demo", "--listen", "8080"],
    ] {
        let ended = Program::larder(arguments).run().await;
        ended
            .assert_code(2)
            .assert_stdout("")
            .assert_stderr_has("--help");
    }
}

#[tokio::test]
async fn help_on_every_command_is_complete() {
    let everywhere = ["Usage: larder", "Exit codes: 0 success, 1 ", "RUST_LOG"];
    for (arguments, words) in [
        (
            &["--help"][..],
            &["serve", "check", "demo", "--version"][..],
        ),
        (
            &["serve", "--help"],
            &["-c, --config <FILE>", "[default: config.toml]", "SIGTERM"],
        ),
        (
            &["check", "--help"],
            &[
                "-c, --config <FILE>",
                "[default: config.toml]",
                "--offline",
                "--no-measure",
                "one at a time",
                "the exit code stays 0",
            ],
        ),
        (
            &["demo", "--help"],
            &[
                "-c, --config <FILE>",
                "--listen <ADDRESS:PORT>",
                "temporary folder",
            ],
        ),
    ] {
        let ended = Program::larder(arguments).run().await;
        ended.assert_code(0).assert_stderr("");
        for words in everywhere.iter().chain(words) {
            assert!(
                ended.stdout.contains(words),
                "{words:?} is missing in\n{}",
                ended.stdout
            );
        }
    }
    let version = format!("larder {}\n", env!("CARGO_PKG_VERSION"));
    Program::larder(&["--version"])
        .run()
        .await
        .assert_code(0)
        .assert_stdout(&version);
}
