//! The keys that `[defaults]` and `[[endpoint]]` share.

use super::*;

#[test]
fn built_in_limits_adapt_to_those_that_are_set() {
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
fn policies_must_be_consistent() {
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
fn contradictions_in_defaults_are_reported_once() {
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
