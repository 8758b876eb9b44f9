//! Which endpoint answers which paths.

use proptest::prelude::*;

use super::*;

#[test]
fn no_parameter_matches_a_reserved_path() {
    let table = table(&["/{page}", "/docs/{part}"]);
    for page in Page::ALL {
        let route = route(&table, page.path());
        assert!(matches!(route, Some(Route::Page(it)) if it == *page));
    }
    assert!(route(&table, "/count").is_some());
    assert!(route(&table, "/docs/other").is_some());
}

fn table(paths: &[&str]) -> RouteTable {
    let mut table = RouteTable::default();
    for (index, path) in paths.iter().enumerate() {
        let pattern = PathPattern::parse(path).expect(path);
        let place = u32::try_from(index).unwrap();
        table.insert(&pattern, place).expect(path);
    }
    table
}

fn route<'p>(table: &'p RouteTable, path: &'p str) -> Option<Route<'p>> {
    table.route(path, |place| Some(EndpointId::new(place)))
}

fn routed<'p>(table: &'p RouteTable, path: &'p str) -> Option<Routed<'p>> {
    match route(table, path)? {
        Route::Endpoint(routed) => Some(routed),
        Route::Page(_) => None,
    }
}

#[test]
fn a_path_is_routed_with_raw_arguments() {
    let table = table(&[
        "/sales/{country}",
        "/sales/by-country",
        "/sales/{c}/lines/{line}",
    ]);
    let check = |path: &str, expected: Option<(usize, &[(&str, &str)])>| {
        let routed = routed(&table, path);
        let routed = routed
            .as_ref()
            .map(|r| (r.endpoint.number(), r.path_arguments.as_slice()));
        assert_eq!(routed, expected, "{path}");
    };
    check("/sales/USA", Some((0, &[("country", "USA")])));
    check("/sales/by-country", Some((1, &[])));
    check("/sales/by-countr", Some((0, &[("country", "by-countr")])));
    check(
        "/sales/by-country/lines/2",
        Some((2, &[("c", "by-country"), ("line", "2")])),
    );
    check("/sales/a%2Fb%20c", Some((0, &[("country", "a%2Fb%20c")])));
    for path in [
        "/sales",
        "/sales/",
        "/sales/USA/",
        "/",
        "",
        "sales/USA",
        "/sales/a/b",
        "/Sales/USA",
    ] {
        check(path, None);
    }
}

#[test]
fn the_suffix_of_a_literal_segment_requests_a_format() {
    let table = table(&["/sales", "/sales/{country}", "/{a}/b.c"]);
    let check = |path: &str, endpoint: usize, format: Option<Format>| {
        let routed = routed(&table, path).expect(path);
        assert_eq!(
            (routed.endpoint.number(), routed.format),
            (endpoint, format)
        );
    };
    check("/sales", 0, None);
    check("/sales.csv", 0, Some(Format::Csv));
    check("/sales.ndjson", 0, Some(Format::Ndjson));
    check("/x/b.c.csv", 2, Some(Format::Csv));
    check("/sales/a.csv", 1, None);
    assert!(route(&table, "/sales.json").is_none());
}

#[test]
fn paths_that_match_the_same_requests_conflict() {
    let mut table = table(&["/a/{x}", "/b/{x}/c"]);
    let mut insert = |path: &str| table.insert(&PathPattern::parse(path).expect(path), 9);
    assert_eq!(insert("/a/{x}"), Err(Some(0)));
    assert_eq!(insert("/a/{y}"), Err(Some(0)));
    assert_eq!(insert("/b/{y}/c"), Err(Some(1)));
    assert_eq!(insert("/b/{y}/d"), Ok(()));
}

#[test]
fn no_endpoint_answers_a_path_that_is_longer_than_the_longest() {
    use std::path::Path;

    use crate::config::Config;
    use crate::plan::Plan;

    let longest = |endpoints: &str| {
        let text = format!("repository.url = 'x'\n{endpoints}");
        let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
        Plan::compile(config).unwrap().longest_path()
    };
    let endpoint = |path: &str, rest: &str| format!("[[endpoint]]\npath = '{path}'\n{rest}\n");
    let count = endpoint("/count", "sql = 'SELECT 1'");
    assert_eq!(longest(&count), 3 * "/count.ndjson".len());
    // Four bytes per character, each percent-encoded.
    let keyed = endpoint(
        "/a/{b}",
        "sql = 'SELECT :b'\nparams.b = { max_length = 10 }",
    );
    let encoded = format!("/%61/{}", "%F0%9F%A6%80".repeat(10));
    assert!(longest(&(count + &keyed)) >= encoded.len());
    assert!(longest(&keyed) < 2 * encoded.len());
    let long = endpoint(
        "/{b}",
        "sql = 'SELECT :b'\nparams.b = { max_length = 65_536 }",
    );
    assert!(longest(&long) >= 3 * ARGUMENT_BYTES_MAX);
}

proptest! {
    #[test]
    fn no_path_panics(path in "[/a-c{}*.%ä]{0,16}") {
        if let Ok(pattern) = PathPattern::parse(&path) {
            let mut table = RouteTable::default();
            table.insert(&pattern, 0).expect("the only one");
            let requested = path.replace(['{', '}'], "x");
            prop_assert!(route(&table, &requested).is_some());
        }
        let _ = route(&table(&["/a/{b}", "/{c}/b"]), &path);
    }
}
