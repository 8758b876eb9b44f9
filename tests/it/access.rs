//! Who may ask what: keys, scopes, claims and addresses, from outside.

mod fronts; // many callers behind one cache
mod pages; // what Larder's own pages show to whom

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder::access::key;
use larder::observe::Event;
use serde_json::json;

use crate::support::app::App;
use crate::support::http::{self, Answer, Connection};
use crate::support::postgres::Postgres;

const SALES: &str = "CREATE TABLE sales (tenant text, amount int);
    INSERT INTO sales VALUES ('acme', 1), ('acme', 2), ('umbrella', 40)";

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/open"
    sql = "SELECT 1 AS n"
    access = "public"

    [[endpoint]]
    path = "/closed"
    sql = "SELECT 2 AS n"
    shape = "row"
    max_age = "1h"

    [[endpoint]]
    path = "/sales"
    sql = "SELECT count(*) AS n FROM sales WHERE :year::int > 0"
    params.year = { default = 2000 }
    access = { scopes = ["sales"] }

    [[endpoint]]
    path = "/mine"
    sql = "SELECT sum(amount) AS total FROM sales WHERE tenant = :tenant"
    shape = "value"
    max_age = "1h"
    params.tenant = { claim = "tenant" }

    [[endpoint]]
    path = "/near"
    sql = "SELECT 3 AS n"
    access = { allow_from = ["192.0.2.0/24", "2001:db8::/32"] }
"#;

/// What a response of an endpoint that needs a credential depends on.
const VARY: &str = "Accept, Accept-Encoding, Authorization, X-API-Key";

/// A declared key of this name, whose text is its name and `-key`, with more settings.
fn declared(name: &str, settings: &str) -> String {
    let digest = key::hexadecimal(&key::digest(&format!("{name}-key")));
    format!("[[access.key]]\nname = \"{name}\"\nsha256 = [\"{digest}\"]\n{settings}\n")
}

fn access(keys: &[(&str, &str)]) -> String {
    let keys: String = keys
        .iter()
        .map(|(name, settings)| declared(name, settings))
        .collect();
    format!("[access]\ndefault = \"deny\"\ntrusted_proxies = [\"127.0.0.1\"]\n{keys}\n{ENDPOINTS}")
}

async fn app(db: &Postgres) -> App {
    let keys = access(&[
        ("grafana", "scopes = [\"sales\"]"),
        ("prometheus", "scopes = [\"larder:observe\"]"),
        ("acme", "claims = { tenant = \"acme\" }"),
        ("umbrella", "claims = { tenant = \"umbrella\" }"),
    ]);
    App::start(db, &keys).await
}

/// Asks with a key, or without.
async fn ask(app: &App, target: &str, key: Option<&str>) -> Answer {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let fields: Vec<_> = bearer
        .iter()
        .map(|bearer| ("Authorization", bearer.as_str()))
        .collect();
    http::request(app.address(), "GET", target, &fields).await
}

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    answer.assert_status(status);
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_opens_what_it_may_and_nothing_else() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    for (target, key, status, code) in [
        ("/open", None, 200, ""),
        ("/open", Some("wrong"), 200, ""),
        ("/closed", None, 401, "LRD-201"),
        ("/closed", Some("wrong"), 401, "LRD-202"),
        ("/closed", Some("grafana-key"), 200, ""),
        ("/sales", None, 401, "LRD-201"),
        ("/sales", Some("acme-key"), 403, "LRD-203"),
        ("/sales", Some("grafana-key"), 200, ""),
        ("/sales?year=x", Some("acme-key"), 403, "LRD-203"),
        ("/sales?year=x", None, 401, "LRD-201"),
        ("/sales?year=x", Some("grafana-key"), 400, "LRD-103"),
        ("/sales?year=%zz", Some("acme-key"), 403, "LRD-203"),
        ("/sales?year=%zz", None, 401, "LRD-201"),
        ("/sales?year=%zz", Some("grafana-key"), 400, "LRD-107"),
        ("/sales.csv", None, 401, "LRD-201"),
        ("/mine", Some("grafana-key"), 403, "LRD-205"),
        ("/mine?tenant=acme", Some("umbrella-key"), 400, "LRD-105"),
        ("/mine?tenant=acme", Some("grafana-key"), 400, "LRD-105"),
        ("/nowhere", None, 401, "LRD-201"),
        ("/nowhere", Some("grafana-key"), 404, "LRD-101"),
    ] {
        let answer = ask(&app, target, key).await;
        if status == 200 {
            answer.assert_status(200);
        } else {
            assert_problem(&answer, status, code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_tell_a_client_what_its_credential_should_be() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    for (target, fields, status, challenge) in [
        ("/closed", &[][..], 401, "Bearer realm=\"larder\""),
        (
            "/closed",
            &[("X-API-Key", "wrong")],
            401,
            "Bearer realm=\"larder\", error=\"invalid_token\", error_description=\"The key is unknown.\"",
        ),
        (
            "/sales",
            &[("X-API-Key", "acme-key")],
            403,
            "Bearer realm=\"larder\", error=\"insufficient_scope\", scope=\"sales\"",
        ),
        (
            "/closed",
            &[("Authorization", "Basic YTpi")],
            400,
            "Bearer realm=\"larder\", error=\"invalid_request\"",
        ),
        (
            "/closed",
            &[
                ("Authorization", "Bearer grafana-key"),
                ("X-API-Key", "grafana-key"),
            ],
            400,
            "Bearer realm=\"larder\", error=\"invalid_request\"",
        ),
        (
            "/closed",
            &[
                ("Authorization", "Bearer grafana-key"),
                ("Authorization", "Bearer grafana-key"),
            ],
            400,
            "Bearer realm=\"larder\", error=\"invalid_request\"",
        ),
        (
            "/closed",
            &[("Authorization", "Bearer a b")],
            400,
            "Bearer realm=\"larder\", error=\"invalid_request\"",
        ),
    ] {
        let answer = http::request(app.address(), "GET", target, fields).await;
        answer.assert_status(status);
        assert_eq!(
            answer.header("www-authenticate"),
            Some(challenge),
            "{answer:?}"
        );
        assert_eq!(answer.header("vary"), Some(VARY), "{answer:?}");
    }
    let lower = [("authorization", "bearer grafana-key")];
    let answer = http::request(app.address(), "GET", "/closed", &lower).await;
    answer.assert_status(200);
    assert_eq!(answer.header("www-authenticate"), None);
}

/// A connection remembers what its last request was identified by.
#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_credential_counts_only_where_it_was_and_alone() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    let mut connection = Connection::open(app.address()).await;
    let bearer = ("Authorization", "Bearer grafana-key");
    let key = ("X-API-Key", "grafana-key");
    for (fields, status) in [
        (&[bearer][..], 200),
        (&[("X-API-Key", bearer.1)], 400),
        (&[key], 200),
        (&[("Authorization", key.1)], 400),
        (&[bearer, key], 400),
        (&[key, bearer], 400),
        (&[bearer, bearer], 400),
        (&[key, key], 400),
        (&[key, ("X-API-Key", "wrong")], 400),
        (&[], 401),
        (&[("X-API-Key", "grafana-kez")], 401),
        (&[bearer], 200),
        (&[key], 200),
    ] {
        let answer = connection.request("GET", "/closed", fields).await;
        assert_eq!(answer.status, status, "{fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_and_a_304_need_the_same_credential() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    let known = ask(&app, "/closed", Some("grafana-key")).await;
    let etag = known.header("etag").unwrap().to_owned();
    let with = |key: Option<&'static str>| {
        let mut fields = vec![("If-None-Match", etag.as_str())];
        fields.extend(key.map(|key| ("X-API-Key", key)));
        fields
    };
    for (method, key, status) in [
        ("GET", None, 401),
        ("GET", Some("wrong"), 401),
        ("GET", Some("acme-key"), 304),
        ("HEAD", None, 401),
        ("HEAD", Some("acme-key"), 304),
        ("POST", None, 401),
        ("POST", Some("acme-key"), 405),
        ("OPTIONS", None, 204),
    ] {
        let answer = http::request(app.address(), method, "/closed", &with(key)).await;
        answer.assert_status(status);
        assert!(status != 401 || answer.header("etag").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_accepts_is_not_looked_at_before_its_credential() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    for (key, status, code) in [
        (None, 401, "LRD-201"),
        (Some("wrong"), 401, "LRD-202"),
        (Some("acme-key"), 403, "LRD-203"),
        (Some("grafana-key"), 406, "LRD-111"),
    ] {
        let mut fields = vec![("Accept", "text/html")];
        fields.extend(key.map(|key| ("X-API-Key", key)));
        let answer = http::request(app.address(), "GET", "/sales", &fields).await;
        assert_problem(&answer, status, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_no_method_shows_which_paths_there_are() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
        let [there, nowhere] = ["/closed", "/nowhere"].map(|target| async {
            let answer = http::request(app.address(), method, target, &[]).await;
            (answer.status, answer.body)
        });
        assert_eq!(there.await, nowhere.await, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_cached_per_claim_and_never_by_shared_caches() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    let loaded = app.queries();
    for _ in 0..3 {
        for (key, total) in [("acme-key", 3), ("umbrella-key", 40)] {
            let answer = ask(&app, "/mine", Some(key)).await;
            answer.assert_status(200).assert_json(json!(total));
            let cache_control = answer.header("cache-control").unwrap();
            assert!(
                cache_control.starts_with("private, max-age="),
                "{cache_control}"
            );
            assert_eq!(answer.header("vary"), Some(VARY));
        }
    }
    assert_eq!(app.queries(), loaded + 2, "one query for each tenant");
    let public = ask(&app, "/open", None).await;
    assert_eq!(public.header("vary"), Some("Accept, Accept-Encoding"));
    assert!(
        public
            .header("cache-control")
            .unwrap()
            .starts_with("public")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_may_require_an_address() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    for (forwarded_for, status) in [
        (None, 403),
        (Some("192.0.2.7"), 200),
        (Some("2001:db8::1"), 200),
        (Some("198.51.100.1"), 403),
        // Only what the trusted proxy added counts, and what it says last.
        (Some("192.0.2.7, 198.51.100.1"), 403),
        (Some("198.51.100.1, 192.0.2.7"), 200),
        (Some("192.0.2.7, 127.0.0.1"), 200),
        (Some("192.0.2.7:1234"), 200),
        (Some("192.0.2.7, unknown"), 403),
        (Some(""), 403),
    ] {
        let mut fields = vec![("X-API-Key", "grafana-key")];
        fields.extend(forwarded_for.map(|value| ("X-Forwarded-For", value)));
        let answer = http::request(app.address(), "GET", "/near", &fields).await;
        assert_eq!(answer.status, status, "{forwarded_for:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_is_refused_on_a_connection_that_it_has_used() {
    let db = Postgres::with(SALES).await;
    let seconds = 4;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expires = UNIX_EPOCH + Duration::from_secs(now.as_secs() + seconds);
    let text: chrono::DateTime<chrono::Utc> = expires.into();
    let settings = format!("expires = {}", text.format("%Y-%m-%dT%H:%M:%SZ"));
    let app = App::start(&db, &access(&[("brief", &settings)])).await;
    let mut connection = Connection::open(app.address()).await;
    let fields = [("X-API-Key", "brief-key")];
    let mut answers = 0;
    loop {
        let has_expired = SystemTime::now() >= expires;
        let answer = connection.request("GET", "/closed", &fields).await;
        if has_expired || answer.status != 200 {
            assert_problem(&answer, 401, "LRD-202");
            break;
        }
        answers += 1;
        let cache_control = answer.header("cache-control").unwrap().to_owned();
        let number = |name: &str| -> u64 {
            let directive = cache_control
                .split(", ")
                .find_map(|it| it.strip_prefix(name));
            directive.unwrap().parse().unwrap()
        };
        let longest =
            number("max-age=") + number("stale-while-revalidate=").max(number("stale-if-error="));
        assert!(longest <= seconds, "{cache_control}");
    }
    assert!(answers > 0, "it was valid at first");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_refused_reaches_postgres() {
    let db = Postgres::with(SALES).await;
    let app = app(&db).await;
    let loaded = app.queries();
    for n in 0..20 {
        ask(&app, &format!("/sales?year={n}"), None)
            .await
            .assert_status(401);
        ask(&app, &format!("/sales?year={n}"), Some("wrong"))
            .await
            .assert_status(401);
        ask(&app, &format!("/sales?year={n}"), Some("acme-key"))
            .await
            .assert_status(403);
    }
    assert_eq!(app.queries(), loaded);
    assert_eq!(
        app.count(|event| matches!(event, Event::HandlerPanicked)),
        0
    );
}
