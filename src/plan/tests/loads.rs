//! What loads an endpoint without a request: probes, notifications, `ahead` and warm keys.

use super::*;

/// An endpoint with a required and an optional parameter.
const PARAMETERS: &str = "sql = 'select :x, :y'\nparams.x = {}\nparams.y.optional = true\n";

#[test]
fn a_probe_is_one_query_that_runs_often_enough() {
    let check_probe = |probe: &str, expected: &[&str]| {
        check(&format!("refresh.probe = {{ {probe} }}"), expected);
        check(
            &format!("{PARAMETERS}refresh.probe = {{ {probe} }}"),
            expected,
        );
    };
    check_probe("sql = 'select 1', every = '100ms'", &[]);
    check_probe(
        "",
        &["this probe has no `sql`", "this probe has no `every`"],
    );
    check_probe(
        "sql = 'select 1', every = '99ms'",
        &["`every` is too short"],
    );
    check_probe(
        "sql = 'select 1; select 2', every = '1s'",
        &["this SQL has more than one statement"],
    );
    check_probe("sql = 'notify x', every = '1s'", &["this is not a query"]);
    check_probe(
        "sql = 'select :x', every = '1s'",
        &["a probe cannot have parameters"],
    );
    check_probe(
        "sql = 'select $1', every = '1s'",
        &["a probe cannot have parameters"],
    );
    check(
        "refresh = { every = '5s', probe = { sql = 'select 1', every = '2s' } }",
        &["`refresh` has both `every` and a probe"],
    );
    check(
        "refresh = { cron = '@daily', probe = { sql = 'select 1', every = '2s' } }",
        &[],
    );
    let probed = "refresh.probe = { sql = 'select 1', every = '2s' }\nmax_age";
    check(
        &format!("{probed} = '2s'"),
        &["the probe runs too rarely for this `max_age`"],
    );
    check(&format!("{probed} = '2001ms'"), &[]);
    let text = format!(
        "defaults.max_age = '10s'\n{HEAD}sql = 'select 1'\nrefresh.probe = {{ sql = 'select 1', every = '10s' }}"
    );
    assert_eq!(
        mistakes(&text),
        ["6: the probe runs too rarely for this `max_age`"]
    );
    assert!(try_compile(&format!("{text}\nmax_age = '20s'")).is_ok());
}

#[test]
fn endpoints_with_the_same_probe_share_it() {
    let endpoint = |path: &str, refresh: &str| {
        format!("[[endpoint]]\npath = '{path}'\nsql = 'select 1'\nrefresh = {{ {refresh} }}\n")
    };
    let probe = |sql: &str, every: &str| format!("probe = {{ sql = '{sql}', every = '{every}' }}");
    let text = [
        "repository.url = 'x'\n".to_owned(),
        endpoint("/a", &probe("select ä, max(b)", "1s")),
        endpoint("/b", "notify = 'b'"),
        endpoint("/c", &probe(" select ä, max(b); -- again", "1000ms")),
        endpoint(
            "/d",
            &format!("notify = 'a', {}", probe("select ä, max(b)", "2s")),
        ),
        endpoint("/e", &format!("notify = 'b', {}", probe("select 2", "1s"))),
    ];
    let plan = compile(&text.concat());
    let probes: Vec<_> = plan
        .probes()
        .iter()
        .map(|probe| (probe.id.number(), probe.sql.as_str(), probe.every.as_secs()))
        .collect();
    assert_eq!(
        probes,
        [
            (0, "select ä, max(b)", 1),
            (1, "select ä, max(b)", 2),
            (2, "select 2", 1)
        ]
    );
    let probes: Vec<_> = plan
        .endpoints()
        .iter()
        .map(|endpoint| endpoint.refresh.probe.map(ProbeId::number))
        .collect();
    assert_eq!(probes, [Some(0), None, Some(0), Some(1), Some(2)]);
    assert_eq!(plan.channels(), ["a", "b"]);

    let place = |report: Report| {
        let span = report.mistakes()[0].span().expect("a place").clone();
        (span.line(), span.text().to_owned())
    };
    let first = ProbeId::new(0);
    let at_max = Finding {
        position: Some(11),
        ..Finding::new("no")
    };
    let max = plan.mistake(Subject::Probe(first), &at_max);
    assert_eq!(place(max), (5, "max".to_owned()));
    let detailed = Finding {
        detail: Some("because".to_owned()),
        ..Finding::new("no")
    };
    let whole = plan.mistake(Subject::Probe(ProbeId::new(2)), &detailed);
    assert!(whole.to_string().contains("note: because"), "{whole}");
    assert_eq!(place(whole), (21, "'select 2'".to_owned()));
}

#[test]
fn a_channel_name_must_not_be_truncated_by_postgres() {
    let long = "ä".repeat(32);
    for name in [
        "''".to_owned(),
        format!("'{long}'"),
        "\"a\\u0000\"".to_owned(),
    ] {
        check(
            &format!("refresh.notify = {name}"),
            &["this is not a valid channel name"],
        );
    }
    check(&format!("refresh.notify = '{}'", &long[2..]), &[]);
    check(&format!("{PARAMETERS}refresh.notify = 'Sales'"), &[]);
}

#[test]
fn ahead_is_for_endpoints_with_parameters() {
    check(&format!("{PARAMETERS}refresh.ahead = true"), &[]);
    check("refresh.ahead = false", &[]);
    check(
        "refresh.ahead = true",
        &["`ahead` on an endpoint without parameters"],
    );
    check(
        "refresh = { ahead = true, every = '1s' }",
        &["`ahead` on an endpoint without parameters"],
    );
    check(
        &format!("{PARAMETERS}refresh = {{ ahead = true, every = '1s', cron = '@daily' }}"),
        &["a schedule on an endpoint with parameters"],
    );
}

#[test]
fn warm_keys_must_fit_their_endpoint() {
    let check = |lines: &str, expected: &[&str]| check(&format!("{PARAMETERS}{lines}"), expected);
    check("warm = [{ x = 'a', y = 1 }, { x = 'b' }]", &[]);
    check("warm = []", &["`warm` is empty"]);
    check("warm = [{ y = 1 }]", &["this key has no `x`"]);
    check(
        "warm = [{ x = 1, z = 1 }, { xx = 1 }]",
        &["there is no parameter `z`", "there is no parameter `xx`"],
    );
    check("warm = [{ x = 1, x = 2 }]", &["duplicate key"]);
    check(
        "warm = [{ x = 1, y = 2 }, { x = 1 }, { y = '2', x = '1' }]",
        &["this key is listed twice"],
    );
    check(
        "warm = [{ x = 1 }, { x = 2 }]\nmax_keys = 1",
        &["`warm` lists more keys than `max_keys` allows"],
    );
    check("max_keys = 0", &["`max_keys` is out of range"]);
    check("warm_sql = 'select 1 as x'\nwarm = [{ x = 1 }]", &[]);
    check(
        "warm_sql = 'select :x as x'",
        &["`warm_sql` cannot have parameters"],
    );
    check(
        "warm_sql = 'select 1; select 2'",
        &["this SQL has more than one statement"],
    );
}

#[test]
fn an_endpoint_without_parameters_has_one_key() {
    check(
        "sql = 'select 1'\nwarm = [{ x = 1 }]\nwarm_sql = 'select 1'\nmax_keys = 1",
        &[
            "`warm` on an endpoint without parameters",
            "`warm_sql` on an endpoint without parameters",
            "`max_keys` on an endpoint without parameters",
        ],
    );
    let plan = compile(&format!("defaults.max_keys = 5\n{HEAD}sql = 'select 1'"));
    assert!(plan.endpoints()[0].warm.is_empty());
}

#[test]
fn warm_keys_are_read_like_requests() {
    let plan = compile(
        "repository.url = 'x'\ndefaults.max_keys = 5\n\
         [[endpoint]]\npath = '/{b}'\nsql = 'select :a, :b'\nparams.a.default = 1\n\
         warm = [{ a = 1.5, b = 2003-01-06 }, { b = true }]\nwarm_sql = 'select ä as b;'\n\
         [[endpoint]]\npath = '/x/{b}'\nsql = 'select :b'\nmax_keys = 7\nrefresh.ahead = true\n",
    );
    let [a, b] = plan.endpoints() else {
        panic!("two endpoints")
    };
    assert_eq!((a.max_keys, b.max_keys), (5, 7));
    assert_eq!((a.refresh.ahead, b.refresh.ahead), (false, true));
    assert!(!a.warm.is_empty() && b.warm.is_empty());
    let statement = a.warm.statement.as_ref().map(Statement::text);
    assert_eq!(statement, Some("select ä as b"));

    let types = vec![ParameterType::Numeric, ParameterType::Text];
    let signature = Signature::new(a, types).expect("right");
    let texts: Vec<Vec<_>> = a
        .warm
        .arguments
        .iter()
        .map(|arguments| {
            let (path, query) = a.split_arguments(arguments);
            let arguments = signature.arguments(a, &path, &query).expect("right");
            arguments.iter().map(|t| t.map(str::to_owned)).collect()
        })
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        texts,
        [[text("1.5"), text("2003-01-06")], [text("1"), text("true")]]
    );

    let place = |report: Report| {
        let span = report.mistakes()[0].span().expect("a place").clone();
        (span.line(), span.text().to_owned())
    };
    let no = Finding::new("no");
    assert_eq!(
        place(plan.mistake(Subject::WarmArguments(a.id, 1), &no)),
        (7, "{ b = true }".to_owned())
    );
    let finding_at = |position| Finding {
        position,
        ..no.clone()
    };
    let at = |position| place(plan.mistake(Subject::WarmStatement(a.id), &finding_at(position)));
    assert_eq!(at(Some(8)), (8, "ä".to_owned()));
    assert_eq!(at(None), (8, "'select ä as b;'".to_owned()));
    // The message is shown even for an endpoint without `warm_sql`.
    let report = plan.mistake(Subject::WarmStatement(b.id), &finding_at(Some(8)));
    assert_eq!(report.mistakes()[0].message(), "no");
}

#[test]
fn freshness_follows_what_loads_the_endpoint() {
    let max_age = |defaults: &str, lines: &str| {
        let plan = compile(&format!("{defaults}{HEAD}sql = 'select 1'\n{lines}"));
        plan.endpoints()[0]
            .freshness
            .max_age
            .map(|age| age.as_secs())
    };
    let probe = |every: &str| format!("refresh.probe = {{ sql = 'select 1', every = '{every}' }}");
    let written = "defaults.max_age = '1m'\n";
    assert_eq!(max_age("", "refresh.notify = 'c'"), Some(10));
    assert_eq!(max_age(written, "refresh.notify = 'c'"), Some(60));
    assert_eq!(max_age("", &probe("9999ms")), Some(10));
    assert_eq!(max_age(written, &probe("10s")), Some(60));
    // Twice the 10 s and 20 s, and the 30 s or 5 s that a load may take.
    assert_eq!(max_age("", &probe("10s")), Some(50));
    assert_eq!(
        max_age("", &format!("timeout = '5s'\n{}", probe("20s"))),
        Some(45)
    );
    // A schedule decides, unless notifications show that data changes in between.
    assert_eq!(max_age(written, "refresh.cron = '@daily'"), None);
    assert_eq!(
        max_age(written, "refresh = { cron = '@daily', notify = 'c' }"),
        Some(60)
    );
}

#[test]
fn with_refuse_an_answer_must_last_until_the_next_run() {
    const GAP: &str = "answers of this endpoint expire before its schedule loads new ones";
    let refusing = |lines: &str, expected: &[&str]| {
        check(
            &format!("on_miss = 'refuse'\nmax_age = '10s'\n{lines}"),
            expected,
        );
    };
    refusing("refresh.every = '2m'", &[GAP]);
    refusing("refresh.every = '70s'", &[]);
    refusing(
        "refresh.every = '70s'\nstale_while_revalidate = '50s'",
        &[GAP],
    );
    refusing("refresh.cron = '@hourly'", &[GAP]);
    refusing(
        "refresh.cron = '@hourly'\nstale_while_revalidate = '1h'",
        &[],
    );
    refusing("refresh = { cron = '@hourly', every = '30s' }", &[]);
    refusing("refresh = { cron = '@hourly', notify = 'c' }", &[]);
    check("on_miss = 'refuse'\nrefresh.every = '2h'", &[]);
    check("max_age = '10s'\nrefresh.every = '2h'", &[]);
}
