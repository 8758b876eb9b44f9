//! Declarations of parameters, and whether they agree with path and SQL.

use super::*;

#[test]
fn parameters_must_be_declared_and_used() {
    check(
        "sql = 'select :x'",
        &["parameter `x` is used in the SQL but not declared"],
    );
    check("params.x = {}", &["parameter `x` is not used in the SQL"]);
    check("path = '/b/{x}'", &["duplicate key"]);
    let unused = "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = 'select 1'";
    assert_eq!(
        mistakes(unused),
        ["3: parameter `x` is not used in the SQL"]
    );
    let doubled = "repository.url = 'x'\n[[endpoint]]\npath = '/{x}/{x}'\nsql = 'select :x'";
    assert_eq!(
        mistakes(doubled),
        ["3: the path has two parameters named `x`"]
    );
    check(
        "sql = 'select :yaer'\nparams.year = {}",
        &[
            "parameter `yaer` is used in the SQL but not declared",
            "parameter `year` is not used in the SQL",
        ],
    );
    check(
        "sql = 'select 1'\nparams.'a b' = {}",
        &["this is not a valid parameter name"],
    );
}

#[test]
fn declarations_of_a_parameter_must_be_consistent() {
    let check = |declaration: &str, expected: &[&str]| {
        check(
            &format!("sql = 'select :x'\nparams.x = {{ {declaration} }}"),
            expected,
        );
    };
    check(
        "default = 1, optional = true",
        &["`x` has both a default and `optional`"],
    );
    check("default = 1, optional = false", &[]);
    check(
        "minimum = 2, maximum = 1",
        &["`minimum` is above `maximum`"],
    );
    check("minimum = 'b', maximum = 'a'", &[]);
    for limits in [
        "minimum = 5",
        "maximum = -1",
        "minimum = '4.5', maximum = 9",
    ] {
        let expected = "the default of `x` is not allowed";
        check(&format!("default = 4, {limits}"), &[expected]);
    }
    check("default = 4, minimum = 4, maximum = 4.0", &[]);
    check("values = []", &["`values` is empty"]);
    check(
        "default = 'c', values = ['a', 'b']",
        &["the default of `x` is not allowed"],
    );
    check("default = 1.0, values = [1, 2]", &[]);
    check(
        "default = 'abc', max_length = 2",
        &["`x` does not allow a text this long"],
    );
    check("max_length = 0", &["`max_length` is out of range"]);
    check(
        "pattern = 'a('",
        &["this is not a valid regular expression"],
    );
    check(
        "pattern = 'a)(b'",
        &["this is not a valid regular expression"],
    );
    check(
        "pattern = 'a|b', default = 'ab'",
        &["`x` does not allow this value"],
    );
    check(
        "pattern = 'a|b', values = ['a', 'bc']",
        &["`x` does not allow this value"],
    );
    check("type = 'int; drop'", &["this is not a type name"]);
    let text = "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = 'select :x'\n\
                params.x = { default = 1, optional = true }";
    assert_eq!(
        mistakes(text),
        ["5: `x` is part of the path", "5: `x` is part of the path"]
    );
}
