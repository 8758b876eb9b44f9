//! Percent-decoding, strictly: text that does not decode is refused, not guessed at. Each byte is looked at
//! once, and text without an escape is not copied.

use std::borrow::Cow;

/// Why text does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum DecodeError {
    /// A `%` is not followed by two hexadecimal digits.
    BrokenEscape,
    /// The bytes are not UTF-8.
    NotUtf8,
}

/// Decodes a segment of a path.
pub(in crate::http) fn segment(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    decoded(text, |byte| byte == b'%')
}

/// Undoes needless escapes in a path: an escaped letter, digit, `-`, `.`, `_` or `~` means the same as the
/// character itself (RFC 3986, 2.3). Nothing else in a path is changed, neither slashes nor dots: an
/// endpoint answers at the path that was declared.
pub(in crate::http) fn unescaped_path(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    let Some(first) = bytes.iter().position(|byte| *byte == b'%') else {
        return Cow::Borrowed(path);
    };
    #[cfg(test)]
    tests::COPIED.with(|copied| copied.set(copied.get() + path.len()));
    let mut unescaped = Vec::with_capacity(bytes.len());
    unescaped.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let Some((&byte, others)) = rest.split_first() {
        if byte != b'%' {
            unescaped.push(byte);
            rest = others;
            continue;
        }
        let Some(byte) = escaped(rest) else {
            return Cow::Borrowed(path);
        };
        let (escape, others) = rest.split_at(ESCAPE_BYTES);
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            unescaped.push(byte);
        } else {
            unescaped.extend_from_slice(escape);
        }
        rest = others;
    }
    // The path was UTF-8, and the characters that replace escapes are ASCII.
    String::from_utf8(unescaped).map_or(Cow::Borrowed(path), Cow::Owned)
}

/// A decoded name with its value.
pub(in crate::http) type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

/// Decodes each name and value of a query string, in the form that browsers send: `+` is a space.
pub(in crate::http) fn query(text: &str) -> impl Iterator<Item = Result<Pair<'_>, DecodeError>> {
    // Not `split('&')`: its `memchr` costs more for each pair than a look at its few bytes.
    #[expect(clippy::manual_pattern_char_comparison, reason = "see above")]
    let pairs = text
        .split(|c: char| c == '&')
        .filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((form_value(name)?, form_value(value)?))
    })
}

fn form_value(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    decoded(text, |byte| byte == b'%' || byte == b'+')
}

/// Decodes text in which these bytes have a special meaning: `%`, and perhaps `+`.
fn decoded(text: &str, is_special: impl Fn(u8) -> bool) -> Result<Cow<'_, str>, DecodeError> {
    let Some(first) = text.bytes().position(&is_special) else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let Some((&byte, others)) = rest.split_first() {
        if !is_special(byte) {
            decoded.push(byte);
            rest = others;
        } else if byte == b'+' {
            decoded.push(b' ');
            rest = others;
        } else {
            decoded.push(escaped(rest).ok_or(DecodeError::BrokenEscape)?);
            rest = &rest[ESCAPE_BYTES..];
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| DecodeError::NotUtf8)?;
    Ok(Cow::Owned(decoded))
}

/// The length of an escape such as `%41`.
pub(in crate::http) const ESCAPE_BYTES: usize = 3;

/// The byte that the escape at the start of the text stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match text {
        [b'%', high, low, ..] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    }
}

#[cfg(test)]
pub(in crate::http) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Bytes of paths that [`unescaped_path`] has copied on this thread.
        pub(super) static COPIED: Cell<usize> = const { Cell::new(0) };
    }

    /// How many bytes of paths `work` copies.
    pub(in crate::http) fn copied_by(work: impl FnOnce()) -> usize {
        COPIED.set(0);
        work();
        COPIED.get()
    }

    fn check(text: &str, expect: &[(&str, &str)]) {
        let pairs: Vec<Pair<'_>> = query(text).collect::<Result<_, _>>().unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(pairs, expect, "{text}");
    }

    #[test]
    fn a_query_is_decoded_as_browsers_encode_it() {
        check("", &[]);
        check("a=1&b=x", &[("a", "1"), ("b", "x")]);
        check("&a=1&&b", &[("a", "1"), ("b", "")]);
        check("a=b=c", &[("a", "b=c")]);
        check(
            "a=+%2B+%26&%C3%A4=%F0%9F%A6%80",
            &[("a", " + &"), ("ä", "🦀")],
        );
    }

    #[test]
    fn only_needless_escapes_are_undone() {
        for (path, expected) in [
            ("/count", "/count"),
            ("/c%6Funt", "/count"),
            ("/c%6funt%2e", "/count."),
            ("/a%2Fb%20c%25", "/a%2Fb%20c%25"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz%41", "/%zz%41"),
            ("/%+1", "/%+1"),
            ("/%2%35", "/%2%35"),
            ("//a/../b/", "//a/../b/"),
        ] {
            assert_eq!(unescaped_path(path), expected, "{path}");
        }
    }

    #[test]
    fn text_that_does_not_decode_is_refused() {
        for text in ["%", "a%2", "%zz", "%2x", "a%", "%%20"] {
            assert_eq!(segment(text), Err(DecodeError::BrokenEscape), "{text}");
        }
        for text in ["%ff", "%C3", "%ED%A0%80"] {
            assert_eq!(segment(text), Err(DecodeError::NotUtf8), "{text}");
        }
        assert_eq!(segment("a+b%20c").unwrap(), "a+b c");
    }
}
