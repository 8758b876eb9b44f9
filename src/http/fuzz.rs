//! Fuzz targets for everything that a client controls. Each runs for a bounded number of inputs as an
//! ordinary test, and without bounds under `cargo bolero test <name>`.

use std::panic::AssertUnwindSafe;

use bolero::check;
use warp::http::HeaderValue;

use super::request::percent;
use super::response::{conditional, negotiate};
#[cfg(test)]
use crate::config::Config;
use crate::encode::Coding;
use crate::plan::{Arguments, Endpoint, EndpointId, ParameterType, Plan, Route, Signature};

/// Paths and queries are visible ASCII: hyper refuses everything else.
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
    // A panic ends the test, so a broken invariant behind it is never seen.
    let plan = AssertUnwindSafe(plan());
    check!().for_each(|bytes| {
        let path = format!("/a/{}", visible(bytes));
        let plain = percent::unescaped_path(&path);
        assert_eq!(percent::unescaped_path(&plain), plain, "{path}");
        let Some(Route::Endpoint(routed)) = plan.route(&plain) else {
            return;
        };
        for (_, raw) in routed.path_arguments {
            let decoded = percent::segment(raw);
            let at_once = percent::segment(path.rsplit('/').next().unwrap());
            assert!(decoded.is_err() || at_once.is_ok() || path.matches('/').count() > 2);
        }
    });
}

#[test]
fn arguments_are_accepted_or_refused() {
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
            let Ok(query) = percent::query(&text).collect::<Result<Vec<_>, _>>() else {
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
        let read = percent::query(&text).take_while(Result::is_ok);
        assert!(read.count() <= text.matches('&').count() + 1);
    });
}

#[test]
fn a_listed_tag_is_found_whatever_else_is_in_the_list() {
    check!().for_each(|bytes| {
        let Ok(field) = HeaderValue::from_bytes(bytes) else {
            return;
        };
        let own = HeaderValue::from_static("\"0123\"");
        let both = [field.clone(), own];
        assert!(conditional::matches(both.iter(), "\"0123\""));
        // A field without the tag does not match.
        if !bytes.windows(4).any(|part| part == b"0123") && bytes.trim_ascii() != b"*" {
            assert!(!conditional::matches([field].iter(), "\"0123\""));
        }
    });
}

#[test]
fn no_refused_coding_is_negotiated() {
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
