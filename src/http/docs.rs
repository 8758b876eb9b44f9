//! What may be asked: `/openapi.json` for programs, `/docs` for people. The page asks the server it came
//! from, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderValue, StatusCode};

use super::conditional::matches;
use super::endpoint::not_modified;
use super::head::{Field, Head};
use super::problem::Problem;
use super::shared::Shared;
use super::{NOSNIFF, Response, Site};
use crate::cache::Answer;
use crate::encode::Body;
use crate::observe::Readiness;
use crate::openapi::{self, Json};
use crate::plan::{CacheControl, Endpoint};
use crate::repository::Description;

const PAGE: &str = include_str!("docs/docs.html");
const STYLE: &str = include_str!("docs/docs.css");
const SCRIPT: &str = include_str!("docs/docs.js");

/// Answers that are longer are not shown in the document: bytes.
const EXAMPLE_MAX: usize = 64 * 1024;

/// While endpoints are not described.
const RETRY: Duration = Duration::from_secs(1);

/// The OpenAPI document, for as long as it is true.
#[derive(Debug, Default)]
pub struct Contract(Shared<Made>);

#[derive(Debug)]
struct Made {
    at: Instant,
    descriptions: Vec<Arc<Description>>,
    /// Before everything is warm there is less to show.
    is_whole: bool,
    body: Body,
}

/// `/openapi.json`
pub(super) async fn openapi(site: Arc<Site>, head: Arc<Head>) -> Response {
    let Some(descriptions) = descriptions(&site) else {
        return Problem::Warming(RETRY).into();
    };
    let is_good = |made: &Made| {
        let same = |(a, b): (&Arc<Description>, &Arc<Description>)| Arc::ptr_eq(a, b);
        let is_news = !made.is_whole && made.at.elapsed() >= RETRY;
        !is_news && made.descriptions.iter().zip(&descriptions).all(same)
    };
    let making = Arc::clone(&site);
    match site.contract.0.get(is_good, move || make(&making)).await {
        Some(made) => answer(&head, "application/json", &made.body),
        None => Problem::Internal.into(),
    }
}

/// Of every endpoint, once all are described.
fn descriptions(site: &Site) -> Option<Vec<Arc<Description>>> {
    let endpoints = site.plan.endpoints().iter();
    let descriptions = endpoints.map(|endpoint| site.read_through.description(endpoint.id));
    descriptions.collect()
}

fn make(site: &Site) -> Option<Made> {
    let is_whole = *site.readiness.borrow() == Readiness::Ready;
    let descriptions = descriptions(site)?;
    let of = |endpoint: &Endpoint| &descriptions[endpoint.id.index()];
    let example = |endpoint: &Endpoint| example(site, endpoint);
    let document = openapi::document(&site.plan, of, &Problem::kinds(), example, None);
    let body = Body::new(document.as_str().into());
    Some(Made {
        at: Instant::now(),
        descriptions,
        is_whole,
        body,
    })
}

/// An answer that anybody may have, if one is in memory.
fn example(site: &Site, endpoint: &Endpoint) -> Option<Json> {
    if endpoint.cache_control != CacheControl::Public {
        return None;
    }
    let entry = site.read_through.example(endpoint.id)?;
    let Answer::Document(document) = entry.answer() else {
        return None;
    };
    let json = document.json().bytes();
    (json.len() <= EXAMPLE_MAX).then(|| Json::of(std::str::from_utf8(json).ok()?))?
}

/// `/docs`
pub(super) async fn page(_: Arc<Site>, head: Arc<Head>) -> Response {
    html(&head, PAGE)
}

/// A page that asks the server it came from, and nobody else.
pub(super) fn html(head: &Head, text: &'static str) -> Response {
    let mut response = asset(head, "text/html; charset=utf-8", text);
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// `/docs/docs.css`
pub(super) async fn style(_: Arc<Site>, head: Arc<Head>) -> Response {
    asset(&head, "text/css; charset=utf-8", STYLE)
}

/// `/docs/docs.js`
pub(super) async fn script(_: Arc<Site>, head: Arc<Head>) -> Response {
    asset(&head, "text/javascript; charset=utf-8", SCRIPT)
}

/// A file that is part of the program.
pub(super) fn asset(head: &Head, content_type: &'static str, text: &'static str) -> Response {
    answer(head, content_type, &Body::forever(text.as_bytes()))
}

/// What may be stored and is asked for again each time.
fn answer(head: &Head, content_type: &'static str, body: &Body) -> Response {
    let tag = body.etag.as_str();
    let mut response = if matches(head.lines(Field::IfNoneMatch), tag) {
        not_modified()
    } else {
        let mut response = Response::new(body.bytes().clone());
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let tag = HeaderValue::from_str(tag).expect("tags are quotes, hexadecimal digits and marks");
    headers.insert(ETAG, tag);
    response
}
