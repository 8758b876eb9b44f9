//! Whose pages may read responses in a browser: the CORS protocol of the Fetch standard.

use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN,
    VARY,
};
use warp::http::{HeaderMap, HeaderValue, Method};

use super::ALLOWED_METHODS;
use crate::http::limits::CORS_FIELDS_MAX;
use crate::http::request::{Field, RequestHead};
use crate::plan::Origins;

/// Request fields that a page may set if it does not name the ones it wants to set. `*` would not include
/// `authorization`.
const REQUEST_FIELDS: HeaderValue = HeaderValue::from_static(
    "authorization, cache-control, if-modified-since, if-none-match, x-api-key",
);

/// Response fields that pages could not read otherwise.
const EXPOSED_FIELDS: HeaderValue = HeaderValue::from_static(
    "age, cache-status, date, etag, ratelimit, ratelimit-policy, retry-after, server-timing",
);

/// How long a browser remembers a preflight, in seconds: the most that Chromium allows.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Adds the fields by which a browser decides whether the page that asked may read the response.
pub(in crate::http) fn allow(origins: &Origins, request: &RequestHead, headers: &mut HeaderMap) {
    let origin = match origins {
        Origins::Any => Some(HeaderValue::from_static("*")),
        Origins::Named(named) => {
            // Also without an origin: a cache would give that response to a page.
            headers.append(VARY, HeaderValue::from(ORIGIN));
            let is_named = |origin: &&HeaderValue| named.iter().any(|name| name == *origin);
            request.field(Field::Origin).filter(is_named).cloned()
        }
    };
    let Some(origin) = origin else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if request.method == Method::OPTIONS {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        headers.append(VARY, HeaderValue::from(ACCESS_CONTROL_REQUEST_HEADERS));
        let requested = requested(request.requested_fields()).unwrap_or(REQUEST_FIELDS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested);
        headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    } else {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_FIELDS);
    }
}

/// The fields that a page wants to set, all of which it may: a field that Larder does not read changes
/// nothing, and there are libraries that mark each request. `None` if it names none, or too many, or if the
/// value is not a list of names.
fn requested<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let mut list = Vec::new();
    let mut count = 0;
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    for name in names
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
    {
        if !name.iter().copied().all(is_token_byte) {
            return None;
        }
        if count > 0 {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(name);
        count += 1;
        if count > CORS_FIELDS_MAX.0 || list.len() > CORS_FIELDS_MAX.1 {
            return None;
        }
    }
    (count > 0).then(|| HeaderValue::from_bytes(&list).ok())?
}

/// A character of a token: RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
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
    fn only_valid_names_are_sent_back() {
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
        assert!(requested(&[&many(CORS_FIELDS_MAX.0)]).is_some());
        assert_eq!(requested(&[&many(CORS_FIELDS_MAX.0 + 1)]), None);
        assert!(requested(&[&"a".repeat(CORS_FIELDS_MAX.1)]).is_some());
        assert_eq!(requested(&[&"a".repeat(CORS_FIELDS_MAX.1 + 1)]), None);
    }
}
