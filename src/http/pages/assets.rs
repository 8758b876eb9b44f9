//! Files that are part of the program, and documents that are revalidated like them.

use warp::http::HeaderValue;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

use crate::encode::Body;
use crate::http::request::{Field, RequestHead};
use crate::http::response::{NOSNIFF, Response, conditional, not_modified};

/// An HTML page that may load from the server it came from, and from nowhere else.
pub(super) fn html(request: &RequestHead, text: &'static str) -> Response {
    let mut response = file(request, "text/html; charset=utf-8", text);
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

pub(super) fn style(request: &RequestHead, text: &'static str) -> Response {
    file(request, "text/css; charset=utf-8", text)
}

pub(super) fn script(request: &RequestHead, text: &'static str) -> Response {
    file(request, "text/javascript; charset=utf-8", text)
}

fn file(request: &RequestHead, content_type: &'static str, text: &'static str) -> Response {
    revalidated(request, content_type, &Body::forever(text.as_bytes()))
}

/// A response that may be stored, and is revalidated before each use.
pub(super) fn revalidated(
    request: &RequestHead,
    content_type: &'static str,
    body: &Body,
) -> Response {
    let tag = body.etag.as_str();
    let mut response = if conditional::matches(request.lines(Field::IfNoneMatch), tag) {
        not_modified()
    } else {
        let mut response = Response::new(body.bytes().clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let tag = HeaderValue::from_str(tag).expect("tags are quotes, hexadecimal digits and marks");
    headers.insert(ETAG, tag);
    response
}
