//! What Larder's own pages show to whom.

use serde_json::json;

use super::{SALES, access, app, ask};
use crate::support::app::App;
use crate::support::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_only_what_their_caller_may_know() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    for (target, key, status) in [
        ("/healthz", None, 200),
        ("/readyz", None, 200),
        ("/metrics", None, 401),
        ("/metrics", Some("grafana-key"), 403),
        ("/metrics", Some("prometheus-key"), 200),
        ("/status", None, 200),
        ("/status.json", None, 401),
        ("/status.json", Some("grafana-key"), 403),
        ("/status.json", Some("prometheus-key"), 200),
        ("/status/history.json", None, 401),
        ("/docs", None, 200),
    ] {
        ask(&app, target, key).await.assert_status(status);
    }
    for (key, expected) in [
        (None, &["/open"][..]),
        (Some("acme-key"), &["/closed", "/mine", "/near", "/open"]),
        (
            Some("grafana-key"),
            &["/closed", "/mine", "/near", "/open", "/sales"],
        ),
    ] {
        let answer = ask(&app, "/openapi.json", key).await;
        let document = answer.json();
        let mut paths: Vec<_> = document["paths"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        paths.sort();
        assert_eq!(paths, expected, "{key:?}");
    }
    let answer = ask(&app, "/openapi.json", Some("wrong")).await;
    answer.assert_status(401).assert_header(
        "www-authenticate",
        "Bearer realm=\"larder\", error=\"invalid_token\", error_description=\"The key is unknown.\"",
    );
    let answer = ask(&app, "/openapi.json", Some("grafana-key")).await;
    answer
        .assert_header("cache-control", "private, no-cache")
        .assert_header("vary", "Authorization, X-API-Key");
    let document = answer.json();
    let operation = |path: &str| document["paths"][path]["get"].clone();
    let security = json!([{ "bearer": ["sales"] }, { "apiKey": ["sales"] }]);
    assert_eq!(operation("/sales")["security"], security);
    assert_eq!(operation("/open")["security"], json!(null));
    assert_eq!(
        operation("/mine")["parameters"],
        json!(null),
        "a claim is no parameter of a client"
    );
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_observe_learns_what_readiness_waits_for() {
    let db = Postgres::own().await;
    let url = db.url().to_owned();
    db.stop().await;
    let keys = [
        ("grafana", ""),
        ("prometheus", "scopes = [\"larder:observe\"]"),
    ];
    let app = App::launch(&url, "", &access(&keys)).await;
    for key in [None, Some("wrong"), Some("grafana-key")] {
        let answer = ask(&app, "/readyz", key).await;
        answer.assert_status(503);
        assert_eq!(answer.text(), "not ready\n", "{key:?}");
    }
    let answer = ask(&app, "/readyz", Some("prometheus-key")).await;
    answer.assert_status(503);
    assert!(answer.text().contains("/closed"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_under_declared_names_only() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    for (target, key, status) in [
        ("/closed", None, 401),
        ("/closed", Some("wrong"), 401),
        ("/closed", Some("made-up"), 401),
        ("/closed", Some("a b"), 400),
        ("/sales", Some("acme-key"), 403),
        ("/mine", Some("grafana-key"), 403),
        ("/near", Some("grafana-key"), 403),
        ("/nowhere", Some("umbrella-key"), 404),
    ] {
        ask(&app, target, key).await.assert_status(status);
    }
    let metrics = ask(&app, "/metrics", Some("prometheus-key")).await;
    let metrics = metrics.text();
    for sample in [
        "larder_access_total{method=\"none\",outcome=\"no_credential\"} 1",
        "larder_access_total{method=\"none\",outcome=\"invalid_credential\"} 2",
        "larder_access_total{method=\"none\",outcome=\"malformed_credential\"} 1",
        "larder_access_total{method=\"key\",outcome=\"insufficient_scope\"} 1",
        "larder_access_total{method=\"key\",outcome=\"unusable_claim\"} 1",
        "larder_access_total{method=\"key\",outcome=\"address_not_allowed\"} 1",
        "larder_client_requests_total{client=\"acme\",code=\"403\"} 1",
        "larder_client_requests_total{client=\"grafana\",code=\"403\"} 2",
        "larder_client_requests_total{client=\"umbrella\",code=\"404\"} 1",
    ] {
        assert!(
            metrics.lines().any(|line| line == sample),
            "{sample}\n{metrics}"
        );
    }
    let names = metrics.lines().filter_map(|line| {
        let (_, rest) = line.split_once("client=\"")?;
        Some(rest.split_once('"')?.0)
    });
    let declared = ["acme", "grafana", "umbrella"];
    for name in names {
        assert!(declared.contains(&name), "{name}");
    }
}
