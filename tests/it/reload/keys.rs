//! Who may ask changes with a reload, also on connections that are open.

use larder::access::key::{digest, hexadecimal};

use super::{KEPT, endpoint};
use crate::support::app::App;
use crate::support::http::Connection;
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
