//! What is so right now: `/status.json` for programs, `/status` for people. However many ask, each
//! document is made once for all of them, and off the threads that answer hits.

use std::sync::Arc;
use std::time::Duration;

use warp::http::HeaderValue;
use warp::http::header::CACHE_CONTROL;

use super::docs::{asset, html};
use super::head::Head;
use super::made::Made;
use super::problem::Problem;
use super::shared::Shared;
use super::{Response, Site, made};
use crate::read_through::LoadError;
use crate::status::{Explanation, Status};

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

const JSON: &str = "application/json";

/// A little less than the second after which a page asks again.
const MADE_EVERY: Duration = Duration::from_millis(900);

/// News are shown at once, but not ever more of them.
const NEWS_EVERY: Duration = Duration::from_millis(100);

/// What is so, in the form in which it is handed out.
#[derive(Debug)]
pub struct Board {
    status: Arc<Status>,
    now: Shared<Made>,
    past: Shared<Made>,
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

/// `/status.json`
pub(super) async fn now(site: Arc<Site>, head: Arc<Head>) -> Response {
    let Board { status, now, .. } = &site.board;
    let edition = status.revision();
    let is_good = |made: &Made| {
        let age = made.at.elapsed();
        age < NEWS_EVERY || age < MADE_EVERY && made.edition >= edition
    };
    let status = Arc::clone(status);
    let make = move || Some(Made::new(status.revision(), status.document(explained)));
    made::answer(&head, JSON, now.get(is_good, make).await.as_deref()).await
}

/// `/status/history.json`
pub(super) async fn past(site: Arc<Site>, head: Arc<Head>) -> Response {
    let Board { status, past, .. } = &site.board;
    let edition = status.samples();
    let is_good = |made: &Made| made.edition >= edition;
    let status = Arc::clone(status);
    let make = move || Some(Made::new(status.samples(), status.history_document()));
    made::answer(&head, JSON, past.get(is_good, make).await.as_deref()).await
}

/// What a client would be told.
fn explained(error: &LoadError) -> Explanation {
    let problem = Problem::from_load(error, Duration::ZERO);
    let (code, _) = problem.code();
    Explanation {
        code,
        detail: problem.summary(),
    }
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
