//! What a load finds in its session, whatever ran there before, and what it leaves.

use serde_json::json;

use crate::support::app::App;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use larder::observe::{Event, QueryOutcome};

/// With one connection, every load runs in the same session.
const ONE: &str = "max_connections = 1";

/// Does something to its session, and looks at a session.
const ENDPOINTS: &str = r#"
    [defaults]
    max_age = "1ms"
    stale_while_revalidate = "0s"

    [[endpoint]]
    path = "/set"
    sql = "SELECT set_config(:name, :value, false) AS v, 1 AS one"
    params = { name = {}, value = {} }
    [[endpoint]]
    path = "/do"
    sql = "SELECT act(:what)::text AS v"
    params.what = {}
    [[endpoint]]
    path = "/look"
    sql = """
    SELECT timestamptz '2024-02-29 12:00+00' AS moment, decode('00ff', 'hex') AS bytes, 0.1::float8 AS f,
           current_user::text AS who, current_setting('search_path') AS path,
           current_setting('transaction_read_only') AS read_only,
           current_setting('default_transaction_read_only') AS default_read_only,
           current_setting('statement_timeout') AS timeout,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
           (SELECT count(*) FROM pg_listening_channels()) AS channels,
           (SELECT count(*) FROM pg_class WHERE relname = 'left_behind') AS tables
    WHERE :n::int > 0"""
    params.n = {}
    shape = "row"
    [[endpoint]]
    path = "/random"
    sql = "SELECT random() AS v WHERE :n::int > 0"
    params.n = {}
    shape = "value"
"#;

const ACT: &str = "CREATE FUNCTION act(what text) RETURNS int LANGUAGE plpgsql AS \
                   $$ BEGIN EXECUTE what; RETURN 1; END $$";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_leaves_nothing_behind_in_its_session() {
    let db = Postgres::with(ACT).await;
    let app = App::launch(db.url(), ONE, ENDPOINTS).await;
    app.wait_until_ready().await;
    let before = app.get("/look?n=1").await;
    let mut n = 1;
    for target in [
        "/set?name=TimeZone&value=Asia/Tokyo",
        "/set?name=search_path&value=pg_catalog",
        "/set?name=bytea_output&value=escape",
        "/set?name=extra_float_digits&value=-15",
        "/set?name=statement_timeout&value=1s",
        "/set?name=default_transaction_read_only&value=off",
        "/set?name=role&value=pg_read_all_data",
        "/set?name=session_authorization&value=larder",
        "/do?what=SELECT%20pg_advisory_lock(7)",
        "/do?what=CREATE%20TEMP%20TABLE%20left_behind()",
        "/do?what=LISTEN%20something",
        "/do?what=PREPARE%20mine%20AS%20SELECT%201",
        "/do?what=DEALLOCATE%20ALL",
        "/do?what=DISCARD%20PLANS",
        "/do?what=SET%20SESSION%20CHARACTERISTICS%20AS%20TRANSACTION%20READ%20WRITE",
    ] {
        app.get(target).await;
        n += 1;
        let after = app.get(&format!("/look?n={n}")).await;
        assert_eq!(after.json(), before.json(), "after {target}");
    }
    let mut randoms = Vec::new();
    for n in 0..2 {
        let seeded = format!("/do?what=SELECT%20setseed(0.5)%20/*{n}*/");
        app.get(&seeded).await.assert_status(200);
        randoms.push(app.get(&format!("/random?n={}", n + 1)).await.json());
    }
    assert_ne!(randoms[0], randoms[1], "the seed outlived its load");
    assert_eq!(before.json()["read_only"], json!("on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lower_limits_of_the_role_hold() {
    let db = Postgres::own().await;
    db.execute(
        "CREATE ROLE hasty LOGIN PASSWORD 'hasty'; ALTER ROLE hasty SET statement_timeout = '1234ms'",
    )
    .await;
    let (_, place) = db.url().split_once('@').unwrap();
    let url = format!("postgresql://hasty:hasty@{place}");
    let endpoint = "[[endpoint]]\npath = \"/limit\"\nshape = \"value\"\n\
                    sql = \"SELECT current_setting('statement_timeout')\"";
    let app = App::launch(&url, "statement_timeout = \"30s\"", endpoint).await;
    app.wait_until_ready().await;
    app.get("/limit").await.assert_json(json!("1234ms"));
    let app = App::launch(&url, "statement_timeout = \"500ms\"", endpoint).await;
    app.wait_until_ready().await;
    app.get("/limit").await.assert_json(json!("500ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_session_timeout_does_not_end_the_listening_session() {
    let db = Postgres::own().await;
    db.execute(
        "CREATE TABLE t (n int); CREATE ROLE idle LOGIN PASSWORD 'idle'; GRANT SELECT ON t TO idle; \
         ALTER ROLE idle SET idle_session_timeout = '100ms'",
    )
    .await;
    let (_, place) = db.url().split_once('@').unwrap();
    let endpoints = "[[endpoint]]\npath = \"/count\"\nsql = \"SELECT count(*) FROM t\"\n\
                     refresh = { notify = \"changed\" }\n\
                     [[endpoint]]\npath = \"/other\"\nsql = \"SELECT 1 AS n\"\nrefresh = { every = \"400ms\" }";
    let app = App::launch(&format!("postgresql://idle:idle@{place}"), ONE, endpoints).await;
    app.wait_until_ready().await;
    // Between its loads the pool's session is ended more than once, so the other would have been as well.
    let finished = |event: &Event| matches!(event, Event::QueryFinished { .. });
    app.wait_for(8, finished).await;
    let listening = |event: &Event| matches!(event, Event::Listening);
    assert_eq!(app.count(listening), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_connections_count_towards_max_connections() {
    let db = Postgres::with("CREATE TABLE t AS SELECT 1 AS v").await;
    let endpoints = r#"
        [defaults]
        timeout = "300ms"
        [[endpoint]]
        path = "/scheduled"
        sql = "SELECT v FROM t"
        refresh = { every = "100ms", notify = "changed" }
        max_age = "100ms"
    "#;
    // The last lets a handshake through, and no more than the beginning of an answer.
    let spoils: [fn(&Proxy); 3] = [Proxy::garble, Proxy::stall, |proxy| proxy.stall_after(700)];
    for spoil in spoils {
        let mut proxy = Proxy::before(&format!("{}&connect_timeout=1", db.url())).await;
        let app = App::launch(proxy.url(), "max_connections = 2", endpoints).await;
        app.wait_until_ready().await;
        let before = app.queries();
        spoil(&proxy);
        let failed = |event: &Event| {
            let outcomes = [
                QueryOutcome::Timeout,
                QueryOutcome::Unavailable,
                QueryOutcome::Abandoned,
            ];
            matches!(event, Event::QueryFinished { outcome, .. } if outcomes.contains(outcome))
        };
        let lost = |event: &Event| matches!(event, Event::RepositoryLost { .. });
        app.wait_for(1, failed).await;
        app.wait_for(1, lost).await;
        let loads = |event: &Event| matches!(event, Event::RefreshFinished { .. });
        app.wait_for(app.count(loads) + 10, loads).await;
        // Two sessions, one that listens, and requests to cancel what the two ran.
        let most = proxy.held_open();
        assert!(most <= 5, "{most} are open");
        proxy.heal().await;
        app.wait_for(before + 10, |event| {
            matches!(
                event,
                Event::QueryFinished {
                    outcome: QueryOutcome::Ok,
                    ..
                }
            )
        })
        .await;
    }
}
