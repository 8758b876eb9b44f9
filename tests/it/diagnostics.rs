//! Reports on wrong configurations, word for word. Each `NAME.toml` in `diagnostics/` has its report in
//! `NAME.txt`. With `LARDER_BLESS` set, the reports are written instead of compared.

use std::fs;
use std::path::{Path, PathBuf};

use larder::config::{Config, Report};
use larder::plan::Plan;

use crate::support::postgres::Postgres;
use crate::support::program::Program;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/diagnostics")
}

/// The report on `NAME.toml`, with file names relative to the folder.
fn report(name: &str) -> Report {
    let text =
        fs::read_to_string(folder().join(name).with_extension("toml")).expect("a test's own");
    let env = |variable: &str| {
        (variable == "DATABASE_URL").then(|| "postgres://larder:hunter2@db/sales".to_owned())
    };
    Config::parse("config.toml", text, &folder(), &env)
        .and_then(Plan::compile)
        .expect_err("every file here is wrong")
}

fn check(name: &str) -> String {
    let prefix = format!("{}/", folder().display());
    let rendered = report(name).to_string().replace(&prefix, "");
    compare(name, &rendered);
    rendered
}

fn compare(name: &str, rendered: &str) {
    let golden = folder().join(name).with_extension("txt");
    if std::env::var_os("LARDER_BLESS").is_some() {
        fs::write(&golden, rendered).expect("writable");
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(
        rendered, expected,
        "{name}: run again with LARDER_BLESS=1 if this is better"
    );
}

#[test]
fn ten_mistakes_are_ten_reports_with_lines() {
    let rendered = check("ten_mistakes");
    assert_eq!(report("ten_mistakes").len(), 10);
    assert!(rendered.ends_with("error: 10 mistakes\n"));
}

#[test]
fn mistakes_in_policies_are_explained() {
    check("policies");
}

#[test]
fn mistakes_in_triggers_are_explained() {
    check("refresh");
}

#[test]
fn sql_is_shown_where_it_is_written() {
    check("sql");
}

#[test]
fn a_mistake_next_to_a_secret_does_not_show_it() {
    for name in [
        "secret",
        "secret_in_broken_toml",
        "secret_in_disguise",
        "secret_that_is_no_toml",
    ] {
        let rendered = check(name);
        assert!(!rendered.contains("hunter2"), "{rendered}");
        assert!(!format!("{:?}", report(name)).contains("hunter2"));
    }
}

#[test]
fn colours_do_not_change_the_text() {
    let report = report("ten_mistakes");
    let coloured = report.coloured();
    assert!(coloured.contains("\u{1b}["));
    assert_eq!(without_colours(&coloured), report.to_string());
}

#[tokio::test]
async fn mistakes_that_postgres_finds_are_shown_in_the_file() {
    let db = Postgres::with("CREATE TYPE size AS ENUM ('S', 'M')").await;
    let ended = Program::larder(&["check", "-c", "online.toml"])
        .within(&folder())
        .on(db.url())
        .run()
        .await;
    ended.assert_code(1).assert_stdout("");
    compare("online", &ended.stderr);
}

#[tokio::test]
async fn mistakes_of_running_queries_are_shown_in_the_file() {
    let db = Postgres::with("").await;
    let ended = Program::larder(&["check", "-c", "runs.toml"])
        .within(&folder())
        .on(db.url())
        .run()
        .await;
    ended.assert_code(1);
    compare("runs", &ended.stderr);
    // Figures without the failed queries would be too good.
    assert!(!ended.stdout.contains("which fits"), "{}", ended.stdout);
}

#[tokio::test]
async fn mistakes_in_row_level_security_are_shown_in_the_file() {
    let db = Postgres::own().await;
    db.execute(include_str!("diagnostics/row_security.sql"))
        .await;
    let (_, place) = db.url().split_once('@').unwrap();
    let url = format!("postgresql://larder_login:secret@{place}");
    for name in ["roles", "row_security"] {
        let file = format!("{name}.toml");
        let ended = Program::larder(&["check", "--no-measure", "-c", &file])
            .within(&folder())
            .on(&url)
            .run()
            .await;
        ended.assert_code(1);
        compare(name, &ended.stderr);
    }
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}
