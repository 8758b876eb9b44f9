//! `/status`: the current state, as JSON for programs and as a page for people. Each document is made once for
//! all concurrent requests, off the threads that answer hits.

use std::sync::Arc;
use std::time::Duration;

use warp::http::HeaderValue;
use warp::http::header::CACHE_CONTROL;

use super::assets;
use super::memo::Memo;
use super::rendered::{self, Rendered};
use crate::http::problem::Problem;
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::read_through::LoadError;
use crate::status::{self, Explanation};

const PAGE: &str = include_str!("status/status.html");
const STYLE: &str = include_str!("status/status.css");
const SCRIPT: &str = concat!(
    include_str!("status/format.js"),
    include_str!("status/charts.js"),
    include_str!("status/data.js"),
    include_str!("status/totals.js"),
    include_str!("status/endpoints.js"),
    include_str!("status/page.js"),
);
const CHART_STYLE: &str = include_str!("status/uplot/uPlot.min.css");
const CHART_SCRIPT: &str = include_str!("status/uplot/uPlot.iife.min.js");

const JSON: &str = "application/json";

/// A little less than the second in which the page asks again.
const RENDER_EVERY: Duration = Duration::from_millis(900);

/// News is shown at once, but no more often than this.
const NEWS_EVERY: Duration = Duration::from_millis(100);

/// `/status.json` and `/status/history.json`
#[derive(Debug)]
pub(in crate::http) struct Status {
    status: Arc<status::Status>,
    now: Memo<Rendered>,
    history: Memo<Rendered>,
}

impl Status {
    pub(in crate::http) fn new(status: Arc<status::Status>) -> Self {
        Self {
            status,
            now: Memo::default(),
            history: Memo::default(),
        }
    }

    /// `/status.json`
    pub(in crate::http) async fn now(&self, request: &RequestHead) -> Response {
        let version = self.status.revision();
        let is_current = |now: &Rendered| {
            let age = now.at.elapsed();
            age < NEWS_EVERY || age < RENDER_EVERY && now.version >= version
        };
        let status = Arc::clone(&self.status);
        let render = move || Some(Rendered::new(status.revision(), status.document(explained)));
        let now = self.now.get(is_current, render).await;
        rendered::response(request, JSON, now.as_deref()).await
    }

    /// `/status/history.json`
    pub(in crate::http) async fn history(&self, request: &RequestHead) -> Response {
        let version = self.status.samples();
        let is_current = |history: &Rendered| history.version >= version;
        let status = Arc::clone(&self.status);
        let render = move || Some(Rendered::new(status.samples(), status.history_document()));
        let history = self.history.get(is_current, render).await;
        rendered::response(request, JSON, history.as_deref()).await
    }
}

/// The problem that a client would get.
fn explained(error: &LoadError) -> Explanation {
    let problem = Problem::from_load(error, Duration::ZERO);
    let (code, _) = problem.code();
    Explanation {
        code,
        detail: problem.summary(),
    }
}

/// `/status`
pub(in crate::http) fn page(request: &RequestHead) -> Response {
    let mut response = assets::html(request, PAGE);
    // Nothing about the state is to be stored, not even the page around it.
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `/status/status.css`
pub(in crate::http) fn style(request: &RequestHead) -> Response {
    assets::style(request, STYLE)
}

/// `/status/status.js`
pub(in crate::http) fn script(request: &RequestHead) -> Response {
    assets::script(request, SCRIPT)
}

/// `/status/uplot.css`
pub(in crate::http) fn chart_style(request: &RequestHead) -> Response {
    assets::style(request, CHART_STYLE)
}

/// `/status/uplot.js`
pub(in crate::http) fn chart_script(request: &RequestHead) -> Response {
    assets::script(request, CHART_SCRIPT)
}
