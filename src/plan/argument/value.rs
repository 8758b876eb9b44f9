//! A text read as a value of its type: its canonical text, and its place in the type's order.

use std::cmp::Ordering;

use chrono::{NaiveDate, NaiveDateTime};
use serde_json::value::RawValue;

use super::number::{self, Numeric};
use super::parameter_type::ParameterType;
use super::time;

/// A value of a [`ParameterType`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'t> {
    Bool(bool),
    Integer(i64),
    Float4(f32),
    Float8(f64),
    Numeric(Numeric),
    Text(&'t str),
    Uuid(String),
    Date(NaiveDate),
    /// In microseconds since midnight, a whole day included.
    Time(i64),
    Timestamp(NaiveDateTime),
    /// In UTC.
    TimestampTz(NaiveDateTime),
    /// As sent: JSON, and what only Postgres can parse.
    Verbatim(&'t str),
}

impl<'t> Value<'t> {
    /// The value that `text` stands for.
    pub(super) fn parse(kind: &ParameterType, text: &'t str) -> Option<Self> {
        let integer = |least, greatest| number::integer(text, least, greatest).map(Self::Integer);
        match kind {
            ParameterType::Bool => bool(text).map(Self::Bool),
            ParameterType::Int2 => integer(i16::MIN.into(), i16::MAX.into()),
            ParameterType::Int4 => integer(i32::MIN.into(), i32::MAX.into()),
            ParameterType::Int8 => integer(i64::MIN, i64::MAX),
            ParameterType::Float4 => number::float4(text).map(Self::Float4),
            ParameterType::Float8 => number::float8(text).map(Self::Float8),
            ParameterType::Numeric => Numeric::parse(text).map(Self::Numeric),
            ParameterType::Text => Some(Self::Text(text)),
            ParameterType::Uuid => uuid(text).map(Self::Uuid),
            ParameterType::Date => time::date(text).map(Self::Date),
            ParameterType::Time => time::time(text).map(Self::Time),
            ParameterType::Timestamp => time::timestamp(text).map(Self::Timestamp),
            ParameterType::TimestampTz => time::timestamptz(text).map(Self::TimestampTz),
            ParameterType::Json => serde_json::from_str::<&RawValue>(text)
                .ok()
                .map(|raw| Self::Verbatim(raw.get())),
            ParameterType::Other(_) => (!text.is_empty()).then_some(Self::Verbatim(text)),
        }
    }

    /// The canonical text. Parsing it gives the same value.
    pub(super) fn text(&self) -> Box<str> {
        match self {
            Self::Bool(true) => "t".into(),
            Self::Bool(false) => "f".into(),
            Self::Integer(integer) => integer.to_string().into(),
            Self::Float4(float) => number::float4_text(*float).into(),
            Self::Float8(float) => number::float8_text(*float).into(),
            Self::Numeric(numeric) => numeric.to_string().into(),
            Self::Uuid(uuid) => uuid.as_str().into(),
            Self::Date(date) => time::date_text(*date).into(),
            Self::Time(time) => time::time_text(*time).into(),
            Self::Timestamp(timestamp) => time::timestamp_text(*timestamp, "").into(),
            Self::TimestampTz(timestamp) => time::timestamp_text(*timestamp, "Z").into(),
            Self::Text(text) | Self::Verbatim(text) => (*text).into(),
        }
    }

    /// The order of two values of one type; `None` where there is none.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Float4(a), Self::Float4(b)) => a.partial_cmp(b),
            (Self::Float8(a), Self::Float8(b)) => a.partial_cmp(b),
            (Self::Numeric(a), Self::Numeric(b)) => a.compare(b),
            (Self::Text(a), Self::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b))
            | (Self::TimestampTz(a), Self::TimestampTz(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

impl ParameterType {
    /// The canonical text of the value that `text` stands for, if it is a value of this type.
    pub fn canonical(&self, text: &str) -> Option<Box<str>> {
        Value::parse(self, text).map(|value| value.text())
    }
}

/// A `+` that is not escaped reaches a server as a space, which is the most common reason for a wrong offset.
pub(super) fn plus_hint(kind: &ParameterType, text: &str) -> &'static str {
    let with_plus = text
        .rfind(' ')
        .map(|at| format!("{}+{}", &text[..at], &text[at + 1..]));
    match with_plus {
        Some(text) if kind.is_temporal() && kind.canonical(&text).is_some() => {
            "; in a query string, write + as %2B"
        }
        Some(_) | None => "",
    }
}

/// Postgres's spellings: every unambiguous prefix of `true`, `false`, `yes`, `no`, `on` and `off`, and `1`
/// and `0`.
fn bool(text: &str) -> Option<bool> {
    const SPELLINGS: [(&str, usize, bool); 8] = [
        ("true", 1, true),
        ("false", 1, false),
        ("yes", 1, true),
        ("no", 1, false),
        ("on", 2, true),
        ("off", 2, false),
        ("1", 1, true),
        ("0", 1, false),
    ];
    SPELLINGS
        .iter()
        .find(|(word, least, _)| {
            let beginning = word.get(..text.len());
            text.len() >= *least && beginning.is_some_and(|b| b.eq_ignore_ascii_case(text))
        })
        .map(|(_, _, is)| *is)
}

/// Postgres's forms: 32 hexadecimal digits, with an optional hyphen after each four, with or without braces.
fn uuid(text: &str) -> Option<String> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut uuid = String::with_capacity(36);
    let mut digits = 0;
    let mut bytes = inner.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if !byte.is_ascii_hexdigit() || digits == 32 {
            return None;
        }
        uuid.push(char::from(byte.to_ascii_lowercase()));
        digits += 1;
        if matches!(digits, 8 | 12 | 16 | 20) {
            uuid.push('-');
        }
        if digits % 4 == 0 && digits < 32 {
            bytes.next_if_eq(&b'-');
        }
    }
    (digits == 32).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(kind: &ParameterType, cases: &[(&str, Option<&str>)]) {
        for (text, expected) in cases {
            let canonical = kind.canonical(text);
            assert_eq!(canonical.as_deref(), *expected, "{kind:?} {text:?}");
        }
    }

    #[test]
    fn booleans_have_postgres_spellings() {
        for text in [
            "t", "T", "tr", "tru", "true", "TRUE", "y", "ye", "yes", "on", "1",
        ] {
            check(&ParameterType::Bool, &[(text, Some("t"))]);
        }
        for text in ["f", "fal", "false", "n", "no", "of", "off", "0"] {
            check(&ParameterType::Bool, &[(text, Some("f"))]);
        }
        for text in ["", "o", "2", "truee", "01", " t", "ä"] {
            check(&ParameterType::Bool, &[(text, None)]);
        }
    }

    #[test]
    fn uuids_become_lower_case_with_hyphens() {
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [
            uuid,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ] {
            check(&ParameterType::Uuid, &[(text, Some(uuid))]);
        }
        for text in [
            "",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
            "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a-0eebc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            check(&ParameterType::Uuid, &[(text, None)]);
        }
    }

    #[test]
    fn json_must_be_json() {
        check(
            &ParameterType::Json,
            &[
                ("{\"a\": [1e999, null]}", Some("{\"a\": [1e999, null]}")),
                (" 1 ", Some("1")),
                ("", None),
                ("{", None),
                ("'a'", None),
                ("1 2", None),
            ],
        );
    }

    #[test]
    fn values_of_other_types_are_kept_as_sent() {
        let interval = ParameterType::Other("interval".to_owned());
        check(&interval, &[("1 day", Some("1 day")), ("", None)]);
        check(
            &ParameterType::Text,
            &[("", Some("")), (" a ", Some(" a "))],
        );
    }

    fn any_type() -> impl Strategy<Value = ParameterType> {
        prop::sample::select(vec![
            ParameterType::Bool,
            ParameterType::Int2,
            ParameterType::Int4,
            ParameterType::Int8,
            ParameterType::Float4,
            ParameterType::Float8,
            ParameterType::Numeric,
            ParameterType::Text,
            ParameterType::Uuid,
            ParameterType::Date,
            ParameterType::Time,
            ParameterType::Timestamp,
            ParameterType::TimestampTz,
            ParameterType::Json,
            ParameterType::Other("inet".to_owned()),
        ])
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9+\\-.eE:TZ ]{0,30}",
            "[+-]?[0-9]{0,12}\\.?[0-9]{0,12}([eE][+-]?[0-9]{1,3})?",
            "[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,6})?)?(Z|[+-][01][0-9](:?[0-5][0-9])?)?)?",
            "[0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,6})?)?",
            "\\{?[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}\\}?",
            "(?i)(nan|inf|-infinity|tr|off)",
            ".{0,12}",
        ]
    }

    #[test]
    fn a_plus_that_arrived_as_a_space_gets_a_hint() {
        let hint = |text| plus_hint(&ParameterType::TimestampTz, text);
        assert!(hint("2003-01-06T06:30:00 01:00").contains("%2B"));
        assert_eq!(hint("nonsense"), "");
        assert_eq!(plus_hint(&ParameterType::Int4, " 1"), "");
    }

    proptest! {
        #[test]
        fn a_canonical_text_parses_to_the_same_value(kind in any_type(), text in any_text()) {
            if let Some(value) = Value::parse(&kind, &text) {
                let canonical = value.text();
                let again = Value::parse(&kind, &canonical).expect("canonical texts are values");
                prop_assert_eq!(&again.text(), &canonical);
                if kind.unordered_name().is_none() {
                    let order = value.compare(&again);
                    let is_nan = &*canonical == "NaN";
                    prop_assert!(order == Some(Ordering::Equal) || (is_nan && order.is_none()));
                }
            }
        }

        #[test]
        fn floats_keep_their_value(bits in any::<u64>()) {
            let float = f64::from_bits(bits);
            let value = Value::Float8(float).text();
            let again: f64 = value.parse().expect("a float");
            prop_assert!(again == float || (again.is_nan() && float.is_nan()));
            let float = f32::from_bits(bits as u32);
            let again: f32 = Value::Float4(float).text().parse().expect("a float");
            prop_assert!(again == float || (again.is_nan() && float.is_nan()));
        }
    }
}
