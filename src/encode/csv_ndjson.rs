//! The rows of a finished JSON document as NDJSON and CSV. They are read back from the document, so that a
//! format costs neither a query nor memory until it is requested, and formats never disagree.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::plan::Shape;

/// The document as lines, each a JSON value.
pub(super) fn ndjson(shape: Shape, names: &[&str], document: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(document.len());
    match shape {
        Shape::Rows => each_row(document, |row: &RawValue| line(&mut lines, row.get()))?,
        Shape::Columns => {
            let keys: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            each_transposed(document, |values| {
                let mut text = String::from("{");
                for (i, (key, value)) in keys.iter().zip(values).enumerate() {
                    text.push_str(if i == 0 { "" } else { "," });
                    text.push_str(key);
                    text.push(':');
                    text.push_str(value.get());
                }
                text.push('}');
                line(&mut lines, &text);
            })?;
        }
        Shape::Row | Shape::Tuple | Shape::Value => {
            let whole: &RawValue = serde_json::from_slice(document)?;
            line(&mut lines, whole.get());
        }
    }
    Ok(lines)
}

/// JSON escapes line ends inside strings. Outside of strings, where a `json` column may have them, they are
/// white space.
fn line(lines: &mut Vec<u8>, json: &str) {
    let bytes = json.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => byte,
    });
    lines.extend(bytes);
    lines.push(b'\n');
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// The document as CSV (RFC 4180), after a record of column names. As in Postgres's `COPY`, NULL is an empty
/// field, and an empty text a pair of quotes.
pub(super) fn csv(shape: Shape, names: &[&str], document: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut records = Vec::with_capacity(document.len());
    record(
        &mut records,
        names.iter().map(|name| Some(Cow::Borrowed(*name))),
    );
    let mut push = |values: &[&RawValue]| record(&mut records, values.iter().map(|v| field(v)));
    match shape {
        Shape::Rows => each_row(document, |row: Object<'_>| push(&row.0))?,
        Shape::Columns => each_transposed(document, push)?,
        Shape::Row => push(&serde_json::from_slice::<Object<'_>>(document)?.0),
        Shape::Tuple => push(&serde_json::from_slice::<Vec<&RawValue>>(document)?),
        Shape::Value => push(&[serde_json::from_slice(document)?]),
    }
    Ok(records)
}

/// A value in CSV: texts without their JSON quotes, everything else as in JSON.
fn field(value: &RawValue) -> Option<Cow<'_, str>> {
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => {
            // It is a valid string, since the document has been parsed.
            let unquoted = serde_json::from_str::<String>(text).ok();
            Some(unquoted.map_or(Cow::Borrowed(text), Cow::Owned))
        }
        other => Some(Cow::Borrowed(other)),
    }
}

fn record<'v>(records: &mut Vec<u8>, fields: impl ExactSizeIterator<Item = Option<Cow<'v, str>>>) {
    // A record of a single NULL must not be an empty line, which parsers skip.
    let is_single = fields.len() == 1;
    for (i, text) in fields.enumerate() {
        if i > 0 {
            records.push(b',');
        }
        match text {
            None if is_single => records.extend_from_slice(b"\"\""),
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\r', '\n']) => {
                records.push(b'"');
                records.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                records.push(b'"');
            }
            Some(text) => records.extend_from_slice(text.as_bytes()),
        }
    }
    records.extend_from_slice(b"\r\n");
}

/// Calls `each` for every element of an array.
fn each_row<'d, T: Deserialize<'d>>(
    document: &'d [u8],
    each: impl FnMut(T),
) -> serde_json::Result<()> {
    struct Rows<T, F>(F, PhantomData<T>);
    impl<'d, T: Deserialize<'d>, F: FnMut(T)> Visitor<'d> for Rows<T, F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of rows")
        }

        fn visit_seq<A: SeqAccess<'d>>(mut self, mut rows: A) -> Result<(), A::Error> {
            while let Some(row) = rows.next_element()? {
                (self.0)(row);
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_slice(document).deserialize_seq(Rows(each, PhantomData))
}

/// Calls `each` with the values of each row of an object of arrays.
fn each_transposed(document: &[u8], mut each: impl FnMut(&[&RawValue])) -> serde_json::Result<()> {
    let columns: Object<'_, Vec<&RawValue>> = serde_json::from_slice(document)?;
    let rows = columns.0.first().map_or(0, Vec::len);
    let mut row = Vec::with_capacity(columns.0.len());
    for i in 0..rows {
        row.clear();
        row.extend(columns.0.iter().filter_map(|values| values.get(i)));
        each(&row);
    }
    Ok(())
}

/// The values of an object, in order.
struct Object<'d, T = &'d RawValue>(Vec<T>, PhantomData<&'d ()>);

impl<'d, T: Deserialize<'d>> Deserialize<'d> for Object<'d, T> {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);
        impl<'d, T: Deserialize<'d>> Visitor<'d> for Values<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'d>>(self, mut map: A) -> Result<Vec<T>, A::Error> {
                let mut values = Vec::new();
                while let Some((_, value)) = map.next_entry::<IgnoredAny, T>()? {
                    values.push(value);
                }
                Ok(values)
            }
        }
        let values = deserializer.deserialize_map(Values(PhantomData))?;
        Ok(Self(values, PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(shape: Shape, names: &[&str], document: &str) -> (String, String) {
        let csv = csv(shape, names, document.as_bytes()).unwrap();
        let ndjson = ndjson(shape, names, document.as_bytes()).unwrap();
        (
            String::from_utf8(csv).unwrap(),
            String::from_utf8(ndjson).unwrap(),
        )
    }

    #[test]
    fn every_shape_has_its_rows() {
        let names = ["id", "name"];
        let two = "id,name\r\n1,Ada\r\n2,\r\n";
        let lines = "{\"id\":1,\"name\":\"Ada\"}\n{\"id\":2,\"name\":null}\n";
        let rows = r#"[{"id":1,"name":"Ada"},{"id":2,"name":null}]"#;
        assert_eq!(both(Shape::Rows, &names, rows), (two.into(), lines.into()));
        let columns = r#"{"id":[1,2],"name":["Ada",null]}"#;
        assert_eq!(
            both(Shape::Columns, &names, columns),
            (two.into(), lines.into())
        );
        let one = "id,name\r\n1,Ada\r\n";
        for (shape, document) in [
            (Shape::Row, r#"{"id":1,"name":"Ada"}"#),
            (Shape::Tuple, r#"[1,"Ada"]"#),
        ] {
            assert_eq!(
                both(shape, &names, document),
                (one.into(), format!("{document}\n"))
            );
        }
        let value = both(Shape::Value, &["n"], "2823");
        assert_eq!(value, ("n\r\n2823\r\n".into(), "2823\n".into()));
    }

    #[test]
    fn without_rows_csv_has_its_header_and_ndjson_nothing() {
        let empty = ("id,name\r\n".to_owned(), String::new());
        assert_eq!(both(Shape::Rows, &["id", "name"], "[]"), empty);
        assert_eq!(
            both(Shape::Columns, &["id", "name"], r#"{"id":[],"name":[]}"#),
            empty
        );
    }

    #[test]
    fn csv_quotes_what_would_be_misread() {
        let names = ["a,b", "c\"d"];
        let document = r#"[{"a,b":"x\"y","c\"d":"l1\r\nl2"},{"a,b":"","c\"d":[1, {"k":"v"}]},{"a,b":true,"c\"d":-1.5e300}]"#;
        let (csv, _) = both(Shape::Rows, &names, document);
        assert_eq!(
            csv,
            "\"a,b\",\"c\"\"d\"\r\n\"x\"\"y\",\"l1\r\nl2\"\r\n\"\",\"[1, {\"\"k\"\":\"\"v\"\"}]\"\r\ntrue,-1.5e300\r\n"
        );
        let (csv, _) = both(Shape::Rows, &["n"], r#"[{"n":null},{"n":1}]"#);
        assert_eq!(
            csv, "n\r\n\"\"\r\n1\r\n",
            "a single NULL is not an empty line"
        );
    }

    #[test]
    fn a_line_of_ndjson_is_one_line() {
        let document = "[{\"j\":{\"a\":\n 1,\r\n\"b\":\"x\\ny\"}}]";
        let (_, ndjson) = both(Shape::Rows, &["j"], document);
        assert_eq!(ndjson, "{\"j\":{\"a\":  1,  \"b\":\"x\\ny\"}}\n");
    }

    /// Deeply nested values are skipped, not parsed.
    #[test]
    fn deep_nesting_is_harmless() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let (csv, ndjson) = both(Shape::Rows, &["d"], &format!("[{{\"d\":{deep}}}]"));
        assert_eq!(csv, format!("d\r\n{deep}\r\n"));
        assert_eq!(ndjson, format!("{{\"d\":{deep}}}\n"));
    }
}
