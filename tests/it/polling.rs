//! A client that polls on one connection gets what any other client gets.

use std::collections::BTreeMap;

use larder::observe::{CacheStatus, Event};

use crate::support::app::App;
use crate::support::http::{self, Answer, Connection};
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [server.cors]
    origins = ["https://a.example"]
    [[endpoint]]
    path = "/count"
    sql = "SELECT count(*) FROM n"
    shape = "tuple"
    max_age = "1h"
    [[endpoint]]
    path = "/n/{n}"
    sql = "SELECT :n::int AS n, v FROM n, generate_series(1, 200) ORDER BY v LIMIT :limit"
    max_age = "1h"
    params.limit = { default = 200 }
    [[endpoint]]
    path = "/large"
    sql = "SELECT repeat('x', 20000) AS x"
    max_age = "1h"
    [[endpoint]]
    path = "/none"
    sql = "SELECT v FROM n WHERE false"
    shape = "row"
    max_age = "1h"
"#;

/// A request: its target and its fields.
type Asked<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Status, fields and content, without what depends on the time.
fn timeless(answer: &Answer) -> (u16, BTreeMap<String, Vec<String>>, Vec<u8>) {
    let mut fields = BTreeMap::<_, Vec<String>>::new();
    for (name, value) in &answer.headers {
        // `Last-Modified` of a new answer moves for a second.
        let is_date = ["date", "last-modified"].contains(&&**name);
        let has_seconds = ["age", "cache-control", "cache-status"].contains(&&**name);
        let value = if is_date {
            String::new()
        } else if has_seconds {
            value.replace(|c: char| c.is_ascii_digit(), "")
        } else {
            value.clone()
        };
        fields.entry(name.clone()).or_default().push(value);
    }
    (answer.status, fields, answer.body.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_does_not_depend_on_earlier_requests_of_its_connection() {
    let db = Postgres::with("CREATE TABLE n AS SELECT 1 AS v").await;
    let app = App::start(&db, ENDPOINTS).await;
    let whole = app.get("/n/7").await;
    let etag = whole.header("etag").unwrap();
    let modified = whole.header("last-modified").unwrap();
    let browser = ("Accept-Encoding", "gzip, deflate, br, zstd");
    let requests: Vec<Asked> = vec![
        ("/count", vec![]),
        ("/count", vec![("Connection", "keep-alive")]),
        ("/count?x=1", vec![]),
        ("/n/7", vec![]),
        ("/n/7?limit=3", vec![]),
        ("/n/7", vec![browser]),
        ("/n/7", vec![("Accept-Encoding", "identity;q=0")]),
        ("/n/7", vec![("Accept", "text/csv"), browser]),
        ("/n/7", vec![("Accept", "application/x-ndjson")]),
        ("/n/7", vec![("Accept", "image/png")]),
        ("/n/7", vec![("If-None-Match", etag)]),
        ("/n/7", vec![("If-None-Match", "\"other\"")]),
        ("/n/7", vec![("If-Modified-Since", modified)]),
        ("/n/7", vec![("Origin", "https://a.example")]),
        ("/n/7", vec![("Origin", "https://b.example")]),
        ("/n/seven", vec![]),
        ("/large", vec![]),
        ("/large", vec![browser]),
        ("/none", vec![]),
        ("/readyz", vec![]),
    ];
    for (target, fields) in &requests {
        let mut connection = Connection::open(app.address()).await;
        // Loads what is not loaded yet.
        connection.request("GET", target, fields).await;
        for _ in 0..10 {
            let again = connection.request("GET", target, fields).await;
            let first = http::request(app.address(), "GET", target, fields).await;
            assert_eq!(timeless(&again), timeless(&first), "{target} {fields:?}");
            let head = connection.request("HEAD", target, fields).await;
            assert_eq!(head.status, first.status);
        }
    }
    // Each of several requests in turn is counted.
    let mut connection = Connection::open(app.address()).await;
    let hit = |event: &Event| {
        let cache = CacheStatus::Hit;
        matches!(event, Event::RequestServed { cache: it, age: Some(_), .. } if *it == cache)
    };
    let before = app.count(hit);
    for _ in 0..10 {
        for target in ["/count", "/n/7", "/n/7?limit=3"] {
            connection.get(target).await.assert_status(200);
        }
    }
    assert_eq!(app.count(hit), before + 30);
}

// On one thread, so that all clients share its cached header fields.
#[tokio::test]
async fn a_polling_client_sees_every_change() {
    let db = Postgres::with("CREATE TABLE n AS SELECT 1 AS v").await;
    let endpoint = r#"
        [[endpoint]]
        path = "/v"
        sql = "SELECT v FROM n"
        shape = "value"
        refresh = { every = "100ms" }
        timeout = "10s"
    "#;
    let app = App::start(&db, endpoint).await;
    let first = app.get("/v").await;
    let mut connection = Connection::open(app.address()).await;
    let mut conditional = Connection::open(app.address()).await;
    let has_first = [("If-None-Match", first.header("etag").unwrap())];
    for value in 2..6 {
        for _ in 0..4 {
            let same = conditional.request("GET", "/v", &has_first).await;
            same.assert_status(if value == 2 { 304 } else { 200 });
        }
        db.execute(&format!("UPDATE n SET v = {value}")).await;
        let newest = loop {
            let answer = connection.get("/v").await;
            answer.assert_status(200);
            if answer.json() == value {
                break answer;
            }
            assert_eq!(answer.json(), value - 1);
        };
        // A client that has the newest gets 304, one that has another gets the newest, and none the one before.
        let mut other = Connection::open(app.address()).await;
        let has_newest = [("If-None-Match", newest.header("etag").unwrap())];
        for _ in 0..4 {
            let same = other.request("GET", "/v", &has_newest).await;
            same.assert_status(304);
            let answer = conditional.request("GET", "/v", &has_first).await;
            answer.assert_status(200).assert_json(value.into());
            let answer = connection.get("/v").await;
            answer.assert_status(200).assert_json(value.into());
        }
    }
}
