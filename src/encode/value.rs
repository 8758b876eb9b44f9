//! One value as `to_json` writes it, by its type. It does not know which column or row it is in.

use super::{array, datetime, float, numeric, text};
use crate::repository::ValueType;

/// Why a value was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The output passed its limit.
    TooLarge,
    /// The bytes are not what the type says.
    Malformed(&'static str),
}

/// Appends the value to `out`, whose length must stay within `limit`.
///
/// At most the output of one element beyond the limit is written before that is noticed, and text of
/// any length stops at it.
pub(super) fn write(
    out: &mut Vec<u8>,
    limit: usize,
    value_type: &ValueType,
    raw: &[u8],
) -> Result<(), Refusal> {
    match value_type {
        ValueType::Bool => boolean(out, raw)?,
        ValueType::Int2 => integer(out, i16::from_be_bytes(exactly(raw)?)),
        ValueType::Int4 => integer(out, i32::from_be_bytes(exactly(raw)?)),
        ValueType::Int8 => integer(out, i64::from_be_bytes(exactly(raw)?)),
        ValueType::Oid => {
            // No number to `to_json`, which quotes whatever is not in its list of numeric types.
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
            _ => return Err(Refusal::Malformed("not jsonb of version 1")),
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

/// Refuses output that is longer than `limit`.
pub(super) fn check(out: &[u8], limit: usize) -> Result<(), Refusal> {
    if out.len() > limit {
        Err(Refusal::TooLarge)
    } else {
        Ok(())
    }
}

/// Refuses output that will be longer than `limit` once `more` bytes are added.
pub(super) fn check_room(out: &[u8], limit: usize, more: usize) -> Result<(), Refusal> {
    if out.len().saturating_add(more) > limit {
        Err(Refusal::TooLarge)
    } else {
        Ok(())
    }
}

/// All of `raw`, which must be as long as its type.
pub(super) fn exactly<const N: usize>(raw: &[u8]) -> Result<[u8; N], Refusal> {
    raw.try_into()
        .map_err(|_| Refusal::Malformed("its length is not that of its type"))
}

pub(super) fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn boolean(out: &mut Vec<u8>, raw: &[u8]) -> Result<(), Refusal> {
    out.extend_from_slice(match raw {
        [0] => b"false",
        [1] => b"true",
        _ => return Err(Refusal::Malformed("neither false nor true")),
    });
    Ok(())
}

/// JSON text as Postgres stored it, white space included. That it is JSON is Postgres's promise; that
/// it is UTF-8 is not, in a database whose encoding is `SQL_ASCII`.
fn json(out: &mut Vec<u8>, limit: usize, raw: &[u8]) -> Result<(), Refusal> {
    if raw.is_empty() {
        return Err(Refusal::Malformed("empty, which no JSON text is"));
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

/// `bytea_output = hex`; its backslash is escaped as any in a JSON string.
fn bytea(out: &mut Vec<u8>, limit: usize, raw: &[u8]) -> Result<(), Refusal> {
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
