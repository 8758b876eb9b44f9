//! A mistake in the new configuration changes nothing.

use larder::app::ReloadError;
use larder::observe::Event;
use serde_json::json;

use super::{KEPT, endpoint, is_reloaded, keyed, metrics};
use crate::support::app::{App, text};
use crate::support::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_changes_nothing_and_is_reported_everywhere() {
    let db = Postgres::with("").await;
    let app = App::start(&db, KEPT).await;
    let with = |more: &str| text("", "", &format!("{KEPT}\n{more}"));
    let broken = [
        (
            "key with no value",
            with("[[endpoint]\npath"),
            "config.toml",
        ),
        (
            "a key that does not exist",
            with("[[endpoint]]\npath = '/b'\nsql = 'SELECT 1'\nmaxage = '1s'"),
            "unknown key",
        ),
        (
            "two equal paths",
            with(KEPT),
            "two endpoints have the same path",
        ),
        (
            "no such file",
            with("[[endpoint]]\npath = '/b'\nsql_file = 'no/such.sql'"),
            "cannot be read",
        ),
        (
            "no such table",
            with(&endpoint("/b", "SELECT n FROM nowhere", "")),
            "relation \"nowhere\" does not exist",
        ),
        (
            "a query that fails",
            with(&endpoint("/b", "SELECT 1 / 0", "")),
            "division by zero",
        ),
        (
            "no such key",
            with(&format!("{}\nwarm = [{{ k = 'x' }}]", keyed("1h"))),
            "must be a whole number",
        ),
        (
            "another address",
            text("max_connections = 77", "", KEPT),
            "`max_connections` cannot change",
        ),
        (
            "another limit",
            text("", "max_loads_per_second = 7", KEPT),
            "`max_loads_per_second` cannot change",
        ),
        (
            "another size",
            text("", "", &format!("[cache]\nmax_size = '300MiB'\n{KEPT}")),
            "`max_size` cannot change",
        ),
        (
            "a probe that fails",
            with(&endpoint(
                "/b",
                "SELECT 1",
                "refresh = { probe = { sql = 'SELECT n FROM nowhere', every = '1s' } }",
            )),
            "nowhere",
        ),
    ];
    for (what, text, reason) in &broken {
        let refused = app.reload_text(text).await.unwrap_err();
        assert!(matches!(refused, ReloadError::Refused(_)), "{what}");
        let words = refused.to_string();
        assert!(words.contains(reason), "{what}: {words}");
        app.get("/kept")
            .await
            .assert_status(200)
            .assert_cache("hit");
        app.get("/b").await.assert_status(404);
        let status = app.poll("/status.json", |answer| {
            answer.json()["troubles"] != json!([])
        });
        assert_eq!(
            status.await.json()["troubles"][0]["kind"],
            "configuration",
            "{what}"
        );
    }
    let reasons = app.count(|event| {
        let Event::ConfigurationRefused { cause } = event else {
            return false;
        };
        !cause.contains('\n') && broken.iter().any(|(_, _, reason)| cause.contains(reason))
    });
    assert_eq!(reasons, broken.len(), "each is one line in the log");
    assert!(
        metrics(&app)
            .await
            .contains("larder_config_last_reload_successful 0")
    );
    assert_eq!(app.count(is_reloaded), 0);
    assert!(
        !metrics(&app).await.contains("endpoint=\"/b\""),
        "it is not served"
    );

    app.reload(KEPT).await.unwrap();
    assert!(
        metrics(&app)
            .await
            .contains("larder_config_last_reload_successful 1")
    );
    app.poll("/status.json", |answer| {
        answer.json()["troubles"] == json!([])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_configuration_has_not_changed_what_is_served() {
    let db = Postgres::with("").await;
    let app = App::start(&db, &keyed("1h")).await;
    // It would be taken but for the query that fails.
    let refused = [
        keyed("2h") + "max_keys = 1\n",
        endpoint("/b", "SELECT 1 / 0", ""),
    ];
    app.reload(&refused.concat()).await.unwrap_err();
    for k in [1, 2, 3, 1, 2, 3] {
        app.get(&format!("/keyed/{k}")).await.assert_status(200);
    }
    assert_eq!(
        app.queries(),
        3 + 1,
        "each key once, and the query that fails"
    );
    let max_age = app.get("/keyed/1").await;
    let max_age = max_age.header("cache-control").unwrap();
    assert!(
        max_age.starts_with("public, max-age=3"),
        "{max_age}: of one hour"
    );
}
