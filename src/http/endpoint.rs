//! A declared endpoint's response: the whole story of one request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use warp::http::Method;

use super::authorize::{Authorizer, Caller};
use super::limits::RETRY_AFTER;
use super::problem::Problem;
use super::request::percent::{self, DecodeError};
use super::request::{Field, RequestHead};
use super::response::cache_control;
use super::response::header_cache::Kind;
use super::response::negotiate::{self, Codings};
use super::response::{Reply, Response, conditional, headers, not_modified, options};
use crate::access::Identity;
use crate::cache::{Answer, Entry, Key};
use crate::encode::{Coding, Document, Variant};
use crate::observe::CacheStatus;
use crate::plan::{
    ArgumentError, Arguments, Endpoint, EndpointId, Format, Parameter, Place, Plan, Routed,
    Signature,
};
use crate::read_through::{ReadThrough, Served};

/// The declared endpoints.
#[derive(Debug)]
pub(super) struct Endpoints {
    plan: Arc<Plan>,
    read_through: ReadThrough,
    authorizer: Arc<Authorizer>,
}

impl Endpoints {
    pub(super) fn new(
        plan: Arc<Plan>,
        read_through: ReadThrough,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self {
            plan,
            read_through,
            authorizer,
        }
    }

    /// Answers a request for one of them.
    pub(super) async fn reply(&self, request: &RequestHead, routed: &Routed<'_>) -> Reply {
        let id = routed.endpoint;
        if request.method == Method::OPTIONS {
            return Reply::public(options(), Some(id));
        }
        let endpoint = self.plan.endpoint(id);
        let refusal = |problem| refusal(problem, endpoint);
        let admitted = match self.authorizer.admit_at_once(request, &endpoint.access) {
            Some(admitted) => admitted,
            None => {
                let admitted = self.authorizer.admit(request, &endpoint.access);
                // Boxed, because it is rare, and a hit's future is moved about.
                Box::pin(admitted).await
            }
        };
        let caller = match admitted {
            Ok(caller) => caller,
            Err(denied) => return refusal(denied),
        };
        if !request.is_read() {
            return refusal(Problem::MethodNotAllowed);
        }
        let Some(accepted) = Accepted::by(request, routed) else {
            return refusal(Problem::NotAcceptable);
        };
        let Some(description) = self.read_through.inspect().description(id) else {
            return refusal(self.not_described(id));
        };
        let signature = &description.signature;
        let arguments = match arguments(endpoint, signature, request, routed, &caller) {
            Ok(arguments) => arguments,
            Err(problem) => {
                if let Problem::InvalidArgument(_) | Problem::UnusableClaim(_) = problem {
                    self.read_through
                        .maintenance()
                        .question_description(id, &description);
                }
                return refusal(problem);
            }
        };
        let arguments = match with_caller_values(endpoint, arguments, &caller) {
            Ok(arguments) => arguments,
            Err(problem) => return refusal(problem),
        };
        let key = Key::new(id, arguments);
        match self.read_through.get_for(&key, caller.loads()).await {
            Ok(served) => Reply {
                cache: served.status,
                age: Some(served.age),
                stale_if_error: served.stale_if_error,
                ..Reply::public(
                    self.response(request, accepted, &key, &served, &caller)
                        .await,
                    Some(id),
                )
            },
            // The cache was asked, so the hit ratio counts a miss whatever came of it.
            Err(error) => Reply {
                cache: CacheStatus::Miss,
                ..refusal(Problem::from_read(&error))
            },
        }
    }

    /// Why there is no description yet.
    fn not_described(&self, endpoint: EndpointId) -> Problem {
        let status = self.read_through.inspect().endpoint(endpoint);
        let failure = status.last_failure.filter(|last| last.is_unresolved);
        // While Postgres is away, that is why nothing is ready.
        match failure.filter(|failure| !failure.error.is_outage()) {
            Some(failure) => Problem::from_load(&failure.error, status.retry_in),
            None => Problem::Warming(RETRY_AFTER),
        }
    }

    async fn response(
        &self,
        request: &RequestHead,
        accepted: Accepted,
        key: &Key,
        served: &Served,
        caller: &Caller,
    ) -> Response {
        let valid_for = valid_for(caller);
        let endpoint = self.plan.endpoint(key.endpoint());
        let document = match served.entry.answer() {
            Answer::Document(document) => document,
            Answer::NoRow => {
                let mut response = Response::from(Problem::NoRow);
                headers::add_to_no_row(response.headers_mut(), endpoint, served, valid_for);
                return response;
            }
        };
        let variant = accepted.variant(document);
        let changed = served.entry.last_modified();
        let renewed = conditional::not_modified(request, document, variant, changed)
            .filter(|_| cache_control::can_renew(served.age, served.entry.lifetime(), valid_for));
        let mut response = match renewed {
            Some(_) => not_modified(),
            None => match self
                .representation(key, &served.entry, document, variant)
                .await
            {
                Some(bytes) => Response::new(bytes),
                None => return refused(Problem::Internal, endpoint),
            },
        };
        let kind = Kind {
            status: served.status,
            variant: renewed.unwrap_or(variant),
            is_not_modified: renewed.is_some(),
        };
        *response.headers_mut() = headers::of_document(document, endpoint, served, kind, valid_for);
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

fn refusal(problem: Problem, endpoint: &Endpoint) -> Reply {
    Reply::public(refused(problem, endpoint), Some(endpoint.id))
}

fn refused(problem: Problem, endpoint: &Endpoint) -> Response {
    let mut response = Response::from(problem);
    headers::add_to_refusal(response.headers_mut(), endpoint);
    response
}

/// How long the caller's credential is still valid: a response must not be stored for longer.
fn valid_for(caller: &Caller) -> Duration {
    let expires = caller.identity().and_then(Identity::expires);
    expires.map_or(Duration::MAX, |expires| {
        let left = expires.duration_since(SystemTime::now());
        left.unwrap_or(Duration::ZERO)
    })
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

/// Why there are no arguments.
enum Rejected {
    Encoding(DecodeError),
    Arguments(ArgumentError),
}

impl From<ArgumentError> for Rejected {
    fn from(error: ArgumentError) -> Self {
        Self::Arguments(error)
    }
}

impl Rejected {
    fn problem(self, endpoint: &Endpoint) -> Problem {
        match self {
            Self::Encoding(error) => error.into(),
            Self::Arguments(error) => match claim(endpoint, &error) {
                // Not its value: the caller may not know what its credential says.
                Some(claim) => Problem::UnusableClaim(claim.to_owned()),
                None => error.into(),
            },
        }
    }
}

/// The claim that an error is about.
fn claim<'e>(endpoint: &'e Endpoint, error: &ArgumentError) -> Option<&'e str> {
    let (ArgumentError::Missing { name } | ArgumentError::Invalid { name, .. }) = error else {
        return None;
    };
    let parameter = endpoint.parameters.iter().find(|p| p.name == *name)?;
    match &parameter.place {
        Place::Claim(claim) => Some(claim),
        Place::Path | Place::Query => None,
    }
}

/// The arguments in the path, the query and the credential.
fn arguments(
    endpoint: &Endpoint,
    signature: &Signature,
    request: &RequestHead,
    routed: &Routed<'_>,
    caller: &Caller,
) -> Result<Arguments, Problem> {
    let mut path: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(routed.path_arguments.len());
    for (name, raw) in &routed.path_arguments {
        path.push((*name, percent::segment(raw)?));
    }
    let query = percent::query(request.uri.query().unwrap_or_default());
    let query = query.map(|pair| pair.map_err(Rejected::Encoding));
    let claim = |_: &Parameter, claim: &str| Some(caller.identity()?.claim(claim)?.as_text());
    let arguments = signature.read(endpoint, &path, query, claim);
    arguments.map_err(|rejected| rejected.problem(endpoint))
}

/// Adds what `run_as` takes from the credential.
fn with_caller_values(
    endpoint: &Endpoint,
    arguments: Arguments,
    caller: &Caller,
) -> Result<Arguments, Problem> {
    let Some(run_as) = &endpoint.run_as else {
        return Ok(arguments);
    };
    match run_as.caller_values(|claim| caller.identity()?.claim(claim)) {
        Ok(values) => Ok(arguments.with_caller(values)),
        Err(claim) => Err(Problem::UnusableClaim(claim.to_owned())),
    }
}

#[cfg(test)]
mod tests;
