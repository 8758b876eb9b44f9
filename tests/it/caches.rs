//! Behind real HTTP caches: what they store, for how long, and how old an answer can get behind them.

use std::time::{SystemTime, UNIX_EPOCH};

use larder::observe::Event;
use serde_json::json;

use crate::support::app::App;
use crate::support::front::{Cache, Front};
use crate::support::http::{self, Answer, Connection};
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [defaults]
    shape = "row"
    stale_while_revalidate = "0s"
    stale_if_error = "0s"

    [[endpoint]]
    path = "/long"
    sql = "SELECT n AS v, repeat('x', 5000) AS filler FROM generate_series(1, 1) AS n"
    max_age = "1h"

    [[endpoint]]
    path = "/short"
    sql = "SELECT v FROM t"
    max_age = "2s"
    stale_while_revalidate = "10s"
    stale_if_error = "10s"

    [[endpoint]]
    path = "/aging/{n}"
    # The load takes long enough for a request to arrive while it runs.
    sql = """SELECT extract(epoch FROM clock_timestamp())::float8 AS at, pg_sleep(0.05)::text AS slept
             WHERE :n::int > 0"""
    max_age = "2s"
    stale_while_revalidate = "2s"
    stale_if_error = "4s"

    [[endpoint]]
    path = "/private"
    sql = "SELECT v FROM t"
    max_age = "1h"
    cache_control = "private"

    [[endpoint]]
    path = "/never"
    sql = "SELECT v FROM t"
    max_age = "1h"
    cache_control = "no-store"
"#;

/// The limits of `/aging`, in seconds: `max_age` with the window while a load runs, and with the window while
/// loads fail or take long.
const WHILE_LOADING: f64 = 4.0;
const IN_ALL: f64 = 6.0;

fn is_served(event: &Event) -> bool {
    matches!(event, Event::RequestServed { .. })
}

fn is_304(event: &Event) -> bool {
    matches!(event, Event::RequestServed { code: 304, .. })
}

fn is_hit(answer: &Answer) -> bool {
    answer.header("x-cache") == Some("HIT")
}

/// Requests `/aging`. Returns the answer, and the age of its data in seconds when the request was sent, which is
/// before any cache decided.
async fn ask(connection: &mut Connection, path: &str) -> (Answer, f64) {
    let asked = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let answer = connection.get(path).await;
    let age = match answer.status {
        200 => asked.as_secs_f64() - answer.json()["at"].as_f64().unwrap(),
        _ => 0.0,
    };
    (answer, age)
}

#[test]
fn the_documented_configurations_are_those_used_here() {
    let documented = include_str!("../../docs/caches.md");
    assert!(documented.contains(include_str!("support/front/nginx.conf")));
    assert!(documented.contains(include_str!("support/front/larder.vcl")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_does_not_revalidate_a_fresh_response() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    for cache in Cache::ALL {
        let app = App::start(&db, ENDPOINTS).await;
        let front = Front::of(cache, app.address()).await;
        http::get(front.address, "/long").await.assert_status(200);
        let before = app.count(is_served);
        for method in ["GET", "HEAD", "GET"] {
            let answer = http::request(front.address, method, "/long", &[]).await;
            answer.assert_status(200);
            assert!(is_hit(&answer), "{cache:?}: {answer:?}");
        }
        assert_eq!(app.count(is_served), before, "{cache:?}");
        for path in ["/private", "/never"] {
            for _ in 0..3 {
                let answer = http::get(front.address, path).await;
                answer.assert_status(200);
                assert!(!is_hit(&answer), "{cache:?} {path}");
            }
        }
        assert_eq!(app.count(is_served), before + 6, "{cache:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_stores_each_representation_separately() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    for cache in Cache::ALL {
        let app = App::start(&db, ENDPOINTS).await;
        let front = Front::of(cache, app.address()).await;
        for round in 0..2 {
            for (accept, coding) in [
                ("*/*", "identity"),
                ("*/*", "gzip"),
                ("*/*", "br"),
                ("text/csv", "zstd"),
                ("application/x-ndjson", "identity"),
            ] {
                let fields = [("Accept", accept), ("Accept-Encoding", coding)];
                let answer = http::request(front.address, "GET", "/long", &fields).await;
                let got = answer.header("content-encoding").unwrap_or("identity");
                assert_eq!(got, coding, "{cache:?}");
                let content_type = answer.header("content-type").unwrap();
                let expected = if accept == "*/*" {
                    "application/json"
                } else {
                    accept
                };
                assert!(
                    content_type.starts_with(expected),
                    "{cache:?}: {content_type}"
                );
                assert_eq!(is_hit(&answer), round == 1, "{cache:?} {accept} {coding}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_revalidates_a_stale_response_with_its_tag() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    for cache in Cache::ALL {
        let app = App::start(&db, ENDPOINTS).await;
        let front = Front::of(cache, app.address()).await;
        let mut connection = Connection::open(front.address).await;
        while app.count(is_304) == 0 {
            connection
                .get("/short")
                .await
                .assert_status(200)
                .assert_json(json!({ "v": 1 }));
        }
        db.execute("UPDATE t SET v = 2").await;
        while connection.get("/short").await.json() != json!({ "v": 2 }) {}
        db.execute("UPDATE t SET v = 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_older_behind_a_cache_than_its_endpoint_allows() {
    // Both caches at once, because each takes many seconds.
    let [nginx, varnish] = Cache::ALL.map(|cache| tokio::spawn(ages_within_limits(cache)));
    nginx.await.unwrap();
    varnish.await.unwrap();
}

async fn ages_within_limits(cache: Cache) {
    let db = Postgres::own().await;
    let app = App::start(
        &db,
        &ENDPOINTS.replace("FROM t", "FROM (VALUES (1)) AS t (v)"),
    )
    .await;
    let front = Front::of(cache, app.address()).await;
    let mut connection = Connection::open(front.address).await;
    let (mut seen, mut stale, mut hits) = (Vec::new(), 0, 0);
    while seen.len() < 5 {
        let (answer, age) = ask(&mut connection, "/aging/1").await;
        answer.assert_status(200);
        assert!(age <= IN_ALL, "{cache:?}: {age} s, {answer:?}");
        stale += usize::from(age > 2.0);
        hits += usize::from(is_hit(&answer));
        let at = answer.json()["at"].as_f64().unwrap();
        if !seen.contains(&at) {
            seen.push(at);
        }
    }
    assert!(
        stale > 0,
        "{cache:?} serves what is stale while it asks for it"
    );
    assert!(hits > 0, "{cache:?}");

    db.crash().await;
    let oldest = oldest_age(&mut connection, "/aging/1", cache).await;
    assert!(
        oldest > WHILE_LOADING,
        "{cache:?}: {oldest} s with Postgres gone"
    );
    db.start_again().await;
    app.poll("/aging/2", |answer| answer.status == 200).await;
    let kept = cached_path(&mut connection).await;
    app.stop().await;
    let oldest = oldest_age(&mut connection, &kept, cache).await;
    assert!(oldest > 2.0, "{cache:?}: {oldest} s with Larder gone");
}

/// A path whose response the cache has stored. If the machine stood still, there may not have been a second
/// left to store a response for, and then Varnish does not try again for two minutes.
async fn cached_path(connection: &mut Connection) -> String {
    for n in 3.. {
        let path = format!("/aging/{n}");
        connection.get(&path).await.assert_status(200);
        if is_hit(&connection.get(&path).await) {
            return path;
        }
    }
    unreachable!("the numbers do not end")
}

/// Sends requests until there is no answer any more, and returns the age of the oldest.
async fn oldest_age(connection: &mut Connection, path: &str, cache: Cache) -> f64 {
    let mut oldest: f64 = 0.0;
    loop {
        let (answer, age) = ask(connection, path).await;
        if answer.status != 200 {
            assert!(
                (500..=504).contains(&answer.status),
                "{cache:?}: {answer:?}"
            );
            return oldest;
        }
        assert!(age <= IN_ALL, "{cache:?}: {age} s, {answer:?}");
        oldest = oldest.max(age);
    }
}
