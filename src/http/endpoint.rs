//! A declared endpoint's answer: one request as one short story.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use warp::http::header::{ALLOW, X_CONTENT_TYPE_OPTIONS};
use warp::http::{Method, StatusCode};

use super::head::{Field, Head};
use super::kept::Kind;
use super::negotiate::Codings;
use super::problem::{ALLOWED, Problem};
use super::{NOSNIFF, Reply, Response, Site, conditional, decode, fields, freshness, negotiate};
use crate::cache::{Answer, Entry, Key};
use crate::encode::{Coding, Document, Variant};
use crate::observe::CacheStatus;
use crate::plan::{Arguments, Endpoint, EndpointId, Format, Routed};
use crate::read_through::Served;
use crate::repository::Description;

/// How soon to come back when nothing says when it will be better.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn answer(site: &Site, head: &Head, routed: Routed<'_>) -> Reply {
    let id = routed.endpoint;
    if head.method == Method::OPTIONS {
        return Reply::plain(options(), Some(id));
    }
    if head.is_read() {
        read(site, head, &routed).await
    } else {
        refusal(Problem::MethodNotAllowed, id)
    }
}

fn refusal(problem: Problem, endpoint: EndpointId) -> Reply {
    Reply::plain(refused(problem), Some(endpoint))
}

fn refused(problem: Problem) -> Response {
    let mut response = Response::from(problem);
    fields::of_refusal(response.headers_mut());
    response
}

async fn read(site: &Site, head: &Head, routed: &Routed<'_>) -> Reply {
    let id = routed.endpoint;
    let endpoint = site.plan.endpoint(id);
    let Some(wanted) = Wanted::of(head, routed) else {
        return refusal(Problem::NotAcceptable, id);
    };
    let Some(description) = site.read_through.description(id) else {
        return refusal(Problem::Warming(RETRY), id);
    };
    let arguments = match arguments(endpoint, &description, head, routed) {
        Ok(arguments) => arguments,
        Err(problem) => {
            if let Problem::InvalidArgument(_) = problem {
                site.read_through.question_description(id, &description);
            }
            return refusal(problem, id);
        }
    };
    let key = Key::new(id, arguments);
    match site.read_through.get(&key).await {
        Ok(served) => Reply {
            response: response(site, head, wanted, &key, &served).await,
            endpoint: Some(id),
            cache: served.status,
            age: Some(served.age),
            stale_if_error: served.stale_if_error,
        },
        // It went past the cache: the hit ratio counts it whatever came of it.
        Err(error) => Reply {
            cache: CacheStatus::Miss,
            ..refusal(Problem::from_read(&error), id)
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
        let format = routed
            .format
            .or_else(|| negotiate::format(head.lines(Field::Accept)))?;
        let codings = negotiate::codings(head.lines(Field::AcceptEncoding));
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
    let query = decode::query(head.uri.query().unwrap_or_default());
    let query = query.map(|pair| pair.map_err(Problem::from));
    description.signature.read(endpoint, &path, query)
}

async fn response(
    site: &Site,
    head: &Head,
    wanted: Wanted,
    key: &Key,
    served: &Served,
) -> Response {
    let endpoint = site.plan.endpoint(key.endpoint());
    let document = match served.entry.answer() {
        Answer::Document(document) => document,
        Answer::NoRow => {
            let mut response = Response::from(Problem::NoRow);
            fields::of_no_row(response.headers_mut(), endpoint, served);
            return response;
        }
    };
    let variant = wanted.variant(document);
    let changed = served.entry.last_modified();
    let renewed = conditional::not_modified(head, document, variant, changed)
        .filter(|_| freshness::can_renew(served.age, served.entry.lifetime()));
    let mut response = match renewed {
        Some(_) => not_modified(),
        None => match representation(site, key, &served.entry, document, variant).await {
            Some(bytes) => Response::new(bytes),
            None => return refused(Problem::Internal),
        },
    };
    let kind = Kind {
        status: served.status,
        variant: renewed.unwrap_or(variant),
        is_not_modified: renewed.is_some(),
    };
    *response.headers_mut() = fields::of_document(document, endpoint, served, kind);
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
) -> Option<Bytes> {
    match document.ready(variant) {
        Some(bytes) => Some(bytes.clone()),
        None => Box::pin(site.read_through.represent(key, entry, variant)).await,
    }
}

/// What a path allows.
pub(super) fn options() -> Response {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, ALLOWED);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
