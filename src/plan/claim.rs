//! What a credential says under one name. Equal claims are equal texts, so that callers who say the same share
//! an answer.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Deeper values stay as they were written. Postgres's own limit is some thousands.
const DEPTH_MAX: usize = 64;

/// A claim, which is never `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A text.
    Text(String),
    /// A number, a boolean, an array or an object, as JSON.
    Json(String),
}

impl Claim {
    /// What a JSON text says; `None` for `null`, and for a text with half a surrogate pair. Numbers keep all
    /// their digits.
    pub fn from_json(json: &str) -> Option<Self> {
        match json.as_bytes().first()? {
            b'"' => serde_json::from_str(json).ok().map(Self::Text),
            b'n' => None,
            _ => Some(Self::Json(
                canonical(json, 0).unwrap_or_else(|| compact(json)),
            )),
        }
    }

    /// As the text of a parameter.
    pub fn as_text(&self) -> &str {
        let (Self::Text(text) | Self::Json(text)) = self;
        text
    }

    /// As JSON.
    pub(super) fn write_json(&self, out: &mut String) {
        match self {
            Self::Text(text) => write_text(text, out),
            Self::Json(json) => out.push_str(json),
        }
    }
}

/// Writes a JSON object with these members, in this order.
pub(super) fn write_object<'n, T>(
    members: impl IntoIterator<Item = (&'n str, T)>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    out.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// JSON without white space, with the members of objects sorted by name. If a name occurs twice, the last one
/// counts, as in Postgres. `None` if it is too deep, or contains half a surrogate pair.
fn canonical(json: &str, depth: usize) -> Option<String> {
    if depth > DEPTH_MAX {
        return None;
    }
    let nested = |value: &RawValue| canonical(value.get(), depth + 1);
    match json.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
            let members = members
                .iter()
                .map(|(name, value)| Some((name.as_str(), nested(value)?)));
            let members: Vec<_> = members.collect::<Option<_>>()?;
            let mut object = String::with_capacity(json.len());
            write_object(members, &mut object, |value, out| out.push_str(&value));
            Some(object)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let items: Vec<_> = items.into_iter().map(nested).collect::<Option<_>>()?;
            Some(format!("[{}]", items.join(",")))
        }
        b'"' => {
            let text: String = serde_json::from_str(json).ok()?;
            Some(serde_json::Value::from(text).to_string())
        }
        _ => Some(json.trim_end().to_owned()),
    }
}

/// Valid JSON without white space between its tokens.
fn compact(json: &str) -> String {
    let mut is_in_string = false;
    let mut is_escaped = false;
    let is_kept = |c: &char| {
        if is_in_string {
            is_in_string = *c != '"' || is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            return true;
        }
        is_in_string = *c == '"';
        !c.is_ascii_whitespace()
    };
    json.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(json: &str) -> Option<String> {
        Claim::from_json(json).map(|claim| {
            let mut out = String::new();
            claim.write_json(&mut out);
            out
        })
    }

    #[test]
    fn claims_are_text_or_canonical_json() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        for (json, text) in [
            (r#""a \"b\" \u00e9""#, Some("a \"b\" é")),
            (
                "12345678901234567890123.10",
                Some("12345678901234567890123.10"),
            ),
            ("true", Some("true")),
            ("null", None),
            (
                r#"[ 1.0, "\u0061 b\\" , { "d" : "\" e", "c": {"b":[],"a":null} } ]"#,
                Some(r#"[1.0,"a b\\",{"c":{"a":null,"b":[]},"d":"\" e"}]"#),
            ),
            (r#"{ "a": 1, "\u0061": 2 }"#, Some(r#"{"a":2}"#)),
            (r#""\ud800""#, None),
            (r#"[ "\ud800" ]"#, Some(r#"["\ud800"]"#)),
            (&deep, Some(&deep)),
        ] {
            let claim = Claim::from_json(json);
            assert_eq!(claim.as_ref().map(Claim::as_text), text, "{json}");
        }
        assert_eq!(written("5").as_deref(), Some("5"));
        assert_eq!(written("\"5\"").as_deref(), Some("\"5\""));
        assert_eq!(written(r#""\"\n""#).as_deref(), Some(r#""\"\n""#));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".{0,3}", inner, 0..4)
                    .prop_map(|members| members.into_iter().rev().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_same_value_is_the_same_text_however_it_is_written(value in any_json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(written(&pretty), written(&value.to_string()));
            match written(&pretty) {
                Some(text) => prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value),
                None => prop_assert!(value.is_null()),
            }
        }

        #[test]
        fn compact_json_is_the_same_value(strings in proptest::collection::vec(".{0,8}", 0..4)) {
            let value = json!({ "a": strings, " b ": [1, null] });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), value.to_string());
        }
    }
}
