//! JSON objects of strangers, by their members. Values stay text until somebody asks for them, so that numbers
//! keep all their digits.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object.
#[derive(Debug)]
pub(super) struct Object<'j>(BTreeMap<String, &'j RawValue>);

impl<'j> Object<'j> {
    /// `None` if this is not an object, or has two members of the same name: which of the two counts is a
    /// matter of the parser, and another one may have looked at the other (RFC 8725, 2.4).
    pub(super) fn parse(json: &'j [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The JSON text of a member.
    pub(super) fn get(&self, name: &str) -> Option<&'j str> {
        self.0.get(name).map(|value| value.get())
    }

    /// The text of a member that is a string.
    pub(super) fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// The members and their JSON texts.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &'j str)> {
        self.0.iter().map(|(name, value)| (&**name, value.get()))
    }
}

impl<'j> Deserialize<'j> for Object<'j> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'j> Visitor<'j> for Members {
            type Value = Object<'j>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member occurs twice"));
                    }
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_each_member_once() {
        let object = Object::parse(br#"{"a":"x","b":[1]}"#).unwrap();
        assert_eq!(object.string("a").as_deref(), Some("x"));
        assert_eq!(object.string("b"), None);
        assert_eq!(object.get("b"), Some("[1]"));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(4_000), "]".repeat(4_000));
        assert!(Object::parse(deep.as_bytes()).is_some());
        for json in [
            "",
            "[]",
            "{}{}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            "{\"a\":}",
        ] {
            assert!(Object::parse(json.as_bytes()).is_none(), "{json}");
        }
    }
}
