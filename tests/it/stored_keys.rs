//! Keys that are kept in the repository.

use larder::access::key;
use larder::observe::Event;
use serde_json::json;

use crate::support::app::App;
use crate::support::http::Connection;
use crate::support::postgres::Postgres;

const TABLE: &str = "CREATE TABLE larder_keys
    (name text, sha256 text, scopes text[], claims jsonb, expires timestamptz)";

const CONFIG: &str = r#"
    [access]
    default = "deny"

    [access.keys]
    sql = "SELECT name, sha256, scopes, claims, expires FROM larder_keys"
    every = "100ms"
    limit = { loads = "2/1h" }

    [[endpoint]]
    path = "/mine"
    sql = "SELECT :tenant AS tenant"
    shape = "value"
    max_age = "1h"
    params.tenant = { claim = "tenant" }

    [[endpoint]]
    path = "/of/{n}"
    sql = "SELECT :n::int AS n"
    max_age = "1h"
    access = { scopes = ["sales"] }
"#;

/// Inserts a key whose text is its name.
fn insert(name: &str, more: &str) -> String {
    let digest = key::hexadecimal(&key::digest(name));
    format!("INSERT INTO larder_keys VALUES ('{name}', '{digest}', {more})")
}

/// Asks on a kept connection until the answer has this status.
async fn poll(connection: &mut Connection, target: &str, key: &str, status: u16) {
    loop {
        let fields = [("X-API-Key", key)];
        let answer = connection.request("GET", target, &fields).await;
        if answer.status == status {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_repository_are_followed_on_kept_connections() {
    let db = Postgres::with(TABLE).await;
    let acme = insert("acme", r#"NULL, '{"tenant": "acme"}', 'infinity'"#);
    db.execute(&acme).await;
    let app = App::start(&db, CONFIG).await;
    let mut connection = Connection::open(app.address()).await;
    let fields = [("X-API-Key", "acme")];
    let answer = connection.request("GET", "/mine", &fields).await;
    answer.assert_status(200).assert_json(json!("acme"));
    poll(&mut connection, "/of/1", "acme", 403).await;

    db.execute("UPDATE larder_keys SET scopes = '{sales}'")
        .await;
    poll(&mut connection, "/of/1", "acme", 200).await;
    db.execute(&insert(
        "other",
        "'{sales}', NULL, now() + interval '1 hour'",
    ))
    .await;
    poll(&mut connection, "/of/1", "other", 200).await;
    db.execute("UPDATE larder_keys SET expires = now() - interval '1 s' WHERE name = 'other'")
        .await;
    poll(&mut connection, "/of/1", "other", 401).await;
    db.execute("DELETE FROM larder_keys").await;
    poll(&mut connection, "/of/1", "acme", 401).await;
    poll(&mut connection, "/mine", "acme", 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_the_keys_again_does_not_renew_their_limits() {
    let db = Postgres::with(TABLE).await;
    db.execute(&insert("a", "'{sales}', NULL, NULL")).await;
    let app = App::start(&db, CONFIG).await;
    let mut connection = Connection::open(app.address()).await;
    poll(&mut connection, "/of/1", "a", 200).await;
    poll(&mut connection, "/of/2", "a", 200).await;
    let is_read = |event: &Event| matches!(event, Event::StoredKeysLoaded { .. });
    app.wait_for(app.count(is_read) + 3, is_read).await;
    let fields = [("X-API-Key", "a")];
    let answer = connection.request("GET", "/of/3", &fields).await;
    answer.assert_status(429);
    assert_eq!(answer.json()["code"], "LRD-406");
}

/// Their names are data, of which there may be any number.
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_repository_are_counted_under_one_name() {
    let db = Postgres::with(TABLE).await;
    for name in ["a", "b"] {
        db.execute(&insert(name, "'{sales}', NULL, NULL")).await;
    }
    let digest = key::hexadecimal(&key::digest("observer"));
    let declared = format!(
        "[[access.key]]\nname = \"observer\"\nsha256 = [\"{digest}\"]\nscopes = [\"larder:observe\"]"
    );
    let app = App::start(&db, &format!("{CONFIG}\n{declared}")).await;
    let mut connection = Connection::open(app.address()).await;
    for (key, status) in [("a", 200), ("b", 200), ("c", 401)] {
        let fields = [("X-API-Key", key)];
        let answer = connection.request("GET", "/of/1", &fields).await;
        answer.assert_status(status);
    }
    let fields = [("X-API-Key", "observer")];
    let answer = connection.request("GET", "/metrics", &fields).await;
    answer.assert_status(200);
    let metrics = answer.text();
    let counted = metrics.lines().filter(|line| line.contains("client=\""));
    let counted: Vec<_> = counted.collect();
    let expected = "larder_client_requests_total{client=\"(repository)\",code=\"200\"} 2";
    assert_eq!(counted, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_no_key_does_not_hide_the_others() {
    let db = Postgres::with(TABLE).await;
    db.execute(&insert("a", "'{sales}', NULL, NULL")).await;
    let empty = "INSERT INTO larder_keys VALUES ('empty', encode(sha256(''), 'hex'))";
    db.execute(empty).await;
    let app = App::start(&db, CONFIG).await;
    let mut connection = Connection::open(app.address()).await;
    poll(&mut connection, "/of/1", "a", 200).await;
    let is_failing = |event: &Event| matches!(event, Event::StoredKeysFailing { cause } if cause.contains("row 2"));
    app.wait_for(1, is_failing).await;
    db.execute("DELETE FROM larder_keys WHERE name = 'empty'")
        .await;
    app.wait_for(1, |event| matches!(event, Event::StoredKeysRecovered))
        .await;
    db.execute("INSERT INTO larder_keys SELECT 'b', sha256, '{}' FROM larder_keys")
        .await;
    let is_failing = |event: &Event| matches!(event, Event::StoredKeysFailing { cause } if cause.contains("same digest"));
    app.wait_for(1, is_failing).await;
    poll(&mut connection, "/of/1", "a", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_valid_while_postgres_is_away() {
    let db = Postgres::own().await;
    db.execute(TABLE).await;
    db.execute(&insert("a", "'{sales}', NULL, NULL")).await;
    let app = App::start(&db, CONFIG).await;
    let mut connection = Connection::open(app.address()).await;
    poll(&mut connection, "/of/1", "a", 200).await;
    db.stop().await;
    app.wait_for(1, |event| matches!(event, Event::StoredKeysFailing { .. }))
        .await;
    for (key, status) in [("a", 200), ("b", 401)] {
        let answer = connection
            .request("GET", "/of/1", &[("X-API-Key", key)])
            .await;
        answer.assert_status(status);
    }
    db.start_again().await;
    db.execute("DELETE FROM larder_keys").await;
    poll(&mut connection, "/of/1", "a", 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larder_that_is_ready_has_the_keys() {
    let db = Postgres::with(TABLE).await;
    db.execute(&insert("a", "'{sales}', NULL, NULL")).await;
    let slow = "FROM larder_keys, pg_sleep(0.5)";
    let app = App::start(&db, &CONFIG.replace("FROM larder_keys", slow)).await;
    let mut connection = Connection::open(app.address()).await;
    let fields = [("X-API-Key", "a")];
    let answer = connection.request("GET", "/of/1", &fields).await;
    answer.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_judged_before_the_keys_are_loaded() {
    let db = Postgres::own().await;
    db.execute(TABLE).await;
    db.execute(&insert("a", "'{sales}', NULL, NULL")).await;
    let url = db.url().to_owned();
    db.stop().await;
    let app = App::launch(&url, "", CONFIG).await;
    let mut connection = Connection::open(app.address()).await;
    let fields = [("X-API-Key", "a")];
    let early = connection.request("GET", "/of/1", &fields).await;
    early.assert_status(503);
    assert_eq!(early.json()["code"], "LRD-207");
    assert!(early.header("retry-after").is_some());
    db.start_again().await;
    poll(&mut connection, "/of/1", "a", 200).await;
    poll(&mut connection, "/of/1", "b", 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_no_part_of_a_key_are_mistakes() {
    let db = Postgres::with(TABLE).await;
    for (columns, message) in [
        ("name", "the keys need a column `sha256`"),
        ("name, sha256, 1 AS level", "a key has no `level`"),
    ] {
        let config = CONFIG.replace("name, sha256, scopes, claims, expires", columns);
        let app = App::launch(db.url(), "", &config).await;
        let rejections = app.rejections().await;
        let texts: Vec<_> = rejections.iter().map(|r| r.error.to_string()).collect();
        assert!(texts.iter().any(|text| text.contains(message)), "{texts:?}");
    }
}
