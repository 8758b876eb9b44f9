//! A task of Larder panics: it is restarted, and its work is done all the same.

use std::sync::atomic::{AtomicU32, Ordering};

use larder::observe::{Event, RefreshOutcome, Task, TaskEnd, Trigger};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::app::App;
use crate::support::http;
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/scheduled"
    sql = "SELECT v FROM t"
    shape = "value"
    refresh = { every = "100ms" }

    [[endpoint]]
    path = "/probed"
    sql = "SELECT v FROM t"
    shape = "value"
    refresh = { probe = { sql = "SELECT max(v) FROM p", every = "100ms" } }

    [[endpoint]]
    path = "/notified"
    sql = "SELECT v FROM t"
    shape = "value"
    refresh = { notify = "CHANNEL" }

    [[endpoint]]
    path = "/by/{n}"
    sql = "SELECT v FROM t WHERE v < :n::int"
    shape = "value"
    max_age = "1h"
"#;

/// Panics at the first `times` matching events.
fn panics(times: u32, is_it: fn(&Event) -> bool) -> impl Fn(&Event) {
    let count = AtomicU32::new(0);
    move |event| {
        let defect = is_it(event) && count.fetch_add(1, Ordering::SeqCst) < times;
        assert!(!defect, "a defect");
    }
}

fn failed(wanted: Task) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::TaskFailed { task, end: TaskEnd::Panicked } if *task == wanted)
}

fn changed(wanted: Trigger) -> impl Fn(&Event) -> bool {
    move |event| {
        matches!(event, Event::RefreshFinished { trigger, outcome: RefreshOutcome::Changed, .. }
            if *trigger == wanted)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_is_restarted_and_completes_its_work() {
    let db =
        Postgres::with("CREATE TABLE t AS SELECT 1 AS v; CREATE TABLE p AS SELECT 1 AS v").await;
    let client = db.client().await;
    let schema: String = client
        .query_one("SELECT current_schema()::text", &[])
        .await
        .unwrap()
        .get(0);
    let by_notify = panics(2, |event| matches!(event, Event::Listening));
    let by_probe = panics(2, |event| matches!(event, Event::ProbeFailing { .. }));
    let by_accept = panics(2, |event| matches!(event, Event::ConnectionOpened));
    let by_load = panics(1, |event| {
        let schedule = Trigger::Schedule;
        matches!(event, Event::RefreshFinished { trigger, .. } if *trigger == schedule)
    });
    let hears = Box::new(move |event: &Event| {
        by_notify(event);
        by_probe(event);
        by_accept(event);
        by_load(event);
    });
    let endpoints = ENDPOINTS.replace("CHANNEL", &schema);
    let app = App::launch_with(&db, &endpoints, hears).await;
    app.wait_until_ready().await;

    // The listener panics twice, and then listens.
    app.wait_for(2, failed(Task::Notify)).await;
    app.wait_for(3, |event| matches!(event, Event::Listening))
        .await;
    db.execute("UPDATE t SET v = 2").await;
    db.execute(&format!("NOTIFY {schema}")).await;
    app.wait_for(1, changed(Trigger::Notify)).await;

    // So does the task of the probe, before it can query.
    db.execute("ALTER TABLE p RENAME TO gone").await;
    app.wait_for(2, failed(Task::Probe)).await;
    db.execute("ALTER TABLE gone RENAME TO p; UPDATE t SET v = 3; UPDATE p SET v = 2")
        .await;
    app.wait_for(1, changed(Trigger::Probe)).await;

    // Two clients lose their connections, and no others.
    for _ in 0..2 {
        let lost = TcpStream::connect(app.address()).await.unwrap();
        lost.readable().await.unwrap();
    }
    app.wait_for(2, failed(Task::Accept)).await;
    http::get(app.address(), "/scheduled")
        .await
        .assert_status(200);

    // A schedule continues after a load that panicked.
    let loaded = app.count(changed(Trigger::Schedule));
    db.execute("UPDATE t SET v = 4").await;
    app.wait_for(loaded + 1, changed(Trigger::Schedule)).await;
    app.poll("/scheduled", |answer| answer.json() == json!(4))
        .await;

    let metrics = app.get("/metrics").await;
    for task in ["accept", "notify", "probe"] {
        let counted = format!("larder_background_task_failures_total{{task=\"{task}\"}} 2\n");
        assert!(metrics.text().contains(&counted), "{counted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_panicking_load_get_a_problem_and_the_key_is_loaded_again() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let hears = Box::new(panics(1, |event| {
        matches!(event, Event::QueryFinished { .. })
    }));
    let endpoint = &ENDPOINTS[ENDPOINTS.rfind("[[endpoint]]").unwrap()..];
    let app = App::launch_with(&db, endpoint, hears).await;
    app.wait_until_ready().await;
    let answer = app.get("/by/7").await;
    answer.assert_status(500);
    assert_eq!(answer.json()["code"], "LRD-501");
    app.poll("/by/7", |answer| answer.status == 200)
        .await
        .assert_json(json!(1));
}
