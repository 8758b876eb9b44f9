//! One parameter: where a request carries it, its type and its limits.

use serde_json::{Value, json};

use super::json::{Json, Object};
use crate::plan::{Endpoint, Parameter, ParameterType, Place, Presence};
use crate::repository::ParameterDescription;

/// The Parameter Object.
pub(super) fn describe(
    endpoint: &Endpoint,
    parameter: &Parameter,
    kind: &ParameterType,
    described: &ParameterDescription,
) -> Json {
    let mut object = Object::default();
    object.put("name", parameter.name.as_str());
    let place = match parameter.place {
        Place::Path => "path",
        Place::Query | Place::Claim(_) => "query",
    };
    object.put("in", place);
    object.put("required", parameter.presence == Presence::Required);
    if let Some(description) = prose(parameter, kind) {
        object.put("description", description);
    }
    let mut schema = schema(parameter, kind, described);
    if let Presence::Default(text) = &parameter.presence {
        schema.put_json("default", typed(kind, text));
    }
    schema.put("x-postgres-type", described.type_name.as_str());
    if *kind == ParameterType::Json {
        // The text itself is JSON; OpenAPI's styles would serialise an object otherwise.
        let (mut media, mut content) = (Object::default(), Object::default());
        media.put_json("schema", schema.end());
        content.put_json("application/json", media.end());
        object.put_json("content", content.end());
    } else {
        object.put_json("schema", schema.end());
    }
    if let Some(example) = example(endpoint, parameter) {
        object.put_json("example", typed(kind, example));
    }
    object.end()
}

/// A value from the configuration.
fn example<'e>(endpoint: &'e Endpoint, parameter: &'e Parameter) -> Option<&'e str> {
    let warm = endpoint.warm.arguments.first().into_iter().flatten();
    let mut warm = warm.filter(|(name, _)| *name == parameter.name);
    let default = match &parameter.presence {
        Presence::Default(text) => Some(text),
        Presence::Required | Presence::Optional => None,
    };
    let example = warm.next().map(|(_, text)| text);
    let example = example
        .or(default)
        .or(parameter.values.first())
        .or(parameter.minimum.as_ref());
    example.map(String::as_str)
}

/// Its description, with the limits that JSON Schema cannot express.
fn prose(parameter: &Parameter, kind: &ParameterType) -> Option<String> {
    let mut sentences = Vec::new();
    if let Some(description) = &parameter.description {
        sentences.push(description.clone());
    }
    if !is_number(kind) {
        if let Some(least) = &parameter.minimum {
            sentences.push(format!("At least `{least}`."));
        }
        if let Some(greatest) = &parameter.maximum {
            sentences.push(format!("At most `{greatest}`."));
        }
    }
    let reads = match kind {
        ParameterType::Date => Some("A time after the date is ignored."),
        ParameterType::Time | ParameterType::Timestamp => Some("An offset is ignored."),
        ParameterType::TimestampTz => Some("Without an offset, the time is in UTC."),
        ParameterType::Bool
        | ParameterType::Int2
        | ParameterType::Int4
        | ParameterType::Int8
        | ParameterType::Float4
        | ParameterType::Float8
        | ParameterType::Numeric
        | ParameterType::Text
        | ParameterType::Uuid
        | ParameterType::Json
        | ParameterType::Other(_) => None,
    };
    sentences.extend(reads.map(str::to_owned));
    if let Some(pattern) = &parameter.pattern {
        let written = Parameter::written_pattern(pattern);
        if !is_portable(written) {
            sentences.push(format!("The whole text must match `{written}`."));
        }
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn schema(parameter: &Parameter, kind: &ParameterType, described: &ParameterDescription) -> Object {
    let mut schema = Object::from(of_type(kind));
    if !parameter.values.is_empty() {
        let values = parameter.values.iter().map(|text| typed(kind, text));
        schema.put_json("enum", Json::array(values));
        return schema;
    }
    if is_number(kind) {
        for (key, limit) in [
            ("minimum", &parameter.minimum),
            ("maximum", &parameter.maximum),
        ] {
            if let Some(limit) = limit {
                schema.put_json(key, typed(kind, limit));
            }
        }
    }
    if let ParameterType::Text | ParameterType::Other(_) = kind {
        if !described.labels.is_empty() {
            schema.put("enum", described.labels.clone());
            return schema;
        }
        if parameter.place == Place::Path || !matches!(kind, ParameterType::Text) {
            schema.put("minLength", 1);
        }
        schema.put("maxLength", parameter.max_length);
        let written = parameter.pattern.as_ref().map(Parameter::written_pattern);
        schema.put(
            "pattern",
            match written.filter(|written| is_portable(written)) {
                Some(written) => format!("^(?:{written})$"),
                // Postgres has no NUL character.
                None => r"^[^\u0000]*$".to_owned(),
            },
        );
    }
    schema
}

fn of_type(kind: &ParameterType) -> Value {
    let integer = |format: &str, least: i64, greatest: i64| json!({ "type": "integer", "format": format, "minimum": least, "maximum": greatest });
    match kind {
        ParameterType::Bool => json!({ "type": "boolean" }),
        ParameterType::Int2 => integer("int16", i16::MIN.into(), i16::MAX.into()),
        ParameterType::Int4 => integer("int32", i32::MIN.into(), i32::MAX.into()),
        ParameterType::Int8 => integer("int64", i64::MIN, i64::MAX),
        ParameterType::Float4 => json!({
            "type": "number", "format": "float", "minimum": f64::from(f32::MIN), "maximum": f64::from(f32::MAX),
        }),
        ParameterType::Float8 => json!({ "type": "number", "format": "double" }),
        ParameterType::Numeric => json!({ "type": "number" }),
        ParameterType::Text | ParameterType::Other(_) => json!({ "type": "string" }),
        ParameterType::Uuid => json!({ "type": "string", "format": "uuid" }),
        ParameterType::Date => json!({ "type": "string", "format": "date" }),
        // RFC 3339 has no times without an offset; these formats are from OpenAPI's registry.
        ParameterType::Time => json!({ "type": "string", "format": "time-local" }),
        ParameterType::Timestamp => json!({ "type": "string", "format": "date-time-local" }),
        ParameterType::TimestampTz => json!({ "type": "string", "format": "date-time" }),
        ParameterType::Json => json!({}),
    }
}

fn is_number(kind: &ParameterType) -> bool {
    matches!(of_type(kind)["type"].as_str(), Some("integer" | "number"))
}

/// A text of the configuration as a JSON value, with all its digits.
fn typed(kind: &ParameterType, text: &str) -> Json {
    let canonical = kind.canonical(text);
    let value = if *kind == ParameterType::Bool {
        canonical.map(|canonical| Value::from(*canonical == *"t").into())
    } else if *kind == ParameterType::Json || is_number(kind) {
        // What is not a JSON number, such as NaN, stays a string.
        canonical.and_then(|canonical| Json::of(&canonical))
    } else {
        None
    };
    value.unwrap_or_else(|| Value::from(text).into())
}

/// Whether a pattern of Rust's `regex` certainly means the same in JSON Schema.
fn is_portable(pattern: &str) -> bool {
    let mut characters = pattern.chars().peekable();
    let mut is_in_class = false;
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(next)) if next.is_ascii_alphanumeric() && !"dDsSntrf".contains(*next) => {
                return false;
            }
            ('\\', _) => drop(characters.next()),
            // Nested classes and set operations.
            ('[', _) if is_in_class => return false,
            ('&' | '~' | '-', Some(next)) if is_in_class && *next == character => return false,
            ('[', _) => is_in_class = true,
            (']', _) => is_in_class = false,
            ('(', Some('?')) if !is_in_class => {
                characters.next();
                if characters.next() != Some(':') {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_are_not_portable_stay_out_of_schemas() {
        for portable in [
            r"[A-Z]{2}\d{2,3}_\d{4}",
            "a|b",
            "(?:a)+",
            r"\.\(\?i\)",
            "[^a-z_-]",
            "",
        ] {
            assert!(is_portable(portable), "{portable}");
        }
        for other in [
            r"(?i)a",
            r"\pL+",
            r"\w+",
            r"\bword",
            r"[[:alpha:]]",
            "[a-z&&[^b]]",
            r"\x{41}",
            "(?P<n>a)",
        ] {
            assert!(!is_portable(other), "{other}");
        }
    }
}
