//! Maps a place in a TOML string's value to the place where it is written, past quotes, escapes and line
//! continuations. The parser has already checked the string.

use std::ops::Range;

/// The bytes of `written`, a TOML string with its quotes, for byte `value_offset` of its value: a whole
/// character or escape. For the byte after the last, an empty range before the closing quotes. `None` if
/// `written` is not a string or its value is shorter.
pub(super) fn written_at(written: &str, value_offset: usize) -> Option<Range<usize>> {
    let quotes = Quotes::of(written)?;
    let mut at = quotes.body_start(written);
    let body_end = written.len().checked_sub(quotes.len())?;
    let mut value_at = 0;
    loop {
        if quotes.is_multi_line_basic() {
            at += continuation_len(written.get(at..body_end)?);
        }
        let rest = written.get(at..body_end)?;
        let Some(first) = rest.chars().next() else {
            return (value_at == value_offset).then_some(at..at);
        };
        let (written_len, value_len) = if quotes.escapes() {
            unit(rest)
        } else {
            (first.len_utf8(), first.len_utf8())
        };
        if value_offset < value_at + value_len {
            return Some(at..at + written_len);
        }
        at += written_len;
        value_at += value_len;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Basic,
    MultiLineBasic,
    Literal,
    MultiLineLiteral,
}

impl Quotes {
    fn of(written: &str) -> Option<Self> {
        let multi_line = written.len() >= 6;
        Some(match written {
            w if multi_line && w.starts_with("\"\"\"") => Self::MultiLineBasic,
            w if multi_line && w.starts_with("'''") => Self::MultiLineLiteral,
            w if w.starts_with('"') && w.len() >= 2 => Self::Basic,
            w if w.starts_with('\'') && w.len() >= 2 => Self::Literal,
            _ => return None,
        })
    }

    fn len(self) -> usize {
        match self {
            Self::Basic | Self::Literal => 1,
            Self::MultiLineBasic | Self::MultiLineLiteral => 3,
        }
    }

    fn escapes(self) -> bool {
        matches!(self, Self::Basic | Self::MultiLineBasic)
    }

    fn is_multi_line_basic(self) -> bool {
        self == Self::MultiLineBasic
    }

    /// Skips a line end right after the opening quotes, which is not part of the value.
    fn body_start(self, written: &str) -> usize {
        let body = &written[self.len()..];
        let line_end = match self {
            Self::Basic | Self::Literal => 0,
            Self::MultiLineBasic | Self::MultiLineLiteral if body.starts_with("\r\n") => 2,
            Self::MultiLineBasic | Self::MultiLineLiteral => usize::from(body.starts_with('\n')),
        };
        self.len() + line_end
    }
}

/// The length of a `\` at the end of a line with all white space after it, or 0.
fn continuation_len(rest: &str) -> usize {
    let Some(after) = rest.strip_prefix('\\') else {
        return 0;
    };
    let line = after.trim_start_matches([' ', '\t']);
    if !line.starts_with(['\n', '\r']) {
        return 0;
    }
    let remaining = line.trim_start_matches([' ', '\t', '\n', '\r']);
    rest.len() - remaining.len() + continuation_len(remaining)
}

/// The length of the first character of `rest` as written and as a value.
fn unit(rest: &str) -> (usize, usize) {
    let mut chars = rest.chars();
    let Some(first) = chars.next() else {
        return (0, 0);
    };
    if first != '\\' {
        return (first.len_utf8(), first.len_utf8());
    }
    let digits = match chars.next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        Some(escaped) => return (1 + escaped.len_utf8(), 1),
        None => return (1, 1),
    };
    let end = 2 + digits;
    let value = rest
        .get(2..end)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        .and_then(char::from_u32)
        .map_or(1, char::len_utf8);
    (end.min(rest.len()), value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(written: &str) {
        let document = format!("k = {written}");
        let table = toml::de::DeTable::parse(&document).expect("a TOML string");
        let value = table.get_ref()["k"]
            .get_ref()
            .as_str()
            .expect("a string")
            .to_owned();
        for (offset, character) in value.char_indices() {
            let at = written_at(written, offset).expect("every character was written somewhere");
            let part = &written[at];
            let is_itself = part == character.to_string();
            assert!(
                is_itself || part.starts_with('\\'),
                "{character:?} is not {part:?}"
            );
            if !is_itself {
                let single = format!("k = \"{part}\"");
                let table = toml::de::DeTable::parse(&single).expect("an escape");
                assert_eq!(
                    table.get_ref()["k"].get_ref().as_str(),
                    Some(&*character.to_string())
                );
            }
        }
        assert!(written_at(written, value.len()).is_some());
        assert_eq!(written_at(written, value.len() + 1), None);
    }

    #[test]
    fn every_kind_of_string_leads_back_to_what_was_written() {
        check("'a b'");
        check("''");
        check("\"\"");
        check("'''\nline\r\nsecond 'quoted''''");
        check("\"tab \\t quote \\\" back \\\\ ä \\u00e4 \\U0001F600 \\x41 \\e end\"");
        check(
            "\"\"\"\r\nfirst\nsecond \\\n\n   joined \\  \r\n  \\\n again \\\"\\\"\\\" \"\" x\"\"\"",
        );
        check("\"\"\"\\\n   \"\"\"");
        assert_eq!(written_at("42", 0), None);
    }

    proptest! {
        #[test]
        fn any_pieces_lead_back(pieces in prop::collection::vec(prop::sample::select(vec![
            "a", " ", "ä", "😀", "\\n", "\\t", "\\\\", "\\\"", "\\u00e4", "\\U0001F600", "\\x7e",
            "\n", "\r\n", "\\\n", "\\  \n\n \t", "'", "\"x",
        ]), 0..12)) {
            check(&format!("\"\"\"{}\"\"\"", pieces.concat()));
        }

        #[test]
        fn no_text_panics(text in ".*", offset in 0usize..40) {
            let _ = written_at(&text, offset);
            let _ = written_at(&format!("\"{text}\""), offset);
            let _ = written_at(&format!("\"\"\"{text}\"\"\""), offset);
        }
    }
}
