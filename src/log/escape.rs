//! Keeps text from outside on one line and from controlling the terminal.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Escapes invisible characters as JSON does: line breaks, control characters, changes of the writing
/// direction. JSON text stays the same JSON, apart from line breaks between its tokens.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut seen = String::with_capacity(text.len() + 16);
    write_escaped(&mut seen, text).expect("writing to memory does not fail");
    Cow::Owned(seen)
}

/// Escapes all text that is written through it.
pub(super) struct Escaped<W>(pub(super) W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_escaped(&mut self.0, text)
    }
}

fn write_escaped(to: &mut impl Write, mut text: &str) -> fmt::Result {
    while let Some((at, invisible)) = text.char_indices().find(|(_, c)| is_invisible(*c)) {
        to.write_str(&text[..at])?;
        match invisible {
            '\n' => to.write_str("\\n")?,
            '\r' => to.write_str("\\r")?,
            '\t' => to.write_str("\\t")?,
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    write!(to, "\\u{unit:04x}")?;
                }
            }
        }
        text = &text[at + invisible.len_utf8()..];
    }
    to.write_str(text)
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and Unicode's format characters: direction
/// marks, overrides, joiners, tags.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped_as_in_json() {
        let text = "a\nb\r\t\u{1b}[2K\u{7f}\u{9b}\u{202e}\u{2028}\u{e0041}\u{0}";
        let seen = escaped(text);
        let parts = [
            r"a\nb\r\t\u001b[2K\u007f",
            r"\u009b\u202e\u2028\udb40\udc41\u0000",
        ];
        assert_eq!(seen, parts.concat());
        let back: String = serde_json::from_str(&format!("\"{seen}\"")).unwrap();
        assert_eq!(back, text);
    }

    #[test]
    fn visible_text_is_unchanged() {
        for text in ["", r#"a "b" 'c' \d"#, "Zürich 東京 🙂 é"] {
            assert!(matches!(escaped(text), Cow::Borrowed(it) if it == text));
        }
    }
}
