//! What a client gets: answers, their headers, their validators.

use larder::observe::{Event, RefreshOutcome, Trigger};
use serde_json::json;

use crate::support::app::App;
use crate::support::http::{self, Connection};
use crate::support::postgres::Postgres;

const PEOPLE: &str = "CREATE TABLE people (id int, name text); \
                      INSERT INTO people VALUES (1, 'Ada'), (2, 'Grace')";

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_of_the_blog_post_works_as_written() {
    let db = Postgres::own().await;
    db.execute(
        r#"CREATE SCHEMA "tk-bitio/Sales"; CREATE TABLE "tk-bitio/Sales"."sales_data_sample" AS
           SELECT generate_series(1, 2823) AS ordernumber"#,
    )
    .await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/count"
        sql = 'SELECT count(*) FROM "tk-bitio/Sales"."sales_data_sample"'
        shape = "tuple"
        refresh = { every = "5s" }
        "#,
    )
    .await;
    app.get("/count")
        .await
        .assert_status(200)
        .assert_json(json!([2823]))
        .assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shape_has_its_json() {
    let db = Postgres::with(PEOPLE).await;
    let endpoints: String = ["rows", "columns", "row", "tuple", "value"]
        .iter()
        .map(|shape| {
            let sql = match *shape {
                "rows" | "columns" => "SELECT id, name FROM people ORDER BY id",
                "value" => "SELECT name FROM people WHERE id = 1",
                _ => "SELECT id, name FROM people WHERE id = 1",
            };
            format!("[[endpoint]]\npath = \"/{shape}\"\nsql = \"{sql}\"\nshape = \"{shape}\"\n")
        })
        .collect();
    let app = App::start(&db, &endpoints).await;
    let both = json!([{ "id": 1, "name": "Ada" }, { "id": 2, "name": "Grace" }]);
    app.get("/rows")
        .await
        .assert_json(both)
        .assert_header("content-type", "application/json");
    let columns = json!({ "id": [1, 2], "name": ["Ada", "Grace"] });
    app.get("/columns").await.assert_json(columns);
    app.get("/row")
        .await
        .assert_json(json!({ "id": 1, "name": "Ada" }));
    app.get("/tuple").await.assert_json(json!([1, "Ada"]));
    app.get("/value").await.assert_json(json!("Ada"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_has_its_age_and_how_long_it_may_be_stored() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT count(*) FROM people\"\nmax_age = \"1h\"",
    )
    .await;
    let answer = app.get("/n").await;
    answer
        .assert_header("age", "0")
        .assert_header("x-content-type-options", "nosniff");
    answer.assert_header(
        "cache-control",
        "public, max-age=3599, stale-while-revalidate=59, stale-if-error=3599",
    );
    let status = answer.header("cache-status").unwrap();
    assert_eq!(status, "larder; hit; ttl=3599");
    assert!(answer.header("last-modified").unwrap().ends_with(" GMT"));
    assert!(answer.header("date").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_the_current_answer_gets_a_304() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT * FROM people\"",
    )
    .await;
    let whole = app.get("/n").await;
    let etag = whole.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");

    let address = app.address();
    for field in [
        etag.clone(),
        format!("W/{etag}"),
        format!("\"x\", {etag}"),
        "*".to_owned(),
    ] {
        let same = http::request(address, "GET", "/n", &[("If-None-Match", &field)]).await;
        same.assert_status(304)
            .assert_header("etag", &etag)
            .assert_cache("hit");
        assert!(same.body.is_empty());
        for name in ["cache-control", "age", "last-modified", "date"] {
            assert!(same.header(name).is_some(), "a 304 has {name}");
        }
    }
    for field in ["\"x\"", "garbage", ""] {
        let other = http::request(address, "GET", "/n", &[("If-None-Match", field)]).await;
        other.assert_status(200);
        assert_eq!(other.body, whole.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_headers_of_get_and_no_body() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT * FROM people\"",
    )
    .await;
    let mut connection = Connection::open(app.address()).await;
    let get = connection.get("/n").await;
    let head = connection.request("HEAD", "/n", &[]).await;
    head.assert_status(200);
    for name in ["content-length", "content-type", "etag", "last-modified"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    connection.get("/n").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_and_methods_are_problems() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT * FROM people\"",
    )
    .await;
    let absent = app.get("/nowhere").await;
    absent
        .assert_status(404)
        .assert_header("content-type", "application/problem+json");
    assert_eq!(absent.json()["code"], "LRD-101");
    for target in ["/", "/n/", "/N", "//n", "/metrics/x"] {
        app.get(target).await.assert_status(404);
    }
    for (method, target) in [
        ("POST", "/n"),
        ("DELETE", "/n"),
        ("BREW", "/n"),
        ("PUT", "/metrics"),
    ] {
        let refused = http::request(app.address(), method, target, &[]).await;
        refused
            .assert_status(405)
            .assert_header("allow", "GET, HEAD, OPTIONS");
        assert_eq!(refused.json()["code"], "LRD-102");
    }
    let options = http::request(app.address(), "OPTIONS", "/n", &[]).await;
    options
        .assert_status(204)
        .assert_header("allow", "GET, HEAD, OPTIONS");
    app.get("/n").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn for_one_row_none_is_a_404_and_two_are_an_error() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/people/{id}"
        sql = "SELECT * FROM people WHERE id <= :id AND id > :id - 1 OR :id = 9"
        shape = "row"
        "#,
    )
    .await;
    app.get("/people/1")
        .await
        .assert_json(json!({ "id": 1, "name": "Ada" }));
    let none = app.get("/people/5").await;
    none.assert_status(404).assert_cache("miss");
    assert_eq!(none.json()["code"], "LRD-108");
    app.get("/people/5")
        .await
        .assert_status(404)
        .assert_cache("hit");
    let two = app.get("/people/9").await;
    two.assert_status(502);
    assert_eq!(two.json()["code"], "LRD-305");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_is_visible_and_the_etag_follows_the_content() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n"
        sql = "SELECT count(*) FROM people"
        shape = "value"
        refresh = { every = "100ms" }
        "#,
    )
    .await;
    let first = app.get("/n").await;
    first.assert_json(json!(2));
    db.execute("INSERT INTO people VALUES (3, 'Edsger')").await;
    app.wait_for(1, |event| {
        matches!(
            event,
            Event::RefreshFinished {
                trigger: Trigger::Schedule,
                outcome: RefreshOutcome::Changed,
                ..
            }
        )
    })
    .await;
    let second = app.get("/n").await;
    second.assert_json(json!(3)).assert_cache("hit");
    assert_ne!(first.header("etag"), second.header("etag"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served_and_not_stored() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT * FROM people\"",
    )
    .await;
    app.get("/n").await.assert_cache("hit");
    for page in ["/healthz", "/readyz", "/metrics"] {
        app.get(page)
            .await
            .assert_status(200)
            .assert_header("cache-control", "no-store");
    }
    let metrics = app.get("/metrics").await;
    metrics.assert_header("content-type", "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"larder_requests_total{cache="hit",code="200",endpoint="/n"} 1"#,
        r#"larder_refreshes_total{endpoint="/n",outcome="changed",trigger="warm"} 1"#,
        r#"larder_repository_queries_total{endpoint="/n",outcome="ok"} 1"#,
        "larder_cache_entries 1",
        "larder_repository_up 1",
        "larder_cache_max_bytes 268435456",
    ] {
        assert!(
            metrics.text().lines().any(|l| l == line),
            "{line} in\n{}",
            metrics.text()
        );
    }
}
