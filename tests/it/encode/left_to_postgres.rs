//! Types that Larder does not encode. Postgres does, by `to_json` around the column, and the JSON must pass
//! through unchanged.

use larder::repository::ValueType;
use tokio_postgres::Client;

use super::generate::{Generator, Random, hex, int4, oid};
use super::{VALUES, compare, connect, native};
use crate::support::app::App;
use crate::support::postgres::Postgres;

#[tokio::test]
async fn types_left_to_postgres_pass_through_unchanged() {
    let client = connect().await;
    client
        .batch_execute(
            "CREATE TYPE pg_temp.item AS (id int, \"na\"\"me\" text, prices numeric[], at timestamptz)",
        )
        .await
        .unwrap();
    for (sql_type, chosen, generator) in LEFT_TO_POSTGRES {
        check_wrapped(&client, sql_type, chosen, *generator).await;
    }
}

/// Checks a type that is left to Postgres, alone and in an array: the column is wrapped in `to_json` and
/// arrives as JSON.
async fn check_wrapped(client: &Client, sql_type: &str, chosen: &[&str], generator: Generator) {
    let mut random = Random::seeded_by(sql_type);
    let mut values: Vec<Option<String>> = vec![None];
    values.extend(chosen.iter().map(|text| Some((*text).to_owned())));
    values.extend((0..VALUES).map(|_| Some(generator(&mut random))));
    for expression in [
        format!("v::{sql_type}"),
        format!("ARRAY[v::{sql_type}, NULL]"),
    ] {
        let unwrapped = format!("SELECT {expression} FROM (SELECT NULL::text) AS given(v)");
        let unwrapped = client.prepare(&unwrapped).await.unwrap();
        let oid = unwrapped.columns()[0].type_().oid();
        assert_eq!(
            ValueType::from_oid(oid),
            None,
            "{sql_type} is left to Postgres"
        );
        let statement = client
            .prepare(&format!(
                "SELECT to_json({expression}), to_json({expression})::text
                 FROM unnest($1::text[]) WITH ORDINALITY AS given(v, n) ORDER BY n"
            ))
            .await
            .unwrap();
        assert_eq!(native(&statement, 0), ValueType::Json);
        let compared = compare(client, &statement, ValueType::Json, &values).await;
        assert_eq!(compared, values.len(), "{sql_type}");
    }
}

/// Types without binary output, and types derived from them: a base type, one with elements that is not an
/// array, and a built-in one.
const WITHOUT_BINARY_OUTPUT: &str = "
    CREATE TYPE word;
    CREATE FUNCTION word_in(cstring) RETURNS word LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION word_out(word) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE word (INPUT = word_in, OUTPUT = word_out, LIKE = text);
    CREATE TYPE budget;
    CREATE FUNCTION budget_in(cstring) RETURNS budget LANGUAGE internal IMMUTABLE STRICT AS 'uuid_in';
    CREATE FUNCTION budget_out(budget) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'uuid_out';
    CREATE TYPE budget (INPUT = budget_in, OUTPUT = budget_out, INTERNALLENGTH = 16, ELEMENT = int4);
    CREATE DOMAIN name_of_city AS word;
    CREATE TYPE pair AS (name word, budget budget);
    CREATE TABLE city (
        id int, name word, budget budget, acl aclitem, names word[], budgets budget[], domain name_of_city,
        domains name_of_city[], pair pair, pairs pair[]
    );
    INSERT INTO city VALUES (
        1, 'a b', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', makeaclitem(10, 10, 'SELECT', false),
        '{\"a \\\"b\",NULL}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', 'd', '{d}',
        '(a,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11)', '{\"(a,)\"}'
    );
    INSERT INTO city (id) VALUES (2)";

#[tokio::test(flavor = "multi_thread")]
async fn types_without_binary_output_are_fetched_as_json() {
    let db = Postgres::with(WITHOUT_BINARY_OUTPUT).await;
    let app = App::start(
        &db,
        r#"
        [[endpoint]]
        path = "/table"
        sql = "TABLE city"
        refresh.probe = { sql = "TABLE city", every = "100ms" }
        max_age = "1h"
        [[endpoint]]
        path = "/named/{name}"
        sql = "SELECT id FROM city WHERE name::text = :name::text"
        warm_sql = "SELECT name FROM city WHERE id = 1"
        "#,
    )
    .await;
    let rows = "SELECT json_agg(city ORDER BY id)::text FROM city";
    let rows = db.client().await.query_one(rows, &[]).await.unwrap();
    let expected: serde_json::Value = serde_json::from_str(rows.get(0)).unwrap();
    let table = app.get("/table").await;
    table.assert_status(200).assert_json(expected);
    app.get("/named/a%20b").await.assert_cache("hit");
    // The probe detects changes of any type.
    db.execute("UPDATE city SET acl = makeaclitem(10, 10, 'UPDATE', false) WHERE id = 2")
        .await;
    app.poll("/table", |answer| !answer.json()[1]["acl"].is_null())
        .await;
}

/// Types that Larder leaves to Postgres, with values of each.
const LEFT_TO_POSTGRES: &[(&str, &[&str], Generator)] = &[
    (
        "inet",
        &["::", "::1/64", "::ffff:1.2.3.4", "10.0.0.1/8"],
        address,
    ),
    ("cidr", &["10.0.0.0/8", "::/0"], |r| {
        format!("{}.{}.0.0/16", r.below(256), r.below(256))
    }),
    ("macaddr", &["00:00:00:00:00:00"], |r| hex(r, 12)),
    ("macaddr8", &["00:00:00:00:00:00:00:00"], |r| hex(r, 16)),
    ("money", &["0", "-92233720368547758.08"], |r| {
        format!("{}.{:02}", r.signed(50), r.below(100))
    }),
    ("int4range", &["empty", "(,)", "[1,)"], |r| range(r, int4)),
    ("int8range", &["empty", "(,5]"], |r| range(r, int4)),
    ("numrange", &["empty", "[1.50,2.0)"], |r| range(r, int4)),
    ("daterange", &["empty", "[2020-01-01,infinity)"], |r| {
        range(r, year)
    }),
    ("tsrange", &["empty", "(,infinity]"], |r| range(r, year)),
    ("tstzrange", &["empty", "[2020-01-01 00:00+03,)"], |r| {
        range(r, year)
    }),
    ("int4multirange", &["{}", "{[1,2),[5,8)}"], |r| {
        format!("{{{}}}", range(r, int4))
    }),
    ("nummultirange", &["{}", "{[1.0,2.50]}"], |r| {
        format!("{{{}}}", range(r, int4))
    }),
    ("datemultirange", &["{}"], |r| {
        format!("{{{}}}", range(r, year))
    }),
    (
        "pg_temp.item",
        &[
            "(,,,)",
            "(1,\"a \"\"b\"\" \\\\\",\"{1.50,NULL}\",\"2020-02-02 02:02+02\")",
        ],
        item,
    ),
    ("xml", &["", "<a b=\"c\">\n</a>"], |r| {
        format!("<a>{}</a>", r.next())
    }),
    ("bit(9)", &["0", "101010101"], |r| {
        format!("{:b}", r.next() >> 40)
    }),
    ("varbit", &["", "1"], |r| {
        format!("{:b}", r.next() >> r.below(64))
    }),
    ("tsvector", &["", "'a':1A,2B 'b\"c'"], |r| {
        format!("word{}:{}", r.below(99), 1 + r.below(99))
    }),
    ("tsquery", &["", "'a' & !'b' <-> 'c':*"], |r| {
        format!("w{} | w{}:ab", r.below(9), r.below(9))
    }),
    ("point", &["(0,-0)", "(NaN,Infinity)"], point),
    ("line", &["{1,2,3}"], |r| {
        format!("{{1,{},{}}}", r.signed(30), r.signed(30))
    }),
    ("lseg", &["[(0,0),(1,1)]"], |r| {
        format!("[{},{}]", point(r), point(r))
    }),
    ("box", &["(1,1),(0,0)"], |r| {
        format!("{},{}", point(r), point(r))
    }),
    ("path", &["[(0,0),(1,1)]"], |r| {
        format!("({},{},{})", point(r), point(r), point(r))
    }),
    ("polygon", &["((0,0),(1,1),(1,0))"], |r| {
        format!("({},{})", point(r), point(r))
    }),
    ("circle", &["<(0,0),0>"], |r| {
        format!("<{},{}>", point(r), r.below(1 << 30))
    }),
    ("\"char\"", &["", "a", "\"", "\\", "\u{1}"], |r| {
        char::from(1 + r.below(126) as u8).to_string()
    }),
    ("regtype", &["int4", "\"char\"", "timestamptz"], |r| {
        r.pick(&["text[]", "name", "xid8"]).to_owned()
    }),
    ("xid8", &["0"], oid),
    ("pg_lsn", &["0/0"], |r| {
        format!("{:X}/{:X}", r.next() as u32, r.next() as u32)
    }),
    ("jsonpath", &["$", "$.\"a\\\"b\"[*] ? (@ > 1)"], |r| {
        format!("$.a[{}]", r.below(99))
    }),
];

fn address(random: &mut Random) -> String {
    let mut part = || random.below(256);
    let (a, b, c, d) = (part(), part(), part(), part());
    match random.below(3) {
        0 => format!("{a}.{b}.{c}.{d}"),
        1 => format!("{a}.{b}.{c}.{d}/{}", random.below(33)),
        _ => format!("{a:x}:{b:x}::{c:x}:{d:x}/{}", random.below(129)),
    }
}

fn year(random: &mut Random) -> String {
    format!("{:04}-01-01", 1 + random.below(9999))
}

/// A range that Postgres accepts: with one bound only, so that the order does not matter.
fn range(random: &mut Random, bound: Generator) -> String {
    let bound = bound(random);
    match random.below(3) {
        0 => format!("[{bound},)"),
        1 => format!("(,{bound})"),
        _ => format!("[{bound},{bound}]"),
    }
}

fn point(random: &mut Random) -> String {
    let coordinate = |random: &mut Random| format!("{}e{}", random.signed(40), random.signed(5));
    format!("({},{})", coordinate(random), coordinate(random))
}

fn item(random: &mut Random) -> String {
    format!(
        "({},\"{}\",\"{{{}.50}}\",{})",
        random.signed(32),
        random.next(),
        random.signed(50),
        year(random)
    )
}
