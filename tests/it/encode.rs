//! Compares the encoder with Postgres's `to_json`. Every value is fetched twice, in the binary format and as
//! the text of `to_json`, and both must agree to the last byte.

mod floats;
mod generate;
mod left_to_postgres;
mod natively;

use std::error::Error;
use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::Arc;

use larder::encode::Encoder;
use larder::plan::Shape;
use larder::repository::{Column, ValueType};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Statement};

use crate::support::postgres::Postgres;
use generate::{Generator, Random};

/// Generated values per type, in addition to the chosen ones.
const VALUES: usize = 600;

/// Generated arrays per type.
const ARRAYS: usize = 200;

/// A session with the settings of Larder's sessions, and its schema.
struct Session {
    client: Client,
    _schema: Postgres,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

async fn connect() -> Session {
    let schema = Postgres::with("").await;
    let client = schema.client().await;
    client
        .batch_execute(
            "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres';
             SET extra_float_digits = 1; SET bytea_output = 'hex'",
        )
        .await
        .unwrap();
    Session {
        client,
        _schema: schema,
    }
}

/// A value's bytes, whatever its type.
struct Raw<'r>(&'r [u8]);

impl<'r> FromSql<'r> for Raw<'r> {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn column(name: &str, value_type: ValueType) -> Column {
    Column {
        name: name.to_owned(),
        type_name: String::new(),
        value_type,
    }
}

/// The type as which the column is encoded; panics if Larder does not encode it.
fn native(statement: &Statement, column: usize) -> ValueType {
    let found = statement.columns()[column].type_();
    ValueType::from_oid(found.oid()).unwrap_or_else(|| panic!("{found} is not encoded natively"))
}

/// Runs a statement whose first column is a value and whose second is the text of its `to_json`, compares
/// both, and returns the number of values.
async fn compare(
    client: &Client,
    statement: &Statement,
    value_type: ValueType,
    given: &(dyn ToSql + Sync),
) -> usize {
    let columns: Arc<[Column]> = [column("v", value_type)].into();
    let rows = client.query(statement, &[given]).await.unwrap();
    for row in &rows {
        let raw = row.get::<_, Option<Raw<'_>>>(0).map(|raw| raw.0);
        let expected = row.get::<_, Option<&str>>(1).unwrap_or("null");
        let mut encoder = Encoder::new(Shape::Value, Arc::clone(&columns), u64::MAX);
        encoder
            .push(std::iter::once(raw))
            .unwrap_or_else(|error| panic!("{expected} of {:?}: {error}", columns[0].value_type));
        let found = encoder.finish().unwrap().json().bytes().clone();
        assert_eq!(
            String::from_utf8_lossy(&found),
            expected,
            "{:?} of bytes {raw:?}",
            columns[0].value_type
        );
    }
    rows.len()
}

/// A query for a value and its `to_json`, for each given text.
fn with_to_json(sql_type: &str) -> String {
    format!(
        "SELECT v::{sql_type}, to_json(v::{sql_type})::text
         FROM unnest($1::text[]) WITH ORDINALITY AS given(v, n) ORDER BY n"
    )
}

/// Checks a type that Larder encodes, alone and in arrays.
async fn check_native(client: &Client, sql_type: &str, chosen: &[&str], generator: Generator) {
    let mut random = Random::seeded_by(sql_type);
    let mut values: Vec<Option<String>> = vec![None];
    values.extend(chosen.iter().map(|text| Some((*text).to_owned())));
    values.extend((0..VALUES).map(|_| Some(generator(&mut random))));
    let statement = client.prepare(&with_to_json(sql_type)).await.unwrap();
    let value_type = native(&statement, 0);
    let compared = compare(client, &statement, value_type.clone(), &values).await;
    assert_eq!(compared, values.len(), "{sql_type}");

    let mut arrays = generate::EMPTY_ARRAYS.map(str::to_owned).to_vec();
    arrays.extend((0..ARRAYS).map(|_| generate::array(&mut random, &values)));
    let statement = client
        .prepare(&with_to_json(&format!("{sql_type}[]")))
        .await
        .unwrap();
    let array_type = native(&statement, 0);
    assert_eq!(
        array_type,
        ValueType::Array(Box::new(value_type)),
        "{sql_type}"
    );
    let compared = compare(client, &statement, array_type, &arrays).await;
    assert_eq!(compared, arrays.len(), "{sql_type}[]");
}

#[tokio::test]
async fn enums_and_domains_are_encoded_as_their_base_types() {
    let client = connect().await;
    client
        .batch_execute(
            "CREATE TYPE pg_temp.mood AS ENUM ('', 'so \"so\"', 'fröh\\lich');
             CREATE DOMAIN pg_temp.price AS numeric(12,2) CHECK (VALUE >= 0);
             CREATE DOMAIN pg_temp.cheap AS pg_temp.price;
             CREATE DOMAIN pg_temp.code AS char(4)",
        )
        .await
        .unwrap();
    let labels = ["", "so \"so\"", "fröh\\lich"].map(str::to_owned).to_vec();
    let prices = ["0", "1", "0.005", "9999999999.99"]
        .map(str::to_owned)
        .to_vec();
    let codes = ["", "a", "\"\\", "éééé"].map(str::to_owned).to_vec();
    for (sql_type, value_type, values) in [
        ("mood", ValueType::Text, &labels),
        ("price", ValueType::Numeric, &prices),
        ("cheap", ValueType::Numeric, &prices),
        ("code", ValueType::Text, &codes),
    ] {
        let sql_type = format!("pg_temp.{sql_type}");
        let statement = client.prepare(&with_to_json(&sql_type)).await.unwrap();
        assert_eq!(
            compare(&client, &statement, value_type.clone(), values).await,
            values.len()
        );

        let arrays = vec![generate::array_of(values), "[2:3]={NULL,NULL}".to_owned()];
        let statement = client
            .prepare(&with_to_json(&format!("{sql_type}[]")))
            .await
            .unwrap();
        let array_type = ValueType::Array(Box::new(value_type));
        assert_eq!(compare(&client, &statement, array_type, &arrays).await, 2);
    }
}

#[tokio::test]
async fn whole_rows_match_row_to_json() {
    let client = connect().await;
    let statement = client
        .prepare(
            "SELECT t.*, row_to_json(t)::text AS expected FROM (
               SELECT n AS \"n\", n / 7.0 AS \"quo\"\"te\", sqrt(n) AS \"back\\slash\", repeat('é', n) AS \"ü\n\",
                      CASE WHEN n % 2 = 0 THEN ARRAY[n, NULL] END AS \"\t\", to_json('::1'::inet) AS j
               FROM generate_series(1, 50) AS n) t",
        )
        .await
        .unwrap();
    let width = statement.columns().len() - 1;
    let columns: Arc<[Column]> = statement.columns()[..width]
        .iter()
        .enumerate()
        .map(|(i, described)| column(described.name(), native(&statement, i)))
        .collect();
    let rows = client.query(&statement, &[]).await.unwrap();
    let mut encoder = Encoder::new(Shape::Rows, columns, u64::MAX);
    let mut expected = String::new();
    for row in &rows {
        let cells = (0..width).map(|i| row.get::<_, Option<Raw<'_>>>(i).map(|raw| raw.0));
        encoder.push(cells).unwrap();
        let comma = if expected.is_empty() { '[' } else { ',' };
        write!(expected, "{comma}{}", row.get::<_, &str>("expected")).unwrap();
    }
    expected.push(']');
    assert_eq!(*encoder.finish().unwrap().json().bytes(), expected);
}
