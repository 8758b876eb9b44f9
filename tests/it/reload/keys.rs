//! Who may ask changes with a reload, also on connections that are open.

use larder::access::key::{digest, hexadecimal};
use serde_json::json;

use super::{KEPT, endpoint};
use crate::support::app::App;
use crate::support::http::Connection;
use crate::support::issuer::{ISSUER, claims, with_secret};
use crate::support::postgres::Postgres;

fn access(key: &str, settings: &str) -> String {
    let digest = hexadecimal(&digest(key));
    format!(
        "[access]\ndefault = \"deny\"\n[[access.key]]\nname = \"k\"\nsha256 = [\"{digest}\"]\n{settings}\n{KEPT}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_on_connections_that_are_open() {
    let db = Postgres::with("").await;
    let app = App::start(&db, &access("first", "")).await;
    let mut connection = Connection::open(app.address()).await;
    let mut code = async |key: &str| {
        let fields = [("X-API-Key", key)];
        connection.request("GET", "/kept", &fields).await.status
    };
    assert_eq!((code("first").await, code("second").await), (200, 401));
    assert_eq!(
        code("first").await,
        200,
        "it is the connection's last key now"
    );
    app.reload(&access("second", "")).await.unwrap();
    assert_eq!((code("first").await, code("second").await), (401, 200));

    let limited = "limit = { requests = \"2/1h\" }";
    app.reload(&access("second", limited)).await.unwrap();
    assert_eq!((code("second").await, code("second").await), (200, 200));
    assert_eq!(code("second").await, 429);
    let other = endpoint("/other", "SELECT 1", "");
    app.reload(&(access("second", limited) + &other))
        .await
        .unwrap();
    assert_eq!(code("second").await, 429, "nothing about it has changed");
    app.reload(&access("third", limited)).await.unwrap();
    assert_eq!(
        code("third").await,
        429,
        "a new key of the same client has its limit"
    );
    // Without `[access]`, anybody may ask; and closed again.
    app.reload(KEPT).await.unwrap();
    assert_eq!(code("whatever").await, 200);
    app.reload(&access("first", "")).await.unwrap();
    assert_eq!((code("whatever").await, code("first").await), (401, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_renewed_where_they_changed_and_nowhere_else() {
    let db = Postgres::with("").await;
    let config = |address: usize, key: usize| {
        let limited = access("k", &format!("limit = {{ requests = \"{key}/1h\" }}"));
        let settings = format!("default = \"public\"\nlimit = {{ requests = \"{address}/1h\" }}");
        limited.replace("default = \"deny\"", &settings)
    };
    let app = App::start(&db, &config(1, 2)).await;
    let mut connection = Connection::open(app.address()).await;
    // How many more requests are answered.
    let mut left = async |fields: &[(&str, &str)]| {
        let mut answered = 0;
        loop {
            let answer = connection.request("GET", "/kept", fields).await;
            if answer.status == 429 {
                return answered;
            }
            answer.assert_status(200);
            answered += 1;
        }
    };
    let key = [("X-API-Key", "k")];
    assert_eq!((left(&[]).await, left(&key).await), (1, 2));
    let other = endpoint("/other", "SELECT 1", "");
    for (config, expected) in [
        (config(1, 2) + &other, (0, 0)),
        (config(1, 3), (0, 3)),
        (config(2, 3), (2, 0)),
    ] {
        app.reload(&config).await.unwrap();
        assert_eq!((left(&[]).await, left(&key).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_of_credentials_change_on_connections_that_are_open() {
    let digest = hexadecimal(&digest("stored"));
    let db = Postgres::with(&format!(
        "CREATE TABLE larder_keys (name text, sha256 text); INSERT INTO larder_keys VALUES ('k', '{digest}')"
    ))
    .await;
    let config = |secret: &str, condition: &str| {
        format!(
            "[access]\ndefault = \"deny\"\n[[access.jwt]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\n\
             audience = [\"larder\"]\nalgorithms = [\"HS256\"]\nkeys = {{ secret = \"{secret}\" }}\n\
             [access.keys]\nsql = \"SELECT name, sha256 FROM larder_keys WHERE {condition}\"\nevery = \"1h\"\n{KEPT}"
        )
    };
    let [old, new] =
        ["old", "new"].map(|name| format!("{name} secret of thirty-two bytes or more"));
    let app = App::start(&db, &config(&old, "true")).await;
    let mut connection = Connection::open(app.address()).await;
    let mut code = async |key: &str| {
        let fields = [("X-API-Key", key)];
        connection.request("GET", "/kept", &fields).await.status
    };
    let token = |secret: &str| {
        with_secret(
            secret,
            r#"{"alg":"HS256"}"#,
            &claims(&json!({})).to_string(),
        )
    };
    let (with_old, with_new) = (token(&old), token(&new));
    let mut codes = async || {
        [
            code(&with_old).await,
            code(&with_new).await,
            code("stored").await,
        ]
    };
    assert_eq!(codes().await, [200, 401, 200]);
    for (config, expected) in [
        (config(&new, "true"), [401, 200, 200]),
        (config(&new, "false"), [401, 200, 401]),
        (config(&old, "true"), [200, 401, 200]),
    ] {
        app.reload(&config).await.unwrap();
        assert_eq!(codes().await, expected);
    }
}
