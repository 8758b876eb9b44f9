//! A Postgres that may not be written to: Larder has no need to, but `LISTEN` has.

use larder::observe::Event;
use serde_json::json;

use crate::support::app::App;
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [defaults]
    shape = "value"
    max_age = "1h"

    [[endpoint]]
    path = "/scheduled"
    sql = "SELECT v FROM t"
    refresh = { every = "100ms" }

    [[endpoint]]
    path = "/probed"
    sql = "SELECT v FROM t"
    refresh = { probe = { sql = "SELECT max(v) FROM t", every = "100ms" } }

    [[endpoint]]
    path = "/notified"
    sql = "SELECT v FROM t"
    refresh = { notify = "t" }

    [[endpoint]]
    path = "/notified/young"
    sql = "SELECT v FROM t"
    refresh = { notify = "t" }
    max_age = "200ms"

    [[endpoint]]
    path = "/key/{n}"
    sql = "SELECT v FROM t WHERE :n::int > 0"
"#;

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::RepositoryLost { .. })
}

fn is_reached(event: &Event) -> bool {
    matches!(event, Event::RepositoryReached)
}

fn is_listening(event: &Event) -> bool {
    matches!(event, Event::Listening)
}

fn is_deaf(event: &Event) -> bool {
    matches!(event, Event::ListeningFailed { .. })
}

fn is_refused_to_listen(event: &Event) -> bool {
    matches!(event, Event::ListeningFailed { cause } if cause.contains("during recovery"))
}

fn is_failing(event: &Event) -> bool {
    matches!(
        event,
        Event::LoadsFailing { .. } | Event::ProbeFailing { .. }
    )
}

/// Waits until the endpoint answers so.
async fn becomes(app: &App, target: &str, v: i32) {
    app.poll(target, |answer| answer.json() == json!(v)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_read_only_still_works() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE t AS SELECT 1 AS v").await;
    let app = App::launch(&db.patient_url(), "", ENDPOINTS).await;
    app.wait_until_ready().await;
    app.wait_for(1, is_listening).await;
    db.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;
    db.execute("SELECT pg_reload_conf()").await;
    let client = db.client().await;
    let setting = "SHOW default_transaction_read_only";
    while client
        .query_one(setting, &[])
        .await
        .unwrap()
        .get::<_, &str>(0)
        != "on"
    {
        tokio::task::yield_now().await;
    }
    // Those that were open before, and new ones.
    for v in [2, 3] {
        let write = format!("BEGIN READ WRITE; UPDATE t SET v = {v}; NOTIFY t; COMMIT");
        client.batch_execute(&write).await.unwrap();
        for target in ["/scheduled", "/probed", "/notified"] {
            becomes(&app, target, v).await;
        }
        app.get(&format!("/key/{v}")).await.assert_json(json!(v));
        if v == 2 {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE application_name = 'larder'";
            client.batch_execute(end).await.unwrap();
            app.wait_for(2, is_listening).await;
        }
    }
    assert_eq!((app.count(is_lost), app.count(is_failing)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_serves_everything_but_notifications_and_reports_that() {
    let primary = Postgres::own().await;
    primary.execute("CREATE TABLE t AS SELECT 1 AS v").await;
    let standby = primary.standby().await;
    let app = App::launch(&standby.patient_url(), "", ENDPOINTS).await;
    app.wait_until_ready().await;
    app.wait_for(1, is_refused_to_listen).await;
    primary.execute("UPDATE t SET v = 2; NOTIFY t").await;
    // By a schedule, by a probe, by age.
    for target in ["/scheduled", "/probed", "/notified/young"] {
        becomes(&app, target, 2).await;
    }
    app.get("/key/1").await.assert_json(json!(2));
    app.get("/notified")
        .await
        .assert_json(json!(1))
        .assert_cache("hit");

    standby.execute("SELECT pg_promote()").await;
    standby.execute("UPDATE t SET v = 3; NOTIFY t").await;
    app.wait_for(1, is_listening).await;
    // Whether it was missed or not.
    becomes(&app, "/notified", 3).await;
    let client = standby.client().await;
    client
        .batch_execute("UPDATE t SET v = 4; NOTIFY t")
        .await
        .unwrap();
    becomes(&app, "/notified", 4).await;
    assert_eq!(app.count(is_deaf), 1);
    assert_eq!((app.count(is_lost), app.count(is_failing)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn target_session_attrs_finds_the_primary() {
    let primary = Postgres::own().await;
    primary.execute("CREATE TABLE t AS SELECT 1 AS v").await;
    let standby = primary.standby().await;
    let (_, place) = primary.url().split_once('@').unwrap();
    let (before, _) = standby.url().rsplit_once('/').unwrap();
    let url = format!("{before},{place}?target_session_attrs=read-write");
    let app = App::launch(&url, "", ENDPOINTS).await;
    app.wait_until_ready().await;
    app.wait_for(1, is_listening).await;
    primary.execute("UPDATE t SET v = 2; NOTIFY t").await;
    becomes(&app, "/notified", 2).await;
    // What is to be read from the standby has arrived there.
    let client = standby.client().await;
    while client
        .query_one("SELECT v FROM t", &[])
        .await
        .unwrap()
        .get::<_, i32>(0)
        != 2
    {
        tokio::task::yield_now().await;
    }

    primary.crash().await;
    let is_read_only = |event: &Event| matches!(event, Event::RepositoryLost { cause } if cause.contains("does not allow writes"));
    app.wait_for(1, is_read_only).await;
    app.get("/notified")
        .await
        .assert_status(200)
        .assert_json(json!(2));
    standby.execute("SELECT pg_promote()").await;
    app.wait_for(2, is_reached).await;
    standby.execute("UPDATE t SET v = 3").await;
    becomes(&app, "/scheduled", 3).await;
    app.wait_for(2, is_listening).await;
    standby.execute("UPDATE t SET v = 4; NOTIFY t").await;
    becomes(&app, "/notified", 4).await;
}
