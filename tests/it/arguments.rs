//! Hostile and invalid arguments cause a problem that explains them, and no query.

use std::collections::HashMap;

use larder::plan::ParameterType;
use serde_json::json;

use crate::support::app::App;
use crate::support::http;
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/people/{name}"
    sql = "SELECT id FROM people WHERE name = :name AND (:min::int IS NULL OR id >= :min) ORDER BY id LIMIT :limit"
    shape = "columns"
    max_age = "1h"
    params.min = { optional = true, minimum = 0, maximum = 100 }
    params.limit = { default = 10, minimum = 1, maximum = 50 }

    [[endpoint]]
    path = "/typed/{kind}"
    sql = "SELECT :kind AS kind, :day::date AS day, :id::uuid AS id, :flag::bool AS flag, :amount::numeric AS amount, :host::inet AS host"
    shape = "row"
    params.kind = { type = "text", values = ["a", "b"] }
    params.day = { optional = true }
    params.id = { optional = true }
    params.flag = { optional = true }
    params.amount = { optional = true }
    params.host = { optional = true }
"#;

async fn people() -> (Postgres, App) {
    let db = Postgres::with(
        "CREATE TABLE people (id int, name text); INSERT INTO people \
         VALUES (1, 'Ada'), (2, 'Ada'), (3, ''' OR 1=1 --'), (4, 'Zoë 🦀 +&/')",
    )
    .await;
    let app = App::start(&db, ENDPOINTS).await;
    (db, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_always_values() {
    let (_db, app) = people().await;
    app.get("/people/Ada")
        .await
        .assert_json(json!({ "id": [1, 2] }));
    app.get("/people/Ada?min=2")
        .await
        .assert_json(json!({ "id": [2] }));
    app.get("/people/Ada?limit=1")
        .await
        .assert_json(json!({ "id": [1] }));
    app.get("/people/'%20OR%201=1%20--")
        .await
        .assert_json(json!({ "id": [3] }));
    app.get("/people/Zo%C3%AB%20%F0%9F%A6%80%20+%26%2F")
        .await
        .assert_json(json!({ "id": [4] }));
    app.get("/people/nobody")
        .await
        .assert_json(json!({ "id": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_spellings_of_a_value_are_one_key() {
    let (_db, app) = people().await;
    app.get("/people/Ada?min=2&limit=10")
        .await
        .assert_cache("miss");
    for target in [
        "/people/%41da?limit=010&min=%2B2",
        "/people/Ada?min=02",
        "/people/Ada?&min=2&",
    ] {
        app.get(target).await.assert_status(200).assert_cache("hit");
    }
    assert_eq!(app.queries(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_problems_and_cause_no_query() {
    let (_db, app) = people().await;
    let long = "x".repeat(1_001);
    for (target, code, mentioned) in [
        ("/people/Ada?min='%20OR%201=1%20--", "LRD-103", "min"),
        ("/people/Ada?min=1.5", "LRD-103", "min"),
        ("/people/Ada?min=", "LRD-103", "min"),
        ("/people/Ada?min=-1", "LRD-103", "min"),
        ("/people/Ada?min=101", "LRD-103", "100"),
        ("/people/Ada?min=99999999999999999999", "LRD-103", "min"),
        ("/people/Ada?limit=0", "LRD-103", "limit"),
        ("/people/Ada?limit=51", "LRD-103", "50"),
        ("/people/Ada?limit=x", "LRD-103", "from 1 to 50"),
        ("/people/Ada?min=1&min=1", "LRD-106", "min"),
        ("/people/Ada?size=1", "LRD-105", "limit"),
        ("/people/Ada?name=Bob", "LRD-105", "name"),
        ("/people/%", "LRD-107", "%"),
        ("/people/%zz", "LRD-107", "%"),
        ("/people/Ada?min=%2", "LRD-107", "%"),
        ("/people/%ff", "LRD-107", "UTF-8"),
        ("/people/%C3%28", "LRD-107", "UTF-8"),
        ("/people/%00", "LRD-103", "name"),
        ("/people/A%00da", "LRD-103", "name"),
        (&format!("/people/{long}"), "LRD-103", "1000"),
        ("/typed/c", "LRD-103", "kind"),
        ("/typed/a?day=2024-02-30", "LRD-103", "day"),
        ("/typed/a?day=yesterday", "LRD-103", "day"),
        ("/typed/a?id=123", "LRD-103", "id"),
        ("/typed/a?flag=perhaps", "LRD-103", "flag"),
        ("/typed/a?amount=1e999999", "LRD-103", "amount"),
        ("/typed/a?amount=ten", "LRD-103", "amount"),
    ] {
        let answer = app.get(target).await;
        answer
            .assert_status(400)
            .assert_header("content-type", "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{target}: {problem}");
        let detail = problem["detail"].as_str().unwrap().replace(',', "");
        assert!(detail.contains(mentioned), "{target}: {detail}");
        assert!(
            answer.body.len() < 1_000,
            "a problem repeats little of what was sent: {target}"
        );
    }
    assert_eq!(app.queries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_only_postgres_can_parse_are_rejected_by_it() {
    let (_db, app) = people().await;
    app.get("/typed/a?host=::1&day=2024-02-29")
        .await
        .assert_status(200);
    let refused = app.get("/typed/a?host=nowhere").await;
    refused.assert_status(400);
    assert_eq!(refused.json()["code"], "LRD-109");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_postgres_cannot_read_is_a_400() {
    let cases = [
        ("jsonb", r#"{"a":"%5Cu0000"}"#),
        ("jsonb", r#"{"a":1e1000000}"#),
        ("int4range", "[5,1]"),
        ("integer[]", "[2:1]={1}"),
        ("xml", "<a"),
        ("tsquery", "("),
        ("money", "99999999999999999999"),
    ];
    let endpoint = |(at, (name, _)): (usize, &(&str, &str))| {
        format!(
            "[[endpoint]]\npath = \"/{at}\"\nsql = \"SELECT :x::{name}::text AS x\"\nparams.x.optional = true\n"
        )
    };
    let endpoints: String = cases.iter().enumerate().map(endpoint).collect();
    let db = Postgres::with("").await;
    let app = App::start(&db, &endpoints).await;
    for (at, (name, text)) in cases.iter().enumerate() {
        let text = text.replace('"', "%22").replace('<', "%3C");
        let answer = app.get(&format!("/{at}?x={text}")).await;
        let problem = answer.json();
        assert_eq!(problem["code"], "LRD-109", "{name}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_of_a_megabyte_is_rejected() {
    let (_db, app) = people().await;
    for length in [10_000, 60_000, 1_000_000] {
        let target = format!("/people/{}", "x".repeat(length));
        let answer = http::get(app.address(), &target).await;
        assert!(
            (400..500).contains(&answer.status),
            "{length}: {}",
            answer.status
        );
    }
    assert_eq!(app.queries(), 0);
    app.get("/people/Ada").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_busters_pass_if_allowed_and_are_not_part_of_the_key() {
    let db = Postgres::with("").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/n/{n}"
        sql = "SELECT :n::int AS n"
        shape = "value"
        unknown_params = "ignore"
        "#,
    )
    .await;
    app.get("/n/1?_=1700000000").await.assert_cache("miss");
    app.get("/n/1?_=1700000001&x=y")
        .await
        .assert_json(json!(1))
        .assert_cache("hit");
    assert_eq!(app.queries(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_too_long_is_not_found_in_any_encoding() {
    let db = Postgres::with("").await;
    let endpoints = r#"
        [[endpoint]]
        path = "/crab/{name}"
        sql = "SELECT :name::text"
        shape = "value"
        params.name = { max_length = 4 }
    "#;
    let app = App::start(&db, endpoints).await;
    // The longest path possible: the most characters, each of the most bytes.
    let crabs = format!("/%63%72%61%62/{}", "%F0%9F%A6%80".repeat(4));
    app.get(&crabs).await.assert_json(json!("🦀🦀🦀🦀"));
    let five = app.get(&format!("/crab/{}", "a".repeat(5))).await;
    five.assert_status(400);
    assert_eq!(five.json()["code"], "LRD-103");
    for path in [
        format!("/{}", "%41".repeat(2_600)),
        format!("/crab/{}", "%41".repeat(2_600)),
        format!("/crab/{}", "a".repeat(7_800)),
        "/%2F".repeat(1_900),
    ] {
        let answer = app.get(&path).await;
        answer.assert_status(404);
        assert_eq!(answer.json()["code"], "LRD-101");
    }
    // Reserved paths may be percent-encoded too.
    app.get("/%68ealthz").await.assert_status(200);
    let lavish: String = "healthz"
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    app.get(&format!("/{lavish}")).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_is_counted_under_its_code() {
    let (_db, app) = people().await;
    app.get("/people/Ada?min=x").await.assert_status(400);
    app.get("/people/Ada?min=x").await.assert_status(400);
    app.get("/people/Ada").await.assert_status(200);
    app.get("/nowhere").await.assert_status(404);
    let post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    http::raw(app.address(), post.as_bytes()).await;
    let bare = "GET /people/Ada HTTP/1.1\r\nConnection: close\r\n\r\n";
    http::raw(app.address(), bare.as_bytes()).await;
    let exported = app.get("/metrics").await;
    let mut found: Vec<&str> = exported.text().lines().collect();
    found.retain(|line| line.starts_with("larder_problems_total"));
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "larder_problems_total{endpoint=\"\",problem=\"LRD-101\"} 1",
            "larder_problems_total{endpoint=\"\",problem=\"LRD-102\"} 1",
            "larder_problems_total{endpoint=\"\",problem=\"LRD-114\"} 1",
            "larder_problems_total{endpoint=\"/people/{name}\",problem=\"LRD-103\"} 2",
        ]
    );
}

/// ISO 8601 as programs write it, in pieces: a date, a separator, a time, a fraction, an offset, an era.
const DATES: [&str; 7] = [
    "2024-02-29",
    "2023-02-29",
    "0001-01-01",
    "9999-12-31",
    "10000-01-01",
    "4714-11-24",
    "0044-03-15",
];
const TIMES: [&str; 7] = [
    "", "10:20", "10:20:30", "23:59:59", "23:59:60", "24:00:00", "24:00:01",
];
const DECIMALS: [&str; 6] = ["", ".5", ".000", ".123456789", ".0000005", ".9999999"];
const OFFSETS: [&str; 11] = [
    "",
    "Z",
    "z",
    "+00",
    "+05:30",
    "-0330",
    "+00:53:28",
    "-15:59:59",
    "+16:00",
    " UTC",
    " +01",
];

fn iso_8601() -> Vec<String> {
    let mut texts = vec!["infinity".to_owned(), "-Infinity".to_owned()];
    for date in DATES {
        for (separator, era) in [("T", ""), (" ", ""), ("T", " BC"), (" ", " AD")] {
            texts.push(format!("{date}{era}"));
            for time in &TIMES[1..] {
                let has_seconds = time.len() == 8;
                for decimals in DECIMALS
                    .iter()
                    .filter(|text| has_seconds || text.is_empty())
                {
                    let moment = format!("{date}{separator}{time}{decimals}");
                    texts.extend(OFFSETS.map(|offset| format!("{moment}{offset}{era}")));
                }
            }
        }
    }
    // Postgres takes `10:20.5` for minutes and seconds, which is rarely meant.
    for time in TIMES.iter().filter(|time| time.len() == 8) {
        for decimals in DECIMALS {
            texts.extend(OFFSETS.map(|offset| format!("{time}{decimals}{offset}")));
        }
    }
    texts
}

/// Each text as Postgres parses and prints it, or NULL if it rejects it.
const READ: &str = "
    CREATE FUNCTION pg_temp.read(text, type regtype) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE read text;
    BEGIN
        EXECUTE format('SELECT %L::%s::text', $1, $2) INTO read;
        RETURN read;
    EXCEPTION WHEN data_exception THEN RETURN NULL;
    END $$;
    SET TimeZone = 'UTC'";

#[tokio::test]
async fn dates_and_times_are_parsed_as_by_postgres() {
    let db = Postgres::with("").await;
    let client = db.client().await;
    client.batch_execute(READ).await.unwrap();
    let texts = iso_8601();
    for (kind, name) in [
        (ParameterType::Date, "date"),
        (ParameterType::Time, "time"),
        (ParameterType::Timestamp, "timestamp"),
        (ParameterType::TimestampTz, "timestamptz"),
    ] {
        let canonical: Vec<Option<String>> = texts
            .iter()
            .map(|text| kind.canonical(text).map(String::from))
            .collect();
        let rows = client
            .query(
                &format!(
                    "SELECT given, canonical, pg_temp.read(given, '{name}'), pg_temp.read(canonical, '{name}') \
                     FROM unnest($1::text[], $2::text[]) AS _(given, canonical)"
                ),
                &[&texts, &canonical],
            )
            .await
            .unwrap();
        let (mut keys, mut others) = (HashMap::new(), Vec::new());
        for row in rows {
            let [given, canonical, read, reread] =
                [0, 1, 2, 3].map(|at| row.get::<_, Option<String>>(at));
            let given = given.unwrap();
            if canonical.is_some() != read.is_some() || reread != read {
                others.push(format!(
                    "{given}: {canonical:?}, {reread:?} instead of {read:?}"
                ));
            } else if let Some(read) = read {
                // One value is one key.
                let key = keys.entry(read).or_insert_with(|| canonical.clone());
                assert_eq!(*key, canonical, "{given} as {name}");
            }
        }
        assert!(others.is_empty(), "as {name}: {others:#?}");
        assert!(keys.len() > 5, "{name}: {}", keys.len());
    }
    // Values that depend on the clock are rejected.
    for text in ["now", "today", "tomorrow", "yesterday", "allballs"] {
        for kind in [
            ParameterType::Date,
            ParameterType::Time,
            ParameterType::TimestampTz,
        ] {
            assert_eq!(kind.canonical(text), None, "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_in_the_formats_of_many_programs_is_one_key() {
    let db = Postgres::with("").await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/at"
        sql = "SELECT :d::date AS d, :t::timestamp AS t, :z::timestamptz AS z"
        shape = "row"
        max_age = "1h"
        params = { d = {}, t = {}, z = {} }
        "#,
    )
    .await;
    let mut cache = "miss";
    for (d, t, z) in [
        // JavaScript and Grafana, Python, .NET, Go, Java, Postgres
        (
            "2024-02-29T10:20:30.000Z",
            "2024-02-29T10:20:30.000Z",
            "2024-02-29T10:20:30.000Z",
        ),
        (
            "2024-02-29",
            "2024-02-29T10:20:30",
            "2024-02-29T10:20:30%2B00:00",
        ),
        (
            "2024-02-29T00:00:00.0000000Z",
            "2024-02-29T10:20:30.0000000",
            "2024-02-29T10:20:30.0000000Z",
        ),
        (
            "2024-02-29T10:20:30Z",
            "2024-02-29T10:20:30.000000001Z",
            "2024-02-29T11:20:30.0000001%2B01:00",
        ),
        (
            "2024-02-29T10:20Z",
            "2024-02-29T10:20:30Z",
            "2024-02-29T10:20:30Z",
        ),
        (
            "2024-02-29",
            "2024-02-29%2010:20:30",
            "2024-02-29%2010:20:30%2B00",
        ),
    ] {
        let answer = app.get(&format!("/at?d={d}&t={t}&z={z}")).await;
        answer
            .assert_json(json!({
                "d": "2024-02-29", "t": "2024-02-29T10:20:30", "z": "2024-02-29T10:20:30+00:00",
            }))
            .assert_cache(cache);
        cache = "hit";
    }
}
