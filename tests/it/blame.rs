//! Whose fault an error from Postgres is: a client's argument, the statement and its data, a foreign server,
//! or the session. Before and after the first row, with custom and with generic plans.

use larder::observe::{Event, Fault, QueryOutcome};
use serde_json::json;

use crate::support::app::App;
use crate::support::postgres::Postgres;

/// More loads than any test in this file causes.
const PLENTY: &str = "max_loads_per_second = 100_000";

fn is_failing(event: &Event) -> bool {
    matches!(event, Event::LoadsFailing { .. })
}

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::RepositoryLost { .. })
}

fn blamed_on(whom: Fault) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::LoadsFailing { fault, .. } if *fault == whom)
}

/// An endpoint with those parameters that are not in its path.
fn endpoint(path: &str, sql: &str, parameters: &[&str]) -> String {
    let parameters: String = parameters
        .iter()
        .map(|name| format!("params.{name} = {{}}\n"))
        .collect();
    format!("[[endpoint]]\npath = \"{path}\"\nsql = '''{sql}'''\nmax_age = \"1h\"\n{parameters}")
}

/// The names in a query string.
fn names(query: &str) -> Vec<&str> {
    let pairs = query.split('&');
    pairs
        .filter_map(|pair| Some(pair.split_once('=')?.0))
        .collect()
}

const FUNCTIONS: &str = "
    CREATE TABLE n AS SELECT x AS v, x::text AS name FROM generate_series(1, 5) AS x;
    CREATE FUNCTION known(id int) RETURNS int LANGUAGE plpgsql STABLE AS
        $$ BEGIN IF id > 5 THEN RAISE EXCEPTION 'no such customer: %', id; END IF; RETURN id; END $$;
    CREATE FUNCTION coded(id int) RETURNS int LANGUAGE plpgsql STABLE AS
        $$ BEGIN IF id > 5 THEN RAISE 'no' USING ERRCODE = 'LR404'; END IF; RETURN id; END $$;
    CREATE DOMAIN small AS int CHECK (VALUE < 10);
";

/// Statements, with arguments that they accept and arguments that they reject.
const CASES: [(&str, &str, &str); 29] = [
    ("SELECT v FROM n ORDER BY v LIMIT :n", "n=3", "n=-1"),
    ("SELECT v FROM n ORDER BY v OFFSET :n", "n=3", "n=-1"),
    (
        "SELECT v FROM n ORDER BY v FETCH FIRST (:n) ROWS ONLY",
        "n=1",
        "n=-1",
    ),
    ("SELECT v FROM n WHERE name ~ :re", "re=1", "re=("),
    (
        "SELECT regexp_replace(name, '1', 'x', :flags) FROM n",
        "flags=g",
        "flags=Z",
    ),
    ("SELECT v / :by FROM n", "by=2", "by=0"),
    ("SELECT v % :by::numeric FROM n", "by=2", "by=0"),
    (
        "SELECT to_tsvector(:lang::regconfig, name) FROM n",
        "lang=simple",
        "lang=klingon",
    ),
    (
        "SELECT :what::regclass::oid",
        "what=pg_class",
        "what=nothing",
    ),
    (
        "SELECT x FROM generate_series(1, 9, :step::int) AS x",
        "step=3",
        "step=0",
    ),
    (
        "SELECT v FROM n WHERE v = ANY(string_to_array(:ids, ',')::int[])",
        "ids=1,2",
        "ids=1,x",
    ),
    ("SELECT v FROM n WHERE v = :id::text::int", "id=1", "id=one"),
    (
        "SELECT v FROM n WHERE v > :id::text::int",
        "id=1",
        "id=99999999999",
    ),
    ("SELECT chr(:n::int + v * 0) FROM n", "n=65", "n=0"),
    ("SELECT sqrt(:x::float8 + v * 0) FROM n", "x=4", "x=-1"),
    ("SELECT ln(:x::numeric + v * 0) FROM n", "x=4", "x=0"),
    ("SELECT v * :x::int FROM n", "x=4", "x=2000000000"),
    (
        "SELECT date_trunc(:unit, now() + v * interval '1 s')::text FROM n",
        "unit=hour",
        "unit=x",
    ),
    ("SELECT make_date(2024, :m::int, v) FROM n", "m=2", "m=13"),
    (
        "SELECT to_date(name, 'D') , to_timestamp(:t, 'YYYY')::text FROM n",
        "t=2024",
        "t=x",
    ),
    ("SELECT substring(name, 1, :n::int) FROM n", "n=1", "n=-1"),
    (
        "SELECT now() AT TIME ZONE :tz FROM n",
        "tz=UTC",
        "tz=Nowhere/Land",
    ),
    (
        "SELECT width_bucket(v, :a::int, :b::int, 3) FROM n",
        "a=1&b=9",
        "a=5&b=5",
    ),
    (
        "SELECT percentile_cont(:p::float8) WITHIN GROUP (ORDER BY v) FROM n",
        "p=0.5",
        "p=2",
    ),
    ("SELECT v FROM n TABLESAMPLE BERNOULLI (:p)", "p=50", "p=-1"),
    (
        "SELECT length(repeat(name, :n::int)) FROM n",
        "n=3",
        "n=2000000000",
    ),
    ("SELECT known(:id::int + v * 0) FROM n", "id=1", "id=99"),
    ("SELECT coded(:id::int + v * 0) FROM n", "id=1", "id=99"),
    ("SELECT (:n::int + v * 0)::small FROM n", "n=1", "n=50"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_argument_is_the_clients_fault_whenever_it_is_detected() {
    let db = Postgres::with(FUNCTIONS).await;
    let endpoints: String = CASES
        .iter()
        .enumerate()
        .map(|(at, (sql, good, _))| endpoint(&format!("/{at}"), sql, &names(good)))
        .collect();
    let app = App::launch(db.url(), PLENTY, &endpoints).await;
    app.wait_until_ready().await;
    let wrong = async |at: usize, sql: &str, bad: &str| {
        let answer = app.get(&format!("/{at}?{bad}")).await;
        let problem = answer.json();
        assert_eq!(problem["code"], "LRD-109", "{sql} with {bad}: {problem}");
        assert_eq!(answer.status, 400);
    };
    for (at, (sql, good, bad)) in CASES.iter().enumerate() {
        // No load has succeeded yet; from the sixth execution, the plan may be generic.
        for _ in 0..7 {
            wrong(at, sql, bad).await;
        }
        let answer = app.get(&format!("/{at}?{good}")).await;
        assert_eq!(answer.status, 200, "{sql} with {good}: {}", answer.text());
        for _ in 0..3 {
            wrong(at, sql, bad).await;
        }
        app.get(&format!("/{at}?{good}")).await.assert_cache("hit");
    }
    assert_eq!(app.count(is_failing), 0, "nobody has to look");
    assert_eq!(app.count(is_lost), 0);
    let status = app.get("/status.json").await.json();
    for endpoint in status["endpoints"].as_array().unwrap() {
        assert_ne!(endpoint["state"], "failing", "{endpoint}");
        assert!(endpoint["last_error"].is_null(), "{endpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_with_any_arguments_is_not_the_clients_fault() {
    let db = Postgres::with(
        "CREATE TABLE n AS SELECT x AS v, 'x' AS word, 0 AS nothing FROM generate_series(1, 5) AS x; \
         CREATE TABLE log (v int); \
         CREATE FUNCTION writes(v int) RETURNS int LANGUAGE sql AS \
             'INSERT INTO log VALUES (v) RETURNING v'; \
         CREATE MATERIALIZED VIEW empty AS SELECT 1 AS v WITH NO DATA; \
         CREATE FUNCTION refuses(v int) RETURNS int LANGUAGE plpgsql STABLE AS \
             $$ BEGIN RAISE division_by_zero; END $$",
    )
    .await;
    let statements = [
        ("SELECT :n::int / nothing AS q FROM n", "n="),
        ("SELECT word::int + :n::int AS q FROM n", "n="),
        ("SELECT v * 2000000000 + :n::int AS q FROM n", "n="),
        ("SELECT writes(:n::int) AS q FROM n", "n="),
        ("SELECT v + :n::int AS q FROM empty", "n="),
        ("SELECT refuses(:n::int) AS q FROM n", "n="),
        ("SELECT :name || (v / nothing)::text AS q FROM n", "name="),
        (
            "SELECT :name::date + v / nothing AS q FROM n WHERE :n::int > 0",
            "name=2024-02-29&n=",
        ),
    ];
    let endpoints: String = statements
        .iter()
        .enumerate()
        .map(|(at, (sql, query))| endpoint(&format!("/{at}"), sql, &names(query)))
        .collect();
    let app = App::launch(db.url(), PLENTY, &endpoints).await;
    app.wait_until_ready().await;
    for (at, (sql, query)) in statements.iter().enumerate() {
        for n in 1..=7 {
            let answer = app.get(&format!("/{at}?{query}{n}")).await;
            let problem = answer.json();
            assert_eq!(problem["code"], "LRD-303", "{sql}: {problem}");
            assert_eq!(answer.status, 502);
        }
    }
    app.wait_for(statements.len(), blamed_on(Fault::Configuration))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_were_answered_before_are_not_blamed() {
    let db =
        Postgres::with("CREATE TABLE n AS SELECT x AS id, 1 AS v FROM generate_series(1, 5) AS x")
            .await;
    let app = App::launch(
        db.url(),
        PLENTY,
        r#"
        [[endpoint]]
        path = "/{id}"
        sql = "SELECT 6 / v AS q FROM n WHERE id = :id"
        shape = "value"
        max_age = "50ms"
        stale_while_revalidate = "1h"
        "#,
    )
    .await;
    app.wait_until_ready().await;
    for id in [1, 2, 3] {
        app.get(&format!("/{id}")).await.assert_json(json!(6));
    }
    // The other rows are valid, so the statement succeeds with other arguments.
    db.execute("UPDATE n SET v = 0 WHERE id = 2").await;
    app.poll("/2", |_| app.count(is_failing) > 0)
        .await
        .assert_json(json!(6));
    assert_eq!(app.count(blamed_on(Fault::Configuration)), 1);
    app.poll("/1", |answer| answer.cache() == "hit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_cause_no_more_queries_than_loads_are_allowed() {
    let db = Postgres::with("CREATE TABLE n AS SELECT 1 AS v").await;
    let endpoints = endpoint("/n", "SELECT v / :by FROM n", &["by"]);
    let app = App::launch(db.url(), "max_loads_per_second = 1", &endpoints).await;
    app.wait_until_ready().await;
    let began = tokio::time::Instant::now();
    let mut connection = crate::support::http::Connection::open(app.address()).await;
    for _ in 0..100 {
        let answer = connection.get("/n?by=0").await;
        assert!(["LRD-109", "LRD-401"].contains(&answer.json()["code"].as_str().unwrap()));
    }
    let allowed = 2 + began.elapsed().as_secs() as usize;
    assert!(app.queries() <= allowed, "{} of {allowed}", app.queries());
    assert_eq!(app.count(is_failing), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn blame_does_not_depend_on_the_language() {
    let db = Postgres::german().await;
    db.execute("CREATE TABLE gauge AS SELECT 1 AS v").await;
    let endpoints = r#"
        [[endpoint]]
        path = "/gauge"
        sql = "SELECT * FROM gauge"
        shape = "row"
        refresh = { every = "100ms" }

        [[endpoint]]
        path = "/divided"
        sql = "SELECT v / :by AS q FROM gauge"
        shape = "value"
        params.by = {}

        [[endpoint]]
        path = "/ended"
        sql = "SELECT pg_terminate_backend(pg_backend_pid())::text, pg_sleep(60)::text"
        on_miss = "load"
        max_age = "1h"
    "#;
    let app = App::launch(db.url(), PLENTY, endpoints).await;
    app.wait_until_ready().await;
    app.get("/gauge").await.assert_json(json!({ "v": 1 }));
    db.execute("ALTER TABLE gauge ADD COLUMN w int DEFAULT 2")
        .await;
    app.poll("/gauge", |answer| {
        answer.json() == json!({ "v": 1, "w": 2 })
    })
    .await;
    let blamed = app.get("/divided?by=0").await;
    assert_eq!(blamed.json()["code"], "LRD-109");
    let ended = app.get("/ended").await;
    assert_eq!(ended.json()["code"], "LRD-301");
}

/// A foreign table whose server is down.
const FOREIGN: &str = "
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'd');
    CREATE USER MAPPING FOR CURRENT_USER SERVER away OPTIONS (user 'u', password 'p');
    CREATE FOREIGN TABLE remote (v int) SERVER away;
    CREATE TABLE n AS SELECT 1 AS v;
";

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_foreign_server_is_not_an_outage_of_postgres() {
    let db = Postgres::own().await;
    db.execute(FOREIGN).await;
    let endpoints = r#"
        [[endpoint]]
        path = "/resident"
        sql = "SELECT v FROM remote"
        max_age = "1h"

        [[endpoint]]
        path = "/probed"
        sql = "SELECT v FROM n"
        refresh = { probe = { sql = "SELECT max(v) FROM remote", every = "1h" } }

        [[endpoint]]
        path = "/warm/{n}"
        sql = "SELECT v FROM n WHERE v = :n"
        warm_sql = "SELECT v AS n FROM remote"

        [[endpoint]]
        path = "/of/{n}"
        sql = "SELECT v FROM remote WHERE v = :n"
        warm = [{ n = 1 }]
    "#;
    let app = App::launch(db.url(), PLENTY, endpoints).await;
    // One broken endpoint breaks only itself.
    app.wait_until_ready().await;
    app.get("/readyz").await.assert_status(200);
    app.get("/probed").await.assert_status(200);
    app.get("/warm/1").await.assert_status(200);
    app.wait_for(3, blamed_on(Fault::Repository)).await;
    let status = app.get("/status.json").await.json();
    let failing = status["endpoints"].as_array().unwrap().iter();
    let failing = failing.filter(|endpoint| endpoint["state"] == "failing");
    assert!(failing.count() >= 2, "{status}");

    let before = app.queries();
    let mut refused = 0;
    for _ in 0..50 {
        let answer = app.get("/of/7").await;
        assert_eq!(answer.json()["code"], "LRD-303", "{}", answer.text());
        refused += 1;
    }
    let queries = app.queries() - before;
    assert!(
        queries < refused,
        "{queries} queries for {refused} requests"
    );
    assert_eq!(app.count(is_lost), 0);

    db.execute("DROP FOREIGN TABLE remote; CREATE TABLE remote AS SELECT 7 AS v")
        .await;
    app.poll("/of/7", |answer| answer.status == 200).await;
    app.poll("/resident", |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_session_ends_each_time_backs_off() {
    let db = Postgres::own().await;
    let endpoints = endpoint(
        "/ended/{n}",
        "SELECT pg_terminate_backend(pg_backend_pid())::text, pg_sleep(60)::text, :n::int",
        &[],
    ) + &endpoint("/well", "SELECT 1", &[]);
    let app = App::launch(db.url(), PLENTY, &endpoints).await;
    app.wait_until_ready().await;
    let mut connection = crate::support::http::Connection::open(app.address()).await;
    let requests = 100;
    for _ in 0..requests {
        let answer = connection.get("/ended/1").await;
        answer.assert_status(503);
        assert_eq!(answer.json()["code"], "LRD-301");
        assert!(answer.header("retry-after").is_some());
    }
    let sent = |event: &Event| matches!(event, Event::QueryFinished { .. });
    let queries = app.count(sent);
    assert!(
        queries < requests / 2,
        "{queries} queries for {requests} requests"
    );
    app.poll("/ended/1", |_| app.count(blamed_on(Fault::Repository)) == 1)
        .await;
    let is_reported = |event: &Event| matches!(event, Event::LoadsFailing { cause, .. } if cause.contains("57P01"));
    assert_eq!(app.count(is_reported), 1);
    assert_eq!(app.count(is_lost), 0, "Postgres is there");
    app.get("/well").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_cancelled_by_somebody_else_has_not_timed_out() {
    let db = Postgres::own().await;
    let endpoints = endpoint(
        "/cancelled",
        "SELECT pg_cancel_backend(pg_backend_pid())::text, pg_sleep(60)::text WHERE :n::int > 0",
        &["n"],
    ) + &endpoint(
        "/slow",
        "SELECT pg_sleep(60)::text WHERE :n::int > 0",
        &["n"],
    );
    let app = App::launch(db.url(), "statement_timeout = \"300ms\"", &endpoints).await;
    app.wait_until_ready().await;
    let cancelled = app.get("/cancelled?n=1").await;
    cancelled.assert_status(503);
    let words = |event: &Event| {
        matches!(event, Event::LoadsFailing { cause, fault: Fault::Repository, .. }
            if cause.starts_with("someone else cancelled the query after"))
    };
    app.wait_for(1, words).await;
    let is_timeout = |event: &Event| {
        let timeout = QueryOutcome::Timeout;
        matches!(event, Event::QueryFinished { outcome, .. } if *outcome == timeout)
    };
    assert_eq!(app.count(is_timeout), 0);

    // Postgres reports a timeout in the same words; only the time differs.
    let slow = app.get("/slow?n=1").await;
    slow.assert_status(504);
    let limit = |event: &Event| matches!(event, Event::LoadsFailing { cause, .. } if cause.ends_with("after 300ms"));
    app.wait_for(1, limit).await;
    assert_eq!(app.count(is_timeout), 1);
}
