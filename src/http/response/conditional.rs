//! Whether the client has the response already: `If-None-Match` and `If-Modified-Since`, RFC 9110, 13.1.2 and
//! 13.1.3.

use std::time::{Duration, SystemTime};

use warp::http::HeaderValue;

use crate::encode::{Coding, Document, Variant};
use crate::http::request::{Field, RequestHead};

/// The variant that the client has, if it is of this document in this format. A cache may hold it in another
/// coding than this request would get: the tag in the 304 says which variant it confirms.
pub(in crate::http) fn not_modified(
    request: &RequestHead,
    document: &Document,
    variant: Variant,
    last_modified: SystemTime,
) -> Option<Variant> {
    if request.has(Field::IfNoneMatch) {
        let own = document.etag(variant);
        if matches(request.lines(Field::IfNoneMatch), own.as_str()) {
            return Some(variant);
        }
        // All other codings in one pass, because the list may be long.
        let others = Coding::ALL.map(|coding| Variant { coding, ..variant });
        let tags = others.map(|other| document.etag(other));
        let tags = tags.each_ref().map(|tag| tag.as_str());
        return first_named(request.lines(Field::IfNoneMatch), &tags).map(|nth| others[nth]);
    }
    let since = request.field(Field::IfModifiedSince)?.to_str().ok()?;
    // Old browsers append the length of what they have.
    let since = since.split(';').next().unwrap_or_default().trim();
    let since = httpdate::parse_http_date(since).ok()?;
    // No response has had a date in the future, unless a clock was set.
    let is_current = last_modified <= since && since <= SystemTime::now();
    is_current.then_some(variant)
}

/// `Last-Modified` of a response sent `now`, and for how long it stays the same. In whole seconds, rounded
/// up, so that content which replaces it within a second has a later date; but never later than `Date`
/// (RFC 9110, 8.8.2.1), which hyper renews once a second. A date that is too early is safe.
pub(super) fn last_modified(changed: SystemTime, now: SystemTime) -> (SystemTime, Duration) {
    const DATE_BEHIND: Duration = Duration::from_secs(1);
    const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);
    let (changed, earlier) = (changed + ALMOST_A_SECOND, now - DATE_BEHIND);
    if changed <= earlier {
        return (changed, Duration::MAX);
    }
    let since_epoch = earlier.duration_since(SystemTime::UNIX_EPOCH);
    let of_second = since_epoch.map_or(0, |since| since.subsec_nanos());
    let left = Duration::from_secs(1) - Duration::from_nanos(of_second.into());
    (earlier, left)
}

/// Whether the client has the representation with this entity tag already. Comparison is weak. Text that is
/// not an entity tag matches nothing, so that in doubt the client gets the whole response.
pub(in crate::http) fn matches<'a>(
    fields: impl Iterator<Item = &'a HeaderValue>,
    etag: &str,
) -> bool {
    first_named(fields, &[etag]).is_some()
}

/// Which of the entity tags the fields name first.
fn first_named<'a>(
    mut fields: impl Iterator<Item = &'a HeaderValue>,
    etags: &[&str],
) -> Option<usize> {
    fields.find_map(|field| match field.as_bytes().trim_ascii() {
        b"*" => Some(0),
        list => first_in(list, etags),
    })
}

/// Walks a list such as `W/"a", "b"`: a tag may contain commas, so it is read to its closing quote. Some
/// clients remove the quotes of a tag. Elements of a list may be empty (RFC 9110, 5.6.1).
fn first_in(mut list: &[u8], etags: &[&str]) -> Option<usize> {
    while !list.is_empty() {
        list = list.trim_ascii_start();
        if let [b'W' | b'w', b'/', rest @ ..] = list {
            list = rest;
        }
        let quoted = match list {
            [b'"', opaque @ ..] => opaque.iter().position(|byte| *byte == b'"'),
            _ => None,
        };
        let after_tag = quoted.map_or(0, |end| end + 2);
        let to_comma = list[after_tag..].iter().position(|byte| *byte == b',');
        let end = to_comma.map_or(list.len(), |length| after_tag + length);
        let tag = list[..end].trim_ascii_end();
        let is_named = |etag: &&str| {
            let etag = etag.as_bytes();
            tag == etag || tag == &etag[1..etag.len() - 1]
        };
        let named = etags.iter().position(is_named);
        if named.is_some() {
            return named;
        }
        list = list.get(end + 1..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &'static str, expect: bool) {
        assert_eq!(
            matches([HeaderValue::from_static(field)].iter(), "\"a\""),
            expect,
            "{field}"
        );
    }

    #[test]
    fn a_list_is_searched_by_weak_comparison() {
        check(r#""a""#, true);
        check(r#"W/"a""#, true);
        check(r#""b", W/"a""#, true);
        check(r#""b,c" , "a""#, true);
        check(r#","b",, "a","#, true);
        check(r#""a\", "a""#, true);
        check("*", true);
        check(r#""b""#, false);
        check(r#""aa""#, false);
        assert!(!matches([].iter(), "\"a\""));
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [
            HeaderValue::from_static("\"b\""),
            HeaderValue::from_static("\"a\""),
        ];
        assert!(matches(lines.iter(), "\"a\""));
    }

    #[test]
    fn malformed_lists_match_what_they_mean_or_nothing() {
        check(r#"w/"a""#, true);
        check("a", true);
        check("W/a", true);
        check("b, a", true);
        check(r#"b", "a""#, true);
        check(r#""b" "c", "a""#, true);
        for field in [
            "",
            "\"a",
            "a\"",
            "\"b\" \"a\"",
            ",",
            "W/",
            "w",
            "\"b\",",
            "W/*",
            "'a'",
            "\"b, a\"",
        ] {
            check(field, false);
        }
    }
}
