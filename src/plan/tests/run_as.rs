//! `run_as`, and what it means for the keys of an endpoint.

use super::*;

const ACCESS: &str = "[access]\ndefault = 'deny'\n[[access.key]]\nname = 'k'\n\
                      sha256 = ['ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']\n";

/// A configuration with credentials, and an endpoint with these lines.
fn text(lines: &str) -> String {
    format!("repository.url = 'x'\n{ACCESS}[[endpoint]]\npath = '/a'\nsql = 'select 1'\n{lines}")
}

fn endpoint_of(lines: &str) -> Endpoint {
    compile(&text(lines)).endpoints.remove(0)
}

fn check_closed(lines: &str, expected: &[&str]) {
    let found: Vec<String> = match try_compile(&text(lines)) {
        Ok(_) => Vec::new(),
        Err(report) => {
            let mistakes = report.mistakes().iter();
            mistakes.map(|m| m.message().to_owned()).collect()
        }
    };
    assert_eq!(found, expected, "{lines}");
}

#[test]
fn what_depends_on_the_caller_is_part_of_the_key() {
    let by_caller =
        "run_as = { roles = ['a', 'b'], role_claim = 'r', settings = { 'x.y' = ['t', 's'] } }";
    let endpoint = endpoint_of(by_caller);
    assert!(!endpoint.is_resident());
    assert_eq!(
        endpoint.argument_names().collect::<Vec<_>>(),
        ["run_as", "x.y"]
    );
    assert_eq!(endpoint.claims().collect::<Vec<_>>(), ["r", "s", "t"]);
    let signature = Signature::new(&endpoint, Vec::new()).unwrap();
    let listed = [
        ("run_as".into(), "b".into()),
        ("x.y".into(), r#"{"t":"1","s":"2"}"#.into()),
    ];
    let arguments = signature.arguments(&endpoint, &[], &listed).unwrap();
    let values: Vec<_> = arguments.iter().map(Option::unwrap).collect();
    assert_eq!(values, ["b", r#"{"s":"2","t":"1"}"#]);
    assert_eq!(arguments.caller_values(0).count(), 2);
    assert!(
        signature.alternatives(&endpoint, &arguments).is_empty(),
        "only the caller could be another"
    );
    assert!(signature.arguments(&endpoint, &[], &listed[..1]).is_err());

    let endpoint = endpoint_of("run_as = { roles = ['a'] }\nrefresh = { every = '5s' }");
    assert!(endpoint.is_resident(), "one role is no key");
    assert_eq!(endpoint.argument_names().count(), 0);
}

#[test]
fn other_arguments_are_tried_for_the_same_caller() {
    let lines = "sql = 'select :p::int'\nparams.p = {}\nrun_as = { roles = ['a'], settings = { 'x.y' = ['s'] } }";
    let text = text(lines).replace("sql = 'select 1'\n", "");
    let endpoint = compile(&text).endpoints.remove(0);
    let signature = Signature::new(&endpoint, vec![ParameterType::Int4]).unwrap();
    let listed = [
        ("p".into(), "0".into()),
        ("x.y".into(), r#"{"s":"me"}"#.into()),
    ];
    let arguments = signature.arguments(&endpoint, &[], &listed).unwrap();
    let others = signature.alternatives(&endpoint, &arguments);
    assert!(!others.is_empty());
    for other in others {
        assert_ne!(other, arguments);
        let caller: Vec<_> = other.caller_values(1).collect();
        assert_eq!(caller, [Some(r#"{"s":"me"}"#)]);
    }
}

#[test]
fn mistakes_in_run_as_are_found() {
    for (run_as, expected) in [
        ("{ roles = ['a'] }", &[][..]),
        ("{ roles = ['a'], role_claim = 'r' }", &[]),
        ("{}", &["`run_as` has no `roles`"]),
        ("'a'", &["`run_as` must be a table"]),
        ("{ roles = 'a' }", &["`roles` must be an array"]),
        ("{ roles = [] }", &["`roles` is empty"]),
        ("{ role = ['a'] }", &["unknown key `role` in `run_as`"]),
        (
            "{ roles = ['a', 'b'] }",
            &["`run_as` lists several roles, and nothing chooses one of them"],
        ),
        (
            "{ roles = ['none', '', 'public'] , role_claim = 'r' }",
            &["this cannot be the name of a role"; 3],
        ),
        (
            "{ roles = ['a', 'a'], role_claim = 'r' }",
            &["this role is listed twice"],
        ),
        (
            "{ roles = ['a'], role_claim = '' }",
            &["`role_claim` is empty"],
        ),
        ("{ roles = ['a'], settings = {} }", &["`settings` is empty"]),
        (
            "{ roles = ['a'], settings = ['x.y'] }",
            &["`settings` must be a table"],
        ),
        (
            "{ roles = ['a'], settings = { 'x.y' = 's' } }",
            &["`x.y` must be an array"],
        ),
        (
            "{ roles = ['a'], settings = { 'x.y' = [] } }",
            &["`x.y` lists no claim"],
        ),
        (
            "{ roles = ['a'], settings = { 'x.y' = ['s', 's', ''] } }",
            &["this claim is listed twice", "this claim has no name"],
        ),
        (
            "{ roles = ['a'], settings = { 'x.y' = ['s'], 'X.y' = ['s'] } }",
            &["this setting is listed twice"],
        ),
        (
            "{ roles = ['a'], settings = { Role = ['s'] } }",
            &["`role` is not a setting of claims"],
        ),
        (
            "{ roles = ['a'], settings = { search_path = ['s'] } }",
            &["this is not a setting of claims"],
        ),
        (
            "{ roles = ['a'], settings = { 'x.y z' = ['s'] } }",
            &["this is not a valid name of a setting"],
        ),
    ] {
        check_closed(&format!("run_as = {run_as}"), expected);
    }
    let near = try_compile(&text("run_as = { roles = ['a'], setings = {} }")).unwrap_err();
    assert!(near.to_string().contains("did you mean `settings`?"));
}

#[test]
fn claims_need_a_credential_to_be_in() {
    let needs = ["`run_as` needs claims on an endpoint that anybody may ask"];
    for (run_as, expected) in [
        ("{ roles = ['a'], role_claim = 'r' }", &needs[..]),
        ("{ roles = ['a'], settings = { 'x.y' = ['s'] } }", &needs),
        ("{ roles = ['a'] }", &[]),
    ] {
        let lines = format!("access = 'public'\nrun_as = {run_as}");
        check_closed(&lines, expected);
        check(&format!("run_as = {run_as}"), expected);
    }
}

#[test]
fn triggers_without_a_caller_need_listed_keys() {
    let by_caller =
        "run_as = { roles = ['a', 'b'], role_claim = 'r', settings = { 'x.y' = ['s'] } }";
    for (lines, expected) in [
        (
            "refresh = { every = '5s' }",
            &["a schedule on an endpoint whose answers depend on the caller"][..],
        ),
        ("refresh = { ahead = true }", &[]),
        (
            "refresh = { ahead = true }\non_miss = 'refuse'",
            &["nothing would ever load this endpoint"],
        ),
        ("max_keys = 10", &[]),
        ("warm = [{ run_as = 'a', 'x.y' = '{}' }]", &[]),
        (
            "warm = [{ 'x.y' = '{}' }, { run_as = 'a' }, {}]",
            &[
                "this key has no `run_as`",
                "this key has no `x.y`",
                "this key has no `run_as`",
                "this key has no `x.y`",
            ],
        ),
        (
            "warm = [{ run_as = 'a', 'x.z' = '{}' }]",
            &["there is no parameter `x.z`"],
        ),
    ] {
        check_closed(&format!("{by_caller}\n{lines}"), expected);
    }
    let fixed = "run_as = { roles = ['a'] }";
    check_closed(
        &format!("{fixed}\nwarm = [{{ run_as = 'a' }}]"),
        &["`warm` on an endpoint without parameters"],
    );
    let named =
        text(&format!("{by_caller}\nparams.run_as = {{}}")).replace("select 1", "select :run_as");
    let report = try_compile(&named).unwrap_err();
    assert_eq!(
        report.mistakes()[0].message(),
        "a parameter is named `run_as` on an endpoint with `run_as`"
    );
}
