//! What all endpoints share: the headers of answers, and the problems that clients may be told.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::plan::Endpoint;

/// A problem that clients may be told (RFC 9457).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The stable code, as `LRD-101`.
    pub code: &'static str,
    /// The status it comes with.
    pub status: u16,
    /// The status in words.
    pub title: &'static str,
    /// When it occurs, in a sentence.
    pub summary: &'static str,
    /// Whether `Retry-After` says when to come back.
    pub has_retry_after: bool,
}

/// Headers that every answer has: their names, their types, what they say.
const HEADERS: [(&str, &str, &str); 6] = [
    ("ETag", "string", "The strong tag of this representation."),
    ("Last-Modified", "string", "When the answer last changed."),
    (
        "Cache-Control",
        "string",
        "How long the answer stays fresh from now on.",
    ),
    ("Age", "integer", "The age of the data, in seconds."),
    (
        "Cache-Status",
        "string",
        "How the answer was found: RFC 9211.",
    ),
    ("Vary", "string", "What else the representation depends on."),
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

/// References to the refusals that the endpoint has.
pub(super) fn refusals(endpoint: &Endpoint, problems: &[ProblemKind]) -> Map<String, Value> {
    let is_possible = |status: &u16| match status {
        404 => endpoint.shape.is_single_row(),
        // It is the answer to other methods.
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

/// What the paths refer to.
pub(super) fn components(problems: &[ProblemKind]) -> Value {
    let cdn = (
        CDN_CACHE_CONTROL,
        "string",
        "The same for shared caches that know it: RFC 9213.",
    );
    let headers = HEADERS.into_iter().chain([cdn]).map(|(name, type_, says)| {
        let header = json!({ "description": says, "required": true, "schema": { "type": type_ } });
        (name.to_owned(), header)
    });
    let responses = by_status(problems)
        .into_iter()
        .filter(|(status, _)| *status != 405)
        .map(|(status, kinds)| (status.to_string(), refusal(&kinds)));
    let codes: Value = problems.iter().map(|kind| kind.code).collect();
    json!({
        "schemas": {
            "Problem": {
                "description": "Why there is no answer: RFC 9457.",
                "type": "object",
                "properties": {
                    "type": { "type": "string", "const": "about:blank" },
                    "title": { "type": "string", "description": "The status in words." },
                    "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                    "detail": { "type": "string", "description": "What is wrong, in a sentence." },
                    "code": { "description": "Which problem it is; stable.", "enum": codes },
                },
                "required": ["type", "title", "status", "detail", "code"],
            },
        },
        "headers": headers.collect::<Map<_, _>>(),
        "responses": responses.collect::<Map<_, _>>(),
    })
}

fn by_status(problems: &[ProblemKind]) -> BTreeMap<u16, Vec<&ProblemKind>> {
    let mut by_status: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for kind in problems {
        by_status.entry(kind.status).or_default().push(kind);
    }
    by_status
}

fn refusal(kinds: &[&ProblemKind]) -> Value {
    let title = kinds.first().map_or("", |kind| kind.title);
    let list = kinds
        .iter()
        .map(|kind| format!("- `{}`: {}", kind.code, kind.summary));
    let mut refusal = json!({
        "description": format!("{title}\n\n{}", list.collect::<Vec<_>>().join("\n")),
        "content": {
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
        },
    });
    if kinds.iter().any(|kind| kind.has_retry_after) {
        let always = kinds.iter().all(|kind| kind.has_retry_after);
        refusal["headers"] = json!({ "Retry-After": {
            "description": "Seconds after which to ask again.",
            "required": always,
            "schema": { "type": "integer", "minimum": 1 },
        } });
    }
    refusal
}
