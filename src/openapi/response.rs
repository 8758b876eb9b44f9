//! An endpoint's responses: their shape and formats, and the JSON types of their columns.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::components;
use super::json::{Json, Object};
use crate::plan::{Endpoint, Format, Shape};
use crate::repository::{Column, ValueType};

/// The 200 response.
pub(super) fn ok(endpoint: &Endpoint, columns: &[Column], example: Option<&Json>) -> Json {
    let mut content = Object::default();
    for format in Format::ALL {
        let mut media = Object::from(match format {
            Format::Json => json!({ "schema": document(endpoint, columns) }),
            Format::Ndjson => json!({ "schema": {
                "type": "string", "description": "One JSON value per line.",
            } }),
            Format::Csv => json!({ "schema": {
                "type": "string", "description": "A header record with the column names, then one record per row.",
            } }),
        });
        if let (Format::Json, Some(example)) = (format, example) {
            media.put_json("example", shortened(endpoint, columns, example));
        }
        content.put_json(format.media_type(), media.end());
    }
    let mut answer = Object::from(json!({
        "description": "The answer.",
        "headers": components::headers_of_answers(endpoint),
    }));
    answer.put_json("content", content.end());
    answer.end()
}

/// The first rows of an example.
fn shortened(endpoint: &Endpoint, columns: &[Column], example: &Json) -> Json {
    let short = match endpoint.shape {
        Shape::Rows => serde_json::from_str(example.as_str()).ok().map(first),
        Shape::Columns => first_of_columns(columns, example),
        Shape::Row | Shape::Tuple | Shape::Value => None,
    };
    short.unwrap_or_else(|| example.clone())
}

fn first(values: Vec<&RawValue>) -> Json {
    const ROWS: usize = 2;
    let values = values.into_iter().take(ROWS);
    Json::array(values.filter_map(|value| Json::of(value.get())))
}

fn first_of_columns(columns: &[Column], example: &Json) -> Option<Json> {
    let mut values: HashMap<String, Vec<&RawValue>> =
        serde_json::from_str(example.as_str()).ok()?;
    let mut short = Object::default();
    for Column { name, .. } in columns {
        short.put_json(name, first(values.remove(name)?));
    }
    Some(short.end())
}

/// The 304 response.
pub(super) fn not_modified(endpoint: &Endpoint) -> Value {
    json!({
        "description": "The answer has not changed since the one that `If-None-Match` or `If-Modified-Since` names.",
        "headers": components::headers_of_answers(endpoint),
    })
}

fn document(endpoint: &Endpoint, columns: &[Column]) -> Value {
    let rows_max = endpoint.max_rows;
    match endpoint.shape {
        Shape::Rows => {
            json!({ "type": "array", "maxItems": rows_max, "items": object(columns, &value) })
        }
        Shape::Columns => object(
            columns,
            &|column| json!({ "type": "array", "maxItems": rows_max, "items": value(column) }),
        ),
        Shape::Row => object(columns, &value),
        Shape::Tuple => {
            let titled = |column: &Column| {
                let mut value = value(column);
                value["title"] = column.name.as_str().into();
                value
            };
            json!({
                "type": "array",
                "prefixItems": columns.iter().map(titled).collect::<Value>(),
                "items": false,
                "minItems": columns.len(),
            })
        }
        Shape::Value => columns.first().map_or(json!({}), value),
    }
}

fn object(columns: &[Column], property: &dyn Fn(&Column) -> Value) -> Value {
    let names: Value = columns.iter().map(|column| column.name.as_str()).collect();
    let properties = columns
        .iter()
        .map(|column| (column.name.clone(), property(column)));
    json!({
        "type": "object",
        "properties": properties.collect::<Map<_, _>>(),
        "required": names,
        "additionalProperties": false,
    })
}

/// A value of the column. It may be NULL, since Postgres does not tell which columns of a query never are.
fn value(column: &Column) -> Value {
    let mut schema = of_type(&column.value_type);
    if let Some(Value::String(type_)) = schema.get("type") {
        schema["type"] = json!([type_, "null"]);
    } else if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.push(json!({ "type": "null" }));
    }
    schema["x-postgres-type"] = column.type_name.as_str().into();
    schema
}

/// A value that is not NULL.
fn of_type(value_type: &ValueType) -> Value {
    // JSON has no numbers for these, so Postgres writes strings.
    let inexact =
        |number: Value| json!({ "anyOf": [number, { "enum": ["NaN", "Infinity", "-Infinity"] }] });
    let text = || json!({ "type": "string" });
    let formatted = |format: &str| json!({ "type": "string", "format": format });
    match value_type {
        ValueType::Bool => json!({ "type": "boolean" }),
        ValueType::Int2 => json!({ "type": "integer", "format": "int16" }),
        ValueType::Int4 => json!({ "type": "integer", "format": "int32" }),
        ValueType::Int8 => json!({ "type": "integer", "format": "int64" }),
        // `to_json` writes an oid in quotes.
        ValueType::Oid => json!({ "type": "string", "pattern": "^[0-9]+$" }),
        ValueType::Float4 => inexact(json!({ "type": "number", "format": "float" })),
        ValueType::Float8 => inexact(json!({ "type": "number", "format": "double" })),
        ValueType::Numeric => inexact(json!({ "type": "number" })),
        ValueType::Uuid => formatted("uuid"),
        ValueType::Bytea => json!({ "type": "string", "pattern": r"^\\x(?:[0-9a-f]{2})*$" }),
        ValueType::Json | ValueType::Jsonb => json!({}),
        // Without formats, which allow neither `infinity` nor years before Christ.
        ValueType::Text
        | ValueType::Date
        | ValueType::Time
        | ValueType::TimeTz
        | ValueType::Timestamp
        | ValueType::TimestampTz
        | ValueType::Interval => text(),
        // Postgres's types do not tell the number of dimensions.
        ValueType::Array(element) => {
            let others = json!({ "type": ["array", "null"] });
            json!({ "type": "array", "items": { "anyOf": [of_type(element), others] } })
        }
    }
}
