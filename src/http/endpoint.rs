//! A declared endpoint's answer: one request as one short story.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use warp::http::header::{
    AGE, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::head::Head;
use super::negotiate::Codings;
use super::problem::{ALLOWED, Problem};
use super::{Reply, Response, Site, conditional, decode, freshness, negotiate};
use crate::cache::{Answer, Entry, Key};
use crate::encode::{Coding, Document, Variant};
use crate::observe::CacheStatus;
use crate::plan::{Arguments, Endpoint, Format, Routed};
use crate::read_through::Served;
use crate::repository::Description;

/// RFC 9213.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How soon to come back when nothing says when it will be better.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn answer(site: &Site, head: &Head, routed: Routed<'_>) -> Reply {
    let id = routed.endpoint;
    if head.method == Method::OPTIONS {
        return Reply::plain(options(), Some(id));
    }
    let mut reply = if head.is_read() {
        read(site, head, &routed).await
    } else {
        Reply::plain(Problem::MethodNotAllowed, Some(id))
    };
    let headers = reply.response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    reply
}

async fn read(site: &Site, head: &Head, routed: &Routed<'_>) -> Reply {
    let id = routed.endpoint;
    let endpoint = site.plan.endpoint(id);
    let Some(wanted) = Wanted::of(head, routed) else {
        return Reply::plain(Problem::NotAcceptable, Some(id));
    };
    let Some(description) = site.read_through.description(id) else {
        return Reply::plain(Problem::Warming(RETRY), Some(id));
    };
    let arguments = match arguments(endpoint, &description, head, routed) {
        Ok(arguments) => arguments,
        Err(problem) => return Reply::plain(problem, Some(id)),
    };
    let key = Key::new(id, arguments);
    match site.read_through.get(&key).await {
        Ok(served) => Reply {
            response: response(site, head, wanted, &key, &served).await,
            endpoint: Some(id),
            cache: served.status,
            age: Some(served.age),
        },
        // It went past the cache: the hit ratio counts it whatever came of it.
        Err(error) => Reply {
            cache: CacheStatus::Miss,
            ..Reply::plain(Problem::from_read(&error), Some(id))
        },
    }
}

/// The representation a request asks for.
#[derive(Clone, Copy)]
struct Wanted {
    format: Format,
    codings: Codings,
}

impl Wanted {
    /// `None` when there is nothing that the client would take.
    fn of(head: &Head, routed: &Routed<'_>) -> Option<Self> {
        let format = routed.format.or_else(|| negotiate::format(&head.accept))?;
        let codings = negotiate::codings(&head.accept_encoding)?;
        Some(Self { format, codings })
    }

    fn variant(self, document: &Document) -> Variant {
        let Self { format, codings } = self;
        let coding = if codings.identity && document.is_small() {
            Coding::Identity
        } else {
            codings.best
        };
        Variant { format, coding }
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

async fn response(
    site: &Site,
    head: &Head,
    wanted: Wanted,
    key: &Key,
    served: &Served,
) -> Response {
    let mut response = match served.entry.answer() {
        Answer::NoRow => Problem::NoRow.into(),
        Answer::Document(document) => {
            let variant = wanted.variant(document);
            let changed = served.entry.last_modified();
            let known = conditional::not_modified(head, document, variant, changed)
                .filter(|_| freshness::can_renew(served.age, served.entry.lifetime()));
            let mut response = match known {
                Some(_) => not_modified(),
                None => match representation(site, key, &served.entry, document, variant).await {
                    Some(response) => response,
                    None => return Problem::Internal.into(),
                },
            };
            let headers = response.headers_mut();
            let etag = known.unwrap_or_else(|| document.etag(variant));
            insert(headers, ETAG, etag.as_str());
            let last_modified = httpdate::fmt_http_date(conditional::last_modified(changed));
            insert(headers, LAST_MODIFIED, &last_modified);
            response
        }
    };
    tell_freshness(&mut response, site.plan.endpoint(key.endpoint()), served);
    response
}

pub(super) fn not_modified() -> Response {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

async fn representation(
    site: &Site,
    key: &Key,
    entry: &Arc<Entry>,
    document: &Document,
    variant: Variant,
) -> Option<Response> {
    let bytes = match document.ready(variant) {
        Some(bytes) => bytes.clone(),
        None => site.read_through.represent(key, entry, variant).await?,
    };
    let mut response = Response::new(bytes);
    let headers = response.headers_mut();
    let content_type = variant.format.content_type();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(name) = variant.coding.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    Some(response)
}

/// How old the answer is, how long it may be kept, and how it was found.
fn tell_freshness(response: &mut Response, endpoint: &Endpoint, served: &Served) {
    let (entry, age) = (&served.entry, served.age);
    let renews = response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(age.as_secs()));
    let cache_control = |stored| freshness::cache_control(stored, age, entry.lifetime(), renews);
    insert(
        headers,
        CACHE_CONTROL,
        &cache_control(endpoint.cache_control),
    );
    if let Some(stored) = endpoint.cdn_cache_control {
        insert(headers, CDN_CACHE_CONTROL, &cache_control(stored));
    }
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
