//! Every representation of an answer: formats, codings, conditional requests.

mod default_accept;

use std::collections::HashSet;
use std::io::Read;
use std::time::{Duration, SystemTime};

use larder::observe::{Event, Trigger};
use serde_json::json;

use crate::support::app::App;
use crate::support::http::{self, Answer, Connection};
use crate::support::postgres::Postgres;

use default_accept::SENT_BY_DEFAULT;

const VARY: &str = "Accept, Accept-Encoding";

/// A resident endpoint whose answer is worth compressing, one with a tiny answer, and one with keys.
async fn app(db: &Postgres) -> App {
    App::start(
        db,
        r#"
        [defaults]
        max_age = "1h"
        [[endpoint]]
        path = "/large"
        sql = "SELECT n, 'line ' || n AS text FROM generate_series(1, 2000) AS n"
        [[endpoint]]
        path = "/small"
        sql = "SELECT 1 AS id, 'Ada, \"Countess\"' AS name UNION ALL SELECT 2, NULL"
        [[endpoint]]
        path = "/keyed/{n}"
        sql = "SELECT :n::int AS n, repeat('x', 5000) AS filler"
        [[endpoint]]
        path = "/nobody/{n}"
        sql = "SELECT 1 AS one WHERE :n::int = 0"
        shape = "row"
        "#,
    )
    .await
}

async fn ask(app: &App, target: &str, headers: &[(&str, &str)]) -> Answer {
    http::request(app.address(), "GET", target, headers).await
}

fn decoded(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    match answer.header("content-encoding") {
        None => bytes.clone_from(&answer.body),
        Some("gzip") => {
            let mut decoder = flate2::read::GzDecoder::new(&*answer.body);
            decoder.read_to_end(&mut bytes).unwrap();
        }
        Some("br") => brotli::BrotliDecompress(&mut &*answer.body, &mut bytes).unwrap(),
        Some("zstd") => bytes = zstd::stream::decode_all(&*answer.body).unwrap(),
        Some(other) => panic!("{other} was not requested"),
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_and_the_suffix_of_the_path_choose_the_format() {
    let db = Postgres::with("").await;
    let app = app(&db).await;
    let csv = "id,name\r\n1,\"Ada, \"\"Countess\"\"\"\r\n2,\r\n";
    let lines = "{\"id\":1,\"name\":\"Ada, \\\"Countess\\\"\"}\n{\"id\":2,\"name\":null}\n";
    let cases: [(&str, &str, &str, &str); 7] = [
        (
            "/small",
            "text/csv",
            "text/csv; charset=utf-8; header=present",
            csv,
        ),
        (
            "/small.csv",
            "",
            "text/csv; charset=utf-8; header=present",
            csv,
        ),
        (
            "/small.csv",
            "application/json",
            "text/csv; charset=utf-8; header=present",
            csv,
        ),
        (
            "/small",
            "application/x-ndjson",
            "application/x-ndjson",
            lines,
        ),
        ("/small.ndjson", "*/*", "application/x-ndjson", lines),
        (
            "/small",
            "application/json;q=0.5, text/csv;q=0.4",
            "application/json",
            "",
        ),
        ("/small", "*/*", "application/json", ""),
    ];
    for (target, accept, content_type, body) in cases {
        let answer = ask(&app, target, &[("Accept", accept)]).await;
        answer
            .assert_status(200)
            .assert_header("content-type", content_type)
            .assert_header("vary", VARY)
            .assert_cache("hit");
        if body.is_empty() {
            answer.assert_json(json!([{"id":1,"name":"Ada, \"Countess\""},{"id":2,"name":null}]));
        } else {
            assert_eq!(answer.text(), body, "{target} as {accept}");
        }
    }
    let refused = ask(&app, "/small", &[("Accept", "text/html")]).await;
    refused.assert_status(406).assert_header("vary", VARY);
    assert_eq!(refused.json()["code"], "LRD-111");
    // Nothing is acceptable, and the response is not coded: RFC 9110, 12.5.3.
    let uncoded = ask(&app, "/small", &[("Accept-Encoding", "identity;q=0")]).await;
    uncoded.assert_status(200);
    assert_eq!(uncoded.header("content-encoding"), None);
    // A path that ends with a parameter has no suffix.
    let key = ask(&app, "/keyed/1.csv", &[]).await;
    key.assert_status(400);
    ask(&app, "/small.json", &[]).await.assert_status(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn default_headers_of_known_clients_get_an_answer() {
    let db = Postgres::with("").await;
    let app = app(&db).await;
    for (accept, format) in SENT_BY_DEFAULT {
        let answer = ask(&app, "/small", &[("Accept", accept)]).await;
        let content_type = answer.assert_status(200).header("content-type").unwrap();
        let kind = content_type.split(';').next().unwrap();
        let expected = match format {
            "csv" => "text/csv",
            "ndjson" => "application/x-ndjson",
            _ => "application/json",
        };
        assert_eq!(kind, expected, "{accept}");
    }
    for refused in ["text/html", "text/html;q=0.5, image/*", "*/*;q=0", "*;q=0"] {
        ask(&app, "/small", &[("Accept", refused)])
            .await
            .assert_status(406);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_encoding_chooses_the_coding() {
    let db = Postgres::with("").await;
    let app = app(&db).await;
    let plain = ask(&app, "/large", &[]).await;
    assert_eq!(plain.header("content-encoding"), None);
    for (accept, coding) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, *;q=0.1", "gzip"),
        ("identity;q=0, br", "br"),
    ] {
        let answer = ask(&app, "/large", &[("Accept-Encoding", accept)]).await;
        answer
            .assert_header("content-encoding", coding)
            .assert_header("vary", VARY);
        assert!(
            answer.body.len() < plain.body.len() / 3,
            "{coding}: {}",
            answer.body.len()
        );
        assert!(
            decoded(&answer) == plain.body,
            "{coding} decodes to something else"
        );
        let head = http::request(
            app.address(),
            "HEAD",
            "/large",
            &[("Accept-Encoding", accept)],
        )
        .await;
        assert_eq!(
            head.header("content-length"),
            answer.header("content-length")
        );
        assert_eq!(head.header("etag"), answer.header("etag"));
    }
    let small = ask(&app, "/small", &[("Accept-Encoding", "gzip, br")]).await;
    assert_eq!(
        small.header("content-encoding"),
        None,
        "small answers are not compressed"
    );
    let coded = ask(&app, "/small", &[("Accept-Encoding", "identity;q=0, gzip")]).await;
    assert_eq!(
        decoded(&coded),
        small.body,
        "unless the client refuses identity"
    );
    let csv = ask(&app, "/large.csv", &[("Accept-Encoding", "zstd")]).await;
    assert!(decoded(&csv).starts_with(b"n,text\r\n1,line 1\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_representation_has_its_own_tag_and_a_tag_of_any_coding_matches() {
    let db = Postgres::with("").await;
    let app = app(&db).await;
    let mut tags = HashSet::new();
    for target in ["/large", "/large.csv", "/large.ndjson"] {
        let mut tags_of_format = Vec::new();
        for coding in ["identity", "gzip", "br", "zstd"] {
            let answer = ask(&app, target, &[("Accept-Encoding", coding)]).await;
            tags_of_format.push(answer.header("etag").unwrap().to_owned());
        }
        for tag in &tags_of_format {
            assert!(tags.insert(tag.clone()), "{tag} is there twice");
            let fields = [("Accept-Encoding", "br"), ("If-None-Match", tag.as_str())];
            let known = ask(&app, target, &fields).await;
            known
                .assert_status(304)
                .assert_header("etag", tag)
                .assert_header("vary", VARY);
            assert_eq!(known.header("content-encoding"), None);
        }
        let all = [("Accept-Encoding", "br"), ("If-None-Match", "*")];
        let own = ask(&app, target, &all).await;
        own.assert_status(304)
            .assert_header("etag", &tags_of_format[2]);
    }
    let json_tag = ask(&app, "/large", &[])
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let other = ask(&app, "/large.csv", &[("If-None-Match", &json_tag)]).await;
    other.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_modified_since_counts_without_if_none_match() {
    let db = Postgres::with("").await;
    let app = app(&db).await;
    let ask_since = |date: String| {
        let app = &app;
        async move {
            ask(app, "/small", &[("If-Modified-Since", &date)])
                .await
                .status
        }
    };
    // Within a second of the load, the date cannot tell it from the answer before.
    let mut connection = Connection::open(app.address()).await;
    let last_modified = loop {
        let answer = connection.get("/small").await;
        let date = |name| answer.header(name).unwrap().to_owned();
        let parsed = |name| httpdate::parse_http_date(&date(name)).unwrap();
        assert!(parsed("last-modified") <= parsed("date"));
        if ask_since(date("last-modified")).await == 304 {
            break date("last-modified");
        }
    };
    let now = httpdate::fmt_http_date(SystemTime::now());
    assert_eq!(ask_since(now).await, 304);
    let earlier = SystemTime::now() - Duration::from_secs(3600);
    assert_eq!(ask_since(httpdate::fmt_http_date(earlier)).await, 200);
    let to_come = SystemTime::now() + Duration::from_secs(3600);
    assert_eq!(ask_since(httpdate::fmt_http_date(to_come)).await, 200);
    assert_eq!(ask_since("yesterday".to_owned()).await, 200);
    // RFC 9110, 5.6.7: obsolete formats are accepted too. Old browsers send the last one.
    let written = |format: &str| {
        let last_modified = chrono::DateTime::parse_from_rfc2822(&last_modified).unwrap();
        last_modified.format(format).to_string()
    };
    for format in [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
        "%a, %d %b %Y %H:%M:%S GMT; length=53",
    ] {
        assert_eq!(ask_since(written(format)).await, 304, "{format}");
    }
    let both = [
        ("If-Modified-Since", last_modified.as_str()),
        ("If-None-Match", "\"x\""),
    ];
    ask(&app, "/small", &both).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_vary() {
    let db = Postgres::with("").await;
    let app = app(&db).await;
    for (target, status) in [
        ("/small", 200),
        ("/nobody/1", 404),
        ("/keyed/x", 400),
        ("/small?x=1", 400),
    ] {
        ask(&app, target, &[])
            .await
            .assert_status(status)
            .assert_header("vary", VARY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_makes_every_representation_in_use_and_all_agree() {
    let db = Postgres::with("CREATE TABLE n AS SELECT 1 AS v").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n"
        sql = "SELECT v, repeat('x', 5000) AS filler FROM n"
        max_age = "1h"
        refresh = { notify = "n" }
        "#,
    )
    .await;
    let queries = |e: &Event| matches!(e, Event::QueryFinished { .. });
    let refreshed = |e: &Event| {
        matches!(
            e,
            Event::RefreshFinished {
                trigger: Trigger::Notify,
                ..
            }
        )
    };
    // A refresh for changes that may have been missed before Larder listened.
    app.wait_for(1, refreshed).await;
    for version in 2..5 {
        let before = app.count(queries);
        let gzip = [("Accept-Encoding", "gzip")];
        let csv = ask(&app, "/n.csv", &gzip).await;
        let json = ask(&app, "/n", &gzip).await;
        let v = (version - 1).to_string();
        assert!(decoded(&csv).starts_with(format!("v,filler\r\n{v},xx").as_bytes()));
        assert!(decoded(&json).starts_with(format!("[{{\"v\":{v},").as_bytes()));
        assert_eq!(
            app.count(queries),
            before,
            "no representation costs a query"
        );
        let told = app.count(refreshed);
        db.execute(&format!("UPDATE n SET v = {version}; NOTIFY n"))
            .await;
        app.wait_for(told + 1, refreshed).await;
        app.poll("/n", |answer| answer.json()[0]["v"] == json!(version))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_representation_of_a_key_is_counted() {
    let db = Postgres::with("").await;
    let app = app(&db).await;
    let bytes = |metrics: &Answer| {
        let line = metrics
            .text()
            .lines()
            .find(|line| line.starts_with("larder_cache_bytes "));
        line.unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    app.get("/keyed/1").await.assert_status(200);
    let before = bytes(&app.get("/metrics").await);
    let made = ask(&app, "/keyed/1", &[("Accept", "text/csv")])
        .await
        .body
        .len();
    // One text serves all requests within a second.
    let is_counted = |metrics: &Answer| bytes(metrics) >= before + made as f64;
    app.poll("/metrics", is_counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_decides_who_may_store_its_answers() {
    let db = Postgres::with("").await;
    let app = App::start(
        &db,
        r#"
        [defaults]
        max_age = "1h"
        stale_while_revalidate = "0s"
        stale_if_error = "0s"
        cache_control = "private"
        [[endpoint]]
        path = "/private"
        sql = "SELECT 1"
        [[endpoint]]
        path = "/cdn"
        sql = "SELECT 1"
        cache_control = "no-store"
        cdn_cache_control = "public"
        "#,
    )
    .await;
    let says = |answer: &Answer, name: &str, start: &str| {
        let value = answer.header(name).unwrap_or("nothing");
        assert!(value.starts_with(start), "{name}: {value}");
    };
    let private = app.get("/private").await;
    says(&private, "cache-control", "private, max-age=359");
    assert_eq!(private.header("cdn-cache-control"), None);
    let cdn = app.get("/cdn").await;
    cdn.assert_header("cache-control", "no-store");
    says(&cdn, "cdn-cache-control", "public, max-age=359");
}
