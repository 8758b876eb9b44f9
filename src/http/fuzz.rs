//! Everything a client controls, under bytes that nobody would think of. Each target runs for a bounded
//! number of inputs as an ordinary test, and without bounds under `cargo bolero test <name>`.

use std::panic::AssertUnwindSafe;

use bolero::check;
use warp::http::HeaderValue;

use super::{conditional, decode, negotiate};
#[cfg(test)]
use crate::config::Config;
use crate::encode::Coding;
use crate::plan::{Arguments, Endpoint, EndpointId, ParameterType, Plan, Signature};

/// Paths and queries are text of visible ASCII: hyper has refused everything else.
fn visible(bytes: &[u8]) -> String {
    let visible = bytes.iter().map(|byte| char::from(b'!' + byte % 94));
    visible.collect()
}

fn plan() -> Plan {
    let text = r#"
        [repository]
        url = "postgres://h/d"
        [[endpoint]]
        path = "/a/{b}/c"
        sql = "SELECT :b::int, :t::text, :d::date, :n::numeric, :f::float8, :u::uuid, :j::jsonb"
        params.t = { optional = true, pattern = "[a-z%]+", max_length = 20 }
        params.d = { optional = true, minimum = "2020-01-01" }
        params.n = { optional = true, minimum = -1.5, maximum = 1e3 }
        params.f = { default = 0.5 }
        params.u = { optional = true }
        params.j = { optional = true }
        [[endpoint]]
        path = "/a/{b}"
        sql = "SELECT :b::text"
    "#;
    let folder = std::path::Path::new(".");
    let config = Config::parse("config.toml", text.to_owned(), folder, &|_| None);
    Plan::compile(config.unwrap()).unwrap()
}

fn signature(endpoint: &Endpoint) -> Signature {
    use ParameterType::{Date, Float8, Int4, Json, Numeric, Text, Uuid};
    let types = [Int4, Text, Date, Numeric, Float8, Uuid, Json];
    Signature::new(endpoint, types.to_vec()).unwrap()
}

#[test]
fn a_path_is_routed_or_not_and_needless_escapes_change_nothing() {
    // A panic ends the test: nothing is looked at after it.
    let plan = AssertUnwindSafe(plan());
    check!().for_each(|bytes| {
        let path = format!("/a/{}", visible(bytes));
        let plain = decode::plain(&path);
        assert_eq!(decode::plain(&plain), plain, "{path}");
        let Some(routed) = plan.route(&plain) else {
            return;
        };
        for (_, raw) in routed.path_arguments {
            let decoded = decode::segment(raw);
            let at_once = decode::segment(path.rsplit('/').next().unwrap());
            assert!(decoded.is_err() || at_once.is_ok() || path.matches('/').count() > 2);
        }
    });
}

#[test]
fn arguments_are_taken_or_refused() {
    let plan = plan();
    let endpoint = AssertUnwindSafe(plan.endpoint(EndpointId::new(0)));
    let signature = AssertUnwindSafe(signature(&endpoint));
    let names = ["b", "t", "d", "n", "f", "u", "j", "x"];
    check!()
        .with_type::<Vec<(u8, Vec<u8>)>>()
        .for_each(|pairs| {
            let mut text = String::new();
            for (name, value) in pairs {
                let name = names[usize::from(*name) % names.len()];
                text.push_str(&format!("&{name}={}", visible(value)));
            }
            let Ok(query) = decode::query(&text).collect::<Result<Vec<_>, _>>() else {
                return;
            };
            let path = [("b", "1".into())];
            let taken: Result<Arguments, _> = signature.arguments(&endpoint, &path, &query);
            let again = signature.arguments(&endpoint, &path, &query);
            assert_eq!(taken.is_ok(), again.is_ok());
            if let (Ok(one), Ok(other)) = (taken, again) {
                assert!(one == other, "equal requests have equal keys");
            }
        });
}

#[test]
fn any_query_is_read_or_refused() {
    check!().for_each(|bytes| {
        let text = visible(bytes);
        let read = decode::query(&text).take_while(Result::is_ok);
        assert!(read.count() <= text.matches('&').count() + 1);
    });
}

#[test]
fn a_tag_that_is_listed_is_found_whatever_stands_beside_it() {
    check!().for_each(|bytes| {
        let Ok(field) = HeaderValue::from_bytes(bytes) else {
            return;
        };
        let own = HeaderValue::from_static("\"0123\"");
        let both = [field.clone(), own];
        assert!(conditional::matches(both.iter(), "\"0123\""));
        // What does not name it does not match it.
        if !bytes.windows(4).any(|part| part == b"0123") && bytes.trim_ascii() != b"*" {
            assert!(!conditional::matches([field].iter(), "\"0123\""));
        }
    });
}

#[test]
fn what_is_negotiated_was_not_refused() {
    check!().for_each(|bytes| {
        let Ok(field) = HeaderValue::from_bytes(bytes) else {
            return;
        };
        let fields = [field];
        let _ = negotiate::format(fields.iter());
        let codings = negotiate::codings(fields.iter());
        let named = |name: &str| {
            let lower = bytes.to_ascii_lowercase();
            lower
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        };
        let asked = match codings.best {
            Coding::Identity => codings.identity,
            Coding::Gzip | Coding::Brotli | Coding::Zstd => {
                named(codings.best.name().unwrap()) || bytes.contains(&b'*')
            }
        };
        assert!(asked, "{codings:?}");
    });
}
