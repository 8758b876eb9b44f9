//! Every type that Larder encodes, alone and in arrays, with chosen and generated values.

use larder::repository::ValueType;

use super::generate::Random;
use super::{check_native, compare, connect, floats, generate};

#[tokio::test]
async fn booleans_and_integers_match_to_json() {
    let client = connect().await;
    check_native(&client, "bool", &["true", "false"], generate::boolean).await;
    check_native(&client, "int2", &["0", "-32768", "32767"], generate::int2).await;
    check_native(
        &client,
        "int4",
        &["0", "-2147483648", "2147483647"],
        generate::int4,
    )
    .await;
    let extremes = ["0", "-9223372036854775808", "9223372036854775807"];
    check_native(&client, "int8", &extremes, generate::int8).await;
    check_native(&client, "oid", &["0", "4294967295"], generate::oid).await;
}

#[tokio::test]
async fn floats_match_to_json() {
    let client = connect().await;
    let chosen = [
        "0",
        "-0",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e6",
        "1e15",
        "1e-5",
        "1e23",
    ];
    check_native(&client, "float4", &chosen, generate::float4).await;
    check_native(&client, "float8", &chosen, generate::float8).await;
}

#[tokio::test]
async fn hard_floats_match_to_json() {
    let client = connect().await;
    let mut random = Random::seeded_by("hard floats");

    let singles = floats::singles(&mut random);
    let statement = client.prepare("SELECT v, to_json(v)::text FROM unnest($1::float4[]) v");
    let compared = compare(
        &client,
        &statement.await.unwrap(),
        ValueType::Float4,
        &singles,
    )
    .await;
    assert_eq!(compared, singles.len());

    let doubles = floats::doubles(&mut random);
    let statement = client.prepare("SELECT v, to_json(v)::text FROM unnest($1::float8[]) v");
    let compared = compare(
        &client,
        &statement.await.unwrap(),
        ValueType::Float8,
        &doubles,
    )
    .await;
    assert_eq!(compared, doubles.len());
}

#[tokio::test]
async fn numerics_of_any_size_match_to_json() {
    let client = connect().await;
    let chosen = [
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0",
        "0.0",
        "0.000000",
        "-0.00",
        "1",
        "10",
        "10000",
        "9999",
        "99999999",
        "100000000",
        "1.0000",
        "1.00000",
        "0.1",
        "0.00001",
        "0.0001",
        "-12.340",
        "10000.0001",
        "1e131071",
        "-9.99e131071",
        "1e-16383",
        "-7.1e-1000",
        "123456789012345678.5e60",
    ];
    check_native(&client, "numeric", &chosen, generate::numeric).await;
    check_native(
        &client,
        "numeric(30,10)",
        &["1e19", "-0.00000000005"],
        generate::small_numeric,
    )
    .await;
}

#[tokio::test]
async fn text_with_every_character_matches_to_json() {
    let client = connect().await;
    let every: Vec<String> = (1..=0x2ff_u32)
        .chain([
            0x2028, 0x2029, 0xd7ff, 0xe000, 0xfeff, 0xfffd, 0xffff, 0x10000, 0x1f600, 0x10ffff,
        ])
        .map(|code| char::from_u32(code).unwrap().to_string())
        .collect();
    let every: Vec<&str> = every
        .iter()
        .map(String::as_str)
        .chain(["", " ", "NULL", "null"])
        .collect();
    check_native(&client, "text", &every, generate::text).await;
    check_native(&client, "varchar", &every, generate::text).await;
    check_native(&client, "varchar(7)", &every, generate::text).await;
    check_native(&client, "character(12)", &every, generate::text).await;
    check_native(&client, "name", &every, generate::text).await;
}

#[tokio::test]
async fn json_matches_to_json() {
    let client = connect().await;
    let chosen = [
        "null",
        "true",
        "0",
        "-0",
        "1.50",
        "1e400",
        "\"\"",
        "\"\\u00e9\\ud83d\\ude00\"",
        "[]",
        "{}",
        " [ 1 ,\n\t{ \"a\" : null , \"a\" : \"é😀\" } ] ",
    ];
    check_native(&client, "json", &chosen, generate::json).await;
    let chosen: Vec<&str> = chosen.into_iter().filter(|text| *text != "1e400").collect();
    check_native(&client, "jsonb", &chosen, generate::json).await;
}

#[tokio::test]
async fn dates_and_times_match_to_json() {
    let client = connect().await;
    let chosen = [
        "infinity",
        "-infinity",
        "2000-01-01",
        "1999-12-31",
        "2000-02-29",
        "1900-02-28",
        "0001-01-01",
        "0001-12-31 BC",
        "4713-01-01 BC",
        "9999-12-31",
        "10000-01-01",
        "294276-12-31",
    ];
    let dates = [&chosen[..], &["5874897-12-31", "4714-11-24 BC", "epoch"]].concat();
    check_native(&client, "date", &dates, generate::date).await;

    let instants = [
        &chosen[..],
        &[
            "4714-11-24 00:00:00 BC",
            "0044-03-15 23:59:59.999999 BC",
            "294276-12-31 23:59:59.999999",
            "2024-02-29 00:00:00.5",
            "2024-02-29 12:00:00.000001",
            "1969-12-31 23:59:59.9",
        ],
    ]
    .concat();
    check_native(&client, "timestamp", &instants, generate::timestamp).await;
    check_native(&client, "timestamp(2)", &[], generate::timestamp).await;
    check_native(&client, "timestamptz", &instants, generate::timestamptz).await;

    let times = [
        "00:00:00",
        "24:00:00",
        "23:59:59.999999",
        "12:30:00.5",
        "01:02:03.000400",
    ];
    check_native(&client, "time", &times, generate::time).await;
    let zoned = [
        "00:00:00+00",
        "24:00:00-15:59:59",
        "12:00:00+15:59:59",
        "12:00:00+05:30",
        "12:00:00-00:00:01",
        "12:00:00.25-03",
        "12:00:00+01:00:30",
    ];
    check_native(&client, "timetz", &zoned, generate::timetz).await;
}

#[tokio::test]
async fn intervals_match_to_json() {
    let client = connect().await;
    let chosen = [
        "0",
        "1 year",
        "-1 year",
        "1 year 1 mon 1 day 1 sec",
        "-1 year +1 mon",
        "1 mon -1 day",
        "-1 day +00:00:01",
        "-1 mon +1 day -00:00:00.000001",
        "1 day 00:00:00.1",
        "-00:59:59.999999",
        "178956970 years 7 mons 2147483647 days 2562047788:00:54.775806",
        "-178956970 years -8 mons -2147483648 days",
        "-2562047788:00:54.775807",
        "100:00:00",
    ];
    check_native(&client, "interval", &chosen, generate::interval).await;
}

#[tokio::test]
async fn uuids_and_bytes_match_to_json() {
    let client = connect().await;
    check_native(
        &client,
        "uuid",
        &["00000000-0000-0000-0000-000000000000"],
        generate::uuid,
    )
    .await;
    check_native(
        &client,
        "bytea",
        &["", "\\x00", "\\xff", "\\x5c22"],
        generate::bytea,
    )
    .await;
}

#[tokio::test]
async fn vector_types_match_to_json() {
    let client = connect().await;
    check_native(&client, "int2vector", &["", "1"], generate::vector).await;
    check_native(&client, "oidvector", &["", "1"], generate::vector).await;
}
