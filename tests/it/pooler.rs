//! PgBouncer between Larder and Postgres: a pool of whole sessions serves, and any other is refused before
//! it does harm.

use serde_json::json;
use tokio_postgres::SimpleQueryMessage;

use crate::command::folder;
use crate::support::app::App;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, connect};
use crate::support::program::Program;

const CONFIG: &str = r#"
    [server]
    listen = "127.0.0.1:0"
    [repository]
    url = "${DATABASE_URL}"
    max_connections = 2
    [[endpoint]]
    path = "/count"
    sql = "SELECT count(*) FROM t"
    shape = "tuple"
    refresh = { every = "100ms" }
    [[endpoint]]
    path = "/notified"
    sql = "SELECT count(*) FROM t"
    shape = "tuple"
    refresh = { notify = "changed" }
"#;

/// What another application's session is like when it comes out of the pool: it can write, and finds
/// nothing that is not its own.
async fn assert_unharmed(bouncer: &PgBouncer) {
    let client = connect(bouncer.url()).await.unwrap();
    for _ in 0..10 {
        client
            .batch_execute("INSERT INTO t VALUES (1)")
            .await
            .unwrap();
        let left = "SELECT (SELECT count(*) FROM pg_prepared_statements)::text, \
                    (SELECT count(*) FROM pg_listening_channels())::text, \
                    (SELECT string_agg(name, ' ') FROM pg_settings WHERE source = 'session' \
                     AND name NOT IN ('application_name', 'client_encoding'))";
        let answer = client.simple_query(left).await.unwrap();
        let is_row = |message: &&SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
        let Some(SimpleQueryMessage::Row(row)) = answer.iter().find(is_row) else {
            panic!("the settings can be asked for");
        };
        assert_eq!(
            [row.get(0), row.get(1), row.get(2)],
            [Some("0"), Some("0"), None]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_whole_sessions_serves_and_notifies() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE t (n int)").await;
    let bouncer = PgBouncer::before(db.url(), "pool_mode = session").await;
    let endpoints = CONFIG.split_once("max_connections = 2").unwrap().1;
    let app = App::launch(bouncer.url(), "max_connections = 2", endpoints).await;
    app.wait_until_ready().await;
    app.get("/count").await.assert_json(json!([0]));
    db.execute("INSERT INTO t VALUES (1); NOTIFY changed").await;
    app.poll("/notified", |answer| answer.json() == json!([1]))
        .await;
    app.poll("/count", |answer| answer.json() == json!([1]))
        .await;
    assert!(app.stop().await);
    assert_unharmed(&bouncer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_one_session_serves() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE t (n int)").await;
    let settings = "pool_mode = session\ndefault_pool_size = 1";
    let bouncer = PgBouncer::before(db.url(), settings).await;
    let endpoint =
        "[[endpoint]]\npath = \"/count\"\nsql = \"SELECT count(*) FROM t\"\nshape = \"tuple\"";
    let app = App::launch(bouncer.url(), "max_connections = 1", endpoint).await;
    app.wait_until_ready().await;
    app.get("/count").await.assert_json(json!([0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_pooling_is_refused_and_leaves_the_sessions_unchanged() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE t (n int)").await;
    let folder = folder(&[("config.toml", CONFIG)]);
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_round_robin = 1",
        "pool_mode = transaction\ndefault_pool_size = 1",
        "pool_mode = statement",
    ] {
        let bouncer = PgBouncer::before(db.url(), settings).await;
        // Sessions for the pool to choose from.
        let others = [
            connect(bouncer.url()).await.unwrap(),
            connect(bouncer.url()).await.unwrap(),
        ];
        let asked = others
            .each_ref()
            .map(|other| other.simple_query("SELECT pg_sleep(0.1)"));
        futures_util::future::try_join_all(asked).await.unwrap();
        for command in ["check", "check", "serve", "check"] {
            let program = Program::larder(&[command]).within(folder.path());
            let ended = program.on(bouncer.url()).run().await;
            ended.assert_code(1);
            let stderr = &ended.stderr;
            assert!(
                stderr.contains("pool_mode = session"),
                "{settings}, {command}: {stderr}"
            );
            assert!(!stderr.contains("prepared statement \""), "{stderr}");
        }
        drop(others);
        if settings != "pool_mode = statement" {
            assert_unharmed(&bouncer).await;
        }
    }
}
