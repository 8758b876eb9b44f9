//! JSON as text, so that numbers keep their digits and objects their duplicate keys.

use std::fmt::Write;

use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// The text, if it is valid JSON.
    pub fn of(text: &str) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        Some(Self(raw.get().to_owned()))
    }

    /// An array of these values.
    pub(super) fn array(items: impl IntoIterator<Item = Self>) -> Self {
        let items: Vec<String> = items.into_iter().map(|item| item.0).collect();
        Self(format!("[{}]", items.join(",")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text with line breaks, for people.
    pub fn pretty(&self) -> String {
        let mut pretty = String::with_capacity(self.0.len() * 2);
        let mut depth = 0;
        let (mut is_text, mut is_escaped) = (false, false);
        let mut characters = self.0.chars().peekable();
        let line = |pretty: &mut String, depth: usize| {
            pretty.push('\n');
            pretty.extend(std::iter::repeat_n("  ", depth));
        };
        while let Some(character) = characters.next() {
            if is_text {
                pretty.push(character);
                is_text = is_escaped || character != '"';
                is_escaped = !is_escaped && character == '\\';
                continue;
            }
            match character {
                '{' | '[' => {
                    while characters.next_if(char::is_ascii_whitespace).is_some() {}
                    pretty.push(character);
                    if let Some(end) = characters.next_if(|next| ['}', ']'].contains(next)) {
                        pretty.push(end);
                    } else {
                        depth += 1;
                        line(&mut pretty, depth);
                    }
                }
                '}' | ']' => {
                    depth = depth.saturating_sub(1);
                    line(&mut pretty, depth);
                    pretty.push(character);
                }
                ',' => {
                    pretty.push(character);
                    line(&mut pretty, depth);
                }
                ':' => pretty.push_str(": "),
                _ if character.is_ascii_whitespace() => {}
                _ => {
                    is_text = character == '"';
                    pretty.push(character);
                }
            }
        }
        pretty
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

/// An object under construction, with its keys in the order of insertion.
#[derive(Debug, Default)]
pub(super) struct Object(Vec<(String, Json)>);

impl Object {
    /// Sets the value of a key.
    pub(super) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.put_json(key, value.into().into());
    }

    pub(super) fn put_json(&mut self, key: &str, value: Json) {
        match self.0.iter_mut().find(|(other, _)| other == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Adds a key that is not present yet, without a search: for objects with thousands of keys.
    pub(super) fn add_json(&mut self, key: &str, value: Json) {
        self.0.push((key.to_owned(), value));
    }

    pub(super) fn end(self) -> Json {
        let mut text = String::from("{");
        for (at, (key, Json(value))) in self.0.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Writing to a String does not fail.
            let _ = write!(text, "{comma}{}:{value}", Value::from(key));
        }
        text.push('}');
        Json(text)
    }
}

impl From<Value> for Object {
    /// The object; empty for any other value.
    fn from(value: Value) -> Self {
        let Value::Object(members) = value else {
            return Self::default();
        };
        let members = members.into_iter();
        Self(members.map(|(key, value)| (key, value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_stay_as_they_are() {
        let text = r#"{"a":1e100,"a":-0,"b":12345678901234567890.10,"c":"\u0000\"}"}"#;
        let mut object = Object::from(json!({ "x": 1, "y": [] }));
        object.put_json("x", Json::of(&format!(" {text} ")).unwrap());
        object.put("\"", true);
        object.add_json(
            "z",
            Json::array([Json::of("1.0").unwrap(), json!(null).into()]),
        );
        assert_eq!(
            object.end().as_str(),
            format!(r#"{{"x":{text},"y":[],"\"":true,"z":[1.0,null]}}"#)
        );
        assert_eq!(Json::array([]).as_str(), "[]");
        assert_eq!(Object::default().end().as_str(), "{}");
        for text in ["", "{", "1 2", "NaN", "'a'"] {
            assert_eq!(Json::of(text), None, "{text}");
        }
    }

    #[test]
    fn line_breaks_change_nothing_else() {
        let value = json!({
            "a": [1, { "b": [], "c": {} }, "x, {y}: [z]"], "quo\"te\\": null, "d": [[]], "\\": "\\",
        });
        let pretty = Json::from(value.clone()).pretty();
        assert_eq!(pretty, format!("{value:#}"));
        let pretty = Json::of(r#"{ "a" : [ ] , "b":[ 1e100 ,-0 ] }"#)
            .unwrap()
            .pretty();
        assert_eq!(
            pretty,
            "{\n  \"a\": [],\n  \"b\": [\n    1e100,\n    -0\n  ]\n}"
        );
    }
}
