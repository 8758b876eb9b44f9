//! Hostile and mistaken arguments: a problem that says what is wrong, and no query.

use serde_json::json;

use crate::support::app::App;
use crate::support::http;
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/people/{name}"
    sql = "SELECT id FROM people WHERE name = :name AND (:min::int IS NULL OR id >= :min) ORDER BY id LIMIT :limit"
    shape = "columns"
    max_age = "1h"
    params.min = { optional = true, minimum = 0, maximum = 100 }
    params.limit = { default = 10, minimum = 1, maximum = 50 }

    [[endpoint]]
    path = "/typed/{kind}"
    sql = "SELECT :kind AS kind, :day::date AS day, :id::uuid AS id, :flag::bool AS flag, :amount::numeric AS amount, :host::inet AS host"
    shape = "row"
    params.kind = { type = "text", values = ["a", "b"] }
    params.day = { optional = true }
    params.id = { optional = true }
    params.flag = { optional = true }
    params.amount = { optional = true }
    params.host = { optional = true }
"#;

async fn people() -> (Postgres, App) {
    let db = Postgres::with(
        "CREATE TABLE people (id int, name text); INSERT INTO people \
         VALUES (1, 'Ada'), (2, 'Ada'), (3, ''' OR 1=1 --'), (4, 'Zoë 🦀 +&/')",
    )
    .await;
    let app = App::start(&db, ENDPOINTS).await;
    (db, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_values_whatever_they_look_like() {
    let (_db, app) = people().await;
    app.get("/people/Ada")
        .await
        .assert_json(json!({ "id": [1, 2] }));
    app.get("/people/Ada?min=2")
        .await
        .assert_json(json!({ "id": [2] }));
    app.get("/people/Ada?limit=1")
        .await
        .assert_json(json!({ "id": [1] }));
    app.get("/people/'%20OR%201=1%20--")
        .await
        .assert_json(json!({ "id": [3] }));
    app.get("/people/Zo%C3%AB%20%F0%9F%A6%80%20+%26%2F")
        .await
        .assert_json(json!({ "id": [4] }));
    app.get("/people/nobody")
        .await
        .assert_json(json!({ "id": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_spellings_of_a_value_are_one_key() {
    let (_db, app) = people().await;
    app.get("/people/Ada?min=2&limit=10")
        .await
        .assert_cache("miss");
    for target in [
        "/people/%41da?limit=010&min=%2B2",
        "/people/Ada?min=02",
        "/people/Ada?&min=2&",
    ] {
        app.get(target).await.assert_status(200).assert_cache("hit");
    }
    assert_eq!(app.queries(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_problems_and_cause_no_query() {
    let (_db, app) = people().await;
    let long = "x".repeat(1_001);
    for (target, code, says) in [
        ("/people/Ada?min='%20OR%201=1%20--", "LRD-103", "min"),
        ("/people/Ada?min=1.5", "LRD-103", "min"),
        ("/people/Ada?min=", "LRD-103", "min"),
        ("/people/Ada?min=-1", "LRD-103", "min"),
        ("/people/Ada?min=101", "LRD-103", "100"),
        ("/people/Ada?min=99999999999999999999", "LRD-103", "min"),
        ("/people/Ada?limit=0", "LRD-103", "limit"),
        ("/people/Ada?limit=51", "LRD-103", "50"),
        ("/people/Ada?min=1&min=1", "LRD-106", "min"),
        ("/people/Ada?size=1", "LRD-105", "limit"),
        ("/people/Ada?name=Bob", "LRD-105", "name"),
        ("/people/%", "LRD-107", "%"),
        ("/people/%zz", "LRD-107", "%"),
        ("/people/Ada?min=%2", "LRD-107", "%"),
        ("/people/%ff", "LRD-107", "UTF-8"),
        ("/people/%C3%28", "LRD-107", "UTF-8"),
        ("/people/%00", "LRD-103", "name"),
        ("/people/A%00da", "LRD-103", "name"),
        (&format!("/people/{long}"), "LRD-103", "1000"),
        ("/typed/c", "LRD-103", "kind"),
        ("/typed/a?day=2024-02-30", "LRD-103", "day"),
        ("/typed/a?day=yesterday", "LRD-103", "day"),
        ("/typed/a?id=123", "LRD-103", "id"),
        ("/typed/a?flag=perhaps", "LRD-103", "flag"),
        ("/typed/a?amount=1e999999", "LRD-103", "amount"),
        ("/typed/a?amount=ten", "LRD-103", "amount"),
    ] {
        let answer = app.get(target).await;
        answer
            .assert_status(400)
            .assert_header("content-type", "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{target}: {problem}");
        let detail = problem["detail"].as_str().unwrap().replace(',', "");
        assert!(detail.contains(says), "{target}: {detail}");
        assert!(
            answer.body.len() < 1_000,
            "a problem repeats little of what was sent: {target}"
        );
    }
    assert_eq!(app.queries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_postgres_can_read_it_refuses_itself() {
    let (_db, app) = people().await;
    app.get("/typed/a?host=::1&day=2024-02-29")
        .await
        .assert_status(200);
    let refused = app.get("/typed/a?host=nowhere").await;
    refused.assert_status(400);
    assert_eq!(refused.json()["code"], "LRD-109");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_postgres_says_of_an_argument_it_can_not_read_is_a_400() {
    let cases = [
        ("jsonb", r#"{"a":"%5Cu0000"}"#),
        ("jsonb", r#"{"a":1e1000000}"#),
        ("int4range", "[5,1]"),
        ("integer[]", "[2:1]={1}"),
        ("xml", "<a"),
        ("tsquery", "("),
        ("money", "99999999999999999999"),
    ];
    let endpoint = |(at, (name, _)): (usize, &(&str, &str))| {
        format!(
            "[[endpoint]]\npath = \"/{at}\"\nsql = \"SELECT :x::{name}::text AS x\"\nparams.x.optional = true\n"
        )
    };
    let endpoints: String = cases.iter().enumerate().map(endpoint).collect();
    let db = Postgres::with("").await;
    let app = App::start(&db, &endpoints).await;
    for (at, (name, text)) in cases.iter().enumerate() {
        let text = text.replace('"', "%22").replace('<', "%3C");
        let answer = app.get(&format!("/{at}?x={text}")).await;
        let problem = answer.json();
        assert_eq!(problem["code"], "LRD-109", "{name}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_argument_is_refused() {
    let (_db, app) = people().await;
    for length in [10_000, 60_000, 1_000_000] {
        let target = format!("/people/{}", "x".repeat(length));
        let answer = http::get(app.address(), &target).await;
        assert!(
            (400..500).contains(&answer.status),
            "{length}: {}",
            answer.status
        );
    }
    assert_eq!(app.queries(), 0);
    app.get("/people/Ada").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_busters_pass_where_they_are_let_and_are_not_part_of_the_key() {
    let db = Postgres::with("").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n/{n}"
        sql = "SELECT :n::int AS n"
        shape = "value"
        unknown_params = "ignore"
        "#,
    )
    .await;
    app.get("/n/1?_=1700000000").await.assert_cache("miss");
    app.get("/n/1?_=1700000001&x=y")
        .await
        .assert_json(json!(1))
        .assert_cache("hit");
    assert_eq!(app.queries(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_path_can_be_is_not_found_however_it_is_written() {
    let db = Postgres::with("").await;
    let endpoints = r#"
        [[endpoint]]
        path = "/crab/{name}"
        sql = "SELECT :name::text"
        shape = "value"
        params.name = { max_length = 4 }
    "#;
    let app = App::start(&db, endpoints).await;
    // The longest that is: as many characters as there may be, each as long as it may be.
    let crabs = format!("/%63%72%61%62/{}", "%F0%9F%A6%80".repeat(4));
    app.get(&crabs).await.assert_json(json!("🦀🦀🦀🦀"));
    let five = app.get(&format!("/crab/{}", "a".repeat(5))).await;
    five.assert_status(400);
    assert_eq!(five.json()["code"], "LRD-103");
    for path in [
        format!("/{}", "%41".repeat(2_600)),
        format!("/crab/{}", "%41".repeat(2_600)),
        format!("/crab/{}", "a".repeat(7_800)),
        "/%2F".repeat(1_900),
    ] {
        let answer = app.get(&path).await;
        answer.assert_status(404);
        assert_eq!(answer.json()["code"], "LRD-101");
    }
    // Larder's own pages may be written with escapes as well.
    app.get("/%68ealthz").await.assert_status(200);
    let lavish: String = "healthz"
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    app.get(&format!("/{lavish}")).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_is_counted_under_its_code() {
    let (_db, app) = people().await;
    app.get("/people/Ada?min=x").await.assert_status(400);
    app.get("/people/Ada?min=x").await.assert_status(400);
    app.get("/people/Ada").await.assert_status(200);
    app.get("/nowhere").await.assert_status(404);
    let post = "POST /metrics HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n";
    http::raw(app.address(), post.as_bytes()).await;
    let bare = "GET /people/Ada HTTP/1.1\r\nConnection: close\r\n\r\n";
    http::raw(app.address(), bare.as_bytes()).await;
    let exported = app.get("/metrics").await;
    let mut found: Vec<&str> = exported.text().lines().collect();
    found.retain(|line| line.starts_with("larder_problems_total"));
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "larder_problems_total{endpoint=\"\",problem=\"LRD-101\"} 1",
            "larder_problems_total{endpoint=\"\",problem=\"LRD-102\"} 1",
            "larder_problems_total{endpoint=\"\",problem=\"LRD-114\"} 1",
            "larder_problems_total{endpoint=\"/people/{name}\",problem=\"LRD-103\"} 2",
        ]
    );
}
