//! Postgres goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder::observe::{Event, RefreshOutcome};
use larder::repository::RepositoryError;
use serde_json::json;

use crate::support::app::App;
use crate::support::gate::{GATED, Gate};
use crate::support::http::{Answer, Connection};
use crate::support::postgres::Postgres;

const COUNT: &str = r#"
    [[endpoint]]
    path = "/count"
    sql = "SELECT count(*) FROM n"
    shape = "tuple"
    refresh = { every = "200ms" }
    timeout = "2s"
    stale_while_revalidate = "1s"
    stale_if_error = "1h"

    [[endpoint]]
    path = "/n/{n}"
    sql = "SELECT :n::int AS n"
    shape = "value"
    max_age = "100ms"
    stale_while_revalidate = "0s"
    stale_if_error = "1h"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_under_load_loses_no_answer_and_needs_no_restart() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE n AS SELECT 1 AS v").await;
    let app = App::start(&db, COUNT).await;
    app.get("/n/7").await.assert_status(200);

    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (address, over) = (app.address(), Arc::clone(&over));
            let target = if n % 2 == 0 { "/count" } else { "/n/7" };
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut answers = 0;
                while !over.load(Ordering::Relaxed) {
                    connection.get(target).await.assert_status(200);
                    answers += 1;
                }
                answers
            })
        })
        .collect();

    let last_resort = |event: &Event| {
        matches!(
            event,
            Event::RequestServed {
                stale_if_error: true,
                ..
            }
        )
    };
    assert_eq!(app.count(last_resort), 0);
    db.stop().await;
    app.wait_for(1, |event| matches!(event, Event::RepositoryLost { .. }))
        .await;
    let failed = |e: &Event| {
        matches!(
            e,
            Event::RefreshFinished {
                outcome: RefreshOutcome::Failed,
                ..
            }
        )
    };
    app.wait_for(3, failed).await;
    app.poll("/n/7", |answer| answer.cache() == "stale")
        .await
        .assert_json(json!(7));
    assert!(app.count(last_resort) > 0);
    let unknown = app.get("/n/8").await;
    unknown.assert_status(503);
    assert!(unknown.header("retry-after").is_some());
    assert_eq!(unknown.json()["code"], "LRD-301");
    assert!(!unknown.text().contains("127.0.0.1"), "{}", unknown.text());

    db.start_again().await;
    app.wait_for(2, |event| matches!(event, Event::RepositoryReached))
        .await;
    db.execute("INSERT INTO n VALUES (2)").await;
    app.poll("/count", |answer| answer.json() == json!([2]))
        .await;
    app.poll("/n/8", |answer| answer.status == 200).await;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.expect("no answer was lost") > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_is_an_outage_like_any_other() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE n AS SELECT 1 AS v").await;
    let app = App::start(&db, COUNT).await;
    db.crash().await;
    app.wait_for(1, |event| matches!(event, Event::RepositoryLost { .. }))
        .await;
    app.get("/count")
        .await
        .assert_status(200)
        .assert_json(json!([1]));
    db.start_again().await;
    app.wait_for(2, |event| matches!(event, Event::RepositoryReached))
        .await;
    app.poll("/n/8", |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_it_starts_not_ready_and_becomes_ready_later() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE n AS SELECT 1 AS v").await;
    db.stop().await;
    let app = App::launch(db.url(), "", COUNT).await;
    app.wait_for(1, |event| matches!(event, Event::RepositoryLost { .. }))
        .await;
    app.get("/healthz").await.assert_status(200);
    let waiting = app.get("/readyz").await;
    waiting.assert_status(503);
    assert!(waiting.text().contains("/count"), "{}", waiting.text());
    let early = app.get("/count").await;
    early.assert_status(503);
    assert!(early.header("retry-after").is_some());
    assert_eq!(early.json()["code"], "LRD-403");

    db.start_again().await;
    app.wait_until_ready().await;
    app.get("/readyz").await.assert_status(200);
    app.get("/count")
        .await
        .assert_json(json!([1]))
        .assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_does_not_keep_other_endpoints_from_being_ready() {
    let db = Postgres::with("CREATE TABLE n AS SELECT 1 AS v").await;
    let client = db.client().await;
    let lock = "BEGIN; LOCK TABLE n IN ACCESS EXCLUSIVE MODE";
    client.batch_execute(lock).await.unwrap();
    let locked = |path: &str, sql: &str| {
        format!(
            "[[endpoint]]\npath = \"{path}\"\nsql = \"{sql}\"\ntimeout = \"300ms\"\nmax_age = \"1h\"\n"
        )
    };
    let endpoints = [
        locked("/open", "SELECT 1 AS v"),
        locked("/locked", "SELECT v FROM n"),
        locked("/locked/{v}", "SELECT v FROM n WHERE v = :v"),
    ];
    let app = App::start(&db, &endpoints.concat()).await;
    app.get("/open")
        .await
        .assert_status(200)
        .assert_cache("hit");
    for path in ["/locked", "/locked/1"] {
        let answer = app.get(path).await;
        answer.assert_status(504);
        assert_eq!(answer.json()["code"], "LRD-302", "{path}");
    }
    let state = |answer: &Answer, path: &str| {
        let endpoints = answer.json()["endpoints"].clone();
        let mut endpoints = endpoints.as_array().unwrap().clone().into_iter();
        let found = endpoints.find(|it| it["endpoint"] == path).unwrap();
        found["state"].clone()
    };
    let status = app.get("/status.json").await;
    assert_eq!(state(&status, "/open"), "fresh");
    assert_ne!(state(&status, "/locked"), "fresh");
    client.batch_execute("COMMIT").await.unwrap();
    for path in ["/locked", "/locked/1"] {
        app.poll(path, |answer| answer.status == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_statement_ends_the_start() {
    let db = Postgres::with("").await;
    let wrong = "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 FROM nowhere\"";
    let app = App::launch(db.url(), "", wrong).await;
    let rejections = app.rejections().await;
    let [rejection] = &rejections[..] else {
        panic!("{rejections:?}")
    };
    let RepositoryError::Refused { refusal } = &rejection.error else {
        panic!("{rejection:?}")
    };
    assert_eq!(refusal.message, "relation \"nowhere\" does not exist");
    assert_eq!(refusal.position, Some(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_ends_the_start() {
    let db = Postgres::own().await;
    let (before, after) = db.url().split_once('@').unwrap();
    let (name, _) = before.rsplit_once(':').unwrap();
    let app = App::launch(&format!("{name}:wrong@{after}"), "", COUNT).await;
    let rejections = app.rejections().await;
    assert!(
        matches!(&rejections[0].error, RepositoryError::Settings { reason, .. } if reason.contains("password"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_finish_before_it_stops() {
    let db = Postgres::with("").await;
    let app = App::start(&db, GATED).await;
    let mut idle = Connection::open(app.address()).await;
    idle.get("/healthz").await.assert_status(200);
    let gate = Gate::close(&db).await;
    let mut running = Connection::open(app.address()).await;
    running
        .send(b"GET /gated/1 HTTP/1.1\r\nHost: larder\r\n\r\n")
        .await;
    gate.wait_for_queries(1).await;

    let stopped = tokio::spawn(app.stop());
    assert!(
        idle.is_closed().await,
        "what does nothing is closed at once"
    );
    gate.open().await;
    running
        .answer("GET")
        .await
        .assert_status(200)
        .assert_header("connection", "close");
    assert!(stopped.await.unwrap(), "it drained cleanly");
}
