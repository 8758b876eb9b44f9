//! Statements are described again when tables change, however that shows: in loads, in probes, and in requests
//! that are refused without a load.

use larder::observe::{Event, Fault, RefreshOutcome, Trigger};
use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::postgres::Postgres;

/// The parameter in the OpenAPI document.
async fn parameter(app: &App, path: &str) -> Value {
    let document = app.get("/openapi.json").await.json();
    document["paths"][path]["get"]["parameters"][0]["schema"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_continues_when_the_type_of_its_column_changes() {
    let db = Postgres::with("CREATE TABLE n (v int); INSERT INTO n VALUES (1)").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n"
        sql = "SELECT max(v)::text FROM n"
        shape = "value"
        max_age = "1h"
        refresh = { probe = { sql = "SELECT max(v) FROM n", every = "100ms" } }
        "#,
    )
    .await;
    let changed = |event: &Event| {
        matches!(
            event,
            Event::RefreshFinished {
                trigger: Trigger::Probe,
                outcome: RefreshOutcome::Changed,
                ..
            }
        )
    };
    for (at, (type_, value)) in [("bigint", "7"), ("text", "8"), ("numeric", "9")]
        .iter()
        .enumerate()
    {
        db.execute(&format!(
            "ALTER TABLE n ALTER COLUMN v TYPE {type_} USING v::{type_}; UPDATE n SET v = '{value}'"
        ))
        .await;
        app.wait_for(at + 1, changed).await;
        app.get("/n").await.assert_json(json!(value));
    }
    assert_eq!(app.count(|e| matches!(e, Event::ProbeFailing { .. })), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_recreated_with_another_type_accepts_its_values() {
    let db = Postgres::with(
        "CREATE TABLE n (id uuid, v int); INSERT INTO n VALUES (gen_random_uuid(), 1)",
    )
    .await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n/{id}\"\nsql = \"SELECT v FROM n WHERE id = :id\"\nshape = \"value\"\n\
         max_age = \"1h\"",
    )
    .await;
    app.get("/n/00000000-0000-4000-8000-000000000000")
        .await
        .assert_status(404);
    assert_eq!(parameter(&app, "/n/{id}").await["x-postgres-type"], "uuid");
    for (type_, value) in [
        ("bigint", "5000000000"),
        ("text", "forty-two"),
        ("integer", "42"),
        ("bigint", "6000000000"),
        ("date", "2024-02-29"),
    ] {
        db.execute(&format!(
            "ALTER TABLE n DROP COLUMN id; ALTER TABLE n ADD COLUMN id {type_} DEFAULT '{value}'"
        ))
        .await;
        // Only this request causes a query.
        let answer = app
            .poll(&format!("/n/{value}"), |answer| answer.status != 400)
            .await;
        answer.assert_status(200).assert_json(json!(1));
        let described = parameter(&app, "/n/{id}").await;
        assert!(
            described["x-postgres-type"]
                .as_str()
                .unwrap()
                .starts_with(type_),
            "{described}"
        );
    }
    assert_eq!(app.count(|e| matches!(e, Event::LoadsFailing { .. })), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_enum_accepts_its_labels() {
    let db = Postgres::with(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE n (id mood, v int); INSERT INTO n VALUES ('ok', 1)",
    )
    .await;
    let declared = "params.id = { type = \"mood\" }";
    let sql = "SELECT v FROM n WHERE id = :id";
    let app = App::start(
        &db,
        &format!(
            "[[endpoint]]\npath = \"/n/{{id}}\"\nsql = \"{sql}\"\nshape = \"value\"\nmax_age = \"50ms\"\n\
             stale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"\n\
             [[endpoint]]\npath = \"/m/{{id}}\"\nsql = \"{sql}\"\nshape = \"value\"\nmax_age = \"50ms\"\n\
             stale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"\n{declared}"
        ),
    )
    .await;
    for path in ["/n/ok", "/m/ok"] {
        app.get(path).await.assert_json(json!(1));
    }
    assert_eq!(
        parameter(&app, "/n/{id}").await["enum"],
        json!(["sad", "ok"])
    );

    db.execute("ALTER TYPE mood ADD VALUE 'glad'").await;
    db.execute("INSERT INTO n VALUES ('glad', 2)").await;
    for path in ["/n/glad", "/m/glad"] {
        app.get(path).await.assert_json(json!(2));
    }
    let has_label = |document: Value, path: &str| {
        document["paths"][path]["get"]["parameters"][0]["schema"]["enum"]
            == json!(["sad", "ok", "glad"])
    };
    for path in ["/n/{id}", "/m/{id}"] {
        app.poll("/openapi.json", |answer| has_label(answer.json(), path))
            .await;
    }

    db.execute(
        "ALTER TABLE n DROP COLUMN id; DROP TYPE mood; CREATE TYPE mood AS ENUM ('red', 'blue'); \
         ALTER TABLE n ADD COLUMN id mood DEFAULT 'blue'; DELETE FROM n WHERE v = 2",
    )
    .await;
    for path in ["/n/blue", "/m/blue"] {
        app.poll(path, |answer| answer.status != 400)
            .await
            .assert_status(200)
            .assert_json(json!(1));
    }
    let gone = app.poll("/n/ok", |answer| answer.status != 200).await;
    assert_eq!(gone.json()["code"], "LRD-109");
    assert_eq!(
        parameter(&app, "/n/{id}").await["enum"],
        json!(["red", "blue"])
    );
    assert_eq!(app.count(|e| matches!(e, Event::LoadsFailing { .. })), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_wrong_arguments_cause_few_descriptions() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE n AS SELECT 1 AS id").await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n/{id}\"\nsql = \"SELECT id FROM n WHERE id = :id\"",
    )
    .await;
    let began = tokio::time::Instant::now();
    let mut connection = crate::support::http::Connection::open(app.address()).await;
    for _ in 0..500 {
        connection.get("/n/x").await.assert_status(400);
    }
    let allowed = 2 + i64::try_from(began.elapsed().as_secs()).unwrap();
    let count = "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements WHERE query LIKE '%castsource%'";
    let described: i64 = db
        .client()
        .await
        .query_one(count, &[])
        .await
        .unwrap()
        .get(0);
    assert!(described <= allowed, "{described} of {allowed}");
    assert_eq!(app.queries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_that_no_longer_fits_is_reported_without_a_load() {
    let db = Postgres::with("CREATE TABLE n (id int, v int)").await;
    let app = App::start(
        &db,
        "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT v FROM n WHERE id = :id\"\nparams.id = { minimum = 1 }",
    )
    .await;
    db.execute("ALTER TABLE n DROP COLUMN id; ALTER TABLE n ADD COLUMN id uuid")
        .await;
    let reported = |event: &Event| matches!(event, Event::LoadsFailing { fault: Fault::Configuration, cause, .. } if cause.contains("minimum"));
    app.poll("/n?id=00000000-0000-4000-8000-000000000000", |answer| {
        answer.assert_status(400);
        app.count(reported) == 1
    })
    .await;
}
