//! What is so right now: `/status.json` for programs, `/status` for people. However many ask, each
//! document is made once for all of them, and off the threads that answer hits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use warp::http::HeaderValue;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};

use super::docs::{asset, html};
use super::head::{Field, Head};
use super::negotiate;
use super::problem::Problem;
use super::shared::Shared;
use super::{Response, Site};
use crate::encode::Coding;
use crate::read_through::LoadError;
use crate::status::{Explained, Status};

const PAGE: &str = include_str!("status/status.html");
const STYLE: &str = include_str!("status/status.css");
const SCRIPT: &str = concat!(
    include_str!("status/words.js"),
    include_str!("status/curves.js"),
    include_str!("status/known.js"),
    include_str!("status/totals.js"),
    include_str!("status/endpoints.js"),
    include_str!("status/status.js"),
);
const CHART_STYLE: &str = include_str!("status/uplot/uPlot.min.css");
const CHART_SCRIPT: &str = include_str!("status/uplot/uPlot.iife.min.js");

/// A little less than the second after which a page asks again.
const MADE_EVERY: Duration = Duration::from_millis(900);

/// News are shown at once, but not ever more of them.
const NEWS_EVERY: Duration = Duration::from_millis(100);

/// What is so, in the form in which it is handed out.
#[derive(Debug)]
pub struct Board {
    status: Arc<Status>,
    now: Shared<Document>,
    past: Shared<Document>,
}

impl Board {
    /// Nothing is made before somebody asks.
    pub fn new(status: Arc<Status>) -> Self {
        Self {
            status,
            now: Shared::default(),
            past: Shared::default(),
        }
    }
}

#[derive(Debug)]
struct Document {
    /// When it had been made: however long that takes, there is a rest before the next.
    at: Instant,
    /// How much was known when it was begun: where there is more, there is something else to tell.
    edition: u64,
    bytes: Bytes,
    coded: [Shared<Bytes>; Coding::ALL.len()],
}

impl Document {
    fn new(edition: u64, bytes: Vec<u8>) -> Self {
        Self {
            at: Instant::now(),
            edition,
            bytes: Bytes::from(bytes),
            coded: Default::default(),
        }
    }

    /// The bytes in this coding, made when the first asks for them. None only for a defect.
    async fn coded(&self, coding: Coding) -> Option<Bytes> {
        let bytes = self.bytes.clone();
        if coding == Coding::Identity {
            return Some(bytes);
        }
        let code = move || coding.encode_for_a_moment(&bytes).ok().map(Bytes::from);
        let coded = self.coded[coding as usize].get(|_| true, code).await;
        coded.as_deref().cloned()
    }
}

/// `/status.json`
pub(super) async fn now(site: Arc<Site>, head: Arc<Head>) -> Response {
    let Board { status, now, .. } = &site.board;
    let edition = status.news();
    let is_good = |made: &Document| {
        let age = made.at.elapsed();
        age < NEWS_EVERY || age < MADE_EVERY && made.edition >= edition
    };
    let status = Arc::clone(status);
    let make = move || Some(Document::new(status.news(), status.document(explained)));
    answer(&head, now.get(is_good, make).await.as_deref()).await
}

/// `/status/history.json`
pub(super) async fn past(site: Arc<Site>, head: Arc<Head>) -> Response {
    let Board { status, past, .. } = &site.board;
    let edition = status.samples();
    let is_good = |made: &Document| made.edition >= edition;
    let status = Arc::clone(status);
    let make = move || Some(Document::new(status.samples(), status.past()));
    answer(&head, past.get(is_good, make).await.as_deref()).await
}

/// What a client would be told.
fn explained(error: &LoadError) -> Explained {
    let problem = Problem::from_load(error, Duration::ZERO);
    let (code, _) = problem.code();
    Explained {
        code,
        detail: problem.summary(),
    }
}

async fn answer(head: &Head, made: Option<&Document>) -> Response {
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
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// `/status`
pub(super) async fn page(_: Arc<Site>, head: Arc<Head>) -> Response {
    let mut response = html(&head, PAGE);
    // The state of things is nothing to keep, not even the page around it.
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `/status/status.css`
pub(super) async fn style(_: Arc<Site>, head: Arc<Head>) -> Response {
    asset(&head, "text/css; charset=utf-8", STYLE)
}

/// `/status/status.js`
pub(super) async fn script(_: Arc<Site>, head: Arc<Head>) -> Response {
    asset(&head, "text/javascript; charset=utf-8", SCRIPT)
}

/// `/status/uplot.css`
pub(super) async fn chart_style(_: Arc<Site>, head: Arc<Head>) -> Response {
    asset(&head, "text/css; charset=utf-8", CHART_STYLE)
}

/// `/status/uplot.js`
pub(super) async fn chart_script(_: Arc<Site>, head: Arc<Head>) -> Response {
    asset(&head, "text/javascript; charset=utf-8", CHART_SCRIPT)
}
