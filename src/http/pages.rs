//! The server's own pages: metrics and health. None may be stored.

use std::sync::Arc;

use bytes::Bytes;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::http::{HeaderValue, StatusCode};

use super::head::Head;
use super::{Response, Site};
use crate::metrics;
use crate::observe::Readiness;

/// The most endpoints `/readyz` names.
const NAMED_MAX: usize = 10;

/// `/metrics`: what Prometheus scrapes.
pub(super) async fn metrics(site: Arc<Site>, _: Arc<Head>) -> Response {
    // A render of many endpoints takes megabytes: one at a time is enough for Prometheus.
    let turn = site.scrapes.next().await;
    site.read_through.measure();
    let metrics = Arc::clone(&site.metrics);
    // And not on a thread that serves hits.
    match turn.make(move || metrics.render()).await {
        Some(text) => page(StatusCode::OK, metrics::CONTENT_TYPE, text.into()),
        None => super::problem::Problem::Internal.into(),
    }
}

/// `/healthz`: the process lives.
pub(super) async fn healthz(_: Arc<Site>, _: Arc<Head>) -> Response {
    text(StatusCode::OK, "ok\n".to_owned())
}

/// `/readyz`: whether to send traffic here, and if not, what it waits for.
pub(super) async fn readyz(site: Arc<Site>, _: Arc<Head>) -> Response {
    let readiness = *site.readiness.borrow();
    match readiness {
        Readiness::Ready => text(StatusCode::OK, "ready\n".to_owned()),
        Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
        Readiness::Warming => text(StatusCode::SERVICE_UNAVAILABLE, missing(&site)),
    }
}

fn missing(site: &Site) -> String {
    let cold: Vec<&str> = site.read_through.cold().map(|e| e.path.as_str()).collect();
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

fn text(status: StatusCode, text: String) -> Response {
    page(status, "text/plain; charset=utf-8", text.into())
}

fn page(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
