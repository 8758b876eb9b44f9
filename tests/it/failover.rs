//! Another Postgres takes over: behind the same address, or at another one of the url's.

use futures_util::future::join_all;
use larder::observe::{Event, RefreshOutcome, Trigger};
use larder::repository::RepositoryError;
use serde_json::json;

use crate::support::app::App;
use crate::support::http::{self, Connection};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;

const ENDPOINTS: &str = r#"
    [defaults]
    max_age = "1h"
    shape = "value"
    timeout = "5s"

    [[endpoint]]
    path = "/scheduled"
    sql = "SELECT v FROM t"
    refresh = { every = "100ms" }

    [[endpoint]]
    path = "/key/{n}"
    sql = "SELECT v FROM t WHERE :n::int > 0"

    [[endpoint]]
    path = "/notified"
    sql = "SELECT v FROM t"
    refresh = { notify = "t" }
"#;

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::RepositoryLost { .. })
}

fn is_listening(event: &Event) -> bool {
    matches!(event, Event::Listening)
}

/// A refresh of `/scheduled` that ended so, whatever caused it.
fn is_refresh(event: &Event, with: RefreshOutcome) -> bool {
    matches!(event, Event::RefreshFinished { endpoint, outcome, .. }
        if endpoint.number() == 0 && *outcome == with)
}

fn triggered_by(by: Trigger) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::RefreshFinished { trigger, .. } if *trigger == by)
}

/// Two servers that know the same role. `t` says which of them it is.
async fn two() -> [Postgres; 2] {
    let (first, second) = tokio::join!(Postgres::own(), Postgres::own());
    for (server, v) in [(&first, 1), (&second, 2)] {
        let make = format!(
            "CREATE TABLE t AS SELECT {v} AS v; \
             CREATE ROLE reader LOGIN PASSWORD 'of both'; GRANT SELECT ON t TO reader"
        );
        server.execute(&make).await;
    }
    [first, second]
}

/// The role's URL to the servers at these, in their order.
fn to(urls: &[&str]) -> String {
    let place = |url: &&str| {
        let (_, place) = url.split_once('@').unwrap();
        place.split_once('/').unwrap().0.to_owned()
    };
    let places: Vec<String> = urls.iter().map(place).collect();
    format!("postgresql://reader:of%20both@{}/larder", places.join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_behind_the_same_address_needs_no_restart() {
    let [first, second] = two().await;
    let proxy = Proxy::before(first.url()).await;
    let app = App::launch(&to(&[proxy.url()]), "", ENDPOINTS).await;
    app.wait_until_ready().await;
    app.get("/key/7").await.assert_json(json!(1));

    first.crash().await;
    app.wait_for(1, is_lost).await;
    app.get("/scheduled").await.assert_json(json!(1));
    proxy.move_to(second.url()).await;
    app.poll("/scheduled", |answer| answer.json() == json!(2))
        .await;
    app.poll("/key/8", |answer| answer.status == 200)
        .await
        .assert_json(json!(2));
    app.get("/key/7")
        .await
        .assert_json(json!(1))
        .assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_is_used_at_once_when_one_stops() {
    let [first, second] = two().await;
    let url = to(&[first.url(), second.url()]) + "?connect_timeout=60";
    let app = App::launch(&url, "", ENDPOINTS).await;
    app.wait_until_ready().await;
    app.wait_for(1, is_listening).await;
    app.get("/scheduled").await.assert_json(json!(1));

    let is_change = |event: &Event| is_refresh(event, RefreshOutcome::Changed);
    let changes = app.count(is_change);
    first.crash().await;
    app.wait_for(changes + 1, is_change).await;
    app.get("/scheduled").await.assert_json(json!(2));
    app.get("/key/1").await.assert_json(json!(2));
    // What may have been notified in between was missed.
    app.wait_for(2, is_listening).await;
    app.poll("/notified", |answer| answer.json() == json!(2))
        .await;
    second.execute("UPDATE t SET v = 3; NOTIFY t").await;
    app.poll("/notified", |answer| answer.json() == json!(3))
        .await;
    // An answer may have been under way.
    let is_failure = |event: &Event| is_refresh(event, RefreshOutcome::Failed);
    assert!(app.count(is_failure) <= 1);
    assert_eq!(app.count(is_lost), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_is_used_after_one_failure_when_one_goes_silent() {
    let [first, second] = two().await;
    let proxy = Proxy::before(first.url()).await;
    let url = to(&[proxy.url(), second.url()]) + "?connect_timeout=5";
    let repository = "max_connections = 4\nmax_loads_per_second = 10_000";
    let app = App::launch(&url, repository, ENDPOINTS).await;
    app.wait_until_ready().await;
    // Nothing of the start is under way any more.
    app.wait_for(1, triggered_by(Trigger::Notify)).await;
    // Several sessions in addition to the one that listens.
    let mut keys = 1..;
    while proxy.most_at_once() < 4 {
        let clients = keys.by_ref().take(50).map(|n| {
            let address = app.address();
            async move { http::get(address, &format!("/key/{n}")).await }
        });
        join_all(clients).await;
    }

    proxy.stall();
    let mut clients = Connection::open(app.address()).await;
    let is_change = |event: &Event| is_refresh(event, RefreshOutcome::Changed);
    let is_failure = |event: &Event| is_refresh(event, RefreshOutcome::Failed);
    let changes = app.count(is_change);
    app.wait_for(1, is_failure).await;
    clients.get("/scheduled").await.assert_json(json!(1));
    app.wait_for(changes + 1, is_change).await;
    clients.get("/scheduled").await.assert_json(json!(2));
    // The first failure costs no wait, so this is one at most; with every session tried it would be more.
    assert!(app.count(is_failure) <= 2);
    assert_eq!(app.count(is_lost), 0);
    let unknown = format!("/key/{}", keys.next().unwrap());
    app.get(&unknown).await.assert_json(json!(2));
    app.wait_for(2, is_listening).await;
    // A later notification causes a load, at the second attempt if need be.
    app.poll("/notified", |answer| answer.json() == json!(2))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balance_hosts_chooses_at_random() {
    let [first, second] = two().await;
    let url = format!(
        "{}?load_balance_hosts=random",
        to(&[first.url(), second.url()])
    );
    let mut seen = [false; 2];
    while seen != [true; 2] {
        let app = App::launch(&url, "max_connections = 1", ENDPOINTS).await;
        app.wait_until_ready().await;
        seen[if app.get("/key/1").await.json() == json!(1) {
            0
        } else {
            1
        }] = true;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_after_a_refusal_are_not_tried() {
    let [first, second] = two().await;
    let change = "ALTER ROLE reader PASSWORD 'of the first'";
    first.execute(change).await;
    let url = to(&[first.url(), second.url()]);
    let app = App::launch(&url, "", ENDPOINTS).await;
    let rejections = app.rejections().await;
    assert!(
        matches!(&rejections[0].error, RepositoryError::Settings { reason, .. } if reason.contains("password"))
    );
}
