//! The endpoints as an OpenAPI 3.1 document, from the plan and the types that Postgres described.

mod components; // what all endpoints share: headers and problems
mod json; // JSON as text, so that numbers keep their digits
mod parameter; // one parameter: its place, type and limits
mod response; // an endpoint's response: its shape, formats and column types

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

pub use components::ProblemKind;
pub use json::Json;

use crate::plan::{Access, AccessSettings, Endpoint, Format, Place, Plan};
use crate::repository::Description;
use json::Object;

/// The document for the endpoints that are visible. `example` returns an answer of an endpoint to show, as JSON in its shape.
/// `server` is the URL that paths are relative to; by default, the folder of the document, wherever a proxy
/// puts it.
pub fn document<'d>(
    plan: &Plan,
    is_visible: impl Fn(&Endpoint) -> bool,
    description: impl Fn(&Endpoint) -> &'d Arc<Description>,
    problems: &[ProblemKind],
    example: impl Fn(&Endpoint) -> Option<Json>,
    server: Option<&str>,
) -> Json {
    let limits_callers = plan.access().is_some_and(AccessSettings::limits_callers);
    let is_possible = |problem: &&ProblemKind| limits_callers || problem.status != 429;
    let problems: Vec<_> = problems.iter().filter(is_possible).copied().collect();
    let mut taken = HashSet::new();
    let mut paths = Object::default();
    for endpoint in plan.endpoints() {
        // The same name in the documents of all callers.
        let id = operation_id(endpoint, &mut taken);
        if !is_visible(endpoint) {
            continue;
        }
        let description = description(endpoint);
        let example = example(endpoint);
        let mut path = Object::default();
        path.put_json(
            "get",
            operation(endpoint, description, &problems, example.as_ref(), id),
        );
        paths.add_json(endpoint.path.as_str(), path.end());
    }
    let mut document = Object::from(json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Larder",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Answers to declared queries, served from memory and refreshed in the background. \
                Each is available as JSON, NDJSON (one value per line) or CSV (RFC 4180), as `Accept` \
                requests. `Age` is the age of the data in seconds. `Cache-Status` (RFC 9211) tells whether \
                an answer came from the cache.",
        },
        "servers": [{ "url": server.unwrap_or("./") }],
    }));
    document.put_json("paths", paths.end());
    let has_credentials = plan.access().is_some();
    document.put("components", components::all(&problems, has_credentials));
    document.end()
}

fn operation(
    endpoint: &Endpoint,
    description: &Description,
    problems: &[ProblemKind],
    example: Option<&Json>,
    id: String,
) -> Json {
    let kinds = description.signature.types();
    let described = kinds.zip(&description.parameters);
    let parameters = endpoint.parameters.iter().zip(described);
    // Claims are not the client's to choose.
    let parameters = parameters.filter(|(parameter, _)| !parameter.place.is_claim());
    // Path parameters in the order of the path, then the others in the order of the statement.
    let mut parameters: Vec<_> = parameters.collect();
    parameters.sort_by_key(|(parameter, _)| {
        let at = endpoint
            .path
            .as_str()
            .find(&format!("{{{}}}", parameter.name));
        (parameter.place == Place::Query, at)
    });
    let mut operation = Object::default();
    operation.put("operationId", id);
    if let Some(summary) = &endpoint.summary {
        operation.put("summary", summary.as_str());
    }
    operation.put("description", prose(endpoint));
    operation.put("x-shape", endpoint.shape.as_str());
    if let Access::Credential(requirements) = &endpoint.access {
        operation.put("security", components::security(requirements));
    }
    if !parameters.is_empty() {
        let parameters = parameters
            .into_iter()
            .map(|(parameter, (kind, described))| {
                parameter::describe(endpoint, parameter, kind, described)
            });
        operation.put_json("parameters", Json::array(parameters));
    }
    let mut responses = Object::default();
    let columns = &description.columns;
    responses.put_json("200", response::ok(endpoint, columns, example));
    responses.put("304", response::not_modified(endpoint));
    for (status, response) in components::problem_responses(endpoint, problems) {
        responses.put(&status, response);
    }
    operation.put_json("responses", responses.end());
    operation.end()
}

/// What clients should know about the endpoint that OpenAPI has no field for.
fn prose(endpoint: &Endpoint) -> String {
    let mut prose = match endpoint.freshness.max_age {
        Some(max_age) => format!("An answer is fresh for {}.", in_words(max_age.as_millis())),
        None => "An answer is fresh until the next scheduled refresh.".to_owned(),
    };
    let suffixed = |format: Format| endpoint.path.with_suffix(format);
    let also: Vec<String> = Format::ALL.into_iter().filter_map(suffixed).collect();
    if !also.is_empty() {
        let paths: Vec<String> = also.iter().map(|path| format!("`{path}`")).collect();
        prose.push_str(&format!(
            " Other formats are also at {}.",
            paths.join(" and ")
        ));
    }
    prose
}

/// A duration in its largest whole unit.
fn in_words(millis: u128) -> String {
    for (factor, unit) in [
        (86_400_000, "days"),
        (3_600_000, "hours"),
        (60_000, "minutes"),
        (1_000, "seconds"),
    ] {
        if millis >= factor && millis.is_multiple_of(factor) {
            let count = millis / factor;
            let unit = if count == 1 {
                &unit[..unit.len() - 1]
            } else {
                unit
            };
            return format!("{count} {unit}");
        }
    }
    format!("{millis} milliseconds")
}

/// A name for generated clients, derived from the path: `get_sales_country` for `/sales/{country}`.
fn operation_id(endpoint: &Endpoint, taken: &mut HashSet<String>) -> String {
    let mut id = "get".to_owned();
    for segment in endpoint
        .path
        .as_str()
        .split('/')
        .filter(|segment| !segment.is_empty())
    {
        let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        id.push('_');
        id.extend(segment.trim_matches(['{', '}']).chars().map(word));
    }
    let mut unique = id.clone();
    let mut more = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{id}_{more}");
        more += 1;
    }
    unique
}
