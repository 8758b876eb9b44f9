//! What all endpoints share: the headers of answers, and problems.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::plan::{Endpoint, Requirements};

/// A problem that clients may receive (RFC 9457).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The stable code, such as `LRD-101`.
    pub code: &'static str,
    /// Its status.
    pub status: u16,
    /// The reason phrase of the status.
    pub title: &'static str,
    /// When it occurs, in a sentence.
    pub summary: &'static str,
    /// Whether `Retry-After` tells when to retry.
    pub has_retry_after: bool,
}

/// The headers of every answer: name, type and description.
const HEADERS: [(&str, &str, &str); 6] = [
    (
        "ETag",
        "string",
        "The strong entity tag of this representation.",
    ),
    ("Last-Modified", "string", "When the answer last changed."),
    (
        "Cache-Control",
        "string",
        "How long the answer stays fresh.",
    ),
    ("Age", "integer", "The age of the data, in seconds."),
    (
        "Cache-Status",
        "string",
        "Whether the answer came from the cache: RFC 9211.",
    ),
    (
        "Vary",
        "string",
        "The request headers that select the representation.",
    ),
];

/// The headers of draft-ietf-httpapi-ratelimit-headers-10.
const QUOTA_HEADERS: [(&str, &str); 2] = [
    (
        "RateLimit-Policy",
        "The quota that is used up: its amount and its window in seconds.",
    ),
    (
        "RateLimit",
        "What is left of the quota, and the seconds until there is more.",
    ),
];

const CDN_CACHE_CONTROL: &str = "CDN-Cache-Control";

/// References to the headers of an answer and of a 304.
pub(super) fn headers_of_answers(endpoint: &Endpoint) -> Value {
    let cdn = endpoint.cdn_cache_control.map(|_| CDN_CACHE_CONTROL);
    let names = HEADERS.iter().map(|(name, ..)| *name).chain(cdn);
    let reference = |name| json!({ "$ref": format!("#/components/headers/{name}") });
    names
        .map(|name| (name.to_owned(), reference(name)))
        .collect::<Map<_, _>>()
        .into()
}

/// References to the problem responses of an endpoint.
pub(super) fn problem_responses(
    endpoint: &Endpoint,
    problems: &[ProblemKind],
) -> Map<String, Value> {
    let is_possible = |status: &u16| match status {
        404 => endpoint.shape.is_single_row(),
        401 | 403 => endpoint.access.needs_credential(),
        // Only other methods get it.
        405 => false,
        _ => true,
    };
    let statuses = by_status(problems).into_keys().filter(is_possible);
    statuses
        .map(|status| {
            (
                status.to_string(),
                json!({ "$ref": format!("#/components/responses/{status}") }),
            )
        })
        .collect()
}

/// The Components Object.
pub(super) fn all(problems: &[ProblemKind], has_credentials: bool) -> Value {
    let cdn = (
        CDN_CACHE_CONTROL,
        "string",
        "`Cache-Control` for shared caches that support this header: RFC 9213.",
    );
    let headers = HEADERS.into_iter().chain([cdn]).map(|(name, type_, says)| {
        let header = json!({ "description": says, "required": true, "schema": { "type": type_ } });
        (name.to_owned(), header)
    });
    let responses = by_status(problems)
        .into_iter()
        .filter(|(status, _)| *status != 405)
        .map(|(status, kinds)| (status.to_string(), response(&kinds)));
    let codes: Value = problems.iter().map(|kind| kind.code).collect();
    let mut components = json!({
        "schemas": {
            "Problem": {
                "description": "Why the request failed: RFC 9457.",
                "type": "object",
                "properties": {
                    "type": { "type": "string", "const": "about:blank" },
                    "title": { "type": "string", "description": "The reason phrase of the status." },
                    "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                    "detail": { "type": "string", "description": "What is wrong, in a sentence." },
                    "code": { "description": "A stable code for the kind of problem.", "enum": codes },
                },
                "required": ["type", "title", "status", "detail", "code"],
            },
        },
        "headers": headers.collect::<Map<_, _>>(),
        "responses": responses.collect::<Map<_, _>>(),
    });
    if has_credentials {
        components["securitySchemes"] = json!({
            BEARER: {
                "type": "http",
                "scheme": "bearer",
                "description": "A key or a token: RFC 6750.",
            },
            API_KEY: { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key or token." },
        });
    }
    components
}

const BEARER: &str = "bearer";
const API_KEY: &str = "apiKey";

/// The ways to present a credential with these scopes.
pub(super) fn security(requirements: &Requirements) -> Value {
    json!([{ BEARER: requirements.scopes }, { API_KEY: requirements.scopes }])
}

fn by_status(problems: &[ProblemKind]) -> BTreeMap<u16, Vec<&ProblemKind>> {
    let mut by_status: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for kind in problems {
        by_status.entry(kind.status).or_default().push(kind);
    }
    by_status
}

fn response(kinds: &[&ProblemKind]) -> Value {
    let title = kinds.first().map_or("", |kind| kind.title);
    let list = kinds
        .iter()
        .map(|kind| format!("- `{}`: {}", kind.code, kind.summary));
    let mut response = json!({
        "description": format!("{title}\n\n{}", list.collect::<Vec<_>>().join("\n")),
        "content": {
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
        },
    });
    let mut headers = Map::new();
    if kinds.iter().any(|kind| kind.has_retry_after) {
        let always = kinds.iter().all(|kind| kind.has_retry_after);
        let retry_after = json!({
            "description": "Seconds to wait before retrying.",
            "required": always,
            "schema": { "type": "integer", "minimum": 1 },
        });
        headers.insert("Retry-After".to_owned(), retry_after);
    }
    if kinds.iter().any(|kind| kind.status == 429) {
        for (name, description) in QUOTA_HEADERS {
            let header = json!({
                "description": description,
                "required": true,
                "schema": { "type": "string" },
            });
            headers.insert(name.to_owned(), header);
        }
    }
    if kinds.iter().any(|kind| kind.status == 401) {
        let header = json!({
            "description": "What is wrong with the credential, if there is one: RFC 6750.",
            "required": true,
            "schema": { "type": "string" },
        });
        headers.insert("WWW-Authenticate".to_owned(), header);
    }
    if !headers.is_empty() {
        response["headers"] = headers.into();
    }
    response
}
