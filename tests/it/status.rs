//! `/status.json`: the state of a running Larder, made once for all clients. tests/status checks the page that
//! shows it.

use std::time::Duration;

use futures_util::future::join_all;
use larder::observe::Event;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::app::App;
use crate::support::gate::Gate;
use crate::support::http::{self, Answer};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;

const DOCUMENTED: &str = include_str!("../../docs/status-json.md");

/// The entry of an endpoint.
fn of<'d>(document: &'d Value, path: &str) -> &'d Value {
    let mut endpoints = document["endpoints"].as_array().unwrap().iter();
    endpoints
        .find(|endpoint| endpoint["endpoint"] == path)
        .unwrap_or_else(|| panic!("{path} is not in {document}"))
}

/// Every field of an endpoint is in docs/status-json.md.
fn assert_documented(endpoint: &Value) {
    for (name, value) in endpoint.as_object().into_iter().flatten() {
        let is_there = DOCUMENTED.contains(&format!("`{name}`"));
        assert!(is_there, "`{name}` is not in docs/status-json.md");
        assert_documented(value);
    }
}

/// Waits until an endpoint is in this state, and returns the document.
async fn until(app: &App, path: &str, state: &str) -> Value {
    let is_it = |answer: &Answer| of(&answer.json(), path)["state"] == state;
    app.poll("/status.json", is_it).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_stale_and_idle_endpoints_have_their_rates() {
    let endpoints = r#"
        [[endpoint]]
        path = "/kept"
        sql = "SELECT 1 AS n"
        refresh = { every = "1h" }
        [[endpoint]]
        path = "/late"
        sql = "SELECT 1 AS n"
        max_age = "1ms"
        refresh = { every = "1h" }
        [[endpoint]]
        path = "/asked"
        sql = "SELECT 1 AS n"
        max_age = "1ms"
        [[endpoint]]
        path = "/of/{n}"
        sql = "SELECT :n::int AS n"
        max_age = "1h"
        [[endpoint]]
        path = "/nobody/{n}"
        sql = "SELECT :n::int AS n"
    "#;
    let db = Postgres::with("").await;
    let app = App::start(&db, endpoints).await;
    for n in [1, 2, 2] {
        app.get(&format!("/of/{n}")).await.assert_status(200);
    }
    app.get("/kept").await.assert_cache("hit");
    until(&app, "/late", "stale").await;
    let is_counted = |answer: &Answer| of(&answer.json(), "/kept")["hit_ratio"] == 1.0;
    let document = app.poll("/status.json", is_counted).await.json();

    let kept = of(&document, "/kept");
    assert_eq!(kept["state"], "fresh");
    assert_eq!(kept["refresh"][0], "every");
    assert!(
        kept["requests_per_second"].as_f64().unwrap() > 0.0,
        "{kept}"
    );
    assert!(
        kept["next_refresh_seconds"].as_f64().unwrap() <= 3_600.0,
        "{kept}"
    );
    let (entry, limits) = (&kept["entry"], &kept["limits"]);
    assert!(
        entry["age_seconds"].as_f64() < limits["fresh_seconds"].as_f64(),
        "{kept}"
    );
    assert!(entry["bytes"].as_u64().unwrap() > 9, "{kept}");
    assert!(
        kept["keys"].is_null() && kept["last_error"].is_null(),
        "{kept}"
    );

    assert_eq!(of(&document, "/asked")["state"], "idle");
    assert_eq!(of(&document, "/nobody/{n}")["state"], "idle");
    let keyed = of(&document, "/of/{n}");
    assert_eq!(keyed["state"], "fresh");
    assert_eq!(keyed["keys"]["entries"], 2);
    assert_eq!(keyed["keys"]["fresh"], 2);
    assert!(keyed["keys"]["oldest_age_seconds"].is_f64(), "{keyed}");
    assert!(keyed["entry"].is_null(), "{keyed}");
    assert_eq!(document["repository"]["up"], true);
    assert_eq!(document["readiness"], "ready");
    assert_documented(kept);
    assert_documented(keyed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_loaded_yet_is_warming() {
    let endpoints = r#"
        [[endpoint]]
        path = "/gated"
        sql = "SELECT pg_advisory_xact_lock_shared(hashtext('gate of ' || current_schema()))::text AS passed"
        max_age = "1h"
    "#;
    let db = Postgres::with("").await;
    let gate = Gate::close(&db).await;
    let app = App::launch(db.url(), "", endpoints).await;
    gate.wait_for_queries(1).await;
    let document = until(&app, "/gated", "warming").await;
    assert_eq!(document["readiness"], "warming");
    assert_eq!(document["states"]["warming"], 1);
    gate.open().await;
    app.wait_until_ready().await;
    assert_eq!(until(&app, "/gated", "fresh").await["readiness"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_query_and_its_recovery_are_shown_without_internals() {
    let endpoints = r#"
        [[endpoint]]
        path = "/share"
        sql = "SELECT 100 / whole AS share FROM secret_table"
        refresh = { every = "100ms" }
    "#;
    let db = Postgres::with("CREATE TABLE secret_table AS SELECT 5 AS whole").await;
    let app = App::start(&db, endpoints).await;
    until(&app, "/share", "fresh").await;
    db.execute("UPDATE secret_table SET whole = 0").await;
    let document = until(&app, "/share", "failing").await;
    let error = &of(&document, "/share")["last_error"];
    assert_eq!(error["code"], "LRD-303");
    assert_eq!(
        error["detail"],
        "The database refused the query of this endpoint."
    );
    assert_eq!(error["fault"], "configuration");
    assert_documented(error);
    for secret in ["secret_table", "division", "127.0.0.1", "search_path"] {
        let text = document.to_string();
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    db.execute("UPDATE secret_table SET whole = 4").await;
    let document = until(&app, "/share", "fresh").await;
    assert_eq!(
        of(&document, "/share")["last_error"]["code"],
        "LRD-303",
        "it is remembered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_its_end_are_shown() {
    let endpoints = r#"
        [[endpoint]]
        path = "/kept"
        sql = "SELECT 1 AS n"
        max_age = "1h"
        refresh = { every = "100ms" }
        [[endpoint]]
        path = "/short"
        sql = "SELECT 1 AS n"
        max_age = "1ms"
        stale_while_revalidate = "0s"
        stale_if_error = "0s"
        [[endpoint]]
        path = "/of/{n}"
        sql = "SELECT :n::int AS n"
    "#;
    let db = Postgres::with("").await;
    let mut proxy = Proxy::before(db.url()).await;
    let app = App::launch(proxy.url(), "", endpoints).await;
    app.wait_until_ready().await;
    until(&app, "/kept", "fresh").await;
    proxy.cut().await;
    let is_down = |answer: &Answer| answer.json()["repository"]["up"] == false;
    app.poll("/status.json", is_down).await;
    let document = until(&app, "/kept", "failing").await;
    assert_eq!(of(&document, "/kept")["last_error"]["code"], "LRD-301");
    assert_eq!(of(&document, "/kept")["last_error"]["fault"], "repository");
    // Without any request: there is nothing to serve.
    until(&app, "/short", "failing").await;
    app.get("/of/1").await.assert_status(503);
    until(&app, "/of/{n}", "failing").await;
    proxy.heal().await;
    app.poll("/status.json", |answer| !is_down(answer)).await;
    until(&app, "/kept", "fresh").await;
    // A failure due to the outage ends with it, even without another request.
    let document = app.get("/status.json").await.json();
    assert_eq!(of(&document, "/short")["state"], "idle", "{document}");
    assert_ne!(of(&document, "/of/{n}")["state"], "failing", "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_requests_cause_no_query() {
    let db = Postgres::with("").await;
    let app = App::start(&db, crate::wire::ENDPOINTS).await;
    for _ in 0..20 {
        join_all((0..20).map(|_| app.get("/status.json"))).await;
    }
    let queries = app.queries();
    let resident = app.count(|event| matches!(event, Event::RefreshFinished { .. }));
    assert_eq!(queries, resident, "and none of that reaches Postgres");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_are_never_stored_and_are_compressed_on_request() {
    let db = Postgres::with("").await;
    let app = App::start(&db, crate::wire::ENDPOINTS).await;
    for target in ["/status.json", "/status/history.json"] {
        let plain = app.get(target).await;
        plain
            .assert_status(200)
            .assert_header("content-type", "application/json")
            .assert_header("cache-control", "no-store")
            .assert_header("vary", "Accept-Encoding")
            .assert_header("x-content-type-options", "nosniff");
        assert!(plain.json()["endpoints"].is_array());
        for coding in ["gzip", "br", "zstd"] {
            let asked = [("Accept-Encoding", coding)];
            let coded = http::request(app.address(), "GET", target, &asked).await;
            coded
                .assert_status(200)
                .assert_header("content-encoding", coding);
            assert!(coded.body.len() < plain.body.len());
        }
        let none = [("Accept-Encoding", "identity;q=0, compress")];
        let uncoded = http::request(app.address(), "GET", target, &none).await;
        uncoded.assert_status(200);
        assert_eq!(uncoded.header("content-encoding"), None);
        let head = http::request(app.address(), "HEAD", target, &[]).await;
        head.assert_status(200)
            .assert_header("cache-control", "no-store");
        let options = http::request(app.address(), "OPTIONS", target, &[]).await;
        options
            .assert_status(204)
            .assert_header("allow", "GET, HEAD, OPTIONS");
        let posted = http::request(app.address(), "POST", target, &[]).await;
        posted.assert_status(405);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_neither_postgres_nor_other_hosts() {
    let app = App::launch(
        "postgres://nobody@127.0.0.1:1/none",
        "",
        crate::wire::ENDPOINTS,
    )
    .await;
    let page = app.get("/status").await;
    page.assert_status(200)
        .assert_header("content-type", "text/html; charset=utf-8")
        .assert_header("cache-control", "no-store");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "));
    for (target, content_type) in [
        ("/status/status.css", "text/css; charset=utf-8"),
        ("/status/status.js", "text/javascript; charset=utf-8"),
        ("/status/uplot.css", "text/css; charset=utf-8"),
        ("/status/uplot.js", "text/javascript; charset=utf-8"),
    ] {
        let asset = app.get(target).await;
        asset
            .assert_status(200)
            .assert_header("content-type", content_type);
        assert!(
            page.text().contains(&target[1..]),
            "the page loads {target}"
        );
    }
    let document = until(&app, "/n", "failing").await;
    assert_eq!(document["repository"]["up"], false);
    assert!(!document.to_string().contains("nobody"), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_grows() {
    let db = Postgres::with("").await;
    let app = App::start(&db, crate::wire::ENDPOINTS).await;
    let taken = |answer: &Answer| answer.json()["samples"].as_u64().unwrap();
    let is_begun = |answer: &Answer| taken(answer) > 0;
    let polled = app.poll("/status/history.json", is_begun);
    let past = timeout(Duration::from_secs(60), polled).await;
    let past = past.expect("a sample is taken").json();
    assert_eq!(past["endpoints"][0]["endpoint"], "/n");
    assert!(past["endpoints"][0]["age_seconds"][0].is_f64(), "{past}");
}
