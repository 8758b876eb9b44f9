//! Tokens of issuers, from outside: what they open, and which are refused.

mod keys; // where the keys of an issuer are, and how they are followed

use larder::observe::Event;
use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::http::{self, Answer};
use crate::support::issuer::{ISSUER, claims, encoded, seconds_from_now, with_secret};
use crate::support::postgres::Postgres;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

const SALES: &str = "CREATE TABLE sales (tenant int, amount int);
    INSERT INTO sales VALUES (1, 1), (1, 2), (2, 40)";

const ENDPOINTS: &str = r#"
    [defaults]
    max_age = "1h"
    shape = "value"

    [[endpoint]]
    path = "/closed"
    sql = "SELECT 2"

    [[endpoint]]
    path = "/none"
    sql = "SELECT 2 WHERE false"

    [[endpoint]]
    path = "/scoped"
    sql = "SELECT 3"
    access = { scopes = ["sales", "read"] }

    [[endpoint]]
    path = "/mine"
    sql = "SELECT sum(amount) FROM sales WHERE tenant = :tenant"
    params.tenant = { claim = "tenant_id" }
"#;

/// An issuer whose keys are these.
fn issuer(algorithm: &str, keys: &str) -> String {
    format!(
        "[access]\ndefault = \"deny\"\n[[access.jwt]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\n\
         audience = [\"larder\"]\nalgorithms = [\"{algorithm}\"]\nkeys = {{ {keys} }}\n{ENDPOINTS}"
    )
}

async fn with_a_secret(db: &Postgres) -> App {
    App::start(db, &issuer("HS256", &format!("secret = \"{SECRET}\""))).await
}

fn token(others: &Value) -> String {
    with_secret(SECRET, HEADER, &claims(others).to_string())
}

async fn ask(app: &App, target: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    http::request(app.address(), "GET", target, &[("Authorization", &bearer)]).await
}

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    answer.assert_status(status);
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_what_their_scopes_and_claims_allow() {
    let db = Postgres::with(SALES).await;
    let app = with_a_secret(&db).await;
    for (target, others, status, code) in [
        ("/closed", json!({}), 200, ""),
        ("/scoped", json!({}), 403, "LRD-203"),
        ("/scoped", json!({ "scope": "sales" }), 403, "LRD-203"),
        ("/scoped", json!({ "scope": "read sales" }), 200, ""),
        ("/scoped", json!({ "scope": ["sales", "read"] }), 200, ""),
        ("/mine", json!({}), 403, "LRD-205"),
        ("/mine", json!({ "tenant_id": null }), 403, "LRD-205"),
        ("/mine", json!({ "tenant_id": "acme" }), 403, "LRD-205"),
        ("/mine", json!({ "tenant_id": "1\0" }), 403, "LRD-205"),
        ("/mine", json!({ "tenant_id": [1] }), 403, "LRD-205"),
        ("/mine", json!({ "tenant_id": 1.5 }), 403, "LRD-205"),
        (
            "/mine",
            json!({ "tenant_id": 99999999999_u64 }),
            403,
            "LRD-205",
        ),
        ("/mine?tenant=2", json!({ "tenant_id": 1 }), 400, "LRD-105"),
        (
            "/mine?tenant_id=2",
            json!({ "tenant_id": 1 }),
            400,
            "LRD-105",
        ),
        ("/metrics", json!({}), 403, "LRD-203"),
        ("/metrics", json!({ "scope": "larder:observe" }), 200, ""),
        ("/nowhere", json!({}), 404, "LRD-101"),
    ] {
        let answer = ask(&app, target, &token(&others)).await;
        if status == 200 {
            answer.assert_status(200);
        } else {
            assert_problem(&answer, status, code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_loaded_once_per_claim_and_stored_no_longer_than_its_token() {
    let db = Postgres::with(SALES).await;
    let app = with_a_secret(&db).await;
    let loaded = app.queries();
    for (tenant, total) in [
        (json!(1), 3),
        (json!(2), 40),
        (json!("1"), 3),
        (json!("2"), 40),
    ] {
        for subject in ["a", "b"] {
            let token = token(&json!({ "tenant_id": tenant, "sub": subject }));
            let fields = [("X-API-Key", token.as_str())];
            let answer = http::request(app.address(), "GET", "/mine", &fields).await;
            answer.assert_status(200).assert_json(json!(total));
            let cache_control = answer.header("cache-control").unwrap();
            let max_age = cache_control.strip_prefix("private, max-age=").unwrap();
            let max_age = max_age.split(',').next().unwrap().parse::<u64>().unwrap();
            assert!((590..=600).contains(&max_age), "{cache_control}");
        }
    }
    assert_eq!(app.queries(), loaded + 2, "one query for each tenant");
    // Within the leeway a token is accepted, and nothing of it may be stored.
    let expired = token(&json!({ "exp": seconds_from_now(-10) }));
    let not_stored = "private, max-age=0, stale-while-revalidate=0, stale-if-error=0";
    let answer = ask(&app, "/none", &expired).await;
    answer
        .assert_status(404)
        .assert_header("cache-control", not_stored);
    let answer = ask(&app, "/closed", &expired).await;
    answer
        .assert_status(200)
        .assert_header("cache-control", not_stored);
    // A 304 would renew what is stored.
    let fields = [
        ("X-API-Key", expired.as_str()),
        ("If-None-Match", answer.header("etag").unwrap()),
    ];
    let answer = http::request(app.address(), "GET", "/closed", &fields).await;
    answer.assert_status(200);
}

/// Tokens that must not open anything, and what their refusals say.
fn bad_tokens() -> Vec<(String, &'static str)> {
    let with_header = |header: &str| with_secret(SECRET, header, &claims(&json!({})).to_string());
    let with_claims = |text: &str| with_secret(SECRET, HEADER, text);
    let good = token(&json!({}));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let raw = |claim: &str| {
        let text = claims(&json!({})).to_string();
        with_claims(&format!("{},{claim}}}", text.strip_suffix('}').unwrap()))
    };
    let without = |claim: &str| {
        let mut claims = claims(&json!({}));
        claims.as_object_mut().unwrap().remove(claim);
        with_claims(&claims.to_string())
    };
    let replaced = |name: &str, value: Value| token(&json!({ name: value }));
    vec![
        (format!("{signed}."), "signature"),
        (
            format!(
                "{}.{}.",
                encoded(r#"{"alg":"none"}"#),
                signed.split('.').nth(1).unwrap()
            ),
            "algorithm",
        ),
        (with_header(r#"{"alg":"none"}"#), "algorithm"),
        (with_header(r#"{"alg":"RS256"}"#), "algorithm"),
        (
            with_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#),
            "crit",
        ),
        (with_header(r#"{"alg":"HS256","typ":"logout+jwt"}"#), "type"),
        (
            with_secret(
                "another secret of thirty-two bytes",
                HEADER,
                &claims(&json!({})).to_string(),
            ),
            "signature",
        ),
        (replaced("iss", json!([ISSUER])), "iss"),
        (replaced("iss", json!("https://idp.example")), "iss"),
        (without("iss"), "iss"),
        (without("aud"), "aud"),
        (replaced("aud", json!("")), "aud"),
        (replaced("aud", json!([])), "aud"),
        (replaced("aud", json!(1)), "aud"),
        (without("exp"), "exp"),
        (replaced("exp", json!("4102444800")), "exp"),
        (replaced("exp", json!(seconds_from_now(-60))), "expired"),
        (replaced("exp", json!(1_600_000_000.5)), "expired"),
        (raw(r#""exp":1e400"#), "JSON Web Token"),
        (
            with_claims(
                &claims(&json!({}))
                    .to_string()
                    .replace("\"exp\":", "\"exp\":1e400,\"x\":"),
            ),
            "exp",
        ),
        (
            replaced("nbf", json!(seconds_from_now(60))),
            "not valid yet",
        ),
        (
            replaced("iat", json!(seconds_from_now(60))),
            "not valid yet",
        ),
        (token(&json!({ "filler": "x".repeat(16 * 1024) })), "16 KiB"),
        ("a.b.c".to_owned(), "JSON Web Token"),
        ("..".to_owned(), "JSON Web Token"),
        (format!("{good}.{good}"), "unknown"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_reach_neither_postgres_nor_the_cache() {
    let db = Postgres::with(SALES).await;
    let app = with_a_secret(&db).await;
    let good = token(&json!({ "tenant_id": 1 }));
    for target in ["/closed", "/mine"] {
        ask(&app, target, &good).await.assert_status(200);
    }
    let loaded = app.queries();
    let bad = bad_tokens();
    let is_hit = |event: &Event| matches!(event, Event::RequestServed { cache, .. } if cache.as_str() != "none");
    let hits = app.count(is_hit);
    // The second time it could be remembered.
    for (token, why) in bad.iter().chain(&bad) {
        for target in ["/closed", "/mine", "/mine.csv", "/nowhere", "/metrics"] {
            let answer = ask(&app, target, token).await;
            assert_problem(&answer, 401, "LRD-202");
            let challenge = answer.header("www-authenticate").unwrap();
            let start = "Bearer realm=\"larder\", error=\"invalid_token\", error_description=\"";
            assert!(challenge.starts_with(start), "{challenge}");
            assert!(challenge.contains(why), "{why}: {challenge}");
            assert!(answer.header("etag").is_none());
        }
    }
    assert_eq!(app.queries(), loaded);
    assert_eq!(app.count(is_hit), hits);

    let huge = token(&json!({ "filler": "x".repeat(75 * 1024) }));
    assert!(huge.len() > 100_000);
    ask(&app, "/closed", &huge).await.assert_status(431);
    let bearer = format!("Bearer {good}");
    for fields in [
        [
            ("Authorization", bearer.as_str()),
            ("Authorization", bearer.as_str()),
        ],
        [
            ("Authorization", bearer.as_str()),
            ("X-API-Key", good.as_str()),
        ],
        [("X-API-Key", good.as_str()), ("X-API-Key", good.as_str())],
    ] {
        let answer = http::request(app.address(), "GET", "/closed", &fields).await;
        assert_problem(&answer, 400, "LRD-206");
    }
    let lower = format!("bearer {good}");
    let fields = [("authorization", lower.as_str())];
    let answer = http::request(app.address(), "GET", "/closed", &fields).await;
    answer.assert_status(200);
    ask(&app, &format!("/closed?access_token={good}"), "wrong")
        .await
        .assert_status(401);
}
