//! Another configuration in place of the one that is served: nothing that did not change is lost, and a mistake
//! changes nothing.

mod keys; // who may ask
mod mistakes; // change nothing
mod watchers; // probes and notifications go on

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder::observe::{Event, RefreshOutcome, Trigger};
use larder::plan::PlanChanges;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::App;
use crate::support::gate::{GATED, Gate};
use crate::support::http::Connection;
use crate::support::postgres::Postgres;

const KEPT: &str = r#"
    [[endpoint]]
    path = "/kept"
    sql = "SELECT 1"
    shape = "value"
    max_age = "1h"
"#;

fn keyed(max_age: &str) -> String {
    format!(
        "[[endpoint]]\npath = \"/keyed/{{k}}\"\nsql = \"SELECT :k::int\"\nshape = \"value\"\nmax_age = \"{max_age}\"\n"
    )
}

fn endpoint(path: &str, sql: &str, rest: &str) -> String {
    format!("[[endpoint]]\npath = \"{path}\"\nsql = \"{sql}\"\nshape = \"value\"\n{rest}\n")
}

fn is_reloaded(event: &Event) -> bool {
    matches!(event, Event::ConfigurationLoaded { .. })
}

async fn metrics(app: &App) -> String {
    // The text is made at most once a second.
    let before = app.get("/metrics").await.text().to_owned();
    let answer = app.poll("/metrics", |answer| answer.text() != before);
    answer.await.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_keeps_its_entries_and_what_changed_is_loaded_before() {
    let db = Postgres::with("").await;
    let changed = endpoint("/changed", "SELECT 1", "max_age = '1h'");
    let removed = endpoint("/removed", "SELECT 1", "max_age = '1h'");
    let app = App::start(&db, &[KEPT, &keyed("1h"), &changed, &removed].concat()).await;
    app.get("/keyed/7").await.assert_cache("miss");
    app.get("/kept").await.assert_cache("hit");
    let mut connection = Connection::open(app.address()).await;
    connection.get("/removed").await.assert_status(200);
    let before = app.queries();

    let changed = endpoint("/changed", "SELECT 2", "max_age = '1h'");
    let added = endpoint("/added", "SELECT 3", "refresh = { every = '1h' }");
    // In another order.
    let reloaded = app
        .reload(&[&added, &keyed("2h"), KEPT, &changed].concat())
        .await;
    let expected = PlanChanges {
        changed: 1,
        added: 1,
        removed: 1,
        kept: 2,
    };
    assert_eq!(reloaded.unwrap(), expected);
    assert_eq!(app.queries() - before, 2, "only what is new is loaded");

    connection
        .get("/kept")
        .await
        .assert_json(json!(1))
        .assert_cache("hit");
    connection
        .get("/changed")
        .await
        .assert_json(json!(2))
        .assert_cache("hit");
    connection
        .get("/added")
        .await
        .assert_json(json!(3))
        .assert_cache("hit");
    connection.get("/removed").await.assert_status(404);
    let keyed = connection.get("/keyed/7").await;
    keyed.assert_json(json!(7)).assert_cache("hit");
    let max_age = keyed.header("cache-control").unwrap();
    assert!(
        max_age.starts_with("public, max-age=7"),
        "{max_age}: of two hours"
    );
    assert_eq!(app.queries() - before, 2);

    let metrics = metrics(&app).await;
    assert!(!metrics.contains("/removed"), "{metrics}");
    for (path, queries) in [("/kept", 1), ("/changed", 2), ("/added", 1)] {
        let counted = format!(
            "larder_repository_queries_total{{endpoint=\"{path}\",outcome=\"ok\"}} {queries}"
        );
        assert!(metrics.contains(&counted), "{metrics}");
    }
    let hits = "larder_requests_total{cache=\"hit\",code=\"200\",endpoint=\"/kept\"} 2";
    assert!(metrics.contains(hits), "{metrics}");
    assert!(metrics.contains("larder_config_last_reload_successful 1"));
    let status = app.get("/status.json").await.json();
    let paths: Vec<&str> = status["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["endpoint"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["/added", "/keyed/{k}", "/kept", "/changed"]);
    let openapi = app.get("/openapi.json").await.json();
    assert_eq!(openapi["paths"].as_object().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_go_on_however_often_it_is_reloaded() {
    let db = Postgres::with("").await;
    let scheduled = endpoint("/scheduled", "SELECT 1", "refresh = { every = '1s' }");
    let app = App::start(&db, &scheduled).await;
    let is_refreshed = |event: &Event| {
        matches!(
            event,
            Event::RefreshFinished {
                trigger: Trigger::Schedule,
                ..
            }
        )
    };
    let mut reloads = 0;
    while app.count(is_refreshed) < 3 {
        let other = endpoint("/other", &format!("SELECT {reloads}"), "");
        app.reload(&(other + &scheduled)).await.unwrap();
        reloads += 1;
    }
    assert!(reloads > 3, "more reloads than refreshes");
    app.get("/scheduled").await.assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_running_is_joined_and_its_entry_judged_by_the_new_policy() {
    let db = Postgres::with("").await;
    let app = App::start(&db, GATED).await;
    let gate = Gate::close(&db).await;
    let (mut first, mut second) = (
        Connection::open(app.address()).await,
        Connection::open(app.address()).await,
    );
    first
        .send(b"GET /gated/1 HTTP/1.1\r\nHost: larder\r\n\r\n")
        .await;
    gate.wait_for_queries(1).await;
    app.reload(&GATED.replace("1h", "2h")).await.unwrap();
    second
        .send(b"GET /gated/1 HTTP/1.1\r\nHost: larder\r\n\r\n")
        .await;
    app.reload(&GATED.replace("1h", "3h")).await.unwrap();
    gate.open().await;
    first
        .answer("GET")
        .await
        .assert_status(200)
        .assert_cache("miss");
    // Coalesced, or a hit if it arrived after the load.
    second.answer("GET").await.assert_status(200);
    assert_eq!(app.queries(), 1);
    let later = app.get("/gated/1").await;
    later.assert_cache("hit");
    let max_age = later.header("cache-control").unwrap();
    assert!(
        max_age.starts_with("public, max-age=107"),
        "{max_age}: of three hours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_postgres_away_policies_change_and_statements_do_not() {
    let db = Postgres::own().await;
    let app = App::start(&db, &(keyed("1h") + KEPT)).await;
    app.get("/keyed/1").await.assert_status(200);
    db.stop().await;
    app.reload(&(keyed("2h") + KEPT)).await.unwrap();
    let max_age = app
        .get("/keyed/1")
        .await
        .header("cache-control")
        .unwrap()
        .to_owned();
    assert!(max_age.starts_with("public, max-age=7"), "{max_age}");
    let refused = app
        .reload(&endpoint("/kept", "SELECT 2", ""))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("cannot be checked"),
        "{refused}"
    );
    app.get("/kept")
        .await
        .assert_json(json!(1))
        .assert_cache("hit");
    db.start_again().await;
    // It is tried again at growing intervals.
    while app
        .reload(&endpoint("/kept", "SELECT 2", ""))
        .await
        .is_err()
    {}
    app.get("/kept")
        .await
        .assert_json(json!(2))
        .assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_removed_endpoints_are_removed() {
    let db = Postgres::with("").await;
    let app = App::start(&db, &(keyed("1h") + KEPT)).await;
    for k in 0..20 {
        app.get(&format!("/keyed/{k}")).await.assert_status(200);
    }
    let entries = |answer: &crate::support::http::Answer| answer.json()["cache"]["entries"].clone();
    app.poll("/status.json", |answer| entries(answer) == json!(21))
        .await;
    app.reload(KEPT).await.unwrap();
    app.poll("/status.json", |answer| entries(answer) == json!(1))
        .await;
    // The same path and statement again is the same endpoint, and new.
    app.reload(&(keyed("1h") + KEPT)).await.unwrap();
    app.get("/keyed/1").await.assert_cache("miss");
    let is_changed = |event: &Event| {
        matches!(
            event,
            Event::RefreshFinished {
                outcome: RefreshOutcome::Failed,
                ..
            }
        )
    };
    assert_eq!(app.count(is_changed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_poll_do_not_notice() {
    const RELOADS: usize = 20;
    let db = Postgres::with("").await;
    let configuration = |n: usize| {
        let policy = endpoint("/policy", "SELECT 1", &format!("max_age = '{}h'", n + 1));
        let sql = endpoint("/sql", &format!("SELECT {n}"), "max_age = '1h'");
        [KEPT, &keyed("1h"), &policy, &sql].concat()
    };
    let app = App::start(&db, &configuration(0)).await;
    app.get("/keyed/1").await.assert_status(200);
    let before = app.queries();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for path in ["/kept", "/keyed/1", "/policy", "/sql"].repeat(2) {
        let (address, is_over) = (app.address(), Arc::clone(&is_over));
        clients.spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut answers = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let answer = connection.get(path).await;
                answer.assert_status(200).assert_cache("hit");
                answers += 1;
            }
            answers
        });
    }
    for n in 1..=RELOADS {
        app.reload(&configuration(n)).await.unwrap();
        app.get("/sql").await.assert_json(json!(n));
        let policy = app.get("/policy").await;
        let expected = format!("public, max-age={}", (n + 1) * 3_600 - 1);
        let max_age = policy.header("cache-control").unwrap();
        // A second or two may have passed.
        assert_eq!(
            max_age[..expected.len() - 2],
            expected[..expected.len() - 2],
            "{max_age}"
        );
    }
    is_over.store(true, Ordering::Relaxed);
    let answers = clients.join_all().await;
    assert!(answers.iter().all(|answers| *answers > 0), "{answers:?}");
    assert_eq!(
        app.queries() - before,
        RELOADS,
        "one for each new statement"
    );
}
