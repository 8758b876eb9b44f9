//! A page that is made once for all who ask within a while: its bytes, and those of each coding that
//! somebody asked for.

use bytes::Bytes;
use tokio::time::Instant;
use warp::http::HeaderValue;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};

use super::head::{Field, Head};
use super::problem::Problem;
use super::shared::Shared;
use super::{NOSNIFF, Response, negotiate};
use crate::encode::Coding;
use crate::encode::held::Kept;

/// A page as it was at a moment.
#[derive(Debug)]
pub(super) struct Made {
    /// When it had been made: however long that takes, there is a rest before the next.
    pub(super) at: Instant,
    /// How much was known when it was begun: where there is more, there is something else to tell.
    pub(super) edition: u64,
    kept: Kept,
    coded: [Shared<Kept>; Coding::ALL.len()],
}

impl Made {
    pub(super) fn new(edition: u64, bytes: Vec<u8>) -> Self {
        Self {
            at: Instant::now(),
            edition,
            kept: Kept::new(bytes),
            coded: Default::default(),
        }
    }

    /// The bytes in this coding, made when the first asks for them. None only for a defect.
    async fn coded(&self, coding: Coding) -> Option<Bytes> {
        let bytes = self.kept.bytes().clone();
        if coding == Coding::Identity {
            return Some(bytes);
        }
        let code = move || coding.encode_fast(&bytes).ok().map(Kept::new);
        let coded = self.coded[coding as usize].get(|_| true, code).await;
        coded.map(|kept| kept.bytes().clone())
    }
}

/// The answer with a page, in the coding that suits the client best. Nobody may store it.
pub(super) async fn answer(
    head: &Head,
    content_type: &'static str,
    made: Option<&Made>,
) -> Response {
    let codings = negotiate::codings(head.lines(Field::AcceptEncoding));
    let coded = match made {
        Some(made) => made.coded(codings.best).await,
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
