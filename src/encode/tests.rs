//! Shapes, limits, and bytes that no Postgres would send. `tests/it/encode.rs` compares values with Postgres.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::repository::ValueType;

const NO_LIMIT: u64 = u64::MAX;

fn columns(columns: &[(&str, ValueType)]) -> Arc<[Column]> {
    columns
        .iter()
        .map(|(name, value_type)| Column {
            name: (*name).to_owned(),
            type_name: "whatever".to_owned(),
            value_type: value_type.clone(),
        })
        .collect()
}

fn pairs() -> Arc<[Column]> {
    columns(&[("a", ValueType::Int2), ("b\"c", ValueType::Text)])
}

type Cells<'v> = [Option<&'v [u8]>; 2];

const ONE: Cells<'_> = [Some(&[0, 1]), Some(b"x")];
const TWO: Cells<'_> = [Some(&[0, 2]), None];

fn encode(shape: Shape, rows: &[Cells<'_>], max_bytes: u64) -> Result<Option<String>, EncodeError> {
    let mut encoder = Encoder::new(shape, pairs(), max_bytes);
    for row in rows {
        encoder.push(row.iter().copied())?;
    }
    Ok(encoder
        .finish()
        .map(|body| String::from_utf8(body.json().bytes().to_vec()).unwrap()))
}

#[test]
fn each_shape_has_its_own_layout() {
    for (shape, rows, expected) in [
        (Shape::Rows, &[][..], Some("[]")),
        (Shape::Rows, &[ONE], Some(r#"[{"a":1,"b\"c":"x"}]"#)),
        (
            Shape::Rows,
            &[ONE, TWO],
            Some(r#"[{"a":1,"b\"c":"x"},{"a":2,"b\"c":null}]"#),
        ),
        (Shape::Columns, &[], Some(r#"{"a":[],"b\"c":[]}"#)),
        (
            Shape::Columns,
            &[ONE, TWO],
            Some(r#"{"a":[1,2],"b\"c":["x",null]}"#),
        ),
        (Shape::Row, &[], None),
        (Shape::Row, &[ONE], Some(r#"{"a":1,"b\"c":"x"}"#)),
        (Shape::Tuple, &[], None),
        (Shape::Tuple, &[TWO], Some("[2,null]")),
        (Shape::Value, &[], None),
        (Shape::Value, &[TWO], Some("2")),
    ] {
        assert_eq!(
            encode(shape, rows, NO_LIMIT).unwrap().as_deref(),
            expected,
            "{shape:?}"
        );
    }
}

#[test]
fn rows_without_columns_are_still_rows() {
    for (shape, expected) in [
        (Shape::Rows, "[{},{}]"),
        (Shape::Columns, "{}"),
        (Shape::Row, "{}"),
        (Shape::Tuple, "[]"),
    ] {
        let mut encoder = Encoder::new(shape, columns(&[]), NO_LIMIT);
        for _ in 0..if shape.is_single_row() { 1 } else { 2 } {
            encoder.push(std::iter::empty()).unwrap();
        }
        assert_eq!(encoder.finish().unwrap().json().bytes(), expected);
    }
}

#[test]
fn a_shape_of_one_row_rejects_a_second() {
    for shape in Shape::ALL.into_iter().filter(|shape| shape.is_single_row()) {
        assert_eq!(
            encode(shape, &[ONE, TWO], NO_LIMIT),
            Err(EncodeError::MoreThanOneRow)
        );
    }
}

#[test]
fn max_bytes_is_the_longest_body_allowed() {
    for shape in Shape::ALL {
        let rows = if shape.is_single_row() {
            &[ONE][..]
        } else {
            &[ONE, TWO, ONE]
        };
        let whole = encode(shape, rows, NO_LIMIT).unwrap().unwrap();
        let length = whole.len() as u64;
        assert_eq!(encode(shape, rows, length), Ok(Some(whole)), "{shape:?}");
        for max_bytes in 0..length {
            let error = EncodeError::TooLarge { max_bytes };
            assert_eq!(encode(shape, rows, max_bytes), Err(error), "{shape:?}");
        }
    }
}

#[test]
fn an_answer_that_is_too_large_is_rejected_early() {
    for shape in [Shape::Rows, Shape::Columns] {
        let mut encoder = Encoder::new(shape, pairs(), 1000);
        let accepted = (0..1000)
            .take_while(|_| encoder.push(ONE.into_iter()).is_ok())
            .count();
        assert!(accepted < 300, "{accepted} rows of 4 bytes or more");
    }
}

#[test]
fn a_value_that_cannot_be_read_names_its_column() {
    let mut encoder = Encoder::new(Shape::Rows, pairs(), NO_LIMIT);
    let error = encoder
        .push([Some(&[0, 1][..]), Some(b"\xff")].into_iter())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "a value of column `b\"c` cannot be read: text that is not UTF-8"
    );

    let mut encoder = Encoder::new(Shape::Rows, pairs(), NO_LIMIT);
    let error = encoder.push([Some(&[0, 1][..])].into_iter()).unwrap_err();
    assert!(matches!(error, EncodeError::Malformed { column, .. } if column == "b\"c"));
}

#[test]
fn only_equal_rows_have_equal_etags() {
    let etag = |cells: Cells<'_>| {
        let mut encoder = Encoder::new(Shape::Rows, pairs(), NO_LIMIT);
        encoder.push(cells.into_iter()).unwrap();
        encoder.finish().unwrap().json().etag
    };
    assert_eq!(etag(ONE), etag(ONE));
    assert_ne!(etag(ONE), etag(TWO));
}

/// Every type but JSON, whose text is Postgres's word.
fn any_type() -> impl Strategy<Value = ValueType> {
    let scalar = proptest::sample::select(vec![
        ValueType::Bool,
        ValueType::Int2,
        ValueType::Int4,
        ValueType::Int8,
        ValueType::Oid,
        ValueType::Float4,
        ValueType::Float8,
        ValueType::Numeric,
        ValueType::Text,
        ValueType::Uuid,
        ValueType::Bytea,
        ValueType::Date,
        ValueType::Time,
        ValueType::TimeTz,
        ValueType::Timestamp,
        ValueType::TimestampTz,
        ValueType::Interval,
    ]);
    (scalar, 0..3).prop_map(|(scalar, depth)| {
        (0..depth).fold(scalar, |inner, _| ValueType::Array(Box::new(inner)))
    })
}

/// Bytes with the lengths and small numbers that let them get past the first checks.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        any::<u32>().prop_map(|n| n.to_be_bytes().to_vec()),
        (0..9_u32).prop_map(|n| n.to_be_bytes().to_vec()),
        (0..9_u16).prop_map(|n| n.to_be_bytes().to_vec()),
        Just(vec![0xff; 4]),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(word, 0..16).prop_map(|words| words.concat()),
    ]
}

/// Runs `raw` through an encoder: refused, or one JSON value.
fn survives(value_type: ValueType, raw: &[u8], max_bytes: u64) -> Option<Value> {
    let mut encoder = Encoder::new(Shape::Value, columns(&[("v", value_type)]), max_bytes);
    match encoder.push(std::iter::once(Some(raw))) {
        Ok(()) => {
            let document = encoder.finish().unwrap();
            let body = document.json();
            assert!(body.bytes().len() as u64 <= max_bytes);
            // Numbers far beyond a double are still JSON, which this reader does not take.
            Some(
                serde_json::from_slice(body.bytes()).unwrap_or_else(|error| {
                    assert!(error.to_string().contains("number out of range"), "{error}");
                    Value::Null
                }),
            )
        }
        Err(EncodeError::TooLarge { .. } | EncodeError::Malformed { .. }) => None,
        Err(EncodeError::MoreThanOneRow) => panic!("there is one row"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes_of_any_type_become_json_or_an_error(
        value_type in any_type(),
        raw in any_bytes(),
        max_bytes in prop_oneof![Just(NO_LIMIT), 0..100_u64],
    ) {
        survives(value_type, &raw, max_bytes);
    }

    #[test]
    fn any_bytes_of_json_are_copied_or_rejected(raw in any_bytes(), jsonb: bool, array: bool) {
        let json = if jsonb { ValueType::Jsonb } else { ValueType::Json };
        let value_type = if array { ValueType::Array(Box::new(json)) } else { json };
        let mut encoder = Encoder::new(Shape::Rows, columns(&[("v", value_type)]), NO_LIMIT);
        let _ = encoder.push(std::iter::once(Some(&raw[..])));
        prop_assert!(std::str::from_utf8(encoder.finish().unwrap().json().bytes()).is_ok());
    }
}

#[test]
fn json_is_copied_unchanged() {
    let text = b"{\"a\" : [1,\n2.50]}";
    let mut encoder = Encoder::new(
        Shape::Tuple,
        columns(&[("j", ValueType::Json), ("b", ValueType::Jsonb)]),
        99,
    );
    let jsonb = [&[1][..], text].concat();
    encoder
        .push([Some(&text[..]), Some(&jsonb)].into_iter())
        .unwrap();
    let document = encoder.finish().unwrap();
    let body = document.json();
    assert_eq!(*body.bytes(), [b"[", &text[..], b",", text, b"]"].concat());
    assert_eq!(survives(ValueType::Jsonb, b"\x02{}", NO_LIMIT), None);
    assert_eq!(survives(ValueType::Json, b"{}", NO_LIMIT), Some(json!({})));
}
