//! Problem documents (RFC 9457), and the one mapping of errors to them. Their texts contain no statement, host or
//! credential.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use warp::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};

use super::request::percent::DecodeError;
use super::response::{ALLOWED_METHODS, NOSNIFF, Response};
use crate::encode::EncodeError;
use crate::limiter::Exceeded;
use crate::openapi::ProblemKind;
use crate::plan::{ArgumentError, Quota};
use crate::read_through::{LoadError, ReadError};
use crate::repository::RepositoryError;

/// The code of the problem in a response, as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub(super) &'static str);

/// Why there is no answer. Codes are stable: 1xx the request, 2xx the credential, 3xx the
/// repository, 4xx capacity, 5xx
/// Larder itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// No endpoint has this path.
    NotFound,
    /// The path does not support the method.
    MethodNotAllowed,
    /// An argument is not valid for its parameter.
    InvalidArgument(String),
    /// A required parameter is missing.
    MissingParameter(String),
    /// The endpoint declares no such parameter.
    UnknownParameter(String),
    /// A parameter is given more than once.
    RepeatedParameter(String),
    /// The path or query is not percent-encoded UTF-8.
    MalformedEncoding(&'static str),
    /// The shape is one row, and there is none.
    NoRow,
    /// Postgres refuses the query because of an argument.
    ArgumentRefused,
    /// The request has no path.
    NoPath,
    /// The client accepts none of the formats.
    NotAcceptable,
    /// The request target is too long.
    TargetTooLong,
    /// The request has a body, and its method gives it no meaning.
    HasBody,
    /// The request does not name exactly one valid host.
    NoHost,
    /// The request has too many header fields.
    TooManyFields,
    /// The request names a host that the server does not serve.
    Misdirected,
    /// A credential is needed, and there is none.
    NoCredential,
    /// The credential is not valid; and why.
    InvalidCredential(&'static str),
    /// The credential lacks one of these scopes.
    InsufficientScope(String),
    /// The path may not be asked for from this address.
    AddressNotAllowed,
    /// The credential lacks this claim, or the claim is not valid for its parameter.
    UnusableClaim(String),
    /// There are two credentials, or there is one that cannot be read.
    MalformedCredential(&'static str),
    /// The keys that would verify the token have not been loaded.
    NoKeys(Duration),
    /// The caller makes too many requests.
    RequestLimit(Exceeded),
    /// The caller causes too many loads.
    LoadLimit(Exceeded),
    /// Postgres cannot be reached, or lacks a resource.
    Unavailable(Duration),
    /// The query takes longer than the endpoint allows.
    TooSlow,
    /// Postgres refuses the query.
    Refused,
    /// The answer exceeds a limit of the endpoint.
    TooLarge,
    /// The shape is one row, and there are more.
    MoreThanOneRow,
    /// Clients cause too many loads.
    TooManyLoads(Duration),
    /// Nothing is loaded, and requests of the endpoint do not cause a load.
    NotLoaded(Duration),
    /// The endpoint is not described yet.
    Warming(Duration),
    /// A defect of Larder.
    Internal,
}

impl Problem {
    /// One of each, in the order of their codes.
    pub fn all() -> Vec<Self> {
        const EXAMPLE: Exceeded = Exceeded {
            quota: Quota {
                amount: NonZeroU32::MIN,
                window: Duration::from_secs(1),
            },
            retry_after: Duration::ZERO,
        };
        vec![
            Self::NotFound,
            Self::MethodNotAllowed,
            Self::InvalidArgument(String::new()),
            Self::MissingParameter(String::new()),
            Self::UnknownParameter(String::new()),
            Self::RepeatedParameter(String::new()),
            Self::MalformedEncoding(""),
            Self::NoRow,
            Self::ArgumentRefused,
            Self::NoPath,
            Self::NotAcceptable,
            Self::TargetTooLong,
            Self::HasBody,
            Self::NoHost,
            Self::TooManyFields,
            Self::Misdirected,
            Self::NoCredential,
            Self::InvalidCredential(""),
            Self::InsufficientScope(String::new()),
            Self::AddressNotAllowed,
            Self::UnusableClaim(String::new()),
            Self::MalformedCredential(""),
            Self::NoKeys(Duration::ZERO),
            Self::Unavailable(Duration::ZERO),
            Self::TooSlow,
            Self::Refused,
            Self::TooLarge,
            Self::MoreThanOneRow,
            Self::TooManyLoads(Duration::ZERO),
            Self::NotLoaded(Duration::ZERO),
            Self::Warming(Duration::ZERO),
            Self::RequestLimit(EXAMPLE),
            Self::LoadLimit(EXAMPLE),
            Self::Internal,
        ]
    }

    /// All of them, as documents list them.
    pub fn kinds() -> Vec<ProblemKind> {
        let kind = |problem: &Self| {
            let (code, status) = problem.code();
            ProblemKind {
                code,
                status: status.as_u16(),
                title: status.canonical_reason().unwrap_or_default(),
                summary: problem.summary(),
                has_retry_after: problem.retry_after().is_some(),
            }
        };
        Self::all().iter().map(kind).collect()
    }

    /// The stable code and the status.
    pub fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::NotFound => ("LRD-101", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("LRD-102", StatusCode::METHOD_NOT_ALLOWED),
            Self::InvalidArgument(_) => ("LRD-103", StatusCode::BAD_REQUEST),
            Self::MissingParameter(_) => ("LRD-104", StatusCode::BAD_REQUEST),
            Self::UnknownParameter(_) => ("LRD-105", StatusCode::BAD_REQUEST),
            Self::RepeatedParameter(_) => ("LRD-106", StatusCode::BAD_REQUEST),
            Self::MalformedEncoding(_) => ("LRD-107", StatusCode::BAD_REQUEST),
            Self::NoRow => ("LRD-108", StatusCode::NOT_FOUND),
            Self::ArgumentRefused => ("LRD-109", StatusCode::BAD_REQUEST),
            Self::NoPath => ("LRD-110", StatusCode::BAD_REQUEST),
            Self::NotAcceptable => ("LRD-111", StatusCode::NOT_ACCEPTABLE),
            Self::TargetTooLong => ("LRD-112", StatusCode::URI_TOO_LONG),
            Self::HasBody => ("LRD-113", StatusCode::PAYLOAD_TOO_LARGE),
            Self::NoHost => ("LRD-114", StatusCode::BAD_REQUEST),
            Self::TooManyFields => ("LRD-115", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::Misdirected => ("LRD-116", StatusCode::MISDIRECTED_REQUEST),
            Self::NoCredential => ("LRD-201", StatusCode::UNAUTHORIZED),
            Self::InvalidCredential(_) => ("LRD-202", StatusCode::UNAUTHORIZED),
            Self::InsufficientScope(_) => ("LRD-203", StatusCode::FORBIDDEN),
            Self::AddressNotAllowed => ("LRD-204", StatusCode::FORBIDDEN),
            Self::UnusableClaim(_) => ("LRD-205", StatusCode::FORBIDDEN),
            Self::MalformedCredential(_) => ("LRD-206", StatusCode::BAD_REQUEST),
            Self::NoKeys(_) => ("LRD-207", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable(_) => ("LRD-301", StatusCode::SERVICE_UNAVAILABLE),
            Self::TooSlow => ("LRD-302", StatusCode::GATEWAY_TIMEOUT),
            Self::Refused => ("LRD-303", StatusCode::BAD_GATEWAY),
            Self::TooLarge => ("LRD-304", StatusCode::BAD_GATEWAY),
            Self::MoreThanOneRow => ("LRD-305", StatusCode::BAD_GATEWAY),
            Self::TooManyLoads(_) => ("LRD-401", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotLoaded(_) => ("LRD-402", StatusCode::SERVICE_UNAVAILABLE),
            Self::Warming(_) => ("LRD-403", StatusCode::SERVICE_UNAVAILABLE),
            Self::RequestLimit(_) => ("LRD-405", StatusCode::TOO_MANY_REQUESTS),
            Self::LoadLimit(_) => ("LRD-406", StatusCode::TOO_MANY_REQUESTS),
            Self::Internal => ("LRD-501", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// One sentence for people.
    fn detail(&self) -> Cow<'_, str> {
        if let Self::InvalidArgument(detail)
        | Self::MissingParameter(detail)
        | Self::UnknownParameter(detail)
        | Self::RepeatedParameter(detail) = self
        {
            return detail.into();
        }
        if let Self::MalformedEncoding(detail)
        | Self::InvalidCredential(detail)
        | Self::MalformedCredential(detail) = self
        {
            return (*detail).into();
        }
        if let Self::InsufficientScope(scopes) = self {
            return format!("The credential lacks a scope of these: {scopes}.").into();
        }
        if let Self::UnusableClaim(claim) = self {
            return format!("The credential has no usable claim `{claim}`.").into();
        }
        self.summary().into()
    }

    /// The challenge of RFC 6750, 3: what is wrong with the credential, if there is one.
    fn challenge(&self) -> Option<HeaderValue> {
        let wrong = if let Self::InvalidCredential(why) = self {
            format!(", error=\"invalid_token\", error_description=\"{why}\"")
        } else if let Self::InsufficientScope(scopes) = self {
            format!(", error=\"insufficient_scope\", scope=\"{scopes}\"")
        } else if let Self::MalformedCredential(_) = self {
            ", error=\"invalid_request\"".to_owned()
        } else if *self == Self::NoCredential {
            String::new()
        } else {
            return None;
        };
        HeaderValue::try_from(format!("Bearer realm=\"larder\"{wrong}")).ok()
    }

    /// When it occurs, in one sentence.
    pub(super) fn summary(&self) -> &'static str {
        match self {
            Self::NotFound => "No endpoint has this path.",
            Self::MethodNotAllowed => "This path supports GET, HEAD and OPTIONS.",
            Self::InvalidArgument(_) => "An argument is not valid for its parameter.",
            Self::MissingParameter(_) => "A required parameter is missing.",
            Self::UnknownParameter(_) => "The endpoint has no such parameter.",
            Self::RepeatedParameter(_) => "A parameter is given more than once.",
            Self::MalformedEncoding(_) => "The path or query is not percent-encoded UTF-8.",
            Self::NoRow => "There is no such row.",
            Self::ArgumentRefused => "The database does not accept an argument of this request.",
            Self::NoPath => "The request target has no path.",
            Self::NotAcceptable => {
                "This answer is available as application/json, application/x-ndjson and text/csv."
            }
            Self::TargetTooLong => "The request target is longer than 8 KiB.",
            Self::HasBody => "A GET, HEAD or OPTIONS request must not have a body.",
            Self::NoHost => "The request does not name exactly one valid host.",
            Self::TooManyFields => "The request has more than 100 header fields.",
            Self::Misdirected => "This server does not serve the host that the request names.",
            Self::NoCredential => {
                "This needs a credential: `Authorization: Bearer` or `X-API-Key`."
            }
            Self::InvalidCredential(_) => "The credential is not valid, or no longer.",
            Self::InsufficientScope(_) => "The credential lacks a scope.",
            Self::AddressNotAllowed => "This may not be requested from this address.",
            Self::UnusableClaim(_) => "The credential lacks a claim that this endpoint needs.",
            Self::MalformedCredential(_) => {
                "The request has more than one credential, or a malformed one."
            }
            Self::NoKeys(_) => "The credential cannot be verified at the moment.",
            Self::Unavailable(_) => "The database cannot answer at the moment.",
            Self::TooSlow => "The database did not answer in time.",
            Self::Refused => "The database refused the query of this endpoint.",
            Self::TooLarge => "The answer is larger than this endpoint allows.",
            Self::MoreThanOneRow => "The query of this endpoint returned more than one row.",
            Self::TooManyLoads(_) => "Too many answers are waiting to be loaded.",
            Self::NotLoaded(_) => "This answer is not loaded yet.",
            Self::Warming(_) => "This endpoint is not ready yet.",
            Self::RequestLimit(_) => "There are too many requests from this caller.",
            Self::LoadLimit(_) => "This caller's requests cause too many answers to be loaded.",
            Self::Internal => "An internal error occurred.",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(wait)
            | Self::NoKeys(wait)
            | Self::TooManyLoads(wait)
            | Self::NotLoaded(wait)
            | Self::Warming(wait) => Some(*wait),
            Self::RequestLimit(exceeded) | Self::LoadLimit(exceeded) => Some(exceeded.retry_after),
            Self::NotFound
            | Self::MethodNotAllowed
            | Self::InvalidArgument(_)
            | Self::MissingParameter(_)
            | Self::UnknownParameter(_)
            | Self::RepeatedParameter(_)
            | Self::MalformedEncoding(_)
            | Self::NoRow
            | Self::ArgumentRefused
            | Self::NoPath
            | Self::NotAcceptable
            | Self::TargetTooLong
            | Self::HasBody
            | Self::NoHost
            | Self::TooManyFields
            | Self::Misdirected
            | Self::NoCredential
            | Self::InvalidCredential(_)
            | Self::InsufficientScope(_)
            | Self::AddressNotAllowed
            | Self::UnusableClaim(_)
            | Self::MalformedCredential(_)
            | Self::TooSlow
            | Self::Refused
            | Self::TooLarge
            | Self::MoreThanOneRow
            | Self::Internal => None,
        }
    }

    /// The problem for a read that found nothing to serve.
    pub fn from_read(error: &ReadError) -> Self {
        match error {
            ReadError::Load { error, retry_in } => Self::from_load(error, *retry_in),
            ReadError::Away { retry_in } => Self::Unavailable(*retry_in),
            ReadError::TooSlow(_) => Self::TooSlow,
            ReadError::TooManyLoads { retry_after } => Self::TooManyLoads(*retry_after),
            ReadError::CallerLimit(exceeded) => Self::LoadLimit(*exceeded),
            ReadError::NotLoaded { retry_in } => Self::NotLoaded(*retry_in),
        }
    }

    /// The problem for a failed load.
    pub(super) fn from_load(error: &LoadError, retry_in: Duration) -> Self {
        match error {
            LoadError::Repository(error) => match error {
                RepositoryError::Unavailable { .. }
                | RepositoryError::Busy { .. }
                | RepositoryError::Cancelled { .. }
                | RepositoryError::SessionEnded { .. }
                | RepositoryError::Settings { .. } => Self::Unavailable(retry_in),
                RepositoryError::TimedOut { .. } => Self::TooSlow,
                RepositoryError::TooManyRows { .. } => Self::TooLarge,
                RepositoryError::ArgumentRefused { .. } => Self::ArgumentRefused,
                RepositoryError::Refused { .. }
                | RepositoryError::RoleRefused { .. }
                | RepositoryError::Failed { .. }
                | RepositoryError::Unusable { .. }
                | RepositoryError::Outdated { .. } => Self::Refused,
            },
            LoadError::Overloaded => Self::TooManyLoads(retry_in),
            LoadError::Encode(error) => match error {
                EncodeError::TooLarge { .. } => Self::TooLarge,
                EncodeError::MoreThanOneRow => Self::MoreThanOneRow,
                EncodeError::Malformed { .. } => Self::Internal,
            },
            LoadError::Lost => Self::Internal,
        }
    }
}

impl From<ArgumentError> for Problem {
    fn from(error: ArgumentError) -> Self {
        let detail = error.to_string();
        match error {
            ArgumentError::Invalid { .. } => Self::InvalidArgument(detail),
            ArgumentError::Missing { .. } => Self::MissingParameter(detail),
            ArgumentError::Unknown { .. } => Self::UnknownParameter(detail),
            ArgumentError::Repeated { .. } => Self::RepeatedParameter(detail),
        }
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::BrokenEscape => Self::MalformedEncoding(
                "A `%` in the path or query is not followed by two hexadecimal digits.",
            ),
            DecodeError::NotUtf8 => Self::MalformedEncoding("The path or query is not UTF-8."),
        }
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let (code, status) = problem.code();
        let document = json!({
            // RFC 9457, 4.2.1: the type adds nothing to the status. `code` is more specific.
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": problem.detail(),
            "code": code,
        });
        let mut response = Self::new(Bytes::from(document.to_string()));
        *response.status_mut() = status;
        response.extensions_mut().insert(Code(code));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, ALLOWED_METHODS);
        }
        if let Some(challenge) = problem.challenge() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = problem.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Problem::RequestLimit(exceeded) = problem {
            add_quota(headers, "requests", &exceeded);
        } else if let Problem::LoadLimit(exceeded) = problem {
            add_quota(headers, "loads", &exceeded);
        }
        response
    }
}

/// The fields of draft-ietf-httpapi-ratelimit-headers-10: the quota, and that nothing is left of it.
fn add_quota(headers: &mut HeaderMap, name: &str, exceeded: &Exceeded) {
    let Quota { amount, window } = exceeded.quota;
    let policy = format!("\"{name}\";q={amount};w={}", window.as_secs());
    let left = format!("\"{name}\";r=0;t={}", whole_seconds(exceeded.retry_after));
    for (field, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(field, value);
        }
    }
}

/// Rounded up, so that clients do not come back too early.
fn whole_seconds(wait: Duration) -> u64 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    seconds.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_its_code_in_body_and_extension() {
        for problem in Problem::all() {
            let (code, _) = problem.code();
            // Metrics look up a path and a code by their concatenation: no code may be the end of another.
            let digits = code.strip_prefix("LRD-").expect(code);
            assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()));
            let response = Response::from(problem);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["code"], code);
            assert_eq!(response.extensions().get(), Some(&Code(code)));
        }
    }
}
