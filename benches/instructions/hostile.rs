//! Requests that are made to be expensive, and how much each of their bytes may cost.

use hyper::Request;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HOST, IF_NONE_MATCH};

use crate::cost::Cost;
use crate::hits::{Asked, Hit};

/// Their names begin with this.
const PREFIX: &str = "hostile";

/// Instructions per byte. A byte is read a few times, at a few instructions each. Quadratic work, or work for each
/// route, takes many hundreds.
const PER_BYTE_MAX: f64 = 100.0;

/// Bytes of a target, just below the limit, and of a header.
const LONG: usize = 7_800;

/// Every request. Each is answered at once, with an error or a hit.
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

/// Whether this is the name of a hostile request.
pub(crate) fn is_hostile(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Which requests cost too much for their size.
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
