//! Percent-encoded text, strictly: what does not decode is refused, not guessed.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Why a text does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// A `%` without two hexadecimal digits behind it.
    BrokenEscape,
    /// The bytes are not UTF-8.
    NotUtf8,
}

/// A segment of a path.
pub(super) fn segment(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    if has_broken_escape(text) {
        return Err(DecodeError::BrokenEscape);
    }
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| DecodeError::NotUtf8)
}

/// A path whose needless escapes are undone: an escaped letter, digit, `-`, `.`, `_` or `~` means the
/// same as the character itself (RFC 3986, 2.3). Nothing else of a path is changed, neither slashes
/// nor dots: what is declared is what is answered.
pub(super) fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains('%') || has_broken_escape(path) {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let byte = piece
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte));
        match byte {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&piece[2..]);
            }
            None => {
                plain.push('%');
                plain.push_str(piece);
            }
        }
    }
    Cow::Owned(plain)
}

/// A name and its value, decoded.
pub(super) type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

/// The name and value of each pair in a query string, in the form browsers send: `+` is a space.
pub(super) fn query(text: &str) -> Result<Vec<Pair<'_>>, DecodeError> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((form(name)?, form(value)?))
        })
        .collect()
}

fn form(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !text.contains('+') {
        return segment(text);
    }
    let spaced = text.replace('+', " ");
    segment(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

fn has_broken_escape(text: &str) -> bool {
    let mut pieces = text.split('%');
    pieces.next();
    pieces.any(|piece| {
        let mut digits = piece.bytes().take(2).filter(u8::is_ascii_hexdigit);
        digits.next().is_none() || digits.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str)]) {
        let pairs = query(text).unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(pairs, expect, "{text}");
    }

    #[test]
    fn a_query_is_read_as_browsers_write_it() {
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
    fn needless_escapes_are_undone_and_nothing_else() {
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
            assert_eq!(plain(path), expected, "{path}");
        }
    }

    #[test]
    fn what_does_not_decode_is_refused() {
        for text in ["%", "a%2", "%zz", "%2x", "a%", "%%20"] {
            assert_eq!(segment(text), Err(DecodeError::BrokenEscape), "{text}");
        }
        for text in ["%ff", "%C3", "%ED%A0%80"] {
            assert_eq!(segment(text), Err(DecodeError::NotUtf8), "{text}");
        }
        assert_eq!(segment("a+b%20c").unwrap(), "a+b c");
    }
}
