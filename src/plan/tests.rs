//! What a configuration means, and every mistake a plan can find in one.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Span;

mod loads;

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

fn compile(text: &str) -> Plan {
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
        .map(|p| (p.name.as_str(), p.place, p.presence.clone()))
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
    // A schedule says better than a default how long an answer is good.
    assert_eq!(b.freshness.max_age, None);
    assert!(b.refresh.every.is_some() && b.refresh.cron.is_some());
    assert_eq!(
        (b.shape, b.max_rows, b.timeout),
        (Shape::Value, 1, Duration::from_secs(1))
    );
    assert_eq!(b.unknown_parameters, UnknownParameters::Ignore);

    let routed = plan.route("/a/v%20w").expect("declared");
    assert_eq!(
        (routed.endpoint, &*routed.path_arguments),
        (a.id, &[("x", "v%20w")][..])
    );
    assert_eq!(plan.endpoint(b.id).path.as_str(), "/b");
    assert!(plan.route("/c").is_none());
}

#[test]
fn limits_nobody_wrote_give_way_to_those_that_were() {
    let freshness = |lines: &str| {
        let plan = compile(&format!("{HEAD}sql = 'select 1'\n{lines}"));
        let policy = plan.endpoints()[0].freshness;
        (
            policy.stale_while_revalidate.as_secs(),
            policy.stale_if_error.as_secs(),
        )
    };
    assert_eq!(freshness(""), (60, 3600));
    assert_eq!(freshness("stale_if_error = '5s'"), (5, 5));
    assert_eq!(freshness("stale_while_revalidate = '2h'"), (7200, 7200));
    assert_eq!(freshness("stale_while_revalidate = '0s'"), (0, 3600));
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
            "2: `listen` must be an address or a name, and a port",
            "3: `url` of [repository] is missing",
            "4: `max_connections` is out of range",
            "6: `max_size` is zero",
            "8: `max_age` must be a duration",
            "10: this path is Larder's own",
            "11: only a query can stand here",
            "12: unknown key `max_agee` in [[endpoint]]",
            "13: this endpoint has no `path`",
            "13: this endpoint has no `sql`",
            "14: `every` is too short",
            "14: `timezone` without `cron`",
            "14: there is no time zone of this name",
        ]
    );
}

#[test]
fn a_file_without_endpoints_or_database_is_refused() {
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
fn equal_paths_name_both_places() {
    let text = "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = 'select :x'\n\
                [[endpoint]]\npath = '/a/{y}'\nsql = 'select :y'\n";
    let report = try_compile(text).expect_err("they are equal");
    let rendered = report.render(false);
    assert!(rendered.contains("config.toml:6:8"), "{rendered}");
    assert!(rendered.contains("declared first here"), "{rendered}");
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
    check("sql = ' -- nothing'", &["there is no statement here"]);
    check(
        "sql = 'select 1; select 2'",
        &["there is more than one statement here"],
    );
    check(
        "sql = 'select $1'",
        &["parameters are written as `:name`, not by number"],
    );
    check("sql = \"select 'a\"", &["this string is never closed"]);
}

#[test]
fn parameters_are_declared_and_used() {
    check(
        "sql = 'select :x'",
        &["parameter `x` is used in the SQL but not declared"],
    );
    check("params.x = {}", &["parameter `x` is not used in the SQL"]);
    check("path = '/b/{x}'", &["duplicate key"]);
    let unused = "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = 'select 1'";
    assert_eq!(
        mistakes(unused),
        ["3: parameter `x` is not used in the SQL"]
    );
    let doubled = "repository.url = 'x'\n[[endpoint]]\npath = '/{x}/{x}'\nsql = 'select :x'";
    assert_eq!(
        mistakes(doubled),
        ["3: the path has two parameters called `x`"]
    );
    check(
        "sql = 'select :yaer'\nparams.year = {}",
        &[
            "parameter `yaer` is used in the SQL but not declared",
            "parameter `year` is not used in the SQL",
        ],
    );
    check(
        "sql = 'select 1'\nparams.'a b' = {}",
        &["this can not be the name of a parameter"],
    );
}

#[test]
fn declarations_of_a_parameter_agree_with_each_other() {
    let check = |declaration: &str, expected: &[&str]| {
        check(
            &format!("sql = 'select :x'\nparams.x = {{ {declaration} }}"),
            expected,
        );
    };
    check(
        "default = 1, optional = true",
        &["`x` has both a default and `optional`"],
    );
    check("default = 1, optional = false", &[]);
    check(
        "minimum = 2, maximum = 1",
        &["`minimum` is above `maximum`"],
    );
    check("minimum = 'b', maximum = 'a'", &[]);
    for limits in [
        "minimum = 5",
        "maximum = -1",
        "minimum = '4.5', maximum = 9",
    ] {
        let expected = "the default of `x` is not allowed";
        check(&format!("default = 4, {limits}"), &[expected]);
    }
    check("default = 4, minimum = 4, maximum = 4.0", &[]);
    check("values = []", &["`values` is empty"]);
    check(
        "default = 'c', values = ['a', 'b']",
        &["the default of `x` is not allowed"],
    );
    check("default = 1.0, values = [1, 2]", &[]);
    check(
        "default = 'abc', max_length = 2",
        &["`x` allows no text this long"],
    );
    check("max_length = 0", &["`max_length` is out of range"]);
    check("pattern = 'a('", &["this is no regular expression"]);
    check("pattern = 'a)(b'", &["this is no regular expression"]);
    check(
        "pattern = 'a|b', default = 'ab'",
        &["`x` does not allow this value"],
    );
    check(
        "pattern = 'a|b', values = ['a', 'bc']",
        &["`x` does not allow this value"],
    );
    check("type = 'int; drop'", &["this is no type's name"]);
    let text = "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = 'select :x'\n\
                params.x = { default = 1, optional = true }";
    assert_eq!(
        mistakes(text),
        ["5: `x` is part of the path", "5: `x` is part of the path"]
    );
}

#[test]
fn schedules_come() {
    check("refresh = {}", &["`refresh` does not say when"]);
    check("refresh = { every = '99ms' }", &["`every` is too short"]);
    check("refresh = { cron = '* * *' }", &["this is no cron line"]);
    check(
        "refresh = { cron = '0 0 31 2 *' }",
        &["this time never comes"],
    );
    check(
        "refresh = { cron = '* * * * *', timezone = 'Mars' }",
        &["there is no time zone of this name"],
    );
    check(
        "refresh = { timezone = 'UTC' }",
        &["`timezone` without `cron`"],
    );
}

#[test]
fn policies_agree_with_each_other() {
    check(
        "timeout = '31s'",
        &["`timeout` is longer than `statement_timeout`"],
    );
    check(
        "stale_if_error = '1s'\nstale_while_revalidate = '2s'",
        &["`stale_if_error` is shorter than `stale_while_revalidate`"],
    );
    check("max_age = '0s'", &["`max_age` is too short"]);
    check(
        "shape = 'row'\nmax_rows = 0",
        &["`max_rows` is out of range"],
    );
    check(
        "shape = 'rwos'",
        &["`shape` must be one of `rows`, `columns`, `row`, `tuple`, `value`"],
    );
    check(
        "on_miss = 'refuse'",
        &["nothing would load this endpoint again once it has expired"],
    );
    check("on_miss = 'refuse'\nrefresh.every = '1s'", &[]);
    check(
        "sql = 'select :x'\nparams.x = {}\non_miss = 'refuse'",
        &["nothing would ever load this endpoint"],
    );
    for trigger in ["cron = '@daily'", PROBE, "notify = 'c'"] {
        check(&format!("on_miss = 'refuse'\nrefresh.{trigger}"), &[]);
    }
    let warm = "sql = 'select :x'\nparams.x = {}\non_miss = 'refuse'\nwarm = [{ x = 1 }]\n";
    check(
        warm,
        &["nothing would load this endpoint's keys again once they have expired"],
    );
    check(
        &format!("{warm}refresh.ahead = false"),
        &["nothing would load this endpoint's keys again once they have expired"],
    );
    for trigger in ["ahead = true", PROBE, "notify = 'c'"] {
        check(&format!("{warm}refresh.{trigger}"), &[]);
    }
    check(
        "sql = 'select :x'\nparams.x = {}\nrefresh.every = '1s'",
        &["a schedule on an endpoint with parameters"],
    );
    check(
        "sql = 'select :x'\nparams.x = {}\nmax_bytes = '1GiB'",
        &["an answer of /a may be larger than the whole cache"],
    );
    check("max_bytes = '1GiB'", &[]);
}

#[test]
fn one_slip_is_one_mistake() {
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

#[test]
fn what_defaults_say_of_themselves_is_reported_once() {
    let text = "repository.url = 'x'\n[defaults]\ntimeout = '40s'\nstale_if_error = '1s'\n\
                stale_while_revalidate = '2s'\n\
                [[endpoint]]\npath = '/a'\nsql = 'select 1'\n[[endpoint]]\npath = '/b'\nsql = 'select 1'\n";
    assert_eq!(
        mistakes(text),
        [
            "3: `timeout` is longer than `statement_timeout`",
            "4: `stale_if_error` is shorter than `stale_while_revalidate`",
        ]
    );
    let text = "repository.url = 'x'\ndefaults.stale_while_revalidate = '2s'\n\
                [[endpoint]]\npath = '/a'\nsql = 'select 1'\nstale_if_error = '1s'\n\
                [[endpoint]]\npath = '/b'\nsql = 'select 1'\n";
    assert_eq!(
        mistakes(text),
        ["6: `stale_if_error` is shorter than `stale_while_revalidate`"]
    );
}

#[test]
fn what_postgres_says_is_shown_where_it_was_written() {
    let plan = compile(
        "repository.url = 'x'\n[[endpoint]]\npath = '/a'\nsql = \"\"\"\nselect :x, \\\n   'ä\\t' || \\\"colum\\\"\nfrom t\"\"\"\nparams.x = {}\n",
    );
    let endpoint = &plan.endpoints()[0];
    let text = endpoint.statement.text();
    let shown = |needle: &str| {
        let offset = text.find(needle).expect("in the text");
        let position = u32::try_from(text[..offset].chars().count() + 1).expect("short");
        let report = plan.mistake(
            Subject::Statement(endpoint.id),
            &Finding {
                position: Some(position),
                ..Finding::new("no")
            },
        );
        let span = report.mistakes()[0].span().expect("a place").clone();
        (span.line(), span.text().to_owned())
    };
    assert_eq!(shown("$1"), (5, ":x".to_owned()));
    assert_eq!(shown("colum"), (6, "colum".to_owned()));
    assert_eq!(shown("from"), (7, "from".to_owned()));
    assert_eq!(shown("'ä"), (6, "'".to_owned()));

    let report = plan.mistake(
        Subject::Statement(endpoint.id),
        &Finding {
            detail: Some("because".to_owned()),
            ..Finding::new("no")
        },
    );
    assert_eq!(report.mistakes()[0].span().map(Span::line), Some(4));
    assert!(report.render(false).contains("note: because"), "{report}");
}

#[test]
fn what_postgres_says_of_parameters_names_them_as_they_are_written() {
    let plan = compile(
        "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = \"\"\"\nselect :x,\n :year\"\"\"\nparams.year = {}\n",
    );
    let id = plan.endpoints()[0].id;
    let shown = |report: &Report| {
        let mistake = &report.mistakes()[0];
        let span = mistake.span().expect("a place");
        let advice = mistake.advice().unwrap_or_default().to_owned();
        (
            mistake.message().to_owned(),
            span.line(),
            span.text().to_owned(),
            advice,
        )
    };
    let finding = Finding::new("could not determine data type of parameter $2");
    let report = plan.mistake(Subject::ParameterTypes(id), &finding);
    let (message, line, text, advice) = shown(&report);
    assert_eq!(message, "could not determine data type of parameter :year");
    assert_eq!((line, text.as_str()), (6, ":year"));
    assert!(
        advice.contains("`params.year = { type = \"integer\" }`"),
        "{advice}"
    );
    assert!(advice.contains("`:year::integer`"), "{advice}");

    // A price is no parameter, and neither is what the statement has not.
    let report = plan.mistake(
        Subject::Statement(id),
        &Finding {
            detail: Some("$1".to_owned()),
            ..Finding::new("$1 and $2, not $3, $0 or $x")
        },
    );
    assert_eq!(shown(&report).0, ":x and :year, not $3, $0 or $x");
    assert!(report.render(false).contains("note: :x"), "{report}");

    let parameters = &plan.endpoints()[0].parameters;
    let of_parameter = |name: &str| {
        let index = parameters.iter().position(|it| it.name == name);
        let index = index.expect("a parameter");
        plan.mistake(Subject::Parameter(id, index), &Finding::new("no"))
    };
    let (_, line, text, _) = shown(&of_parameter("year"));
    assert_eq!((line, text.as_str()), (7, "year"));
    let (_, line, _, _) = shown(&of_parameter("x"));
    assert_eq!(line, 4);
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
            prop_assert!(!report.render(true).contains("hunter2"));
        }
    }
}
