//! Whose pages may read answers in a browser: the CORS protocol of the Fetch standard.

use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use warp::http::{HeaderMap, HeaderValue, Method};

use super::head::{Field, Head};
use super::lines;
use super::problem::ALLOWED;
use crate::plan::Origins;

/// Fields of requests that pages set and that are not free to all: conditional requests.
const REQUEST_FIELDS: HeaderValue =
    HeaderValue::from_static("if-none-match, if-modified-since, cache-control");

/// Fields of answers that pages could not read otherwise.
const ANSWER_FIELDS: HeaderValue =
    HeaderValue::from_static("age, cache-status, etag, retry-after, server-timing");

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
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_FIELDS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    } else {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_FIELDS);
    }
}

/// The same, as lines of an answer.
pub(super) fn lines(origins: Option<&Origins>, head: &Head) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(origins) = origins {
        let mut headers = HeaderMap::new();
        tell(origins, head, &mut headers);
        lines::fields(&headers, &mut text);
    }
    text
}
