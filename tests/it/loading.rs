//! What reaches Postgres, and what does not.

use futures_util::future::join_all;
use larder::observe::{CacheStatus, Event, QueryOutcome};
use serde_json::json;

use crate::support::app::App;
use crate::support::gate::{GATED, Gate};
use crate::support::http::{self, Connection};
use crate::support::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hits_cause_no_statement() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE n AS SELECT 2823 AS v").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/count"
        sql = "SELECT v FROM n"
        shape = "tuple"
        max_age = "1h"
        "#,
    )
    .await;
    // Postgres counts a statement at the end of its transaction, which loads do not wait for.
    let mut before = 0;
    while before == 0 {
        before = calls(&db).await;
    }
    let clients = (0..20).map(|_| async {
        let mut connection = Connection::open(app.address()).await;
        for _ in 0..500 {
            connection
                .get("/count")
                .await
                .assert_json(json!([2823]))
                .assert_cache("hit");
        }
    });
    join_all(clients).await;
    assert_eq!(calls(&db).await, before);
    assert_eq!(app.queries(), 1);
}

/// The executions of statements on the test's table, as counted by Postgres.
async fn calls(db: &Postgres) -> i64 {
    let count = "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements \
                 WHERE query LIKE '%FROM n%' AND query NOT LIKE '%pg_stat_statements%' AND query LIKE 'SELECT%'";
    db.client()
        .await
        .query_one(count, &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_clients_on_a_cold_key_cause_one_query() {
    let db = Postgres::with("").await;
    let app = App::start(&db, GATED).await;
    let gate = Gate::close(&db).await;
    let clients: Vec<_> = (0..2_000)
        .map(|_| {
            let address = app.address();
            tokio::spawn(async move { http::get(address, "/gated/7").await })
        })
        .collect();
    gate.wait_for_queries(1).await;
    // Every other client is connected before the query can end.
    app.wait_for(2_000, |event| matches!(event, Event::ConnectionOpened))
        .await;
    gate.open().await;
    for client in clients {
        client
            .await
            .unwrap()
            .assert_status(200)
            .assert_json(json!({ "n": 7, "passed": "" }));
    }
    assert_eq!(app.queries(), 1);
    assert_eq!(
        app.count(|e| matches!(
            e,
            Event::RequestServed {
                cache: CacheStatus::Miss,
                ..
            }
        )),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_continues_when_its_client_disconnects() {
    let db = Postgres::with("").await;
    let app = App::start(&db, GATED).await;
    let gate = Gate::close(&db).await;
    let mut first = Connection::open(app.address()).await;
    first
        .send(b"GET /gated/7 HTTP/1.1\r\nHost: larder\r\n\r\n")
        .await;
    gate.wait_for_queries(1).await;
    drop(first);
    app.wait_for(1, |event| matches!(event, Event::ConnectionClosed))
        .await;

    let address = app.address();
    let second = tokio::spawn(async move { http::get(address, "/gated/7").await });
    app.wait_for(2, |event| matches!(event, Event::ConnectionOpened))
        .await;
    gate.open().await;
    second.await.unwrap().assert_status(200);
    app.get("/gated/7").await.assert_cache("hit");
    assert_eq!(app.queries(), 1, "its load went on without it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_cancelled_on_the_server() {
    let db = Postgres::with("").await;
    // Only the cancellation can end it: the server's own limit is much longer.
    let gated = format!("{GATED}\ntimeout = \"300ms\"");
    let app = App::launch(db.url(), "statement_timeout = \"1d\"", &gated).await;
    app.wait_until_ready().await;
    let gate = Gate::close(&db).await;
    let slow = app.get("/gated/7").await;
    slow.assert_status(504);
    assert_eq!(slow.json()["code"], "LRD-302");
    app.wait_for(1, |e| {
        matches!(
            e,
            Event::QueryFinished {
                outcome: QueryOutcome::Timeout,
                ..
            }
        )
    })
    .await;
    gate.wait_for_queries(0).await;
    gate.open().await;
    app.get("/gated/7")
        .await
        .assert_status(200)
        .assert_cache("miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_its_limits_is_cancelled_while_it_streams() {
    let db = Postgres::with("").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/rows/{n}"
        sql = "SELECT i FROM generate_series(1, :n::int) AS i"
        max_rows = 1000

        [[endpoint]]
        path = "/bytes/{n}"
        sql = "SELECT repeat('x', 1000) AS x FROM generate_series(1, :n::int) AS i"
        max_bytes = "64KiB"
        "#,
    )
    .await;
    app.get("/rows/1000").await.assert_status(200);
    app.get("/bytes/60").await.assert_status(200);
    for target in [
        "/rows/1001",
        "/rows/50000000",
        "/bytes/66",
        "/bytes/50000000",
    ] {
        let refused = app.get(target).await;
        refused.assert_status(502);
        assert_eq!(refused.json()["code"], "LRD-304", "{target}");
    }
    let too_large = |e: &Event| {
        matches!(
            e,
            Event::QueryFinished {
                outcome: QueryOutcome::TooLarge,
                ..
            }
        )
    };
    assert_eq!(app.count(too_large), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_not_cached() {
    let db = Postgres::with("CREATE TABLE divisor AS SELECT 0 AS v").await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n/{n}\"\nsql = \"SELECT :n::int / v AS q FROM divisor\"\nshape = \"value\"",
    )
    .await;
    let refused = app.get("/n/6").await;
    refused
        .assert_status(502)
        .assert_header("cache-control", "no-store");
    assert_eq!(refused.json()["code"], "LRD-303");
    assert!(
        !refused.text().contains("zero"),
        "Postgres's words stay here: {}",
        refused.text()
    );
    db.execute("UPDATE divisor SET v = 2").await;
    app.get("/n/6")
        .await
        .assert_json(json!(3))
        .assert_cache("miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_is_described_again() {
    let db = Postgres::with("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/t/{n}"
        sql = "SELECT * FROM t WHERE :n::int IS NOT NULL"
        shape = "row"
        "#,
    )
    .await;
    app.get("/t/1").await.assert_json(json!({ "a": 1 }));
    db.execute("ALTER TABLE t ADD COLUMN b inet DEFAULT '::1'")
        .await;
    app.get("/t/2")
        .await
        .assert_json(json!({ "a": 1, "b": "::1" }));
    db.execute("ALTER TABLE t DROP COLUMN b").await;
    app.get("/t/3").await.assert_json(json!({ "a": 1 }));
    db.execute("ALTER TABLE t ALTER COLUMN a TYPE text USING 'x'")
        .await;
    app.get("/t/4").await.assert_json(json!({ "a": "x" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_cause_no_more_loads_than_allowed() {
    let db = Postgres::with("").await;
    let repository = "max_loads_per_second = 5";
    let endpoint = "[[endpoint]]\npath = \"/n/{n}\"\nsql = \"SELECT :n::int\"\nshape = \"value\"";
    let app = App::launch(db.url(), repository, endpoint).await;
    app.wait_until_ready().await;
    let address = app.address();
    let began = tokio::time::Instant::now();
    let requests = (0..200).map(|n| async move { http::get(address, &format!("/n/{n}")).await });
    let answers = join_all(requests).await;
    let allowed = 5 + began.elapsed().as_secs() * 5 + 5;
    let loaded = answers.iter().filter(|answer| answer.status == 200).count();
    // Two are reserved for keys in use.
    assert!(
        (3..=allowed as usize).contains(&loaded),
        "{loaded} of at most {allowed}"
    );
    let refused = answers.iter().find(|answer| answer.status != 200).unwrap();
    refused.assert_status(503).assert_header("retry-after", "1");
    assert_eq!(refused.json()["code"], "LRD-401");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_invents_arguments_does_not_affect_others() {
    const IN_USE: [&str; 5] = ["/held/1", "/held/2", "/held/3", "/lapsing/1", "/lapsing/2"];
    let db = Postgres::with("").await;
    let repository = "max_loads_per_second = 50";
    let endpoints = r#"
        [[endpoint]]
        path = "/held/{n}"
        sql = "SELECT :n::int"
        shape = "value"
        max_age = "1h"
        max_keys = 10

        [[endpoint]]
        path = "/lapsing/{n}"
        sql = "SELECT :n::int"
        shape = "value"
        max_age = "200ms"
        stale_while_revalidate = "0s"
        stale_if_error = "0s"
        max_keys = 10
    "#;
    let app = App::launch(db.url(), repository, endpoints).await;
    app.wait_until_ready().await;
    let address = app.address();
    let mut in_use = Connection::open(address).await;
    for target in IN_USE {
        in_use.get(target).await.assert_status(200);
        in_use.get(target).await.assert_cache("hit");
    }
    let attackers = (0..4).map(|attacker| async move {
        let mut connection = Connection::open(address).await;
        for n in 0..1_000 {
            let n = 1_000 * (attacker + 1) + n;
            let path = ["held", "lapsing"][n % 2];
            let answer = connection.get(&format!("/{path}/{n}")).await;
            if answer.status != 200 {
                answer.assert_status(503);
                assert_eq!(answer.json()["code"], "LRD-401");
            }
        }
    });
    let attack = tokio::spawn(join_all(attackers.collect::<Vec<_>>()));
    let mut rounds = 0;
    while !attack.is_finished() || rounds < 3 {
        for target in IN_USE {
            let answer = in_use.get(target).await;
            answer.assert_status(200);
            if target.starts_with("/held") {
                answer.assert_cache("hit");
            }
        }
        rounds += 1;
    }
    attack.await.unwrap();
    let evicted = app.count(|event| matches!(event, Event::EntryEvicted));
    assert!(evicted > 0, "as many came as to have others leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_is_served_at_once_and_refreshed_in_the_background() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/t"
        sql = "SELECT v FROM t"
        shape = "value"
        max_age = "50ms"
        stale_while_revalidate = "1h"
        "#,
    )
    .await;
    db.execute("UPDATE t SET v = 2").await;
    // The answer becomes stale by its age; there is no request until then.
    let stale = app.poll("/t", |answer| answer.cache() == "stale").await;
    stale.assert_json(json!(1));
    assert!(
        stale
            .header("cache-status")
            .unwrap()
            .ends_with("; detail=stale")
    );
    app.poll("/t", |answer| answer.json() == json!(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_miss_does_not_wait() {
    let db = Postgres::with("").await;
    let gated = r#"
        [[endpoint]]
        path = "/n"
        sql = "SELECT pg_advisory_xact_lock_shared(hashtext('gate of ' || current_schema()))::text AS passed"
        shape = "value"
        on_miss = "refuse"
        refresh = { every = "1h" }
        max_age = "1h"
    "#;
    let gate = Gate::close(&db).await;
    let app = App::launch(db.url(), "", gated).await;
    gate.wait_for_queries(1).await;
    let refused = app.get("/n").await;
    refused.assert_status(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["code"], "LRD-402");
    app.get("/readyz").await.assert_status(503);
    gate.open().await;
    app.wait_until_ready().await;
    app.get("/n").await.assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_read_only_and_have_the_expected_settings() {
    let db = Postgres::with("").await;
    let app = App::launch(
        db.url(),
        "statement_timeout = \"7s\"",
        r#"
        [[endpoint]]
        path = "/session"
        sql = """SELECT current_setting('TimeZone') AS zone, current_setting('statement_timeout') AS timeout,
                 current_setting('application_name') AS name, current_setting('transaction_read_only') AS read_only"""
        shape = "row"
        "#,
    )
    .await;
    app.wait_until_ready().await;
    app.get("/session").await.assert_json(json!({
        "zone": "UTC", "timeout": "7s", "name": "larder", "read_only": "on"
    }));
}
