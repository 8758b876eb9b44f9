//! The types that Larder encodes itself, from the binary protocol. A column of another type is wrapped in
//! `to_json`, so it arrives as JSON text.

use tokio_postgres::types::{Kind, Type};

/// How to read the bytes of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueType {
    /// One byte: 0 or 1.
    Bool,
    /// Big-endian `i16`.
    Int2,
    /// Big-endian `i32`.
    Int4,
    /// Big-endian `i64`.
    Int8,
    /// Big-endian `u32`: `oid`.
    Oid,
    /// Big-endian IEEE 754, 32 bits.
    Float4,
    /// Big-endian IEEE 754, 64 bits.
    Float8,
    /// Base-10,000 digits.
    Numeric,
    /// UTF-8: `text`, `varchar`, `bpchar`, `name`, `"char"` excepted; enum labels too.
    Text,
    /// JSON text as it stands: `json`, and every column wrapped in `to_json`.
    Json,
    /// A version byte, then JSON text.
    Jsonb,
    /// 16 bytes.
    Uuid,
    /// Bytes.
    Bytea,
    /// Days since 2000-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since midnight, then seconds west of Greenwich.
    TimeTz,
    /// Microseconds since 2000-01-01.
    Timestamp,
    /// Microseconds since 2000-01-01 UTC.
    TimestampTz,
    /// Microseconds, days, months.
    Interval,
    /// Dimensions, then elements.
    Array(Box<ValueType>),
}

impl ValueType {
    /// The type of a built-in oid that Larder encodes itself, arrays included; `None` leaves the column to
    /// Postgres's `to_json`.
    ///
    /// Larder does not encode types whose text depends on the server's locale or has complex rules (`"char"`,
    /// `money`, `xml`, network addresses, bit strings, ranges, geometry, text search), nor types that are not
    /// built in: enums, domains and composites.
    pub fn from_oid(oid: u32) -> Option<Self> {
        let built_in = Type::from_oid(oid)?;
        if let Kind::Array(element) = built_in.kind() {
            return Self::from_oid(element.oid()).map(|element| Self::Array(Box::new(element)));
        }
        Some(match built_in {
            Type::BOOL => Self::Bool,
            Type::INT2 => Self::Int2,
            Type::INT4 => Self::Int4,
            Type::INT8 => Self::Int8,
            Type::OID => Self::Oid,
            Type::FLOAT4 => Self::Float4,
            Type::FLOAT8 => Self::Float8,
            Type::NUMERIC => Self::Numeric,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => Self::Text,
            Type::JSON => Self::Json,
            Type::JSONB => Self::Jsonb,
            Type::UUID => Self::Uuid,
            Type::BYTEA => Self::Bytea,
            Type::DATE => Self::Date,
            Type::TIME => Self::Time,
            Type::TIMETZ => Self::TimeTz,
            Type::TIMESTAMP => Self::Timestamp,
            Type::TIMESTAMPTZ => Self::TimestampTz,
            Type::INTERVAL => Self::Interval,
            _ => return None,
        })
    }
}

/// A column of a statement's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as Postgres names it, as in `timestamp with time zone`.
    pub type_name: String,
    /// How to read its bytes.
    pub value_type: ValueType,
}
