//! The server's own pages: metrics and health. None may be stored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, StatusCode};

use super::head::Head;
use super::made::{self, Made};
use super::shared::Shared;
use super::{NOSNIFF, Response, Site};
use crate::encode::held;
use crate::metrics;
use crate::observe::{Event, Readiness};

/// Prometheus asks every few seconds, several of them not much more often: within a second all get the
/// same text. With many endpoints it takes megabytes and tens of milliseconds.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);

/// The most endpoints `/readyz` names.
const NAMED_MAX: usize = 10;

/// The last text for Prometheus.
#[derive(Debug, Default)]
pub struct Scrapes(Shared<Made>);

/// `/metrics`: what Prometheus scrapes.
pub(super) async fn metrics(site: Arc<Site>, head: Arc<Head>) -> Response {
    let is_good = |made: &Made| made.at.elapsed() < SCRAPED_EVERY;
    let (read_through, metrics) = (site.read_through.clone(), Arc::clone(&site.metrics));
    let observer = site.observer.clone();
    let make = move || {
        read_through.measure();
        let bytes = held::loose();
        observer.emit(&Event::PendingMeasured { bytes });
        Some(Made::new(0, metrics.render()))
    };
    let made = site.scrapes.0.get(is_good, make).await;
    made::answer(&head, metrics::CONTENT_TYPE, made.as_deref()).await
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
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
