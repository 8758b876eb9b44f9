//! Whose pages may read answers in a browser: the CORS protocol of the Fetch standard.

use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN,
    VARY,
};
use warp::http::{HeaderMap, HeaderValue, Method};

use super::head::{Field, Head};
use super::problem::ALLOWED;
use crate::plan::Origins;

/// Fields of requests that a page may set where it does not name those that it wants to. `*` would not stand
/// for `authorization`.
const REQUEST_FIELDS: HeaderValue = HeaderValue::from_static(
    "authorization, cache-control, if-modified-since, if-none-match, x-api-key",
);

/// The most fields that a page is allowed by name, and the bytes of their names: many times what any
/// library sets.
const REQUESTED_MAX: (usize, usize) = (64, 2 * 1024);

/// Fields of answers that pages could not read otherwise.
const ANSWER_FIELDS: HeaderValue = HeaderValue::from_static(
    "age, cache-status, date, etag, ratelimit, ratelimit-policy, retry-after, server-timing",
);

/// How long a browser remembers what it may ask, in seconds: the most that Chromium takes.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");

/// Tells a browser whether the page that asked may read the answer.
pub(super) fn tell(origins: &Origins, head: &Head, headers: &mut HeaderMap) {
    let origin = match origins {
        Origins::Any => Some(HeaderValue::from_static("*")),
        Origins::Named(named) => {
            // Also where there is no origin: a cache would give that answer to a page.
            headers.append(VARY, HeaderValue::from(ORIGIN));
            let is_named = |origin: &&HeaderValue| named.iter().any(|name| name == *origin);
            head.field(Field::Origin).filter(is_named).cloned()
        }
    };
    let Some(origin) = origin else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if head.method == Method::OPTIONS {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED);
        headers.append(VARY, HeaderValue::from(ACCESS_CONTROL_REQUEST_HEADERS));
        let requested = requested(head.requested_fields()).unwrap_or(REQUEST_FIELDS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested);
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    } else {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_FIELDS);
    }
}

/// The fields that a page wants to set, all of which it may: what nobody here reads changes nothing, and
/// there are libraries that mark each request. `None` if it names none, or what is no list of names.
fn requested<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let mut list = Vec::new();
    let mut count = 0;
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    for name in names
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
    {
        if !name.iter().copied().all(is_of_token) {
            return None;
        }
        if count > 0 {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(name);
        count += 1;
        if count > REQUESTED_MAX.0 || list.len() > REQUESTED_MAX.1 {
            return None;
        }
    }
    (count > 0).then(|| HeaderValue::from_bytes(&list).ok())?
}

/// RFC 9110, 5.6.2.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(lines: &[&str]) -> Option<String> {
        let lines: Vec<HeaderValue> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let allowed = super::requested(lines.iter());
        allowed.map(|allowed| allowed.to_str().unwrap().to_owned())
    }

    #[test]
    fn names_are_allowed_and_nothing_else_is_sent_back() {
        let allowed = |lines: &[&str], expected: &str| {
            assert_eq!(requested(lines).as_deref(), Some(expected), "{lines:?}");
        };
        allowed(&["authorization"], "authorization");
        allowed(
            &["authorization,x-grafana-org-id"],
            "authorization, x-grafana-org-id",
        );
        allowed(&["a", " b ,, c,"], "a, b, c");
        allowed(&["X_Odd!#$%&'*+.^`|~"], "X_Odd!#$%&'*+.^`|~");
        for lines in [
            &[][..],
            &[""],
            &[","],
            &["a b"],
            &["a;b"],
            &["a, \"b\""],
            &["a:b"],
            &["{}"],
        ] {
            assert_eq!(requested(lines), None, "{lines:?}");
        }
        let many = |count: usize| vec!["a"; count].join(",");
        assert!(requested(&[&many(REQUESTED_MAX.0)]).is_some());
        assert_eq!(requested(&[&many(REQUESTED_MAX.0 + 1)]), None);
        assert!(requested(&[&"a".repeat(REQUESTED_MAX.1)]).is_some());
        assert_eq!(requested(&[&"a".repeat(REQUESTED_MAX.1 + 1)]), None);
    }
}
