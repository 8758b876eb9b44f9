//! The connection to Postgres breaks in various ways, and Postgres refuses in some: what clients get meanwhile,
//! and that everything recovers without intervention.

use std::time::Duration;

use futures_util::future::join_all;
use larder::observe::{Event, Fault, QueryOutcome, RefreshOutcome, Trigger};
use serde_json::json;

use crate::support::app::App;
use crate::support::gate::{GATED, Gate};
use crate::support::http::{self, Answer, Connection};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;

/// Short limits: an answer is served for 2.2 s at most.
const SHORT: &str = r#"
    [defaults]
    max_age = "200ms"
    stale_while_revalidate = "300ms"
    stale_if_error = "2s"
    timeout = "1s"

    [[endpoint]]
    path = "/scheduled"
    sql = "SELECT v FROM t"
    shape = "value"
    refresh = { every = "100ms" }
    max_age = "200ms"

    [[endpoint]]
    path = "/asked"
    sql = "SELECT v FROM t"
    shape = "value"

    [[endpoint]]
    path = "/key/{n}"
    sql = "SELECT v FROM t WHERE :n::int > 0"
    shape = "value"
"#;

const SHORT_LIMIT: Duration = Duration::from_millis(2_200);

/// Limits longer than any test.
const LONG: &str = r#"
    [defaults]
    max_age = "100ms"
    stale_while_revalidate = "1h"
    stale_if_error = "1h"
    timeout = "300ms"

    [[endpoint]]
    path = "/scheduled"
    sql = "SELECT v FROM t"
    shape = "value"
    refresh = { every = "100ms" }
    max_age = "100ms"

    [[endpoint]]
    path = "/key/{n}"
    sql = "SELECT v FROM t WHERE :n::int > 0"
    shape = "value"
    max_age = "1h"

    # 5 MB: more than the sockets on the way hold.
    [[endpoint]]
    path = "/large"
    sql = "SELECT v, repeat('x', 1000) AS x FROM t, generate_series(1, 5000)"
    refresh = { every = "100ms" }
    timeout = "1s"
"#;

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::RepositoryLost { .. })
}

fn is_reached(event: &Event) -> bool {
    matches!(event, Event::RepositoryReached)
}

fn is_failed_refresh(event: &Event) -> bool {
    let failed = RefreshOutcome::Failed;
    matches!(event, Event::RefreshFinished { outcome, .. } if *outcome == failed)
}

fn is_successful_schedule(event: &Event) -> bool {
    matches!(
        event,
        Event::RefreshFinished {
            trigger: Trigger::Schedule,
            outcome: RefreshOutcome::Changed | RefreshOutcome::Unchanged,
            ..
        }
    )
}

/// Whether all rows of `/large` are there and of the same version.
fn is_whole(answer: &Answer, version: i64) -> bool {
    let rows = answer.json();
    let rows = rows.as_array().unwrap();
    rows.len() == 5_000 && rows.iter().all(|row| row["v"] == version)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_survive_an_outage_up_to_their_limit_and_not_beyond() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let mut proxy = Proxy::before(db.url()).await;
    let app = App::launch(proxy.url(), "max_connections = 2", SHORT).await;
    app.wait_until_ready().await;
    let targets = ["/scheduled", "/asked", "/key/7"];
    for target in targets {
        app.get(target).await.assert_status(200);
    }
    proxy.cut().await;
    db.execute("UPDATE t SET v = 2").await;
    let to_their_end = targets.map(|target| {
        let address = app.address();
        async move {
            let mut connection = Connection::open(address).await;
            let mut stale = 0;
            loop {
                let answer = connection.get(target).await;
                if answer.status != 200 {
                    answer.assert_status(503);
                    assert!(answer.header("retry-after").is_some(), "{answer:?}");
                    assert!(stale > 0, "{target} was never served stale");
                    return;
                }
                answer.assert_json(json!(1));
                stale += usize::from(answer.cache() == "stale");
            }
        }
    });
    join_all(to_their_end).await;
    let is_old = |event: &Event, age: Duration| matches!(event, Event::RequestServed { age: Some(is), .. } if *is > age);
    assert_eq!(app.count(|event| is_old(event, SHORT_LIMIT)), 0);
    // They were served for nearly as long as allowed.
    assert!(app.count(|event| is_old(event, SHORT_LIMIT.mul_f64(0.5))) > 0);
    assert_eq!(app.count(is_lost), 1);

    let loaded = app.count(is_successful_schedule);
    proxy.heal().await;
    app.wait_for(loaded + 1, is_successful_schedule).await;
    app.get("/scheduled").await.assert_json(json!(2));
    for target in targets {
        app.poll(target, |answer| answer.status == 200)
            .await
            .assert_json(json!(2));
    }
    assert!(proxy.most_at_once() <= 2, "{}", proxy.most_at_once());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_postgres_does_not_delay_cached_answers() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let mut proxy = Proxy::before(db.url()).await;
    let url = format!("{}&connect_timeout=1", proxy.url());
    let app = App::launch(&url, "max_connections = 3", LONG).await;
    app.wait_until_ready().await;
    proxy.stall();
    db.execute("UPDATE t SET v = 2").await;
    let mut connection = Connection::open(app.address()).await;
    while app.count(is_lost) == 0 {
        let answer = connection.get("/scheduled").await;
        answer.assert_status(200).assert_json(json!(1));
        assert!(matches!(answer.cache(), "hit" | "stale"), "{answer:?}");
    }
    let cold = app.get("/key/1").await;
    assert!(matches!(cold.status, 503 | 504), "{cold:?}");
    assert!(["LRD-301", "LRD-302"].contains(&cold.json()["code"].as_str().unwrap()));
    let failed = app.count(is_failed_refresh);
    app.wait_for(failed + 3, is_failed_refresh).await;
    assert_eq!(app.count(is_lost), 1, "it is reported once");

    proxy.heal().await;
    app.poll("/scheduled", |answer| answer.json() == json!(2))
        .await;
    app.poll("/key/1", |answer| answer.status == 200).await;
    assert_eq!((app.count(is_lost), app.count(is_reached)), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_from_postgres_is_not_served() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let mut proxy = Proxy::before(db.url()).await;
    let app = App::launch(proxy.url(), "", LONG).await;
    app.wait_until_ready().await;
    let mut limits = proxy.limits_reached();

    proxy.truncate_after(200_000);
    db.execute("UPDATE t SET v = 2").await;
    limits.wait_for(|count| *count >= 3).await.unwrap();
    let failed = app.count(is_failed_refresh);
    app.wait_for(failed + 2, is_failed_refresh).await;
    assert!(is_whole(&app.get("/large").await, 1));
    proxy.heal().await;
    app.poll("/large", |answer| is_whole(answer, 2)).await;

    let before = *limits.borrow();
    proxy.stall_after(200_000);
    db.execute("UPDATE t SET v = 3").await;
    limits.wait_for(|count| *count > before).await.unwrap();
    proxy.reset().await;
    // The load of the new version either had not started or was cut off in the middle.
    assert!(is_whole(&app.get("/large").await, 2));
    proxy.heal().await;
    app.poll("/large", |answer| is_whole(answer, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_too_slow_for_an_answer_ends_the_query_on_the_server() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let mut proxy = Proxy::before(db.url()).await;
    let url = format!("{}&application_name=larder_slow", proxy.url());
    let app = App::launch(&url, "", LONG).await;
    app.wait_until_ready().await;
    let is_timeout = |event: &Event| {
        let timeout = QueryOutcome::Timeout;
        matches!(event, Event::QueryFinished { outcome, .. } if *outcome == timeout)
    };
    proxy.slow();
    app.wait_for(2, is_timeout).await;
    assert!(is_whole(&app.get("/large").await, 1));
    // No new query can start, and the running one is cancelled.
    proxy.cut().await;
    let client = db.client().await;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                  AND application_name = 'larder_slow'";
    while client
        .query_one(active, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {
        tokio::task::yield_now().await;
    }
    proxy.heal().await;
    db.execute("UPDATE t SET v = 2").await;
    app.poll("/large", |answer| is_whole(answer, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_sessions_than_configured_are_shared_and_no_client_is_refused() {
    let db = Postgres::own().await;
    db.execute(
        "CREATE TABLE t AS SELECT 1 AS v; \
         CREATE ROLE narrow LOGIN PASSWORD 'narrow' CONNECTION LIMIT 2; GRANT SELECT ON t TO narrow",
    )
    .await;
    let (_, place) = db.url().split_once('@').unwrap();
    let url = format!("postgresql://narrow:narrow@{place}?connect_timeout=60");
    let endpoints = LONG.replace("timeout = \"300ms\"", "timeout = \"30s\"");
    let app = App::launch(
        &url,
        "max_connections = 8\nmax_loads_per_second = 10_000",
        &endpoints,
    );
    let app = app.await;
    app.wait_until_ready().await;
    let clients = (0..200).map(|n| {
        let address = app.address();
        async move { http::get(address, &format!("/key/{}", n + 1)).await }
    });
    for answer in join_all(clients).await {
        answer.assert_status(200).assert_json(json!(1));
    }
    assert_eq!((app.count(is_lost), app.count(is_reached)), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_refused_while_the_first_is_opened_do_not_make_postgres_unreachable() {
    let db = Postgres::own().await;
    db.execute(
        "CREATE TABLE t AS SELECT 1 AS v; \
         CREATE ROLE single LOGIN PASSWORD 'single' CONNECTION LIMIT 1; GRANT SELECT ON t TO single",
    )
    .await;
    let (_, place) = db.url().split_once('@').unwrap();
    let mut proxy = Proxy::before(&format!("postgresql://single:single@{place}")).await;
    // A refusal is shorter than a greeting, so it arrives first on this slow connection.
    proxy.slow();
    let url = format!("{}?connect_timeout=60", proxy.url());
    let endpoints = LONG.replace("timeout = \"300ms\"", "timeout = \"30s\"");
    let app = App::launch(&url, "max_connections = 4", &endpoints).await;
    app.wait_for(1, is_reached).await;
    proxy.heal().await;
    app.wait_until_ready().await;
    assert!(proxy.most_at_once() > 1, "none was refused");
    let loaded = app.count(is_successful_schedule);
    app.wait_for(loaded + 10, is_successful_schedule).await;
    assert_eq!((app.count(is_lost), app.count(is_reached)), (0, 1));
    let metrics = app.get("/metrics").await;
    assert!(metrics.text().contains("\nlarder_repository_up 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_begins_to_fail_and_its_recovery_are_reported_once() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let app = App::start(&db, LONG).await;
    let is_failing = |event: &Event| {
        matches!(
            event,
            Event::LoadsFailing {
                fault: Fault::Configuration,
                ..
            }
        )
    };
    let is_recovered = |event: &Event| matches!(event, Event::LoadsRecovered { .. });
    db.execute("DROP TABLE t").await;
    // Both endpoints have a schedule.
    app.wait_for(2, is_failing).await;
    let failed = app.count(is_failed_refresh);
    app.wait_for(failed + 2, is_failed_refresh).await;
    app.get("/scheduled")
        .await
        .assert_json(json!(1))
        .assert_cache("stale");
    let cold = app.get("/key/1").await;
    cold.assert_status(502);
    assert_eq!(cold.json()["code"], "LRD-303");

    db.execute("CREATE TABLE t AS SELECT 'one'::text AS v")
        .await;
    app.poll("/scheduled", |answer| answer.json() == json!("one"))
        .await;
    app.poll("/key/1", |answer| answer.status == 200)
        .await
        .assert_json(json!("one"));
    app.poll("/large", |answer| answer.json()[0]["v"] == "one")
        .await;
    assert_eq!((app.count(is_failing), app.count(is_recovered)), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_clients_in_an_outage_get_a_problem_and_leak_nothing() {
    let db = Postgres::with("").await;
    let mut proxy = Proxy::before(db.url()).await;
    let repository = "max_connections = 4\nmax_loads_per_second = 100_000";
    let app = App::launch(proxy.url(), repository, GATED).await;
    app.wait_until_ready().await;
    let gate = Gate::close(&db).await;
    let clients: Vec<_> = (0..5_000)
        .map(|n| {
            let address = app.address();
            let target = format!("/gated/{}", n % 500);
            tokio::spawn(async move { http::get(address, &target).await })
        })
        .collect();
    // One slot is reserved for schedules, and one for cached keys.
    gate.wait_for_queries(2).await;
    app.wait_for(5_000, |event| matches!(event, Event::ConnectionOpened))
        .await;
    proxy.cut().await;
    for client in clients {
        let answer = client.await.unwrap();
        answer.assert_status(503);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.json()["code"], "LRD-301");
    }
    assert_eq!(app.queries(), 2, "nothing was sent for the others");
    gate.open().await;
    proxy.heal().await;
    app.poll("/gated/0", |answer| answer.status == 200).await;
    for n in 1..500 {
        app.get(&format!("/gated/{n}"))
            .await
            .assert_status(200)
            .assert_cache("miss");
    }
    assert_eq!(app.queries(), 502, "each key was loaded once");
    assert!(proxy.most_at_once() <= 4, "{}", proxy.most_at_once());
}
