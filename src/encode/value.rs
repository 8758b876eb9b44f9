//! One value as `to_json` writes it, by its type.

use super::output::{ValueError, check, check_room, exactly, integer};
use super::{array, datetime, float, numeric, text};
use crate::repository::ValueType;

/// Appends the value to `out`, whose length must stay within `limit`.
///
/// At most one array element is written beyond the limit, and text of any length stops at it.
pub(super) fn write(
    out: &mut Vec<u8>,
    limit: usize,
    value_type: &ValueType,
    raw: &[u8],
) -> Result<(), ValueError> {
    match value_type {
        ValueType::Bool => boolean(out, raw)?,
        ValueType::Int2 => integer(out, i16::from_be_bytes(exactly(raw)?)),
        ValueType::Int4 => integer(out, i32::from_be_bytes(exactly(raw)?)),
        ValueType::Int8 => integer(out, i64::from_be_bytes(exactly(raw)?)),
        ValueType::Oid => {
            // `to_json` quotes an oid, which is not in its list of numeric types.
            out.push(b'"');
            integer(out, u32::from_be_bytes(exactly(raw)?));
            out.push(b'"');
        }
        ValueType::Float4 => float::write_f32(out, f32::from_be_bytes(exactly(raw)?)),
        ValueType::Float8 => float::write_f64(out, f64::from_be_bytes(exactly(raw)?)),
        ValueType::Numeric => numeric::write(out, raw)?,
        ValueType::Text => text::write(out, limit, raw)?,
        ValueType::Json => json(out, limit, raw)?,
        ValueType::Jsonb => match raw.split_first() {
            Some((1, json_text)) => json(out, limit, json_text)?,
            _ => return Err(ValueError::Malformed("jsonb of an unknown version")),
        },
        ValueType::Uuid => uuid(out, exactly(raw)?),
        ValueType::Bytea => bytea(out, limit, raw)?,
        ValueType::Date => datetime::date(out, i32::from_be_bytes(exactly(raw)?)),
        ValueType::Time => datetime::time(out, i64::from_be_bytes(exactly(raw)?))?,
        ValueType::TimeTz => datetime::timetz(out, exactly(raw)?)?,
        ValueType::Timestamp => datetime::timestamp(out, i64::from_be_bytes(exactly(raw)?)),
        ValueType::TimestampTz => datetime::timestamptz(out, i64::from_be_bytes(exactly(raw)?)),
        ValueType::Interval => datetime::interval(out, exactly(raw)?),
        ValueType::Array(element) => array::write(out, limit, element, raw)?,
    }
    check(out, limit)
}

fn boolean(out: &mut Vec<u8>, raw: &[u8]) -> Result<(), ValueError> {
    out.extend_from_slice(match raw {
        [0] => b"false",
        [1] => b"true",
        _ => return Err(ValueError::Malformed("a boolean that is neither 0 nor 1")),
    });
    Ok(())
}

/// JSON text as Postgres stored it, white space included. Postgres guarantees that it is JSON, but not that
/// it is UTF-8, in a database whose encoding is `SQL_ASCII`.
fn json(out: &mut Vec<u8>, limit: usize, raw: &[u8]) -> Result<(), ValueError> {
    if raw.is_empty() {
        return Err(ValueError::Malformed("an empty JSON text"));
    }
    check_room(out, limit, raw.len())?;
    out.extend_from_slice(text::utf8(raw)?.as_bytes());
    Ok(())
}

fn uuid(out: &mut Vec<u8>, raw: [u8; 16]) {
    out.push(b'"');
    for (i, byte) in raw.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&hex(byte));
    }
    out.push(b'"');
}

/// `bytea_output = hex`, with its backslash escaped for JSON.
fn bytea(out: &mut Vec<u8>, limit: usize, raw: &[u8]) -> Result<(), ValueError> {
    let length = raw.len().saturating_mul(2).saturating_add(5);
    check_room(out, limit, length)?;
    out.reserve(length);
    out.extend_from_slice(br#""\\x"#);
    for byte in raw {
        out.extend_from_slice(&hex(*byte));
    }
    out.push(b'"');
    Ok(())
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 0xf)],
    ]
}
