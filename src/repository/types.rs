//! The types Larder encodes itself, from the binary protocol. Everything else is left to Postgres:
//! such a column is wrapped in `to_json`, so it arrives as JSON text.

/// How the bytes of a column are to be read.
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

/// A column of a statement's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as Postgres names it, as in `timestamp with time zone`.
    pub type_name: String,
    /// How its bytes are to be read.
    pub value_type: ValueType,
}
