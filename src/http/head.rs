//! What an answer may depend on of a request. Taken once, before the filters: they share it instead
//! of cloning headers one by one.

use std::sync::Arc;

use tokio::time::Instant;
use warp::http::header::HeaderName;
use warp::http::{HeaderMap, HeaderValue, Method, Request, Uri};

/// A request without its body, which nothing here reads.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    headers: HeaderMap,
    pub(super) received: Instant,
}

impl Head {
    /// Of a request that has just come in. Its fields are moved here, and not left behind.
    pub(super) fn of<B>(request: &mut Request<B>) -> Arc<Self> {
        Arc::new(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: std::mem::take(request.headers_mut()),
            received: Instant::now(),
        })
    }

    /// Every line of a field that is a list.
    pub(super) fn lines(&self, name: HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.headers.get_all(name).into_iter()
    }

    /// A field that is one value.
    pub(super) fn field(&self, name: HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// Whether the method asks for a representation.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}
