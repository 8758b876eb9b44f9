//! Requests that are made to cost much for what they are, and what each of their bytes may cost.

use hyper::Request;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HOST, IF_NONE_MATCH};

use crate::baseline::Cost;
use crate::hits::{Asked, Hit};

/// So are they called.
const PREFIX: &str = "hostile";

/// Instructions for each byte. Each is looked at a few times, at a few instructions a look; what is quadratic,
/// or done again for each route, takes many hundreds.
const PER_BYTE_MAX: f64 = 100.0;

/// Bytes of a target, just below what is refused at sight, and of a field.
const LONG: usize = 7_800;

/// Each of them, answered at once: as what is not there, as a mistake, or as a hit.
pub(crate) fn requests() -> anyhow::Result<Vec<Hit>> {
    let repeated = |text: &str| text.repeat(LONG / text.len());
    let asked = |target: &str| Request::get(target).header(HOST, "127.0.0.1:8080");
    let targets = [
        ("hostile path", format!("/{}", repeated("%41"))),
        ("hostile argument", format!("/sales/{}", repeated("%C3%A4"))),
        ("hostile query", format!("/sales/x?{}", repeated("a=%41&"))),
        ("hostile separators", format!("/count?{}", repeated("&"))),
    ];
    let fields = [
        ("hostile accept", ACCEPT, "a/,"),
        ("hostile codings", ACCEPT_ENCODING, "a,"),
        ("hostile tags", IF_NONE_MATCH, "\"a\","),
    ];
    let mut requests = Vec::new();
    for (name, target) in targets {
        let request = asked(&target).body(String::new())?;
        requests.push(Hit { name, request });
    }
    for (name, field, part) in fields {
        let request = asked("/count").header(field, repeated(part));
        let request = request.body(String::new())?;
        requests.push(Hit { name, request });
    }
    Ok(requests)
}

/// Whether that is the name of one of them.
pub(crate) fn is_one(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What costs too much for its bytes.
pub(crate) fn complaints(costs: &[(String, Cost)]) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for Hit { name, request } in requests()? {
        let found = costs.iter().find(|(counted, _)| counted == name);
        let per_byte = found.map_or(0.0, |(_, cost)| cost.instructions / bytes(&request) as f64);
        if per_byte > PER_BYTE_MAX {
            complaints.push(format!(
                "`{name}` takes {per_byte:.0} instructions a byte; {PER_BYTE_MAX:.0} are allowed"
            ));
        }
    }
    Ok(complaints)
}

fn bytes(request: &Asked) -> usize {
    let fields = request.headers().iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    request.uri().to_string().len() + fields
}
