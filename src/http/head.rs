//! What an answer may depend on of a request. Taken once, before the filters: they share it instead
//! of cloning headers one by one.

use std::sync::Arc;

use tokio::time::Instant;
use warp::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_REQUEST_HEADERS, HeaderName, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, ORIGIN,
};
use warp::http::request::Parts;
use warp::http::{HeaderMap, HeaderValue, Method, Uri};

use super::exchange::Learner;

/// A field that an answer may depend on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Accept,
    AcceptEncoding,
    IfModifiedSince,
    IfNoneMatch,
    Origin,
}

const FIELDS: usize = 5;

/// In the order of the fields.
static NAMES: [HeaderName; FIELDS] = [
    ACCEPT,
    ACCEPT_ENCODING,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    ORIGIN,
];

/// A request without its body, which nothing here reads.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    headers: HeaderMap,
    /// Which fields there are. Most requests have few of them, and to look for one takes longer than
    /// to look at all names once.
    has: [bool; FIELDS],
    pub(super) received: Instant,
    /// Who learns how it was answered.
    pub(super) learner: Option<Learner>,
}

tokio::task_local! {
    /// Of the request that is being answered. The filters find it here: a request's extensions would take
    /// three allocations for it.
    pub(super) static HEAD: Arc<Head>;
}

impl Head {
    /// Of a request that has just come in.
    pub(super) fn of(parts: Parts, learner: Option<Learner>) -> Arc<Self> {
        let mut has = [false; FIELDS];
        for name in parts.headers.keys() {
            if let Some(field) = NAMES.iter().position(|field| field == name) {
                has[field] = true;
            }
        }
        Arc::new(Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            has,
            received: Instant::now(),
            learner,
        })
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.has[field as usize]
    }

    /// Every line of a field that is a list.
    pub(super) fn lines(&self, field: Field) -> impl Iterator<Item = &HeaderValue> {
        let name = &NAMES[field as usize];
        let lines = self.has(field).then(|| self.headers.get_all(name));
        lines.into_iter().flatten()
    }

    /// A field that is one value.
    pub(super) fn field(&self, field: Field) -> Option<&HeaderValue> {
        let name = &NAMES[field as usize];
        self.has(field).then(|| self.headers.get(name)).flatten()
    }

    /// Which fields a page wants to set. Only those who ask for options say so: the field is not among those
    /// that every request is looked through for.
    pub(super) fn requested_fields(&self) -> impl Iterator<Item = &HeaderValue> {
        self.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter()
    }

    /// Whether the method asks for a representation.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}
