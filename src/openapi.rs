//! The endpoints as an OpenAPI 3.1 document: what clients may ask and what they will get, from the plan
//! and from the types Postgres described.
//!
//! | part        | describes                                             |
//! |-------------|-------------------------------------------------------|
//! | `parameter` | one parameter: where it stands, its type, its limits  |
//! | `answer`    | answers by shape and format, and each column's type   |
//! | `shared`    | what all endpoints share: headers, problems           |
//! | `json`      | JSON as text, so that numbers keep their digits       |

mod answer;
mod json;
mod parameter;
mod shared;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

pub use json::Json;
pub use shared::ProblemKind;

use crate::plan::{Endpoint, Format, Place, Plan};
use crate::repository::Description;
use json::Object;

/// The document for these endpoints. `example` is an answer of one, as JSON in its shape, if there is
/// one to show. `server` is the URL that paths continue; by default, that of the folder which the document
/// is in, wherever a proxy has put it.
pub fn document<'d>(
    plan: &Plan,
    description: impl Fn(&Endpoint) -> &'d Arc<Description>,
    problems: &[ProblemKind],
    example: impl Fn(&Endpoint) -> Option<Json>,
    server: Option<&str>,
) -> Json {
    let mut taken = HashSet::new();
    let mut paths = Object::default();
    for endpoint in plan.endpoints() {
        let id = operation_id(endpoint, &mut taken);
        let description = description(endpoint);
        let example = example(endpoint);
        let mut path = Object::default();
        path.put_json(
            "get",
            operation(endpoint, description, problems, example.as_ref(), id),
        );
        paths.add_json(endpoint.path.as_str(), path.end());
    }
    let mut document = Object::from(json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Larder",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Answers of declared queries, served from memory and kept fresh in the background. \
                Each is available as JSON, as NDJSON (a value a line) and as CSV (RFC 4180), by `Accept`. \
                `Age` is the age of the data in seconds; `Cache-Status` (RFC 9211) says how an answer was \
                found.",
        },
        "servers": [{ "url": server.unwrap_or("./") }],
    }));
    document.put_json("paths", paths.end());
    document.put("components", shared::components(problems));
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
    let told = kinds.zip(&description.parameters);
    let parameters = endpoint.parameters.iter().zip(told);
    // Those of the path in its order, then the others in that of the statement.
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
    if !parameters.is_empty() {
        let parameters = parameters
            .into_iter()
            .map(|(parameter, (kind, told))| parameter::of(endpoint, parameter, kind, told));
        operation.put_json("parameters", Json::array(parameters));
    }
    let mut responses = Object::default();
    let columns = &description.columns;
    responses.put_json("200", answer::of(endpoint, columns, example));
    responses.put("304", answer::not_modified(endpoint));
    for (status, refusal) in shared::refusals(endpoint, problems) {
        responses.put(&status, refusal);
    }
    operation.put_json("responses", responses.end());
    operation.end()
}

/// What a client should know of the endpoint that no field of the document says.
fn prose(endpoint: &Endpoint) -> String {
    let mut prose = match endpoint.freshness.max_age {
        Some(max_age) => format!("An answer is fresh for {}.", spoken(max_age.as_millis())),
        None => "An answer is fresh until the next scheduled refresh.".to_owned(),
    };
    let suffixed = |format: Format| endpoint.path.with_suffix(format);
    let also: Vec<String> = Format::ALL.into_iter().filter_map(suffixed).collect();
    if !also.is_empty() {
        let paths: Vec<String> = also.iter().map(|path| format!("`{path}`")).collect();
        prose.push_str(&format!(" Other formats also at {}.", paths.join(" and ")));
    }
    prose
}

/// A duration in its largest whole unit.
fn spoken(millis: u128) -> String {
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

/// A name for generated clients, from the path: `get_sales_country` of `/sales/{country}`.
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
