//! A declared endpoint's answer: one request as one short story.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use warp::http::header::{
    AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::head::Head;
use super::problem::{ALLOWED, Problem};
use super::{Reply, Response, Site, conditional, decode, freshness};
use crate::cache::Answer;
use crate::observe::CacheStatus;
use crate::plan::{Arguments, Endpoint, Routed};
use crate::read_through::Served;
use crate::repository::Description;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How soon to come back when nothing says when it will be better.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn answer(site: &Site, head: &Head, routed: Routed<'_>) -> Reply {
    let id = routed.endpoint;
    if head.method == Method::OPTIONS {
        return Reply::plain(options(), Some(id));
    }
    if !head.is_read() {
        return Reply::plain(Problem::MethodNotAllowed, Some(id));
    }
    let endpoint = site.plan.endpoint(id);
    let Some(description) = site.read_through.description(id) else {
        return Reply::plain(Problem::Warming(RETRY), Some(id));
    };
    let arguments = match arguments(endpoint, &description, head, &routed) {
        Ok(arguments) => arguments,
        Err(problem) => return Reply::plain(problem, Some(id)),
    };
    match site.read_through.get(id, arguments).await {
        Ok(served) => reply(head, endpoint, &served),
        // It went past the cache: the hit ratio counts it whatever came of it.
        Err(error) => Reply {
            cache: CacheStatus::Miss,
            ..Reply::plain(Problem::from_read(&error), Some(id))
        },
    }
}

/// What the path and the query mean to the endpoint.
fn arguments(
    endpoint: &Endpoint,
    description: &Description,
    head: &Head,
    routed: &Routed<'_>,
) -> Result<Arguments, Problem> {
    let mut path: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(routed.path_arguments.len());
    for (name, raw) in &routed.path_arguments {
        path.push((*name, decode::segment(raw)?));
    }
    let query = decode::query(head.uri.query().unwrap_or_default())?;
    Ok(description.signature.arguments(endpoint, &path, &query)?)
}

fn reply(head: &Head, endpoint: &Endpoint, served: &Served) -> Reply {
    let entry = &served.entry;
    let age = served.age;
    let mut response = match entry.answer() {
        Answer::NoRow => Problem::NoRow.into(),
        Answer::Body(body) => {
            let not_modified = conditional::matches(&head.if_none_match, body.etag.as_str());
            let mut response = if not_modified {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            } else {
                Response::new(body.bytes.clone())
            };
            let headers = response.headers_mut();
            if !not_modified {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            insert(headers, ETAG, body.etag.as_str());
            // Never later than `Date` (RFC 9110, 8.8.2.1), which is a moment from now on: the clock may
            // have been set back since.
            let last_modified = entry.last_modified().min(SystemTime::now());
            insert(
                headers,
                LAST_MODIFIED,
                &httpdate::fmt_http_date(last_modified),
            );
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(age.as_secs()));
    insert(
        headers,
        CACHE_CONTROL,
        &freshness::cache_control(age, entry.lifetime()),
    );
    insert(
        headers,
        CACHE_STATUS,
        &freshness::cache_status(served.status, age, entry.lifetime()),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if matches!(served.status, CacheStatus::Miss | CacheStatus::Coalesced) {
        let milliseconds = entry.query_time().as_secs_f64() * 1_000.0;
        insert(
            headers,
            SERVER_TIMING,
            &format!("query;dur={milliseconds:.1}"),
        );
    }
    Reply {
        response,
        endpoint: Some(endpoint.id),
        cache: served.status,
        age: Some(age),
    }
}

/// What a path allows.
pub(super) fn options() -> Response {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

/// Inserts a value made of visible ASCII, as all of ours are.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
