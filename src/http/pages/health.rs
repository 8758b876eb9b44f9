//! `/healthz` and `/readyz`, for whatever starts Larder and sends traffic to it. Neither may be stored.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, StatusCode};

use crate::access::Identities;
use crate::http::response::{NOSNIFF, Response};
use crate::observe::Readiness;
use crate::read_through::ReadThrough;

/// The most endpoints that `/readyz` names.
const NAMED_MAX: usize = 10;

/// `/healthz`: the process lives.
pub(in crate::http) fn healthz() -> Response {
    text(StatusCode::OK, "ok\n".to_owned())
}

/// `/readyz`: whether to send traffic here, and if not, what it waits for.
#[derive(Debug)]
pub(in crate::http) struct Readyz {
    read_through: ReadThrough,
    identities: Option<Arc<Identities>>,
    readiness: watch::Receiver<Readiness>,
}

impl Readyz {
    pub(in crate::http) fn new(
        read_through: ReadThrough,
        identities: Option<Arc<Identities>>,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        Self {
            read_through,
            identities,
            readiness,
        }
    }

    /// The same without what it waits for, for callers who may not know which endpoints there are.
    pub(in crate::http) fn in_a_word(&self) -> Response {
        match *self.readiness.borrow() {
            Readiness::Ready => text(StatusCode::OK, "ready\n".to_owned()),
            Readiness::Draining | Readiness::Warming => {
                text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
            }
        }
    }

    pub(in crate::http) fn response(&self) -> Response {
        let readiness = *self.readiness.borrow();
        match readiness {
            Readiness::Ready => text(StatusCode::OK, "ready\n".to_owned()),
            Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
            Readiness::Warming => text(StatusCode::SERVICE_UNAVAILABLE, self.missing()),
        }
    }

    fn missing(&self) -> String {
        let cold: Vec<&str> = self
            .read_through
            .inspect()
            .cold()
            .map(|e| e.path.as_str())
            .collect();
        let has_keys = |identities: &Arc<Identities>| identities.has_stored_keys();
        if cold.is_empty() && !self.identities.as_ref().is_none_or(has_keys) {
            return "warming: waiting for the credentials of `[access.keys]`\n".to_owned();
        }
        if cold.is_empty() {
            return "warming: waiting for the keys that `warm` and `warm_sql` name\n".to_owned();
        }
        let named = &cold[..cold.len().min(NAMED_MAX)];
        let more = match cold.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("warming: waiting for {}{more}\n", named.join(", "))
    }
}

fn text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
