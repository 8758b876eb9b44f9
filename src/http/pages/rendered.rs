//! A page as it was rendered at some moment: its bytes, and those of each coding that was asked for.

use bytes::Bytes;
use tokio::time::Instant;
use warp::http::HeaderValue;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};

use super::memo::Memo;
use crate::encode::Coding;
use crate::encode::pending::CachedBytes;
use crate::http::problem::Problem;
use crate::http::request::{Field, RequestHead};
use crate::http::response::{NOSNIFF, Response, negotiate};

/// A page as it was at a moment.
#[derive(Debug)]
pub(super) struct Rendered {
    /// When rendering ended: however long it takes, there is a pause before the next.
    pub(super) at: Instant,
    /// The version of the data when rendering began.
    pub(super) version: u64,
    plain: CachedBytes,
    coded: [Memo<CachedBytes>; Coding::ALL.len()],
}

impl Rendered {
    pub(super) fn new(version: u64, bytes: Vec<u8>) -> Self {
        Self {
            at: Instant::now(),
            version,
            plain: CachedBytes::new(bytes),
            coded: Default::default(),
        }
    }

    /// The bytes in this coding, made for the first request that accepts it. `None` only after a defect.
    async fn coded(&self, coding: Coding) -> Option<Bytes> {
        let bytes = self.plain.bytes().clone();
        if coding == Coding::Identity {
            return Some(bytes);
        }
        let encode = move || coding.encode_fast(&bytes).ok().map(CachedBytes::new);
        let coded = self.coded[coding as usize].get(|_| true, encode).await;
        coded.map(|kept| kept.bytes().clone())
    }
}

/// The response with a page, in the coding that the client prefers. It may not be stored.
pub(super) async fn response(
    request: &RequestHead,
    content_type: &'static str,
    page: Option<&Rendered>,
) -> Response {
    let codings = negotiate::codings(request.lines(Field::AcceptEncoding));
    let coded = match page {
        Some(page) => page.coded(codings.best).await,
        None => None,
    };
    let Some(bytes) = coded else {
        return Problem::Internal.into();
    };
    let mut response = Response::new(bytes);
    let headers = response.headers_mut();
    if let Some(name) = codings.best.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
