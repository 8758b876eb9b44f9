//! Callers whose role and claims are in a token.

use super::*;
use crate::support::issuer::{self, ISSUER, seconds_from_now};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn issuer() -> String {
    format!(
        "[[access.jwt]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\naudience = [\"larder\"]\n\
         algorithms = [\"HS256\"]\nkeys = {{ secret = \"{SECRET}\" }}\n"
    )
}

async fn ask_with(app: &App, target: &str, claims: &Value) -> Answer {
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let claims = issuer::claims(claims).to_string();
    let token = issuer::with_secret(SECRET, header, &claims);
    let bearer = format!("Bearer {token}");
    http::request(app.address(), "GET", target, &[("Authorization", &bearer)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_a_key_that_say_the_same_share_an_answer() {
    let db = Postgres::own().await;
    db.execute(SALES).await;
    let key = Caller::new("reader", "a", "acme");
    let config = access(std::slice::from_ref(&key))
        + &issuer()
        + &endpoint("/mine", MINE, &format!("{RUN_AS}\nparams.year = {{}}"));
    let app = start(&login_url(&db), "", &config).await;
    let loaded = app.queries();
    let of_key = ask(&app, "/mine?year=2000", 0).await;
    assert_eq!(of_key.json(), by_psql(&db, &key, 2000));
    let said = json!({ "role": "reader", "sub": "a", "tenant_id": "acme", "jti": "1" });
    let answer = ask_with(&app, "/mine?year=2000", &said).await;
    assert_eq!(answer.json(), of_key.json());
    assert_eq!(app.queries(), loaded + 1);
    for (role, sub, tenant) in [
        ("Chief Editor", "a", "acme"),
        ("reader", "b", "acme"),
        ("reader", "a", "umbrella"),
    ] {
        let said = json!({ "role": role, "sub": sub, "tenant_id": tenant });
        let answer = ask_with(&app, "/mine?year=2000", &said).await;
        let caller = Caller::new(role, sub, tenant);
        assert_eq!(answer.json(), by_psql(&db, &caller, 2000));
        assert_ne!(answer.json(), of_key.json());
    }
    assert_eq!(app.queries(), loaded + 4);
    for wrong in [
        json!({ "sub": "a", "tenant_id": "acme" }),
        json!({ "role": "reader", "sub": "a" }),
        json!({ "role": "reader", "sub": "a", "tenant_id": null }),
        json!({ "role": "stranger", "sub": "a", "tenant_id": "acme" }),
        json!({ "role": ["reader"], "sub": "a", "tenant_id": "acme" }),
        json!({ "role": ["reader", "Chief Editor"], "sub": "a", "tenant_id": "acme" }),
    ] {
        let answer = ask_with(&app, "/mine?year=2000", &wrong).await;
        answer.assert_status(403);
        assert_eq!(answer.json()["code"], "LRD-205", "{wrong}");
    }
    let over =
        json!({ "role": "reader", "sub": "a", "tenant_id": "acme", "exp": seconds_from_now(-90) });
    ask_with(&app, "/mine?year=2000", &over)
        .await
        .assert_status(401);
    assert_eq!(app.queries(), loaded + 4, "none of them reached Postgres");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_see_claims_as_the_json_that_they_are() {
    let db = Postgres::own().await;
    db.execute(
        "CREATE ROLE larder_login LOGIN PASSWORD 'secret' NOINHERIT; CREATE ROLE member;
         GRANT member TO larder_login;
         CREATE TABLE notes (team text, level int, text text);
         INSERT INTO notes VALUES ('red', 1, 'a'), ('red', 3, 'b'), ('blue', 1, 'c'), ('green', 1, 'd');
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         GRANT SELECT ON notes TO member;
         CREATE POLICY own ON notes TO member USING (
             current_setting('app.claims')::jsonb->'teams' ? team
             AND to_jsonb(level) <= current_setting('app.claims')::jsonb->'level')",
    )
    .await;
    let sql = "SELECT string_agg(text, '' ORDER BY text) AS texts FROM notes";
    let more = "shape = \"value\"\n\
                run_as = { roles = [\"member\"], settings = { \"app.claims\" = [\"teams\", \"level\"] } }";
    let config =
        format!("[access]\ndefault = \"deny\"\n{}", issuer()) + &endpoint("/notes", sql, more);
    let app = start(&login_url(&db), "", &config).await;
    let loaded = app.queries();
    for (teams, level, expected) in [
        (json!(["red"]), json!(1), json!("a")),
        (json!(["red", "blue"]), json!(3), json!("abc")),
        (json!(["blue", "red"]), json!(3), json!("abc")),
        (
            json!({ "green": { "since": 1, "by": 2 } }),
            json!(1),
            json!("d"),
        ),
        // A text is no array, and no number.
        (json!("[\"red\"]"), json!(3), json!(null)),
        (json!(["red"]), json!("3"), json!(null)),
    ] {
        let said = json!({ "teams": teams, "level": level });
        let answer = ask_with(&app, "/notes", &said).await;
        answer.assert_json(expected);
    }
    // However the issuer writes it, it is the same caller.
    let said = json!({ "level": 1, "teams": { "green": { "by": 2, "since": 1 } } });
    ask_with(&app, "/notes", &said)
        .await
        .assert_json(json!("d"));
    assert_eq!(app.queries(), loaded + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_policy_cannot_use_is_in_no_message() {
    let db = Postgres::own().await;
    db.execute(
        "CREATE ROLE larder_login LOGIN PASSWORD 'secret' NOINHERIT; CREATE ROLE member;
         GRANT member TO larder_login;
         CREATE TABLE notes (tenant int); INSERT INTO notes VALUES (1);
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; GRANT SELECT ON notes TO member;
         CREATE POLICY own ON notes TO member
             USING (tenant = (current_setting('app.claims')::json->>'tenant')::int)",
    )
    .await;
    let run_as = r#"run_as = { roles = ["member"], settings = { "app.claims" = ["tenant"] } }"#;
    let config = format!("[access]\ndefault = \"deny\"\n{}", issuer())
        + &endpoint("/notes", "SELECT count(*) AS n FROM notes", run_as);
    let app = start(&login_url(&db), "", &config).await;
    for tenant in ["Smith", "Smith\0"] {
        let answer = ask_with(&app, "/notes", &json!({ "tenant": tenant })).await;
        answer.assert_status(502);
        assert!(!answer.text().contains("Smith"), "{answer:?}");
    }
    let is_logged = |event: &Event| {
        let text = format!("{event:?}");
        assert!(!text.contains("Smith"), "{text}");
        matches!(event, Event::LoadsFailing { .. })
    };
    app.wait_for(1, is_logged).await;
    // Nor is it the other callers' failure.
    let right = ask_with(&app, "/notes", &json!({ "tenant": "1" })).await;
    right.assert_json(json!([{ "n": 1 }]));
}
