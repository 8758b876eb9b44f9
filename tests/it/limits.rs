//! How much one caller may take: requests and loads.

use larder::access::key;
use larder::observe::{CacheStatus, Event};

use serde_json::json;

use crate::support::app::App;
use crate::support::http::{self, Answer};
use crate::support::issuer::{ISSUER, claims, with_secret};
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/open"
    sql = "SELECT 1 AS n"
    max_age = "1h"
    access = "public"

    [[endpoint]]
    path = "/of/{year}"
    sql = "SELECT :year::int AS year"
    max_age = "1h"

    [[endpoint]]
    path = "/stale/{year}"
    sql = "SELECT :year::int AS year"
    max_age = "1ms"
    stale_while_revalidate = "1h"
"#;

/// Declares a key whose text is its name.
fn declared(name: &str, settings: &str) -> String {
    let digest = key::hexadecimal(&key::digest(name));
    format!("[[access.key]]\nname = \"{name}\"\nsha256 = [\"{digest}\"]\n{settings}\n")
}

async fn app(db: &Postgres, access: &str, keys: &[(&str, &str)]) -> App {
    let keys: String = keys
        .iter()
        .map(|(name, settings)| declared(name, settings))
        .collect();
    let text = format!("[access]\ndefault = \"deny\"\n{access}\n{keys}\n{ENDPOINTS}");
    App::start(db, &text).await
}

async fn ask(app: &App, target: &str, fields: &[(&str, &str)]) -> Answer {
    http::request(app.address(), "GET", target, fields).await
}

async fn with_key(app: &App, target: &str, key: &str) -> Answer {
    ask(app, target, &[("X-API-Key", key)]).await
}

fn assert_limited(answer: &Answer, code: &str, policy: &str) {
    answer.assert_status(429);
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.header("ratelimit-policy"), Some(policy));
    let wait = answer.header("retry-after").unwrap();
    let (name, _) = policy.split_once(';').unwrap();
    let left = format!("{name};r=0;t={wait}");
    assert_eq!(answer.header("ratelimit"), Some(left.as_str()));
    assert!(wait.parse::<u32>().unwrap() > 0, "{wait}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_its_own_quota_of_requests() {
    let db = Postgres::with("").await;
    let quota = "limit = { requests = \"3/1h\" }";
    let app = app(&db, "", &[("a", quota), ("b", quota), ("free", "")]).await;
    let etag = with_key(&app, "/of/1", "a").await;
    let etag = etag.header("etag").unwrap();
    let known = [("X-API-Key", "a"), ("If-None-Match", etag)];
    ask(&app, "/of/1", &known).await.assert_status(304);
    with_key(&app, "/of/x", "a").await.assert_status(400);
    for target in ["/of/1", "/of/1.csv", "/of/x", "/nowhere", "/openapi.json"] {
        let answer = with_key(&app, target, "a").await;
        if target == "/openapi.json" {
            answer.assert_status(200); // it asks for no credential
        } else {
            assert_limited(&answer, "LRD-405", "\"requests\";q=3;w=3600");
        }
    }
    ask(&app, "/of/1", &known).await.assert_status(429);
    with_key(&app, "/of/1", "b").await.assert_status(200);
    for _ in 0..10 {
        with_key(&app, "/of/1", "free").await.assert_status(200);
        with_key(&app, "/healthz", "a").await.assert_status(200);
        with_key(&app, "/readyz", "a").await.assert_status(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_has_one_quota_for_all_of_its_tokens() {
    let db = Postgres::with("").await;
    let secret = "0123456789abcdef0123456789abcdef";
    let issuer = format!(
        "[[access.jwt]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\naudience = [\"larder\"]\n\
         algorithms = [\"HS256\"]\nkeys = {{ secret = \"{secret}\" }}\nlimit = {{ requests = \"2/1h\" }}"
    );
    let app = app(&db, &issuer, &[]).await;
    let with_token = async |subject: &str, number: usize| {
        let claims = claims(&json!({ "sub": subject, "jti": number.to_string() }));
        let token = with_secret(secret, r#"{"alg":"HS256"}"#, &claims.to_string());
        with_key(&app, "/of/1", &token).await
    };
    for number in 0..4 {
        let answer = with_token("a", number).await;
        if number < 2 {
            answer.assert_status(200);
        } else {
            assert_limited(&answer, "LRD-405", "\"requests\";q=2;w=3600");
        }
    }
    with_token("b", 0).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_credential_have_the_quota_of_their_address() {
    let db = Postgres::with("").await;
    let settings = "limit = { requests = \"2/1h\" }\ntrusted_proxies = [\"127.0.0.1\"]";
    let app = app(&db, settings, &[("a", "")]).await;
    let from = async |address: &str, key: Option<&str>, target: &str| {
        let mut fields = vec![("X-Forwarded-For", address)];
        fields.extend(key.map(|key| ("X-API-Key", key)));
        ask(&app, target, &fields).await.status
    };
    assert_eq!(from("192.0.2.1", None, "/open").await, 200);
    assert_eq!(from("192.0.2.1", None, "/of/1").await, 401);
    assert_eq!(from("192.0.2.1", None, "/open").await, 429);
    assert_eq!(from("192.0.2.1", None, "/of/1").await, 429);
    assert_eq!(from("192.0.2.1", None, "/nowhere").await, 429);
    assert_eq!(from("192.0.2.1", None, "/healthz").await, 200);
    let with_key = from("192.0.2.1", Some("a"), "/open").await;
    assert_eq!(with_key, 200, "it is counted under its key");
    assert_eq!(from("192.0.2.2", None, "/open").await, 200);

    assert_eq!(from("2001:db8::1", None, "/open").await, 200);
    assert_eq!(from("2001:db8::2", None, "/open").await, 200);
    assert_eq!(from("2001:db8::3", None, "/open").await, 429, "one client");
    assert_eq!(from("2001:db8:0:1::1", None, "/open").await, 200);

    // Keys cannot be tried without end, nor by a client that its proxy does not name.
    for address in ["192.0.2.3", "unknown"] {
        assert_eq!(from(address, Some("wrong"), "/of/1").await, 401);
        assert_eq!(from(address, Some("wrong"), "/of/1").await, 401);
        assert_eq!(from(address, Some("wrong"), "/of/1").await, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_causes_only_its_share_of_loads() {
    let db = Postgres::with("").await;
    let quota = "limit = { loads = \"2/1h\" }";
    let app = app(&db, "", &[("a", quota), ("b", quota)]).await;
    with_key(&app, "/of/1", "a").await.assert_status(200);
    with_key(&app, "/of/2", "a").await.assert_status(200);
    let refused = with_key(&app, "/of/3", "a").await;
    assert_limited(&refused, "LRD-406", "\"loads\";q=2;w=3600");
    let queries = app.queries();
    for key in ["a", "b"] {
        let hit = with_key(&app, "/of/1", key).await;
        hit.assert_status(200).assert_cache("hit");
    }
    assert_eq!(app.queries(), queries);
    with_key(&app, "/of/3", "b").await.assert_status(200);
    let loaded_by_b = with_key(&app, "/of/3", "a").await;
    loaded_by_b.assert_status(200).assert_cache("hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_cause_no_load_gets_what_is_stale() {
    let db = Postgres::with("").await;
    let app = app(&db, "", &[("a", "limit = { loads = \"2/1h\" }")]).await;
    let before = app.queries();
    with_key(&app, "/stale/1", "a").await.assert_status(200);
    let is_stale = |event: &Event| matches!(event, Event::RequestServed { cache, code: 200, .. } if *cache == CacheStatus::Stale);
    while app.queries() - before < 2 {
        with_key(&app, "/stale/1", "a").await.assert_status(200);
    }
    let stale = app.count(is_stale);
    while app.count(is_stale) < stale + 5 {
        with_key(&app, "/stale/1", "a").await.assert_status(200);
    }
    assert_eq!(app.queries() - before, 2);
}
