//! What browsers ask before a page may read an answer, and what a path is.

use crate::support::app::App;
use crate::support::http::{self, Answer};
use crate::support::postgres::Postgres;

const ENDPOINT: &str = "[[endpoint]]\npath = \"/by-country\"\nsql = \"SELECT 1 AS one\"\n\
                        [[endpoint]]\npath = \"/of/{name}\"\nsql = \"SELECT :name::text AS name\"";

async fn app(db: &Postgres, cors: &str) -> App {
    App::start(db, &format!("{cors}\n{ENDPOINT}")).await
}

async fn ask(app: &App, method: &str, target: &str, origin: Option<&str>) -> Answer {
    let fields: Vec<(&str, &str)> = origin
        .into_iter()
        .flat_map(|origin| {
            let asked = ("Access-Control-Request-Method", "GET");
            [("Origin", origin)]
                .into_iter()
                .chain((method == "OPTIONS").then_some(asked))
        })
        .collect();
    http::request(app.address(), method, target, &fields).await
}

fn varies_on_origin(answer: &Answer) -> bool {
    let vary = answer.headers.iter().filter(|(name, _)| name == "vary");
    vary.into_iter().any(|(_, value)| value.contains("origin"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_a_named_origin_may_read_answers() {
    let db = Postgres::with("").await;
    let app = app(&db, "[server.cors]\norigins = [\"https://a.example\"]").await;
    let allowed = "access-control-allow-origin";
    for target in ["/by-country", "/nothing", "/of/x?y=1"] {
        let own = ask(&app, "GET", target, Some("https://a.example")).await;
        own.assert_header(allowed, "https://a.example");
        let exposed = own.header("access-control-expose-headers").unwrap();
        assert!(
            exposed.contains("etag") && exposed.contains("age"),
            "{exposed}"
        );
        assert!(varies_on_origin(&own), "{target}");
        for origin in [Some("https://b.example"), Some("null"), None] {
            let other = ask(&app, "GET", target, origin).await;
            assert_eq!(other.header(allowed), None);
            assert!(varies_on_origin(&other), "{target}");
        }
    }
    let preflight = ask(&app, "OPTIONS", "/by-country", Some("https://a.example")).await;
    preflight
        .assert_status(204)
        .assert_header(allowed, "https://a.example")
        .assert_header("access-control-allow-methods", "GET, HEAD, OPTIONS")
        .assert_header("allow", "GET, HEAD, OPTIONS");
    let fields = preflight.header("access-control-allow-headers").unwrap();
    assert!(
        fields.contains("if-none-match") && fields.contains("authorization"),
        "{fields}"
    );
    preflight.assert_header("access-control-max-age", "7200");
    let refused = ask(&app, "OPTIONS", "/by-country", Some("https://b.example")).await;
    refused.assert_status(204);
    assert_eq!(refused.header(allowed), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_origin_may_read_answers_only_if_configured() {
    let db = Postgres::with("").await;
    let open = app(&db, "[server.cors]\norigins = [\"*\"]").await;
    let answer = ask(&open, "GET", "/by-country", None).await;
    answer.assert_header("access-control-allow-origin", "*");
    assert!(!varies_on_origin(&answer));
    let closed = app(&db, "").await;
    for method in ["GET", "OPTIONS"] {
        let answer = ask(&closed, method, "/by-country", Some("https://a.example")).await;
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_set_the_fields_that_it_names() {
    let db = Postgres::with("").await;
    for origins in ["*", "https://a.example"] {
        let app = app(&db, &format!("[server.cors]\norigins = [{origins:?}]")).await;
        let preflight = async |requested: &str| {
            let fields = [
                ("Origin", "https://a.example"),
                ("Access-Control-Request-Method", "GET"),
                ("Access-Control-Request-Headers", requested),
            ];
            http::request(app.address(), "OPTIONS", "/by-country", &fields).await
        };
        for requested in [
            "authorization",
            "authorization,x-grafana-org-id,x-grafana-device-id",
            "content-type,traceparent,tracestate,baggage",
        ] {
            let answer = preflight(requested).await;
            let allowed = answer
                .assert_status(204)
                .header("access-control-allow-headers");
            let allowed: Vec<_> = allowed.unwrap().split(", ").collect();
            assert_eq!(allowed, requested.split(',').collect::<Vec<_>>());
            assert!(
                answer.headers.iter().any(|(name, value)| {
                    name == "vary" && value.contains("access-control-request-headers")
                }),
                "{answer:?}"
            );
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
        // Invalid names and excessively long lists are not echoed.
        for requested in ["a b", "<script>", &"a,".repeat(1_000)] {
            let answer = preflight(requested).await;
            let allowed = answer.header("access-control-allow-headers").unwrap();
            assert!(allowed.starts_with("authorization, "), "{allowed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_must_match_the_declared_one_except_for_needless_escapes() {
    let db = Postgres::with("").await;
    let app = app(&db, "").await;
    for (target, status) in [
        ("/by-country", 200),
        ("/by%2Dcountry", 200),
        ("/b%79-country.csv", 200),
        ("/of/by%2dcountry", 200),
        ("/healthz", 200),
        ("/health%7a", 200),
        ("/by-country/", 404),
        ("//by-country", 404),
        ("/./by-country", 404),
        ("/x/../by-country", 404),
        ("/By-Country", 404),
        ("/by%2Fcountry", 404),
        ("/healthz/", 404),
        ("//healthz", 404),
        ("/of/a%", 400),
        ("/of/%ff", 400),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&app, method, target, None).await;
            assert_eq!(answer.status, status, "{method} {target}");
        }
    }
    let name = |answer: Answer| answer.json()[0]["name"].as_str().unwrap().to_owned();
    assert_eq!(
        name(ask(&app, "GET", "/of/a%2Fb%20c%2B+", None).await),
        "a/b c++"
    );
}
