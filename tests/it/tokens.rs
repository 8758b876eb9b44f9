//! Tokens of issuers, from outside: what they open, which are refused, and how keys are followed.

use std::fs;
use std::time::SystemTime;

use futures_util::future::join_all;
use larder::access::{Credential, Denied, Identities};
use larder::observe::{Event, Observer};
use larder::repository::Repository;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::app::{App, plan};
use crate::support::http::{self, Answer, Connection};
use crate::support::issuer::{
    ISSUER, Publisher, SigningKey, claims, encoded, jwks, seconds_from_now, with_secret,
};
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

async fn with_a_url(db: &Postgres, publisher: &Publisher) -> App {
    App::start(db, &with_keys_at(publisher)).await
}

fn with_keys_at(publisher: &Publisher) -> String {
    issuer("ES256", &format!("url = \"{}\"", publisher.url()))
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
    let answer = ask(&app, "/closed", &expired).await;
    answer.assert_status(200);
    let cache_control = answer.header("cache-control").unwrap();
    assert!(
        cache_control.starts_with("private, max-age=0"),
        "{cache_control}"
    );
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

fn is_loaded(event: &Event) -> bool {
    matches!(event, Event::IssuerKeysLoaded { .. })
}

fn is_failing(event: &Event) -> bool {
    matches!(event, Event::IssuerKeysFailing { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_published_and_rotated() {
    let db = Postgres::with(SALES).await;
    let (first, second) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let publisher = Publisher::of(&[&first]).await;
    let held = publisher.hold();
    let app = with_a_url(&db, &publisher).await;
    publisher.wait_for(1).await;
    let token = first.token(&claims(&json!({})));
    let answer = ask(&app, "/closed", &token).await;
    assert_problem(&answer, 503, "LRD-207");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("www-authenticate"), None);
    drop(held);
    app.wait_for(1, is_loaded).await;
    ask(&app, "/closed", &token).await.assert_status(200);
    assert_eq!(publisher.requests(), 1);

    // Both keys are published while old tokens are in use.
    publisher.publish(&[&first, &second]);
    let renewed = second.token(&claims(&json!({})));
    // All of them wait for one fetch.
    let held = publisher.hold();
    let asking = join_all((0..50).map(|_| ask(&app, "/closed", &renewed)));
    let releasing = async {
        publisher.wait_for(2).await;
        drop(held);
    };
    let (answers, ()) = tokio::join!(asking, releasing);
    for answer in answers {
        answer.assert_status(200);
    }
    ask(&app, "/closed", &token).await.assert_status(200);
    // Keys with made-up names cause no fetch for a while.
    for name in ["3", "../1", "", "1/../../2"] {
        let made_up = SigningKey::generate(name).token(&claims(&json!({})));
        assert_problem(&ask(&app, "/closed", &made_up).await, 401, "LRD-202");
    }
    // A known name with another key does not either.
    let forged = SigningKey::generate("1").token(&claims(&json!({})));
    assert_problem(&ask(&app, "/closed", &forged).await, 401, "LRD-202");
    assert_eq!(publisher.requests(), 2);
}

/// A request that was judged by the old keys when others fetched the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_others_have_fetched_meanwhile_are_used() {
    let db = Postgres::with(SALES).await;
    let (first, second) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let publisher = Publisher::of(&[&first]).await;
    let plan = plan(db.url(), "", &with_keys_at(&publisher));
    let (seen, mut loaded) = watch::channel(0);
    let observer = Observer::new(vec![Box::new(move |event| {
        seen.send_modify(|count| *count += usize::from(is_loaded(event)));
    })]);
    let repository = Repository::new(plan.repository(), observer.clone()).unwrap();
    let identities = Identities::new(plan.access().unwrap()).unwrap();
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    identities.follow(&repository, &observer, &shutdown);
    loaded.wait_for(|count| *count > 0).await.unwrap();
    let token = format!("Bearer {}", second.token(&claims(&json!({}))));
    let credential = Credential::read([token.as_bytes()].into_iter(), std::iter::empty())
        .unwrap()
        .unwrap();
    let changes = identities.changes();
    let judged = identities.identify(&credential, SystemTime::now());
    let Err(Denied::UnknownIssuerKey(issuer)) = judged else {
        panic!("{judged:?}");
    };
    publisher.publish(&[&first, &second]);
    for _ in 0..2 {
        let late = identities.identify_with_newer_keys(&credential, issuer, changes);
        assert_eq!(late.await.unwrap().name, "idp");
    }
    assert_eq!(publisher.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cannot_choose_where_its_key_is() {
    let db = Postgres::with(SALES).await;
    let (key, own) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let publisher = Publisher::of(&[&key]).await;
    let elsewhere = Publisher::of(&[&own]).await;
    let app = with_a_url(&db, &publisher).await;
    app.wait_for(1, is_loaded).await;
    let url = elsewhere.url();
    for others in [
        json!({ "jku": url }),
        json!({ "x5u": url }),
        json!({ "jwk": own.jwk() }),
        json!({ "kid": url }),
        json!({ "jku": url, "jwk": own.jwk(), "kid": "1" }),
    ] {
        let token = own.token_with(&others, &claims(&json!({ "jku": url })));
        assert_problem(&ask(&app, "/closed", &token).await, 401, "LRD-202");
    }
    let with_jku = key.token_with(&json!({ "jku": url }), &claims(&json!({})));
    ask(&app, "/closed", &with_jku).await.assert_status(200);
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_usable_keys_are_reported_and_nothing_is_followed() {
    let db = Postgres::with(SALES).await;
    let key = SigningKey::generate("1");
    let elsewhere = Publisher::of(&[&key]).await;
    let token = key.token(&claims(&json!({})));
    let set = jwks(&[&key]);
    let location = format!("Location: {}\r\n", elsewhere.url());
    let padded = format!("{set}{}", " ".repeat(256 * 1024));
    for (status, fields, body, why) in [
        ("302 Found", location.as_str(), "", "redirect"),
        ("307 Temporary Redirect", &location, "", "redirect"),
        ("404 Not Found", "", &set, "404"),
        ("500 Internal Server Error", "", &set, "500"),
        ("204 No Content", "", "", "204"),
        ("200 OK", "Content-Encoding: gzip\r\n", &set, "compressed"),
        ("200 OK", "", &padded, "256 KiB"),
        ("200 OK", "", "<html>", "not a JWK set"),
        ("200 OK", "", r#"{"keys":[]}"#, "none of its 0 keys"),
        (
            "200 OK",
            "",
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            "none of its 1 keys",
        ),
    ] {
        let publisher = Publisher::silent().await;
        publisher.answer_with(status, fields, body);
        let app = with_a_url(&db, &publisher).await;
        let is_it = |event: &Event| matches!(event, Event::IssuerKeysFailing { cause, .. } if cause.contains(why));
        app.wait_for(1, is_it).await;
        assert_eq!(app.count(is_failing), 1, "{status}");
        assert_problem(&ask(&app, "/closed", &token).await, 503, "LRD-207");
        // It is tried again.
        publisher.publish(&[&key]);
        app.wait_for(1, is_loaded).await;
        ask(&app, "/closed", &token).await.assert_status(200);
        assert_eq!(
            app.count(|event| matches!(event, Event::IssuerKeysRecovered { .. })),
            1
        );
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_keys_is_read_again_when_it_changes() {
    let db = Postgres::with(SALES).await;
    let (first, second) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    fs::write(&file, jwks(&[&first])).unwrap();
    let app = App::start(&db, &issuer("ES256", &format!("file = {file:?}"))).await;
    let [old, new] = [&first, &second].map(|key| key.token(&claims(&json!({}))));
    let mut connection = Connection::open(app.address()).await;
    let mut status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let fields = [("Authorization", bearer.as_str())];
        connection.request("GET", "/closed", &fields).await.status
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));

    let is_change = |event: &Event| {
        matches!(
            event,
            Event::IssuerKeysLoaded {
                is_change: true,
                ..
            }
        )
    };
    let replace = |text: &str| {
        let new = folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    replace(&jwks(&[&second]));
    app.wait_for(1, is_change).await;
    // It was remembered, and its key is no longer listed.
    assert_eq!((status(&old).await, status(&new).await), (401, 200));

    replace("{");
    app.wait_for(1, is_failing).await;
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
    fs::remove_file(&file).unwrap();
    app.wait_for(2, is_failing).await;
    assert_eq!(status(&new).await, 200);
    replace(&jwks(&[&first, &second]));
    app.wait_for(2, is_change).await;
    assert_eq!((status(&old).await, status(&new).await), (200, 200));
}
