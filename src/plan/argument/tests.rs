//! What a signature accepts, its canonical form, and the texts about what it rejects.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::plan::Plan;

mod alternatives; // arguments to compare a failing request with

/// A plan of one endpoint with the path parameter `p` and these declarations, each used in its SQL.
fn plan(declarations: &[(&str, &str)], lines: &str) -> Plan {
    let uses: String = declarations
        .iter()
        .map(|(name, _)| format!(", :{name}"))
        .collect();
    let params: String = declarations
        .iter()
        .map(|(name, keys)| format!("params.{name} = {{ {keys} }}\n"))
        .collect();
    let text = format!(
        "repository.url = 'x'\n[[endpoint]]\npath = '/a/{{p}}'\nsql = 'select :p{uses}'\n{lines}\n{params}"
    );
    let config = Config::parse("config.toml", text, Path::new(""), &|_| None).expect("readable");
    Plan::compile(config).unwrap_or_else(|report| panic!("{report}"))
}

fn signature(plan: &Plan, kinds: &[ParameterType]) -> Result<Signature, Vec<Mismatch>> {
    let mut types = vec![ParameterType::Text];
    types.extend_from_slice(kinds);
    Signature::new(&plan.endpoints()[0], types)
}

/// The arguments of a request with `v` for the path parameter and this query string, unescaped.
fn read(
    plan: &Plan,
    signature: &Signature,
    query: &[(&str, &str)],
) -> Result<Vec<Option<String>>, String> {
    let query: Vec<_> = query
        .iter()
        .map(|(name, text)| (Cow::Borrowed(*name), Cow::Borrowed(*text)))
        .collect();
    signature
        .arguments(&plan.endpoints()[0], &[("p", Cow::Borrowed("v"))], &query)
        .map(|arguments| arguments.iter().map(|a| a.map(str::to_owned)).collect())
        .map_err(|error| error.to_string())
}

/// The canonical value of the parameter `x`, declared with `keys`.
fn value(kind: &ParameterType, keys: &str, text: &str) -> Result<String, String> {
    let plan = plan(&[("x", keys)], "");
    let signature = signature(&plan, std::slice::from_ref(kind)).expect("a signature");
    let arguments = read(&plan, &signature, &[("x", text)])?;
    Ok(arguments[1].clone().expect("given"))
}

#[test]
fn absent_arguments_follow_the_declaration() {
    let plan = plan(
        &[
            ("x", ""),
            ("y", "optional = true"),
            ("z", "default = '007'"),
        ],
        "",
    );
    let signature = signature(
        &plan,
        &[
            ParameterType::Int4,
            ParameterType::Int4,
            ParameterType::Int4,
        ],
    )
    .expect("a signature");
    let arguments = read(&plan, &signature, &[("x", "+1")]).expect("complete");
    let expected = [Some("v"), Some("1"), None, Some("7")].map(|a| a.map(str::to_owned));
    assert_eq!(arguments, expected);
    let given = read(&plan, &signature, &[("z", "7"), ("x", "01")]).expect("complete");
    assert_eq!(given, expected, "a default and its value are one key");
    assert_eq!(
        read(&plan, &signature, &[]).expect_err("x"),
        "parameter `x` is missing"
    );
}

#[test]
fn unknown_and_repeated_parameters_are_rejected() {
    let declarations = [("year", "optional = true"), ("limit", "optional = true")];
    let kinds = [ParameterType::Int4, ParameterType::Int4];
    let strict = plan(&declarations, "");
    let rules = signature(&strict, &kinds).expect("a signature");
    let rejected = |query: &[(&str, &str)]| read(&strict, &rules, query).expect_err("rejected");
    assert_eq!(
        rejected(&[("yaer", "1")]),
        "there is no parameter `yaer`; did you mean `year`? The query string takes `year`, `limit`"
    );
    assert_eq!(
        rejected(&[("_", "1")]),
        "there is no parameter `_`; the query string takes `year`, `limit`"
    );
    assert_eq!(
        rejected(&[("p", "1")]),
        "there is no parameter `p`; the query string takes `year`, `limit`"
    );
    assert_eq!(
        rejected(&[("year", "1"), ("year", "1")]),
        "parameter `year` is given more than once"
    );
    let long = "\u{1b}[31m".repeat(40);
    assert!(rejected(&[(&long, "")]).chars().count() < 250);
    assert!(!rejected(&[(&long, "")]).contains('\u{1b}'));

    let none = plan(&[], "");
    let rules = signature(&none, &[]).expect("a signature");
    assert_eq!(
        read(&none, &rules, &[("x", "1")]).expect_err("rejected"),
        "there is no parameter `x`; the query string takes none"
    );

    let lenient = plan(&declarations, "unknown_params = 'ignore'");
    let rules = signature(&lenient, &kinds).expect("a signature");
    let plain = read(&lenient, &rules, &[("year", "1")]);
    assert_eq!(
        read(
            &lenient,
            &rules,
            &[("_", "9"), ("year", "1"), ("_", "8"), ("p", "w")]
        ),
        plain
    );
    assert!(read(&lenient, &rules, &[("year", "1"), ("year", "2")]).is_err());
}

#[test]
fn limits_are_compared_in_the_type_and_not_as_text() {
    let check = |kind: &ParameterType, keys: &str, text: &str, expected: Result<&str, &str>| {
        let found = value(kind, keys, text);
        assert_eq!(
            found.as_deref().map_err(String::as_str),
            expected,
            "{keys} {text}"
        );
    };
    let int = &ParameterType::Int8;
    check(int, "minimum = 9, maximum = 10", "10", Ok("10"));
    check(
        int,
        "minimum = 9",
        "8",
        Err("parameter `x` must be at least 9, not `8`"),
    );
    check(
        int,
        "maximum = 9",
        "10",
        Err("parameter `x` must be at most 9, not `10`"),
    );
    let numeric = &ParameterType::Numeric;
    check(
        numeric,
        "maximum = '0.30000000000000000001'",
        "0.30000000000000000001",
        Ok("0.30000000000000000001"),
    );
    assert!(value(numeric, "maximum = '0.3'", "0.30000000000000000001").is_err());
    assert!(value(numeric, "minimum = -1", "-1e1").is_err());
    let float = &ParameterType::Float8;
    check(float, "minimum = 1", "1e1", Ok("10"));
    check(
        float,
        "minimum = 1",
        "nan",
        Err("parameter `x` must be at least 1, not `nan`"),
    );
    check(float, "", "nan", Ok("NaN"));
    let date = &ParameterType::Date;
    check(date, "minimum = 2003-01-06", "2003-01-06", Ok("2003-01-06"));
    assert!(value(date, "minimum = 2003-01-06", "2003-01-05").is_err());
    let timestamp = &ParameterType::TimestampTz;
    check(
        timestamp,
        "maximum = 2003-01-06T00:00:00Z",
        "2003-01-06T01:00:00+01:00",
        Ok("2003-01-06T00:00:00Z"),
    );
    check(
        &ParameterType::Text,
        "minimum = 'b'",
        "a",
        Err("parameter `x` must be at least b, not `a`"),
    );
}

#[test]
fn texts_must_fit_length_pattern_and_values() {
    let text = &ParameterType::Text;
    let rejected = |keys: &str, given: &str| value(text, keys, given).expect_err("rejected");
    assert_eq!(value(text, "", ""), Ok(String::new()));
    assert_eq!(value(text, "max_length = 2", "äö"), Ok("äö".to_owned()));
    assert_eq!(
        rejected("max_length = 2", "äöü"),
        "parameter `x` must be at most 2 characters long"
    );
    assert_eq!(
        rejected("", &"a".repeat(1_001)),
        "parameter `x` must be at most 1000 characters long"
    );
    assert_eq!(
        rejected("max_length = 65536", &"ä".repeat(40_000)),
        "parameter `x` must be at most 64 KiB long"
    );
    assert_eq!(
        rejected("", "a\0b"),
        "parameter `x` must not contain the NUL character"
    );
    assert_eq!(value(text, "pattern = 'a|b+'", "bb"), Ok("bb".to_owned()));
    assert_eq!(
        rejected("pattern = 'a|b+'", "abb\n"),
        "parameter `x` must match `a|b+`, not `abb\\n`"
    );
    assert_eq!(
        rejected("values = ['Small', 'Large']", "small"),
        "parameter `x` must be one of `Small`, `Large`, not `small`"
    );
    let shown = rejected("values = ['a']", &"<script>".repeat(100));
    assert!(shown.chars().count() < 100, "{shown}");
}

#[test]
fn values_are_compared_in_canonical_form() {
    let keys = "values = ['010', 20]";
    assert_eq!(
        value(&ParameterType::Int4, keys, "+10"),
        Ok("10".to_owned())
    );
    assert_eq!(
        value(&ParameterType::Int4, keys, "0020"),
        Ok("20".to_owned())
    );
    assert!(value(&ParameterType::Int4, keys, "11").is_err());
    assert!(value(&ParameterType::Text, keys, "10").is_err());
    assert_eq!(
        value(&ParameterType::Bool, "values = [true]", "on"),
        Ok("t".to_owned())
    );
}

#[test]
fn a_text_that_is_no_value_of_its_type_is_answered_with_what_it_must_be() {
    let rejected = |kind: ParameterType, text: &str| value(&kind, "", text).expect_err("rejected");
    assert_eq!(
        rejected(ParameterType::Int2, "40000"),
        "parameter `x` must be a whole number from -32768 to 32767, not `40000`"
    );
    assert_eq!(
        rejected(ParameterType::Date, ""),
        "parameter `x` must be a date such as 2003-01-31, not empty"
    );
    assert_eq!(
        rejected(ParameterType::TimestampTz, "2003-01-31T00:00:00 02:00"),
        "parameter `x` must be a time such as 2003-01-31T23:59:59Z or \
         2003-01-31T23:59:59+01:00, not `2003-01-31T00:00:00 02:00`; in a query string, write + as %2B"
    );
    assert_eq!(
        rejected(ParameterType::Other("inet".to_owned()), ""),
        "parameter `x` must be of type inet, not empty"
    );
}

#[test]
fn a_text_that_is_no_value_is_answered_with_what_was_declared() {
    let check = |kind: ParameterType, keys: &str, expected: &str| {
        let expected = format!("parameter `x` must be {expected}, not `y`");
        assert_eq!(value(&kind, keys, "y"), Err(expected));
    };
    let int = || ParameterType::Int8;
    check(
        int(),
        "minimum = 1, maximum = 500",
        "a whole number from 1 to 500",
    );
    check(int(), "minimum = 1", "a whole number and at least 1");
    check(int(), "maximum = 500", "a whole number and at most 500");
    check(int(), "values = [1, 2]", "one of `1`, `2`");
    check(
        ParameterType::Numeric,
        "minimum = 0, maximum = '0.50'",
        "a number from 0 to 0.50",
    );
    check(
        ParameterType::Date,
        "minimum = 2003-01-06",
        "a date and at least 2003-01-06",
    );
}

#[test]
fn declarations_must_fit_their_types() {
    let check = |kind: ParameterType, keys: &str, expected: &[&str]| {
        let plan = plan(&[("x", keys)], "");
        let mistakes = signature(&plan, &[kind]).map_or_else(|mistakes| mistakes, |_| Vec::new());
        let texts: Vec<_> = mistakes.iter().map(|m| m.text.as_str()).collect();
        assert!(mistakes.iter().all(|m| m.parameter.as_deref() == Some("x")));
        assert_eq!(texts, expected, "{keys}");
    };
    let int = || ParameterType::Int4;
    check(
        int(),
        "default = 5, minimum = 1, maximum = 9, values = [5, 6]",
        &[],
    );
    check(
        int(),
        "default = 'many'",
        &[
            "the default of parameter `x` must be a whole number from -2147483648 to 2147483647, not `many`",
        ],
    );
    check(
        ParameterType::Date,
        "default = 2003-01-01, minimum = 2003-01-02",
        &["the default of parameter `x` must be at least 2003-01-02, not `2003-01-01`"],
    );
    check(
        int(),
        "minimum = 1.5, values = ['a']",
        &[
            "the minimum of parameter `x` must be a whole number from -2147483648 to 2147483647, not `1.5`",
            "a value listed for parameter `x` must be a whole number from -2147483648 to 2147483647, not `a`",
        ],
    );
    check(
        int(),
        "maximum = 1, values = [1, 2]",
        &["a value listed for parameter `x` must be at most 1, not `2`"],
    );
    check(
        ParameterType::Date,
        "minimum = 2004-01-01, maximum = 2003-01-01",
        &["parameter `x` has a minimum above its maximum, so no value is allowed"],
    );
    check(
        ParameterType::Uuid,
        "minimum = 'a'",
        &["parameter `x` cannot have a minimum: Larder does not compare values of type uuid"],
    );
    check(
        ParameterType::Text,
        "default = '1.0', values = [1, 2]",
        &["the default of parameter `x` must be one of `1`, `2`, not `1.0`"],
    );
    let plan = plan(&[], "");
    let mistakes = Signature::new(&plan.endpoints()[0], Vec::new()).expect_err("one is missing");
    assert_eq!(
        mistakes,
        [Mismatch::of_statement(
            "the statement takes 0 parameters, but the endpoint declares 1"
        )]
    );
}

#[test]
fn no_arguments_are_the_arguments_of_no_parameters() {
    assert_eq!(Arguments::none().iter().len(), 0);
    assert_eq!(Arguments::none().size(), 0);
}

proptest! {
    #[test]
    fn accepted_arguments_are_accepted_again_unchanged(text in "[0-9+\\-.e:TZäa ]{0,24}", kind in prop::sample::select(vec![
        ParameterType::Int8, ParameterType::Float8, ParameterType::Numeric, ParameterType::Text,
        ParameterType::Date, ParameterType::Timestamp, ParameterType::Bool,
    ])) {
        let plan = plan(&[("x", "max_length = 2000")], "");
        let signature = signature(&plan, &[kind]).expect("a signature");
        if let Ok(arguments) = read(&plan, &signature, &[("x", &text)]) {
            let canonical = arguments[1].clone().expect("given");
            prop_assert_eq!(read(&plan, &signature, &[("x", &canonical)]), Ok(arguments));
        }
    }
}

#[test]
fn reading_stops_at_the_first_error() {
    let plan = plan(&[("x", "optional = true"), ("y", "optional = true")], "");
    let signature = signature(&plan, &[ParameterType::Int4, ParameterType::Int4]).unwrap();
    for (names, read) in [(&["x", "a"][..], 2), (&["x", "y", "x"], 3), (&["a"], 1)] {
        let mut pulled = 0;
        let query = names.iter().chain(&["a"; 4_000]).map(|name| {
            pulled += 1;
            Ok::<_, ArgumentError>((Cow::Borrowed(*name), Cow::Borrowed("1")))
        });
        let path = [("p", Cow::Borrowed("v"))];
        let rejected = signature.read(&plan.endpoints()[0], &path, query, |_, _| None);
        assert!(rejected.is_err(), "{names:?}");
        assert_eq!(pulled, read, "{names:?}");
    }
}
