//! Row-level security: each load runs as the caller's role, with the caller's claims, and its answer is for no
//! other caller.

mod sessions; // what one load leaves for the next
mod tokens; // callers with tokens

use std::collections::BTreeSet;
use std::process::Command;

use larder::access::key;
use larder::observe::Event;
use larder::repository::RepositoryError;
use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::http::{self, Answer};
use crate::support::postgres::Postgres;
use crate::support::wiretap::{Hold, Wiretap};

/// Larder's own role may read nothing. A reader sees what its tenant has published, and an editor also drafts.
const SALES: &str = r#"
    CREATE ROLE larder_login LOGIN PASSWORD 'secret' NOINHERIT;
    CREATE ROLE reader;
    CREATE ROLE "Chief Editor";
    CREATE ROLE stranger;
    GRANT reader, "Chief Editor" TO larder_login;
    CREATE SCHEMA shop;
    CREATE TABLE shop.sales (tenant text, year int, amount int, is_draft boolean);
    INSERT INTO shop.sales
    SELECT tenant, 2000 + n % 5, n, n % 3 = 0
    FROM unnest(ARRAY['acme', 'umbrella', 'o''hara "&" \ söhne']) WITH ORDINALITY AS t(tenant, place),
         generate_series(place::int, 60, 2) AS n;
    ALTER TABLE shop.sales ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION shop.tenant() RETURNS text LANGUAGE sql STABLE AS
        $$ SELECT current_setting('request.jwt.claims')::json->>'tenant_id' $$;
    CREATE POLICY published ON shop.sales TO reader USING (tenant = shop.tenant() AND NOT is_draft);
    CREATE POLICY everything ON shop.sales TO "Chief Editor" USING (tenant = shop.tenant());
    GRANT USAGE ON SCHEMA shop TO reader, "Chief Editor";
    GRANT SELECT ON shop.sales TO reader, "Chief Editor""#;

const MINE: &str = "SELECT year, amount, is_draft, current_user::text AS who, \
                    current_setting('request.jwt.claims')::jsonb AS claims \
                    FROM shop.sales WHERE year >= :year ORDER BY amount";

const RUN_AS: &str = r#"run_as = { roles = ["reader", "Chief Editor"], role_claim = "role",
    settings = { "request.jwt.claims" = ["tenant_id", "sub"] } }"#;

/// A caller, whose key is its subject and `-key`.
#[derive(Debug, Clone)]
struct Caller {
    role: String,
    sub: String,
    tenant: String,
}

impl Caller {
    fn new(role: &str, sub: &str, tenant: &str) -> Self {
        let [role, sub, tenant] = [role, sub, tenant].map(str::to_owned);
        Self { role, sub, tenant }
    }

    fn declared(&self, index: usize) -> String {
        // TOML and JSON write these texts in the same way.
        let [role, sub, tenant] = [&self.role, &self.sub, &self.tenant].map(|text| json!(text));
        let claims = format!(
            "role = {role}, sub = {sub}, tenant_id = {tenant}, secret = \"s\", \"app.admin\" = \"yes\""
        );
        key(index, &claims)
    }
}

fn key(index: usize, claims: &str) -> String {
    let digest = key::hexadecimal(&key::digest(&format!("key-{index}")));
    format!(
        "[[access.key]]\nname = \"k{index}\"\nsha256 = [\"{digest}\"]\nclaims = {{ {claims} }}\n"
    )
}

fn access(callers: &[Caller]) -> String {
    let keys: String = (0..)
        .zip(callers)
        .map(|(i, caller)| caller.declared(i))
        .collect();
    format!("[access]\ndefault = \"deny\"\n{keys}")
}

fn endpoint(path: &str, sql: &str, more: &str) -> String {
    format!("[[endpoint]]\npath = \"{path}\"\nsql = \"\"\"{sql}\"\"\"\nmax_age = \"1h\"\n{more}\n")
}

/// As Larder's own role.
fn login_url(db: &Postgres) -> String {
    let (_, place) = db.url().split_once('@').unwrap();
    format!("postgresql://larder_login:secret@{place}")
}

async fn start(url: &str, repository: &str, config: &str) -> App {
    let app = App::launch(url, repository, config).await;
    app.wait_until_ready().await;
    app
}

async fn ask(app: &App, target: &str, key: usize) -> Answer {
    let key = format!("key-{key}");
    http::request(app.address(), "GET", target, &[("X-API-Key", &key)]).await
}

/// What psql answers to the same SQL, under that role and with those claims.
fn by_psql(db: &Postgres, caller: &Caller, year: i32) -> Value {
    let script = format!(
        "BEGIN;\nSELECT set_config('role', :'role', true), set_config('request.jwt.claims', \
         json_build_object('sub', :'sub', 'tenant_id', :'tenant')::text, true) \\g /dev/null\n\
         SELECT coalesce(json_agg(answer), '[]') FROM ({MINE}) AS answer;\nROLLBACK;\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    let output = Command::new("psql")
        .args([db.url(), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
        .args(["-v", &format!("role={}", caller.role)])
        .args(["-v", &format!("sub={}", caller.sub)])
        .args(["-v", &format!("tenant={}", caller.tenant)])
        .args(["-v", &format!("year={year}"), "-f"])
        .arg(&file)
        .env("PGCLIENTENCODING", "UTF8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn for_any_caller_and_argument_the_answer_is_that_of_psql() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = || -> String {
        let characters: Vec<char> = "ab'\"\\{}:,%_ äß€😀\n\t/".chars().collect();
        let length = random.usize(0..12);
        (0..length)
            .map(|_| characters[random.usize(0..characters.len())])
            .collect()
    };
    let tenants = ["acme", "umbrella", "o'hara \"&\" \\ söhne", "nobody"];
    let mut callers: Vec<Caller> = Vec::new();
    for role in ["reader", "Chief Editor"] {
        for tenant in tenants {
            callers.push(Caller::new(role, &text(), tenant));
            callers.push(Caller::new(role, &text(), tenant));
        }
        callers.push(Caller::new(role, &text(), &text()));
    }
    let config =
        access(&callers) + &endpoint("/mine", MINE, &format!("{RUN_AS}\nparams.year = {{}}"));
    let app = start(&login_url(&db), "", &config).await;
    let mut rows = 0;
    for round in 0..2 {
        for (index, caller) in callers.iter().enumerate() {
            let year = random.i32(1999..2006);
            let answer = ask(&app, &format!("/mine?year={year}"), index).await;
            answer.assert_status(200);
            let expected = by_psql(&db, caller, year);
            assert_eq!(
                answer.json(),
                expected,
                "seed {seed}, round {round}, {caller:?}, {year}"
            );
            rows += expected.as_array().unwrap().len();
        }
    }
    assert!(rows > 0, "no policy let anything through");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_share_an_answer_only_if_role_and_claims_are_the_same() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let callers = [
        Caller::new("reader", "a", "acme"),
        Caller::new("Chief Editor", "a", "acme"),
        Caller::new("reader", "b", "acme"),
        Caller::new("reader", "a", "umbrella"),
        Caller::new("reader", "a", "acme"),
    ];
    let fixed = r#"run_as = { roles = ["reader"] }
        refresh = { every = "1h" }"#;
    let warm = r#"warm = [{ year = 2004, run_as = "Chief Editor",
        "request.jwt.claims" = '{ "tenant_id": "acme", "sub": "a" }' }]
        warm_sql = """SELECT 2004 AS year, 'reader' AS run_as,
            json_build_object('tenant_id', 'umbrella', 'sub', 'a')::text AS "request.jwt.claims" """"#;
    let config = access(&callers)
        + &endpoint(
            "/mine",
            MINE,
            &format!("{RUN_AS}\nparams.year = {{}}\n{warm}"),
        )
        + &endpoint(
            "/who",
            "SELECT current_user::text",
            &format!("{fixed}\nshape = \"value\""),
        );
    let app = start(&login_url(&db), "", &config).await;
    let loaded = app.queries();
    let mut bodies = Vec::new();
    for _ in 0..2 {
        for index in 0..callers.len() {
            let answer = ask(&app, "/mine?year=2000", index).await;
            let cache_control = answer.header("cache-control").unwrap();
            assert!(cache_control.starts_with("private"), "{cache_control}");
            bodies.push(answer.json());
        }
    }
    assert_eq!(
        app.queries(),
        loaded + 4,
        "the last has the key of the first"
    );
    let (first, second) = bodies.split_at(callers.len());
    assert_eq!(first, second);
    assert_eq!(first[0], first[4]);
    for (one, other) in [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)] {
        assert_ne!(first[one], first[other]);
    }
    let drafts = |body: &Value| {
        let rows = body.as_array().unwrap();
        rows.iter()
            .filter(|row| row["is_draft"] == json!(true))
            .count()
    };
    assert!(drafts(&first[0]) == 0 && drafts(&first[1]) > 0);
    // Listed keys are those of the callers that they stand for.
    for index in [1, 3] {
        ask(&app, "/mine?year=2004", index).await.assert_status(200);
    }
    ask(&app, "/who", 0).await.assert_json(json!("reader"));
    assert_eq!(app.queries(), loaded + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_names_neither_roles_nor_settings_of_its_own() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let mut config = access(&[Caller::new("reader", "a", "acme")]);
    for (index, claims) in [
        "role = \"stranger\", sub = \"a\", tenant_id = \"acme\"",
        "role = \"larder_login\", sub = \"a\", tenant_id = \"acme\"",
        "role = \"none\", sub = \"a\", tenant_id = \"acme\"",
        "role = \"Reader\", sub = \"a\", tenant_id = \"acme\"",
        "sub = \"a\", tenant_id = \"acme\"",
        "role = \"reader\", tenant_id = \"acme\"",
    ]
    .into_iter()
    .enumerate()
    {
        config += &key(index + 1, claims);
    }
    let seen = "SELECT current_setting('app.admin', true) AS admin, current_setting('request.jwt.claims') AS \
                claims, :n::int AS n";
    let own = "SELECT current_user::text AS who, current_setting('request.jwt.claims', true) AS claims, \
               :n::int AS n";
    let row = "shape = \"row\"\nparams.n = {}";
    config += &endpoint("/seen", seen, &format!("{RUN_AS}\n{row}"));
    config += &endpoint("/own", own, row);
    let app = start(&login_url(&db), "max_connections = 1", &config).await;
    // Before any setting was set in the session.
    let own = ask(&app, "/own?n=1", 0).await;
    own.assert_json(json!({ "who": "larder_login", "claims": null, "n": 1 }));
    let loaded = app.queries();
    for index in 1..=6 {
        let answer = ask(&app, "/seen?n=1", index).await;
        answer.assert_status(403);
        assert_eq!(answer.json()["code"], "LRD-205", "{index}");
    }
    assert_eq!(app.queries(), loaded, "none of them reached Postgres");
    let claims = r#"{"sub":"a","tenant_id":"acme"}"#;
    let answer = ask(&app, "/seen?n=1", 0).await;
    answer.assert_json(json!({ "admin": null, "claims": claims, "n": 1 }));
    // A query string has no say either.
    ask(&app, "/seen?n=1&run_as=stranger", 0)
        .await
        .assert_status(400);
    // The role and the claims are gone with the transaction, but the setting is no longer NULL.
    let own = ask(&app, "/own?n=2", 0).await;
    own.assert_json(json!({ "who": "larder_login", "claims": "", "n": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_refused_is_the_operators_to_mend() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let config = access(&[Caller::new("reader", "a", "acme")])
        + &endpoint("/mine", MINE, &format!("{RUN_AS}\nparams.year = {{}}"));
    let app = start(&login_url(&db), "", &config).await;
    ask(&app, "/mine?year=2001", 0).await.assert_status(200);
    db.execute("REVOKE reader FROM larder_login").await;
    let answer = ask(&app, "/mine?year=2002", 0).await;
    answer.assert_status(502);
    assert_eq!(answer.json()["code"], "LRD-303");
    let body = answer.json().to_string();
    assert!(!body.contains("reader") && !body.contains("acme"), "{body}");
    let is_logged = |event: &Event| {
        let Event::LoadsFailing { cause, .. } = event else {
            return false;
        };
        assert!(!cause.contains("acme"), "{cause}");
        cause.contains("GRANT reader TO")
    };
    app.wait_for(1, is_logged).await;

    // At the start, it is a mistake.
    let app = App::launch(&login_url(&db), "", &config).await;
    let rejections = app.rejections().await;
    let [rejection] = &rejections[..] else {
        panic!("{rejections:?}")
    };
    assert!(
        matches!(&rejection.error, RepositoryError::RoleRefused { role, .. } if &**role == "reader"),
        "{rejection:?}"
    );
}

/// A way to the server on which its messages can be watched, and Larder on it.
async fn tapped(db: &Postgres, repository: &str) -> (Wiretap, App) {
    let url = login_url(db);
    let (account, place) = url.split_once('@').unwrap();
    let (server, database) = place.split_once('/').unwrap();
    let tap = Wiretap::before(server).await;
    let database = database.split('?').next().unwrap_or_default();
    let url = format!("{account}@{}/{database}?sslmode=disable", tap.address());
    let sql = "SELECT count(*) AS n, pg_backend_pid() AS pid FROM shop.sales WHERE year >= :year";
    let more = format!("{RUN_AS}\nparams.year = {{}}\nshape = \"row\"\ntimeout = \"20s\"");
    let config = access(&[Caller::new("reader", "a", "acme")]) + &endpoint("/count", sql, &more);
    let app = start(&url, repository, &config).await;
    (tap, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_takes_one_round_trip() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let (tap, app) = tapped(&db, "max_connections = 1").await;
    // Prepares the statement.
    ask(&app, "/count?year=2001", 0).await.assert_status(200);
    // Postgres answers nothing before all has been sent.
    tap.hold(Hold::UntilEndIsSent);
    tap.sent();
    ask(&app, "/count?year=2002", 0).await.assert_status(200);
    // BEGIN; the role and the settings; the statement; ROLLBACK.
    assert_eq!(tap.sent(), ["Q", "PBDES", "BES", "Q"].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_used_again_only_after_its_transaction_is_over() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let (tap, app) = tapped(&db, "max_connections = 4").await;
    let pid = async |year| {
        let answer = ask(&app, &format!("/count?year={year}"), 0).await;
        answer.assert_status(200);
        answer.json()["pid"].as_i64().unwrap()
    };
    tap.hold(Hold::AnswerToEnd);
    // The rows arrive, but whether the role is still set is not known. The fourth session may be the one in which
    // the statement was described, and may be held as well.
    let pids = BTreeSet::from([pid(2001).await, pid(2002).await, pid(2003).await]);
    assert_eq!(pids.len(), 3);
    // They can be used again, and a fifth may not be opened.
    tap.hold(Hold::Nothing);
    for year in 2010..2015 {
        pid(year).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_in_the_documentation_works() {
    let text = include_str!("../../docs/access.md");
    let (_, section) = text.split_once("\n## Row-level security\n").unwrap();
    let block = |language: &str| {
        let (_, rest) = section.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let db = Postgres::own().await;
    db.execute(
        &block("sql")
            .replace("ROLE larder ", "ROLE shop_larder ")
            .replace("TO larder;", "TO shop_larder;"),
    )
    .await;
    db.execute("INSERT INTO orders VALUES ('acme', 1), ('acme', 2), ('umbrella', 40)")
        .await;
    let (_, place) = db.url().split_once('@').unwrap();
    let url = format!("postgresql://shop_larder:change%20me@{place}");
    let config = block("toml");
    let (_, digest) = config.split_once("sha256 = [\"").unwrap();
    let ours = key::hexadecimal(&key::digest("key-0"));
    let config = config.replace(&digest[..ours.len()], &ours);
    let app = start(&url, "", &config).await;
    let answer = ask(&app, "/orders/total", 0).await;
    answer.assert_json(json!([{ "total": 3 }]));
}
