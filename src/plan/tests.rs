//! What a configuration means, and the mistakes that a plan finds in it.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Config, Report, Span};

mod access; // who may ask what
mod findings; // mistakes that Postgres reports
mod loads; // what loads an endpoint
mod parameters; // declarations of parameters
mod policies; // the keys that `[defaults]` and `[[endpoint]]` share
mod run_as; // the role and the settings of a load

const HEAD: &str = "repository.url = 'postgres://db'\n[[endpoint]]\npath = '/a'\n";

/// A probe, as a key of `refresh`.
const PROBE: &str = "probe = { sql = 'select 1', every = '2s' }";

fn try_compile(text: &str) -> Result<Plan, Report> {
    Plan::compile(Config::parse(
        "config.toml",
        text.to_owned(),
        Path::new(""),
        &|_| None,
    )?)
}

pub(super) fn compile(text: &str) -> Plan {
    try_compile(text).unwrap_or_else(|report| panic!("{report}"))
}

/// Each mistake of `text` as its line and message.
fn mistakes(text: &str) -> Vec<String> {
    let report = try_compile(text).expect_err("there is a mistake");
    report
        .mistakes()
        .iter()
        .map(|m| format!("{}: {}", m.span().map_or(0, Span::line), m.message()))
        .collect()
}

/// The messages of the mistakes in an endpoint that is right but for `lines`.
fn check(lines: &str, expected: &[&str]) {
    let sql = if lines.lines().any(|line| line.starts_with("sql")) {
        ""
    } else {
        "sql = 'select 1'\n"
    };
    let found = try_compile(&format!("{HEAD}{sql}{lines}"));
    let found: Vec<String> = match &found {
        Ok(_) => Vec::new(),
        Err(report) => report
            .mistakes()
            .iter()
            .map(|m| m.message().to_owned())
            .collect(),
    };
    assert_eq!(found, expected, "{lines}");
}

#[test]
fn the_shipped_configuration_compiles() {
    let env = |name: &str| (name == "DATABASE_URL").then(|| "postgres://db/sales".to_owned());
    let text = include_str!("../../config.toml").to_owned();
    let config = Config::parse("config.toml", text, Path::new(""), &env).expect("readable");
    let plan = Plan::compile(config).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(plan.repository().url.expose(), "postgres://db/sales");
    let shapes: std::collections::HashSet<_> = plan
        .endpoints()
        .iter()
        .map(|endpoint| endpoint.shape.as_str())
        .collect();
    assert_eq!(shapes.len(), Shape::ALL.len(), "every shape is shown");
}

#[test]
fn the_shipped_values_are_the_defaults() {
    let env = |_: &str| Some("postgres://db".to_owned());
    let text = include_str!("../../config.toml").to_owned();
    let head = text
        .split("[[endpoint]]")
        .next()
        .expect("sections come first");
    let endpoint = "\n[[endpoint]]\npath = '/a'\nsql = 'select 1'\n";
    let parse = |text: String| {
        let config = Config::parse("c", text, Path::new(""), &env).expect("readable");
        Plan::compile(config).unwrap_or_else(|report| panic!("{report}"))
    };
    let shipped = parse(format!("{head}{endpoint}"));
    let bare = parse(format!("repository.url = 'postgres://db'{endpoint}"));
    let settings = |plan: &Plan| {
        let endpoint = &plan.endpoints()[0];
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {} {} {} {:?} {:?}",
            plan.server(),
            plan.repository(),
            plan.cache(),
            endpoint.freshness,
            endpoint.on_miss,
            endpoint.timeout,
            endpoint.max_rows,
            endpoint.max_bytes,
            endpoint.max_keys,
            endpoint.unknown_parameters,
            endpoint.shape,
        )
    };
    assert_eq!(settings(&shipped), settings(&bare));
}

#[test]
fn an_endpoint_means_what_its_section_says() {
    let plan = compile(
        "repository = { url = 'x', max_rows = 7, max_bytes = '2KiB', statement_timeout = '20s' }\n\
         [defaults]\nmax_age = '1m'\nmax_bytes = '1KiB'\nshape = 'columns'\n\
         [[endpoint]]\npath = '/a/{x}'\nsql = 'select :y, :x, :z'\n\
         params.y.optional = true\nparams.z = { default = 5, type = 'int' }\n\
         [[endpoint]]\npath = '/b'\nsql = 'select 1'\nrefresh = { every = '5s', cron = '@hourly' }\n\
         shape = 'value'\nmax_rows = 1\ntimeout = '1s'\nunknown_params = 'ignore'\n",
    );
    let [a, b] = plan.endpoints() else {
        panic!("two endpoints")
    };
    assert_eq!(a.freshness.max_age, Some(Duration::from_secs(60)));
    assert_eq!(
        (a.max_rows, a.max_bytes, a.shape),
        (7, 1024, Shape::Columns)
    );
    assert_eq!(a.timeout, Duration::from_secs(20));
    let parameters: Vec<_> = a
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.place.clone(), p.presence.clone()))
        .collect();
    assert_eq!(
        parameters,
        [
            ("y", Place::Query, Presence::Optional),
            ("x", Place::Path, Presence::Required),
            ("z", Place::Query, Presence::Default("5".to_owned())),
        ]
    );
    assert_eq!(a.parameters[2].declared_type.as_deref(), Some("int"));
    // A schedule takes precedence over a default.
    assert_eq!(b.freshness.max_age, None);
    assert!(b.refresh.every.is_some() && b.refresh.cron.is_some());
    assert_eq!(
        (b.shape, b.max_rows, b.timeout),
        (Shape::Value, 1, Duration::from_secs(1))
    );
    assert_eq!(b.unknown_parameters, UnknownParameters::Ignore);

    let Some(Route::Endpoint(routed)) = plan.route("/a/v%20w") else {
        panic!("declared");
    };
    assert_eq!(
        (routed.endpoint, &*routed.path_arguments),
        (a.id, &[("x", "v%20w")][..])
    );
    assert_eq!(plan.endpoint(b.id).path.as_str(), "/b");
    assert!(plan.route("/c").is_none());
}

#[test]
fn every_mistake_is_found_in_one_run() {
    assert_eq!(
        mistakes(
            "[server]\nlisten = 'localhost'\n[repository]\nmax_connections = 0\n\
             [cache]\nmax_size = '0B'\n[defaults]\nmax_age = '10'\n\
             [[endpoint]]\npath = '/metrics'\nsql = 'delete from t'\nmax_agee = '1s'\n\
             [[endpoint]]\nrefresh = { every = '1ms', timezone = 'Mars' }\n"
        ),
        [
            "2: `listen` must be an address or a name, with a port",
            "3: `url` of [repository] is missing",
            "4: `max_connections` is out of range",
            "6: `max_size` is zero",
            "8: `max_age` must be a duration",
            "10: this path is reserved for Larder",
            "11: this is not a query",
            "12: unknown key `max_agee` in [[endpoint]]",
            "13: this endpoint has no `path`",
            "13: this endpoint has no `sql`",
            "14: `every` is too short",
            "14: `timezone` without `cron`",
            "14: there is no time zone with this name",
        ]
    );
}

#[test]
fn a_file_without_endpoints_or_database_is_rejected() {
    assert_eq!(
        mistakes(""),
        [
            "0: `url` of [repository] is missing",
            "0: no endpoint is declared"
        ]
    );
    let empty = "repository.url = ' '\n[[endpoint]]\npath = '/a'\nsql = 'select 1'";
    assert_eq!(mistakes(empty), ["1: `url` of [repository] is empty"]);
    let elsewhere = "repository.url = 'x'\nendpoint = 3";
    assert_eq!(
        mistakes(elsewhere),
        ["2: `endpoint` must be an array of tables"]
    );
}

#[test]
fn equal_paths_show_both_places() {
    let text = "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = 'select :x'\n\
                [[endpoint]]\npath = '/a/{y}'\nsql = 'select :y'\n";
    let report = try_compile(text).expect_err("they are equal");
    let rendered = report.to_string();
    assert!(rendered.contains("config.toml:6:8"), "{rendered}");
    assert!(rendered.contains("first declared here"), "{rendered}");
}

#[test]
fn sql_comes_from_one_place() {
    check(
        "sql = 'select 1'\nsql_file = 'no.sql'",
        &[
            "the file of `sql_file` cannot be read",
            "this endpoint has both `sql` and `sql_file`",
        ],
    );
    check("sql = ' -- nothing'", &["this SQL has no statement"]);
    check(
        "sql = 'select 1; select 2'",
        &["this SQL has more than one statement"],
    );
    check(
        "sql = 'select $1'",
        &["parameters are written `:name`, not `$1`"],
    );
    check("sql = \"select 'a\"", &["this string is never closed"]);
}

#[test]
fn schedules_are_checked() {
    check("refresh = {}", &["`refresh` has no trigger"]);
    check("refresh = { every = '99ms' }", &["`every` is too short"]);
    check(
        "refresh = { cron = '* * *' }",
        &["this is not a valid cron expression"],
    );
    check(
        "refresh = { cron = '0 0 31 2 *' }",
        &["this cron expression never matches"],
    );
    check(
        "refresh = { cron = '* * * * *', timezone = 'Mars' }",
        &["there is no time zone with this name"],
    );
    check(
        "refresh = { timezone = 'UTC' }",
        &["`timezone` without `cron`"],
    );
}

#[test]
fn a_misspelled_key_is_one_mistake() {
    check(
        "refresh = { evry = '5s' }\non_miss = 'refuse'",
        &["unknown key `evry` in `refresh`"],
    );
    check(
        "refresh.probe = { sq = 'select 1', evry = '5s' }",
        &[
            "unknown key `sq` in `probe`",
            "unknown key `evry` in `probe`",
        ],
    );
    check(
        "sql = 'select :x'\nparams.x = {}\nrefresh = { ahed = true }\nwrm = [{ x = 1 }]\non_miss = 'refuse'",
        &[
            "unknown key `ahed` in `refresh`",
            "unknown key `wrm` in [[endpoint]]",
        ],
    );
    check(
        "refresh = '5s'\non_miss = 'refuse'",
        &["`refresh` must be a table"],
    );
    check(
        "sql = 'select :t'\nparams.t = 'int'",
        &["`params.t` must be a table"],
    );
    check(
        "sql = 'select :t'\nparams = 3",
        &["`params` must be a table"],
    );
    let endpoint = "[[endpoint]]\npath = '/a'\nsql = 'select 1'";
    for (text, expected) in [
        (
            format!("repository = 'x'\n{endpoint}"),
            "1: `repository` must be a table",
        ),
        (
            format!("[[repository]]\nurl = 'x'\n{endpoint}"),
            "1: `repository` must be a table",
        ),
        (
            format!("[repositry]\nurl = 'x'\n{endpoint}"),
            "1: unknown key `repositry`",
        ),
        (
            format!("repository.ulr = 'x'\n{endpoint}"),
            "1: unknown key `ulr` in [repository]",
        ),
        (
            "repository.url = 'x'\n[[endpiont]]\npath = '/a'".to_owned(),
            "2: unknown key `endpiont`",
        ),
        (
            "repository.url = 'x'\n[[endpoint]]\npth = '/a'\nsql = 'select 1'".to_owned(),
            "3: unknown key `pth` in [[endpoint]]",
        ),
    ] {
        assert_eq!(mistakes(&text), [expected], "{text}");
    }
}

proptest! {
    #[test]
    fn no_edit_of_a_configuration_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, prop::sample::select(vec![
            "", "'", "\"", "\"\"\"", "[", "]", "{", "}", "=", "\n", "$", "${", ":", ";", "--", "/*", "ä", "0", "x", "\\", ".",
        ])), 1..6),
    ) {
        let mut text = include_str!("../../config.toml").to_owned();
        for (at, removed, inserted) in edits {
            let start = text.floor_char_boundary(at.index(text.len()));
            let end = text.floor_char_boundary(start + removed);
            text.replace_range(start..end.max(start), inserted);
        }
        let secret = |_: &str| Some("postgres://me:hunter2@db".to_owned());
        let config = Config::parse("config.toml", text, Path::new(""), &secret);
        if let Err(report) = config.and_then(Plan::compile) {
            prop_assert!(!report.is_empty());
            prop_assert!(!report.coloured().contains("hunter2"));
        }
    }
}
