//! The types of parameters, as far as Larder can check their values without Postgres.

/// A parameter's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`, `varchar`, `char(n)`, `name`, and domains over them
    Text,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    TimestampTz,
    /// `json` or `jsonb`
    Json,
    /// Any other type, enums among them, by its name. Only Postgres can parse its values, and a value that
    /// Postgres rejects is a 400.
    Other(String),
}

/// The most digits of a `numeric`, its zeros included. Postgres allows 147,455; a key does not need
/// them, and `1e100000` would otherwise be a cheap way to fill memory.
pub(super) const NUMERIC_DIGITS_MAX: usize = 1_000;

impl ParameterType {
    /// What a value of this type must be, with the limits of the type.
    pub(super) fn describe(&self) -> String {
        let integer =
            |least: i64, greatest: i64| format!("a whole number from {least} to {greatest}");
        match self {
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Int2 => integer(i16::MIN.into(), i16::MAX.into()),
            Self::Int4 => integer(i32::MIN.into(), i32::MAX.into()),
            Self::Int8 => integer(i64::MIN, i64::MAX),
            Self::Numeric => format!("a number of at most {NUMERIC_DIGITS_MAX} digits"),
            Self::Date => "a date such as 2003-01-31".to_owned(),
            Self::Time => "a time such as 23:59:59".to_owned(),
            Self::Timestamp => "a time such as 2003-01-31T23:59:59".to_owned(),
            Self::TimestampTz => {
                "a time such as 2003-01-31T23:59:59Z or 2003-01-31T23:59:59+01:00".to_owned()
            }
            Self::Float4 | Self::Float8 | Self::Text | Self::Uuid | Self::Json | Self::Other(_) => {
                self.noun()
            }
        }
    }

    /// What a value of this type must be, with limits of the parameter's own.
    pub(super) fn describe_within(&self, minimum: Option<&str>, maximum: Option<&str>) -> String {
        let noun = self.noun();
        match (minimum, maximum) {
            (None, None) => self.describe(),
            (Some(minimum), Some(maximum)) => format!("{noun} from {minimum} to {maximum}"),
            (Some(minimum), None) => format!("{noun} and at least {minimum}"),
            (None, Some(maximum)) => format!("{noun} and at most {maximum}"),
        }
    }

    fn noun(&self) -> String {
        match self {
            Self::Bool => "a boolean",
            Self::Int2 | Self::Int4 | Self::Int8 => "a whole number",
            Self::Float4 | Self::Float8 | Self::Numeric => "a number",
            Self::Text => "text",
            Self::Uuid => "a UUID",
            Self::Date => "a date",
            Self::Time | Self::Timestamp | Self::TimestampTz => "a time",
            Self::Json => "JSON",
            Self::Other(name) => return format!("of type {name}"),
        }
        .to_owned()
    }

    /// Whether it is a date or a time.
    pub(super) fn is_temporal(&self) -> bool {
        matches!(
            self,
            Self::Date | Self::Time | Self::Timestamp | Self::TimestampTz
        )
    }

    /// The name of a type whose values Larder cannot compare with a minimum or maximum.
    pub(super) fn unordered_name(&self) -> Option<&str> {
        match self {
            Self::Bool => Some("boolean"),
            Self::Uuid => Some("uuid"),
            Self::Json => Some("json"),
            Self::Other(name) => Some(name),
            Self::Int2
            | Self::Int4
            | Self::Int8
            | Self::Float4
            | Self::Float8
            | Self::Numeric
            | Self::Text
            | Self::Date
            | Self::Time
            | Self::Timestamp
            | Self::TimestampTz => None,
        }
    }

    /// An ordinary value for each small number, one that most functions accept.
    pub(super) fn sample(&self, number: usize) -> Option<Box<str>> {
        let text = match self {
            Self::Bool => ["f", "t"][number % 2].to_owned(),
            Self::Int2 | Self::Int4 | Self::Int8 | Self::Text | Self::Json => number.to_string(),
            // Percentages and fractions lie between 0 and 1.
            Self::Float4 | Self::Float8 | Self::Numeric => format!("0.{:02}", number % 100),
            Self::Uuid => format!("00000000-0000-4000-8000-{number:012}"),
            Self::Date => format!("2001-01-{:02}", number % 28 + 1),
            Self::Time => format!("{:02}:00:00", number % 24),
            Self::Timestamp => format!("2001-01-{:02} 00:00:00", number % 28 + 1),
            Self::TimestampTz => format!("2001-01-{:02} 00:00:00Z", number % 28 + 1),
            Self::Other(_) => return None,
        };
        Some(text.into())
    }
}
