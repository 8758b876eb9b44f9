//! JSON strings, escaped as by Postgres's `escape_json`: the short escape of the seven characters that have
//! one, `\u00xx` for the other control characters, and every other character unchanged.

use super::output::{ValueError, check, check_room};

/// Appends `raw` as a JSON string.
pub(super) fn write(out: &mut Vec<u8>, limit: usize, raw: &[u8]) -> Result<(), ValueError> {
    check_room(out, limit, raw.len().saturating_add(2))?;
    out.push(b'"');
    escape(out, limit, utf8(raw)?)?;
    out.push(b'"');
    Ok(())
}

/// Appends a string that is known to be short, such as a column name.
pub(super) fn write_unlimited(out: &mut Vec<u8>, string: &str) {
    out.push(b'"');
    escape(out, usize::MAX, string).expect("no vector is longer than usize::MAX");
    out.push(b'"');
}

/// Postgres guarantees UTF-8, except in databases whose encoding is `SQL_ASCII`.
pub(super) fn utf8(raw: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(raw).map_err(|_| ValueError::Malformed("text that is not UTF-8"))
}

/// Copies runs without escapes as a whole.
fn escape(out: &mut Vec<u8>, limit: usize, string: &str) -> Result<(), ValueError> {
    let mut rest = string.as_bytes();
    loop {
        let (run, after) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(run);
        let Some((&special, tail)) = after.split_first() else {
            return Ok(());
        };
        push_escape(out, special);
        check(out, limit)?;
        rest = tail;
    }
}

fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// The number of bytes before the first that needs an escape.
fn plain_prefix(bytes: &[u8]) -> usize {
    // The compiler vectorises whole blocks, which are checked without a branch per byte.
    const BLOCK: usize = 16;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let plain = blocks
        .iter()
        .take_while(|block| {
            !block
                .iter()
                .fold(false, |any, &byte| any | is_special(byte))
        })
        .count()
        * BLOCK;
    let tail = &bytes[plain..];
    plain
        + tail
            .iter()
            .position(|&byte| is_special(byte))
            .unwrap_or(tail.len())
}

fn push_escape(out: &mut Vec<u8>, special: u8) {
    let short = match special {
        0x08 => b"\\b",
        b'\t' => b"\\t",
        b'\n' => b"\\n",
        0x0c => b"\\f",
        b'\r' => b"\\r",
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        _ => {
            out.extend_from_slice(if special < 0x10 { b"\\u000" } else { b"\\u001" });
            out.push(b"0123456789abcdef"[usize::from(special & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(short);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(string: &str) -> String {
        let mut out = Vec::new();
        write_unlimited(&mut out, string);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_characters_quotes_and_backslashes_are_escaped_and_nothing_else_is() {
        assert_eq!(
            written("a\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f} \"\\/<\u{7f}\u{80}é😀\u{2028}"),
            "\"a\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/<\u{7f}\u{80}é😀\u{2028}\"",
        );
    }

    #[test]
    fn an_escape_is_found_at_every_offset() {
        for before in 0..40 {
            for after in 0..40 {
                let string = format!("{}\"{}", "x".repeat(before), "y".repeat(after));
                let expected = format!("\"{}\\\"{}\"", "x".repeat(before), "y".repeat(after));
                assert_eq!(written(&string), expected);
            }
        }
    }

    #[test]
    fn escapes_stop_at_the_limit() {
        let mut out = Vec::new();
        assert_eq!(write(&mut out, 1000, &[1; 900]), Err(ValueError::TooLarge));
        assert!(out.len() < 1010, "{}", out.len());
    }

    proptest! {
        #[test]
        fn any_string_reads_back(string: String) {
            let read: String = serde_json::from_str(&written(&string)).unwrap();
            prop_assert_eq!(read, string);
        }
    }
}
