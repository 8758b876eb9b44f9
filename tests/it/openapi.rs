//! `/openapi.json` and `/docs` are correct. `tests/openapi` compares answers with the document from outside.

use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::front::Front;
use crate::support::http::{self, Answer};
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/people/{name}"
    summary = "People of a name"
    sql = "SELECT id, born FROM people WHERE name = :name ORDER BY id LIMIT :limit"
    warm = [{ name = "Ada" }]
    max_age = "90s"
    params.name = { max_length = 20, description = "as it is written" }
    params.limit = { default = 10, minimum = 1, maximum = 50 }

    [[endpoint]]
    path = "/people/name"
    sql = "SELECT name FROM people ORDER BY id LIMIT 1"
    shape = "row"

    [[endpoint]]
    path = "/secret"
    sql = "SELECT 'of no interest to others'"
    shape = "value"
    cache_control = "private"
"#;

const PEOPLE: &str =
    "CREATE TABLE people AS SELECT 1 AS id, 'Ada' AS name, date '1815-12-10' AS born";

async fn document(app: &App) -> Value {
    let answer = app.get("/openapi.json").await;
    answer.assert_status(200);
    answer.json()
}

fn get<'d>(document: &'d Value, path: &str) -> &'d Value {
    &document["paths"][path]["get"]
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_answers_are_described() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(&db, ENDPOINTS).await;
    let document = document(&app).await;
    let people = get(&document, "/people/{name}");
    assert_eq!(people["operationId"], "get_people_name");
    assert_eq!(people["summary"], "People of a name");
    assert_eq!(people["description"], "An answer is fresh for 90 seconds.");
    let name = json!({
        "name": "name", "in": "path", "required": true, "description": "as it is written", "example": "Ada",
        "schema": {
            "type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[^\\u0000]*$",
            "x-postgres-type": "text",
        },
    });
    let limit = json!({
        "name": "limit", "in": "query", "required": false, "example": 10,
        "schema": {
            "type": "integer", "format": "int64", "minimum": 1, "maximum": 50, "default": 10,
            "x-postgres-type": "bigint",
        },
    });
    assert_eq!(people["parameters"], json!([name, limit]));
    let answer = &people["responses"]["200"]["content"]["application/json"];
    assert_eq!(
        answer["example"],
        json!([{ "id": 1, "born": "1815-12-10" }])
    );
    let row = &answer["schema"]["items"];
    assert_eq!(row["required"], json!(["id", "born"]));
    assert_eq!(row["properties"]["id"]["type"], json!(["integer", "null"]));
    assert_eq!(row["properties"]["born"]["x-postgres-type"], "date");

    let other = get(&document, "/people/name");
    assert_eq!(other["operationId"], "get_people_name_2");
    let formats = other["responses"]["200"]["content"].as_object().unwrap();
    let formats: Vec<&str> = formats.keys().map(String::as_str).collect();
    assert_eq!(
        formats,
        ["application/json", "application/x-ndjson", "text/csv"]
    );
    let prose = other["description"].as_str().unwrap();
    assert!(prose.contains("`/people/name.csv`"), "{prose}");
    let secret = &get(&document, "/secret")["responses"]["200"]["content"]["application/json"];
    assert!(
        secret["example"].is_null(),
        "a private answer must not be an example"
    );
}

/// The codes that the document lists for a status of an endpoint.
fn codes(document: &Value, path: &str, status: u16) -> String {
    let reference = &get(document, path)["responses"][status.to_string()]["$ref"];
    let expected = format!("#/components/responses/{status}");
    assert_eq!(reference, &json!(expected), "{path}");
    let response = &document["components"]["responses"][status.to_string()];
    response["description"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_is_in_the_document() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(&db, ENDPOINTS).await;
    let document = document(&app).await;
    db.execute("DELETE FROM people").await;
    let csv_alone: &[(&str, &str)] = &[("Accept", "image/png")];
    let long = format!("/people/name?{}", "x".repeat(9_000));
    for (path, target, headers) in [
        ("/people/{name}", "/people/Ada?limit=0", &[][..]),
        ("/people/{name}", "/people/Ada?limit=1&limit=2", &[]),
        ("/people/{name}", "/people/Ada?limt=1", &[]),
        ("/people/{name}", "/people/%FF", &[]),
        ("/people/name", "/people/name", csv_alone),
        ("/people/name", &long, &[]),
        ("/people/name", "/people/name", &[("Content-Length", "1")]),
    ] {
        let refused = http::request(app.address(), "GET", target, headers).await;
        let problem = refused.json();
        let status = problem["status"].as_u64().unwrap();
        let listed = codes(&document, path, u16::try_from(status).unwrap());
        let code = problem["code"].as_str().unwrap();
        assert!(listed.contains(code), "{target}: {code} is not in {listed}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    codes(&document, "/people/name", 404);
    let of_rows = &get(&document, "/people/{name}")["responses"]["404"];
    assert!(of_rows.is_null(), "an endpoint of rows has no 404");
}

async fn revalidate(app: &App, target: &str, first: &Answer) -> Answer {
    let etag = first.header("etag").unwrap();
    http::request(app.address(), "GET", target, &[("If-None-Match", etag)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_the_page_can_be_revalidated() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(&db, ENDPOINTS).await;
    for (target, content_type) in [
        ("/openapi.json", "application/json"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/docs.css", "text/css; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
    ] {
        let first = app.get(target).await;
        first
            .assert_status(200)
            .assert_header("content-type", content_type)
            .assert_header("cache-control", "no-cache")
            .assert_header("x-content-type-options", "nosniff");
        let same = revalidate(&app, target, &first).await;
        same.assert_status(304);
        assert_eq!(same.header("etag"), first.header("etag"));
        let head = http::request(app.address(), "HEAD", target, &[]).await;
        head.assert_status(200);
        assert_eq!(
            head.header("content-length"),
            first.header("content-length")
        );
        let posted = http::request(app.address(), "POST", target, &[]).await;
        posted.assert_status(405);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_column_type_changes_the_document() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(&db, ENDPOINTS).await;
    let first = app.get("/openapi.json").await;
    db.execute("ALTER TABLE people ALTER COLUMN id TYPE text")
        .await;
    let same_answer = |answer: &Answer| answer.text().contains(r#""id":"1""#);
    app.poll("/people/Ada?limit=2", same_answer).await;
    revalidate(&app, "/openapi.json", &first)
        .await
        .assert_status(200);
    let document = document(&app).await;
    let answer = &get(&document, "/people/{name}")["responses"]["200"]["content"];
    let id = &answer["application/json"]["schema"]["items"]["properties"]["id"];
    assert_eq!(id["x-postgres-type"], "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_there_is_no_document() {
    let app = App::launch("postgres://nobody@127.0.0.1:1/none", "", ENDPOINTS).await;
    let answer = app.get("/openapi.json").await;
    answer.assert_status(503);
    assert_eq!(answer.json()["code"], "LRD-403");
    assert!(answer.header("retry-after").is_some());
    app.get("/docs").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_keep_their_digits() {
    let db = Postgres::with("").await;
    let row = r#"[{"f":1e+100,"n":12345678901234567890.1234567890,"z":-0,"j":{"b": 1.10, "a": 1e2, "b": -0}}]"#;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/rows"
        sql = """SELECT 1e100::float8 AS f, 12345678901234567890.1234567890 AS n, '-0'::float8 AS z,
                 '{"b": 1.10, "a": 1e2, "b": -0}'::json AS j"""
        [[endpoint]]
        path = "/columns"
        sql = "SELECT n::numeric / 3 AS third, n::float8 * 1e300 AS f FROM generate_series(1, 3) AS n"
        shape = "columns"
        [[endpoint]]
        path = "/of/{n}"
        sql = "SELECT :n::numeric AS n"
        shape = "value"
        warm = [{ n = "12345678901234567890.10" }]
        params.n = { minimum = "0.00000000000000000001", maximum = "99999999999999999999.5" }
        "#,
    )
    .await;
    app.get("/rows").await.assert_status(200);
    let document = app.get("/openapi.json").await;
    let document = document.text();
    let expected = app.get("/rows").await;
    assert_eq!(expected.text(), row);
    let columns = app.get("/columns").await;
    for example in [
        format!("\"example\":{}", expected.text()),
        // Two of three rows.
        r#""example":{"third":[0.33333333333333333333,0.66666666666666666667],"f":[1e+300,2e+300]}"#.to_owned(),
        r#""example":12345678901234567890.1"#.to_owned(),
        r#""minimum":0.00000000000000000001"#.to_owned(),
        r#""maximum":99999999999999999999.5"#.to_owned(),
    ] {
        assert!(document.contains(&example), "{example} is not in {document}\n{}", columns.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_correct_behind_a_prefix() {
    let db = Postgres::with(PEOPLE).await;
    let app = App::start(&db, ENDPOINTS).await;
    let document = document(&app).await;
    assert_eq!(document["servers"], json!([{ "url": "./" }]));
    // The document and the pages are the same behind a prefix, since nothing in them begins with a slash.
    let front = Front::under_api(app.address()).await;
    let proxied = http::get(front.address, "/api/openapi.json").await;
    assert_eq!(proxied.json(), document);
    // What `./` means relative to /api/openapi.json.
    let server = "/api";
    for path in ["/people/Ada", "/people/name"] {
        http::get(front.address, &format!("{server}{path}"))
            .await
            .assert_status(200);
    }
    for page in ["docs", "status"] {
        let text = http::get(front.address, &format!("{server}/{page}")).await;
        let links = text.text().split(['"', '\'']).filter(|text| {
            text.starts_with(&format!("{page}/")) || text.ends_with(".json") || *text == "metrics"
        });
        let links: Vec<&str> = links.collect();
        assert!(links.len() >= 3, "{page}: {links:?}");
        for link in links {
            http::get(front.address, &format!("{server}/{link}"))
                .await
                .assert_status(200);
        }
        for absolute in ["href=\"/", "src=\"/", "fetch(\"/"] {
            assert!(!text.text().contains(absolute), "{page}: {absolute}");
        }
    }
}
