//! Which paths can be declared.

use super::*;

#[test]
fn valid_paths_are_accepted() {
    for path in [
        "/count",
        "/sales/{country}",
        "/a-b.c_d~e/{x}/y/{z_1}",
        "/v1.csv/x",
        "/statuses",
    ] {
        assert!(PathPattern::parse(path).is_ok(), "{path}");
    }
    let path = PathPattern::parse("/a/{x}/b/{y}").expect("a path");
    assert_eq!(path.parameters().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(path.parameter_at("y"), Some(9..12));
}

#[test]
fn invalid_paths_are_rejected() {
    let check = |path: &str, expected: PathError| {
        assert_eq!(
            PathPattern::parse(path).expect_err(path),
            expected,
            "{path}"
        );
    };
    check("", PathError::NoSlash);
    check("count", PathError::NoSlash);
    check("/", PathError::Root);
    let foreign = |path, at| {
        let name = "id".to_owned();
        check(path, PathError::Foreign { name, at });
    };
    foreign("/a/:id", 3..6);
    foreign("/<id>/b", 1..5);
    foreign("/<int:id>", 1..9);
    check("/:1", PathError::Character { at: 1..2 });
    check("/a//b", PathError::EmptySegment { at: 3..3 });
    check("/a/", PathError::TrailingSlash { at: 2..3 });
    check("/a?b=1", PathError::Query { at: 2..6 });
    check("/a/..", PathError::Dots { at: 3..5 });
    check("/a b", PathError::Character { at: 2..3 });
    check("/ä", PathError::Character { at: 1..3 });
    check("/a%20b", PathError::Character { at: 2..3 });
    for path in [
        "/{*rest}", "/a{b}", "/{a}.csv", "/{}", "/{1a}", "/{a-b}", "/{{a}}", "/*", "/{a",
    ] {
        check(path, PathError::Parameter { at: 1..path.len() });
    }
    check(
        "/{a}/{a}",
        PathError::Doubled {
            name: "a".to_owned(),
            at: 5..8,
        },
    );
    check("/metrics", PathError::Reserved);
    check("/status.json", PathError::Reserved);
    check(
        "/x/report.csv",
        PathError::Format {
            suffix: ".csv",
            at: 9..13,
        },
    );
}
