//! What a load as one caller leaves for the next in the same session: nothing.

use super::*;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::connect;

/// With one connection, every load runs in the same session, unless that was closed.
const ONE: &str = "max_connections = 1";

#[tokio::test(flavor = "multi_thread")]
async fn each_role_needs_its_own_rights() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    // Postgres checks USAGE of a schema when a statement is analysed, and not again while the statement is
    // prepared.
    db.execute(
        r#"CREATE SCHEMA vault; CREATE TABLE vault.gold (n int); INSERT INTO vault.gold VALUES (1);
           GRANT SELECT ON vault.gold TO reader, "Chief Editor"; GRANT USAGE ON SCHEMA vault TO reader"#,
    )
    .await;
    let gold = "SELECT n FROM vault.gold WHERE n < :n";
    let app = as_two_roles(&db, gold).await;
    for n in [10, 11] {
        let target = format!("/n?n={n}");
        ask(&app, &target, 0).await.assert_json(json!(1));
        let answer = ask(&app, &target, 1).await;
        answer.assert_status(502);
        assert_eq!(answer.json()["code"], "LRD-303");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_has_its_own_search_path() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    // "$user" is the role.
    db.execute(
        "CREATE SCHEMA reader; CREATE TABLE reader.own (n int); INSERT INTO reader.own VALUES (2);
         CREATE TABLE public.own (n int); INSERT INTO public.own VALUES (3);
         GRANT USAGE ON SCHEMA reader TO reader; GRANT SELECT ON reader.own, public.own TO PUBLIC",
    )
    .await;
    let app = as_two_roles(&db, "SELECT n FROM own WHERE n < :n").await;
    for n in [10, 11] {
        for (caller, expected) in [(0, 2), (1, 3)] {
            let answer = ask(&app, &format!("/n?n={n}"), caller).await;
            answer.assert_json(json!(expected));
        }
    }
}

/// Callers who are a reader and an editor, and this statement as `/n`.
async fn as_two_roles(db: &Postgres, sql: &str) -> App {
    let callers = [
        Caller::new("reader", "a", "acme"),
        Caller::new("Chief Editor", "a", "acme"),
    ];
    let more = format!("{RUN_AS}\nparams.n = {{}}\nshape = \"value\"");
    let config = access(&callers) + &endpoint("/n", sql, &more);
    start(&login_url(db), ONE, &config).await
}

/// What the caller's SQL does to its session, and how a load can end.
const ACTS: [&str; 13] = [
    "SELECT 1",
    "SET ROLE \"Chief Editor\"",
    "RESET ROLE",
    "SET ROLE NONE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "RESET ALL",
    "SET request.jwt.claims = '{\"tenant_id\":\"umbrella\",\"sub\":\"x\"}'",
    "SET search_path = shop",
    "SELECT set_config('role', 'Chief Editor', false), set_config('app.admin', 'yes', false)",
    "SELECT 1 / 0",
    "SET ROLE stranger",
    "SELECT pg_sleep(60)",
    "SELECT pg_terminate_backend(pg_backend_pid())",
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_load_does_and_however_it_ends_the_next_one_is_itself() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    db.execute(
        "CREATE FUNCTION act(what text) RETURNS int LANGUAGE plpgsql AS
         $$ BEGIN EXECUTE what; RETURN 1; END $$",
    )
    .await;
    let callers = [
        Caller::new("Chief Editor", "a", "acme"),
        Caller::new("reader", "b", "umbrella"),
    ];
    let act = format!("{RUN_AS}\nparams.what = {{}}\ntimeout = \"300ms\"");
    let many = format!("{RUN_AS}\nparams.n = {{}}\nmax_rows = 1");
    let look = "SELECT current_user::text AS who, session_user::text AS session, \
                current_setting('request.jwt.claims', true) AS claims, \
                nullif(current_setting('app.admin', true), '') AS admin, \
                current_setting('search_path') AS path, :n::int AS n";
    let config = access(&callers)
        + &endpoint("/act", "SELECT act(:what) AS v", &act)
        + &endpoint("/many", "SELECT generate_series(1, :n) AS n", &many)
        + &endpoint("/mine", MINE, &format!("{RUN_AS}\nparams.year = {{}}"))
        + &endpoint("/look", look, "shape = \"row\"\nparams.n = {}");
    let app = start(&login_url(&db), ONE, &config).await;
    let ends = ACTS.map(|what| {
        let what: String = what.bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("/act?what={what}")
    });
    for (n, end) in (0..).zip(ends.iter().map(String::as_str).chain(["/many?n=2"])) {
        ask(&app, end, 0).await;
        let mut seen = ask(&app, &format!("/look?n={n}"), 0).await.json();
        // NULL in a new session, and afterwards empty.
        let claims = seen.as_object_mut().unwrap().remove("claims").unwrap();
        assert!(
            claims == json!(null) || claims == json!(""),
            "{end}: {claims}"
        );
        let own = json!({ "who": "larder_login", "session": "larder_login", "admin": null,
                          "path": "\"$user\", public", "n": n });
        assert_eq!(seen, own, "after {end}");
        let year = 1990 + n;
        ask(&app, end, 0).await;
        let mine = ask(&app, &format!("/mine?year={year}"), 1).await;
        assert_eq!(mine.json(), by_psql(&db, &callers[1], year), "after {end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_end_nobody_hears_is_closed() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let (tap, app) = tapped(&db, ONE).await;
    let pid = async |year| {
        let answer = ask(&app, &format!("/count?year={year}"), 0).await;
        answer.assert_status(200);
        answer.json()["pid"].clone()
    };
    tap.hold(Hold::AnswerToEnd);
    let first = pid(2001).await;
    assert_ne!(first, pid(2002).await);
    tap.hold(Hold::Nothing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_whole_sessions_passes_callers_on() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let settings = "pool_mode = session\ndefault_pool_size = 2";
    let bouncer = PgBouncer::before(&login_url(&db), settings).await;
    let callers = [
        Caller::new("reader", "a", "acme"),
        Caller::new("Chief Editor", "b", "umbrella"),
    ];
    let config =
        access(&callers) + &endpoint("/mine", MINE, &format!("{RUN_AS}\nparams.year = {{}}"));
    let app = start(bouncer.url(), ONE, &config).await;
    for year in 1998..2003 {
        for (index, caller) in callers.iter().enumerate() {
            let answer = ask(&app, &format!("/mine?year={year}"), index).await;
            assert_eq!(answer.json(), by_psql(&db, caller, year));
        }
    }
    assert!(app.stop().await);
    // Another application gets the session afterwards.
    let other = connect(bouncer.url()).await.unwrap();
    let seen =
        "SELECT current_user::text || coalesce(current_setting('request.jwt.claims', true), '')";
    let row = other.query_one(seen, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "larder_login");
}
