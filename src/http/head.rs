//! What an answer may depend on of a request. Taken once, before the filters: they share it instead
//! of cloning headers one by one.

use std::sync::Arc;

use tokio::time::Instant;
use warp::http::header::{ACCEPT, ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH, ORIGIN};
use warp::http::{HeaderValue, Method, Request, Uri};

/// A request without its body, which nothing here reads.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Every line of each field: they are lists.
    pub(super) accept: Vec<HeaderValue>,
    pub(super) accept_encoding: Vec<HeaderValue>,
    pub(super) if_none_match: Vec<HeaderValue>,
    pub(super) if_modified_since: Option<HeaderValue>,
    pub(super) origin: Option<HeaderValue>,
    pub(super) received: Instant,
}

impl Head {
    /// Of a request that has just come in.
    pub(super) fn of<B>(request: &Request<B>) -> Arc<Self> {
        let headers = request.headers();
        let lines = |name| headers.get_all(name).iter().cloned().collect();
        Arc::new(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            accept: lines(ACCEPT),
            accept_encoding: lines(ACCEPT_ENCODING),
            if_none_match: lines(IF_NONE_MATCH),
            if_modified_since: headers.get(IF_MODIFIED_SINCE).cloned(),
            origin: headers.get(ORIGIN).cloned(),
            received: Instant::now(),
        })
    }

    /// Whether the method asks for a representation.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}
