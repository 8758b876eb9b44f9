//! Responses, and what their headers say.

pub(super) mod cache_control; // `Cache-Control`, `Cache-Status`: how long a response may be stored
pub(super) mod conditional; // `If-None-Match`, `If-Modified-Since`
pub(super) mod cors; // whose pages may read a response in a browser
pub(super) mod date; // `Date` after the clock was set back
pub(super) mod header_cache; // header fields of recent responses, reused for the next
mod header_writer; // values of header fields, written into one allocation
pub(super) mod headers; // the header fields of an endpoint's response
pub(super) mod negotiate; // `Accept`, `Accept-Encoding`

use std::time::Duration;

use bytes::Bytes;
use warp::http::header::{ALLOW, X_CONTENT_TYPE_OPTIONS};
use warp::http::{self, HeaderValue, StatusCode};

use crate::observe::CacheStatus;
use crate::plan::EndpointId;

/// A response with a complete body.
pub(super) type Response = http::Response<Bytes>;

/// In every response: it has the type that it names.
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The methods that every endpoint and page allows.
pub(super) const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// A response before it is finished, with what is observed about it.
pub(super) struct Reply {
    pub(super) response: Response,
    pub(super) endpoint: Option<EndpointId>,
    pub(super) readers: Readers,
    pub(super) cache: CacheStatus,
    pub(super) age: Option<Duration>,
    pub(super) stale_if_error: bool,
}

/// Whose pages may read a response in a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Larder's own.
    SameOrigin,
    /// Those that `[server.cors]` allows.
    AllowedOrigins,
}

impl Reply {
    /// A response that did not involve the cache, to a request that is not for an endpoint.
    pub(super) fn own(response: impl Into<Response>) -> Self {
        Self::new(response.into(), None, Readers::SameOrigin)
    }

    /// A response that did not involve the cache, at a path where an endpoint is or could be.
    pub(super) fn public(response: impl Into<Response>, endpoint: Option<EndpointId>) -> Self {
        Self::new(response.into(), endpoint, Readers::AllowedOrigins)
    }

    fn new(response: Response, endpoint: Option<EndpointId>, readers: Readers) -> Self {
        Self {
            response,
            endpoint,
            readers,
            cache: CacheStatus::None,
            age: None,
            stale_if_error: false,
        }
    }
}

/// A 304 without header fields.
pub(super) fn not_modified() -> Response {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// The response to `OPTIONS`.
pub(super) fn options() -> Response {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, ALLOWED_METHODS);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
