//! What an answer may depend on of a request. Taken once, before the filters: they share it instead
//! of cloning headers one by one.

use std::sync::Arc;

use tokio::time::Instant;
use warp::http::header::IF_NONE_MATCH;
use warp::http::{HeaderValue, Method, Request, Uri};

/// A request without its body, which nothing here reads.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Every line of the field: it is a list.
    pub(super) if_none_match: Vec<HeaderValue>,
    pub(super) received: Instant,
}

impl Head {
    /// Of a request that has just come in.
    pub(super) fn of<B>(request: &Request<B>) -> Arc<Self> {
        Arc::new(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            if_none_match: request
                .headers()
                .get_all(IF_NONE_MATCH)
                .iter()
                .cloned()
                .collect(),
            received: Instant::now(),
        })
    }

    /// Whether the method asks for a representation.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}
