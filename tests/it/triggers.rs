//! What causes loads besides schedules and requests: probes, notifications, keys in use, and keys to warm.

use larder::observe::{CacheStatus, Event, Fault, RefreshOutcome, Trigger};
use larder::plan::Subject;
use serde_json::json;

use crate::support::app::App;
use crate::support::gate::Gate;
use crate::support::http::Connection;
use crate::support::postgres::Postgres;

const NUMBERS: &str = "CREATE TABLE n (v int); INSERT INTO n VALUES (1)";

fn refreshed(by: Trigger, with: RefreshOutcome) -> impl Fn(&Event) -> bool {
    move |event| {
        matches!(event, Event::RefreshFinished { trigger, outcome, .. }
            if *trigger == by && *outcome == with)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_refreshes_on_change_and_keeps_entries_fresh_otherwise() {
    let db = Postgres::with(NUMBERS).await;
    let endpoint = |path: &str| {
        format!(
            r#"
            [[endpoint]]
            path = "{path}"
            sql = "SELECT sum(v) FROM n"
            shape = "value"
            max_age = "3s"
            stale_while_revalidate = "0s"
            stale_if_error = "0s"
            refresh = {{ probe = {{ sql = "SELECT max(v) FROM n", every = "100ms" }} }}
            "#
        )
    };
    let app = App::start(&db, &(endpoint("/a") + &endpoint("/b"))).await;
    // The first answer counts as a change.
    app.wait_for(2, |e| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Probe,
                ..
            }
        )
    })
    .await;
    let loaded = app.queries();
    // By its age alone, it would become stale long before the end.
    let mut connection = Connection::open(app.address()).await;
    let began = tokio::time::Instant::now();
    while began.elapsed().as_secs() < 5 {
        connection
            .get("/a")
            .await
            .assert_status(200)
            .assert_cache("hit");
    }
    assert_eq!(
        app.queries(),
        loaded,
        "nothing changed, so nothing was loaded"
    );

    db.execute("INSERT INTO n VALUES (5)").await;
    app.wait_for(4, |e| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Probe,
                ..
            }
        )
    })
    .await;
    for path in ["/a", "/b"] {
        app.get(path)
            .await
            .assert_json(json!(6))
            .assert_cache("hit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_probe_is_reported_once_and_its_entries_become_stale_by_age() {
    let db = Postgres::with(NUMBERS).await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n"
        sql = "SELECT sum(v) FROM n"
        shape = "value"
        max_age = "500ms"
        refresh = { probe = { sql = "SELECT max(v) FROM watched", every = "100ms" } }
        "#
        .replace("watched", "n")
        .as_str(),
    )
    .await;
    db.execute("ALTER TABLE n RENAME TO m; CREATE VIEW n AS SELECT 1 / 0 AS v")
        .await;
    app.wait_for(1, |e| {
        matches!(
            e,
            Event::ProbeFailing {
                fault: Fault::Configuration,
                ..
            }
        )
    })
    .await;
    app.poll("/n", |answer| answer.cache() == "stale")
        .await
        .assert_json(json!(1));
    db.execute("DROP VIEW n; ALTER TABLE m RENAME TO n; INSERT INTO n VALUES (2)")
        .await;
    app.wait_for(1, |e| matches!(e, Event::ProbeRecovered { .. }))
        .await;
    app.poll("/n", |answer| answer.json() == json!(3)).await;
    assert_eq!(app.count(|e| matches!(e, Event::ProbeFailing { .. })), 1);
}

const NOTIFIED: &str = r#"
    [[endpoint]]
    path = "/n"
    sql = "SELECT sum(v) FROM n"
    shape = "value"
    max_age = "1h"
    refresh = { notify = "Numbers!" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_causes_a_load() {
    let db = Postgres::own().await;
    db.execute(NUMBERS).await;
    let app = App::start(&db, NOTIFIED).await;
    // The load that follows LISTEN must not see the change.
    app.wait_for(1, |e| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Notify,
                ..
            }
        )
    })
    .await;
    db.execute("INSERT INTO n VALUES (2); NOTIFY \"Numbers!\"")
        .await;
    app.wait_for(1, refreshed(Trigger::Notify, RefreshOutcome::Changed))
        .await;
    app.get("/n")
        .await
        .assert_json(json!(3))
        .assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_reopened_and_missed_changes_are_loaded() {
    let db = Postgres::own().await;
    db.execute(NUMBERS).await;
    let app = App::start(&db, NOTIFIED).await;
    app.wait_for(1, |e| matches!(e, Event::Listening)).await;
    db.stop().await;
    app.wait_for(1, |e| matches!(e, Event::ListeningFailed { .. }))
        .await;
    db.start_again().await;
    db.execute("INSERT INTO n VALUES (7); NOTIFY \"Numbers!\"")
        .await;
    app.wait_for(2, |e| matches!(e, Event::Listening)).await;
    app.poll("/n", |answer| answer.json() == json!(8)).await;
    assert_eq!(app.count(|e| matches!(e, Event::ListeningFailed { .. })), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_during_a_load_causes_another_load() {
    let db = Postgres::own().await;
    db.execute(NUMBERS).await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n"
        sql = """WITH read AS MATERIALIZED (SELECT sum(v) AS v FROM n)
                 SELECT v, pg_advisory_xact_lock_shared(hashtext('gate of ' || current_schema()))::text AS passed FROM read"""
        shape = "row"
        max_age = "1h"
        refresh = { notify = "n" }
        "#,
    )
    .await;
    app.wait_for(1, |e| matches!(e, Event::Listening)).await;
    app.wait_for(1, |e| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Notify,
                ..
            }
        )
    })
    .await;
    let gate = Gate::close(&db).await;
    db.execute("NOTIFY n").await;
    gate.wait_for_queries(1).await;
    // The waiting load has already read the old sum.
    let told = app.count(|e| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Notify,
                ..
            }
        )
    });
    db.execute("INSERT INTO n VALUES (2); NOTIFY n").await;
    gate.open().await;
    app.wait_for(told + 2, |e| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Notify,
                ..
            }
        )
    })
    .await;
    app.poll("/n", |answer| {
        answer.cache() == "hit" && answer.json()["v"] == json!(3)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_use_never_becomes_stale_and_an_unused_one_expires() {
    let db = Postgres::with("").await;
    // Wide enough for a busy machine.
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n/{n}"
        sql = "SELECT :n::int AS n, pg_sleep(1)::text AS slept"
        shape = "row"
        max_age = "6s"
        refresh = { ahead = true }
        "#,
    )
    .await;
    app.get("/n/2").await.assert_cache("miss");
    app.get("/n/1").await.assert_cache("miss");
    let ahead = |e: &Event| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Ahead,
                ..
            }
        )
    };
    for loaded in 1..=3 {
        app.get("/n/1").await.assert_status(200).assert_cache("hit");
        app.wait_for(loaded, ahead).await;
    }
    app.get("/n/1").await.assert_cache("hit");
    app.get("/n/2").await.assert_cache("stale");
    let stale = |e: &Event| {
        matches!(
            e,
            Event::RequestServed {
                cache: CacheStatus::Stale,
                ..
            }
        )
    };
    assert_eq!(app.count(stale), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_too_slow_to_refresh_ahead_are_reported_once() {
    let db = Postgres::with("").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n/{n}"
        sql = "SELECT :n::int AS n, pg_sleep(0.1)::text AS slept"
        shape = "row"
        max_age = "120ms"
        refresh = { ahead = true }
        "#,
    )
    .await;
    let mut connection = Connection::open(app.address()).await;
    let ahead = |e: &Event| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Ahead,
                ..
            }
        )
    };
    while app.count(ahead) < 5 {
        connection.get("/n/1").await.assert_status(200);
    }
    assert_eq!(app.count(|e| matches!(e, Event::AheadTooSlow { .. })), 1);
    let metrics = app.get("/metrics").await;
    let stale = r#"larder_requests_total{cache="stale",code="200",endpoint="/n/{n}"} "#;
    assert!(metrics.text().contains(stale), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_to_warm_are_loaded_before_the_first_request() {
    let db =
        Postgres::with("CREATE TABLE c AS SELECT x AS v FROM generate_series(10, 12) AS x").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n/{n}"
        sql = "SELECT :n::int + :more AS n"
        shape = "value"
        max_age = "1h"
        params.more = { type = "int", default = 0 }
        warm = [{ n = 1 }, { n = 2, more = 5 }]
        warm_sql = "SELECT v AS n FROM c"
        "#,
    )
    .await;
    app.get("/n/1")
        .await
        .assert_json(json!(1))
        .assert_cache("hit");
    app.get("/n/2?more=5")
        .await
        .assert_json(json!(7))
        .assert_cache("hit");
    for n in 10..=12 {
        app.get(&format!("/n/{n}"))
            .await
            .assert_json(json!(n))
            .assert_cache("hit");
    }
    app.get("/n/13").await.assert_cache("miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_probe_or_warm_statement_ends_the_start() {
    let db = Postgres::with("").await;
    let app = App::launch(
        db.url(),
        "",
        r#"
        [[endpoint]]
        path = "/a"
        sql = "SELECT 1"
        refresh = { probe = { sql = "SELECT max(v) FROM nowhere", every = "1s" } }

        [[endpoint]]
        path = "/n/{n}"
        sql = "SELECT :n::int"
        warm_sql = "SELECT 1 AS m"
        "#,
    )
    .await;
    let rejections = app.rejections().await;
    let subjects: Vec<Subject> = rejections.iter().map(|it| it.subject).collect();
    assert!(
        matches!(subjects[..], [Subject::Probe(_), Subject::WarmStatement(_)]),
        "{subjects:?}"
    );

    let app = App::launch(
        db.url(),
        "",
        "[[endpoint]]\npath = \"/n/{n}\"\nsql = \"SELECT :n::int\"\nwarm = [{ n = \"x\" }]",
    )
    .await;
    let rejections = app.rejections().await;
    assert!(matches!(
        rejections[0].subject,
        Subject::WarmArguments(_, 0)
    ));
    assert!(
        rejections[0].error.to_string().contains('n'),
        "{}",
        rejections[0].error
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_keeps_at_most_max_keys_and_refuses_none() {
    let db = Postgres::with("").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n/{n}"
        sql = "SELECT :n::int"
        shape = "value"
        max_age = "1h"
        max_keys = 3

        [[endpoint]]
        path = "/m/{m}"
        sql = "SELECT :m::int"
        shape = "value"
        "#,
    )
    .await;
    for n in 1..=3 {
        app.get(&format!("/n/{n}")).await.assert_status(200);
    }
    app.get("/n/4").await.assert_status(200);
    let evicted = |event: &Event| matches!(event, Event::EntryEvicted);
    app.wait_for(1, evicted).await;
    app.get("/n/4").await.assert_cache("hit");
    app.get("/m/4").await.assert_status(200);
    assert_eq!((app.queries(), app.count(evicted)), (5, 1));
}
