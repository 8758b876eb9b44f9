//! A declared endpoint's response: the whole story of one request.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use warp::http::Method;

use super::limits::RETRY_AFTER;
use super::problem::Problem;
use super::request::{Field, RequestHead, percent};
use super::response::cache_control;
use super::response::header_cache::Kind;
use super::response::negotiate::{self, Codings};
use super::response::{Reply, Response, conditional, headers, not_modified, options};
use crate::cache::{Answer, Entry, Key};
use crate::encode::{Coding, Document, Variant};
use crate::observe::CacheStatus;
use crate::plan::{Arguments, Endpoint, EndpointId, Format, Plan, Routed};
use crate::read_through::{ReadThrough, Served};
use crate::repository::Description;

/// The declared endpoints.
#[derive(Debug)]
pub(super) struct Endpoints {
    plan: Arc<Plan>,
    read_through: ReadThrough,
}

impl Endpoints {
    pub(super) fn new(plan: Arc<Plan>, read_through: ReadThrough) -> Self {
        Self { plan, read_through }
    }

    /// Answers a request for one of them.
    pub(super) async fn reply(&self, request: &RequestHead, routed: &Routed<'_>) -> Reply {
        let id = routed.endpoint;
        if request.method == Method::OPTIONS {
            return Reply::public(options(), Some(id));
        }
        if !request.is_read() {
            return refusal(Problem::MethodNotAllowed, id);
        }
        let Some(accepted) = Accepted::by(request, routed) else {
            return refusal(Problem::NotAcceptable, id);
        };
        let Some(description) = self.read_through.inspect().description(id) else {
            return refusal(Problem::Warming(RETRY_AFTER), id);
        };
        let endpoint = self.plan.endpoint(id);
        let arguments = match arguments(endpoint, &description, request, routed) {
            Ok(arguments) => arguments,
            Err(problem) => {
                if let Problem::InvalidArgument(_) = problem {
                    self.read_through
                        .maintenance()
                        .question_description(id, &description);
                }
                return refusal(problem, id);
            }
        };
        let key = Key::new(id, arguments);
        match self.read_through.get(&key).await {
            Ok(served) => Reply {
                cache: served.status,
                age: Some(served.age),
                stale_if_error: served.stale_if_error,
                ..Reply::public(
                    self.response(request, accepted, &key, &served).await,
                    Some(id),
                )
            },
            // The cache was asked, so the hit ratio counts a miss whatever came of it.
            Err(error) => Reply {
                cache: CacheStatus::Miss,
                ..refusal(Problem::from_read(&error), id)
            },
        }
    }

    async fn response(
        &self,
        request: &RequestHead,
        accepted: Accepted,
        key: &Key,
        served: &Served,
    ) -> Response {
        let endpoint = self.plan.endpoint(key.endpoint());
        let document = match served.entry.answer() {
            Answer::Document(document) => document,
            Answer::NoRow => {
                let mut response = Response::from(Problem::NoRow);
                headers::add_to_no_row(response.headers_mut(), endpoint, served);
                return response;
            }
        };
        let variant = accepted.variant(document);
        let changed = served.entry.last_modified();
        let renewed = conditional::not_modified(request, document, variant, changed)
            .filter(|_| cache_control::can_renew(served.age, served.entry.lifetime()));
        let mut response = match renewed {
            Some(_) => not_modified(),
            None => match self
                .representation(key, &served.entry, document, variant)
                .await
            {
                Some(bytes) => Response::new(bytes),
                None => return refused(Problem::Internal),
            },
        };
        let kind = Kind {
            status: served.status,
            variant: renewed.unwrap_or(variant),
            is_not_modified: renewed.is_some(),
        };
        *response.headers_mut() = headers::of_document(document, endpoint, served, kind);
        response
    }

    async fn representation(
        &self,
        key: &Key,
        entry: &Arc<Entry>,
        document: &Document,
        variant: Variant,
    ) -> Option<Bytes> {
        match document.ready(variant) {
            Some(bytes) => Some(bytes.clone()),
            None => Box::pin(self.read_through.represent(key, entry, variant)).await,
        }
    }
}

fn refusal(problem: Problem, endpoint: EndpointId) -> Reply {
    Reply::public(refused(problem), Some(endpoint))
}

fn refused(problem: Problem) -> Response {
    let mut response = Response::from(problem);
    headers::add_to_refusal(response.headers_mut());
    response
}

/// What a client accepts of the representations there are.
#[derive(Clone, Copy)]
struct Accepted {
    format: Format,
    codings: Codings,
}

impl Accepted {
    /// `None` if the client accepts none of the formats.
    fn by(request: &RequestHead, routed: &Routed<'_>) -> Option<Self> {
        let format = routed
            .format
            .or_else(|| negotiate::format(request.lines(Field::Accept)))?;
        let codings = negotiate::codings(request.lines(Field::AcceptEncoding));
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

/// The arguments in the path and the query.
fn arguments(
    endpoint: &Endpoint,
    description: &Description,
    request: &RequestHead,
    routed: &Routed<'_>,
) -> Result<Arguments, Problem> {
    let mut path: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(routed.path_arguments.len());
    for (name, raw) in &routed.path_arguments {
        path.push((*name, percent::segment(raw)?));
    }
    let query = percent::query(request.uri.query().unwrap_or_default());
    let query = query.map(|pair| pair.map_err(Problem::from));
    description.signature.read(endpoint, &path, query)
}
