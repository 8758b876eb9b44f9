//! What callers become: roles and settings, and the keys of their answers.

use proptest::prelude::*;

use super::*;
use crate::plan::Arguments;

fn run_as(role_claim: Option<&str>, settings: &[(&str, &[&str])]) -> RunAs {
    let settings = settings.iter().map(|(name, claims)| ClaimSetting {
        name: (*name).to_owned(),
        claims: claims.iter().map(|&claim| claim.to_owned()).collect(),
    });
    RunAs {
        roles: vec!["reader".to_owned(), "Editor".to_owned()],
        role_claim: role_claim.map(str::to_owned),
        settings: settings.collect(),
    }
}

fn text(text: &str) -> Claim {
    Claim::Text(text.to_owned())
}

type Claims = BTreeMap<&'static str, Claim>;

fn claims() -> Claims {
    BTreeMap::from([
        ("role", text("Editor")),
        ("sub", text("a \"b\"\u{0}")),
        ("tenant", Claim::from_json("5").unwrap()),
        ("teams", Claim::from_json("[\"x\", 1]").unwrap()),
        ("secret", text("s")),
    ])
}

#[test]
fn only_the_listed_claims_are_passed_on_under_configured_names() {
    let run_as = run_as(
        Some("role"),
        &[("a.b", &["sub", "teams", "tenant"]), ("c.d", &["tenant"])],
    );
    let claims = claims();
    let values = run_as.caller_values(|name| claims.get(name)).unwrap();
    let json = r#"{"sub":"a \"b\"\u0000","teams":["x",1],"tenant":5}"#;
    let expected = ["Editor", json, r#"{"tenant":5}"#];
    assert_eq!(
        values.iter().map(|value| &**value).collect::<Vec<_>>(),
        expected
    );
    let assigned = run_as.assignments(values.iter().map(|value| Some(&**value)));
    let names: Vec<_> = assigned.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["role", "a.b", "c.d"]);
    assert_eq!(
        assigned.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(
        run_as.claims().collect::<Vec<_>>(),
        ["role", "sub", "teams", "tenant", "tenant"]
    );
}

#[test]
fn a_caller_without_a_claim_or_with_another_role_has_no_values() {
    let by_role = run_as(Some("role"), &[]);
    for (role, is_allowed) in [
        (Some("reader"), true),
        (Some("Editor"), true),
        (Some("editor"), false),
        (Some("postgres"), false),
        (Some("none"), false),
        (Some(""), false),
        (None, false),
    ] {
        let claim = role.map(text);
        let values = by_role.caller_values(|_| claim.as_ref());
        assert_eq!(values.is_ok(), is_allowed, "{role:?}");
        if !is_allowed {
            assert_eq!(values, Err("role"));
        }
        let listed = by_role.listed_values(|_| role);
        assert_eq!(listed.is_ok(), is_allowed, "{role:?}");
    }
    let of_claims = run_as(None, &[("a.b", &["absent", "sub"])]);
    let claims = claims();
    let without = of_claims.caller_values(|name| claims.get(name));
    assert_eq!(without, Err("absent"));
    let long = text(&"x".repeat(ARGUMENT_BYTES_MAX));
    assert_eq!(of_claims.caller_values(|_| Some(&long)), Err("absent"));
    assert!(of_claims.depends_on_caller());
    assert!(!run_as(None, &[]).depends_on_caller());
}

#[test]
fn a_listed_key_is_the_key_of_the_caller_that_it_stands_for() {
    let run_as = run_as(Some("role"), &[("a.b", &["sub", "tenant"])]);
    let of = |json: &'static str| {
        run_as.listed_values(move |name| match name {
            ROLE_NAME => Some("reader"),
            "a.b" => Some(json),
            _ => None,
        })
    };
    let (reader, x) = (text("reader"), text("x"));
    let caller = run_as.caller_values(|name| Some(if name == "role" { &reader } else { &x }));
    let listed = of(" { \"tenant\": \"x\", \"sub\": \"\\u0078\" } ");
    assert_eq!(listed.ok(), caller.ok());
    let nested = of(r#"{"sub": {"b": [1.0, {"d": 1, "c": 2}], "a": null}, "tenant": 5}"#);
    assert_eq!(
        &*nested.unwrap()[1],
        r#"{"sub":{"a":null,"b":[1.0,{"c":2,"d":1}]},"tenant":5}"#
    );
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"sub":"x"}"#,
        r#"{"sub":"x","tenant":"x","more":"x"}"#,
        r#"{"sub":"x","tenant":null}"#,
        r#"{"sub":"x","other":"x"}"#,
    ] {
        let ListedError { name, reason } = of(wrong).unwrap_err();
        assert_eq!(name, "a.b");
        let expected = "must be a JSON object {\"sub\": …, \"tenant\": …}";
        assert_eq!(reason.as_deref(), Some(expected));
    }
}

#[test]
fn names_are_those_that_postgres_accepts() {
    for name in ["request.jwt.claims", "app._x", "a.b$1", "App.Ä", "a.b2.c"] {
        assert!(is_setting_name(name), "{name}");
    }
    for name in [
        "", "role", "a", ".", "a.", ".b", "a..b", "a.1", "1.a", "a.b-c", "a.b c", "a.b\0", "a.b'",
        "a.$b",
    ] {
        assert!(!is_setting_name(name), "{name}");
    }
    let long = "r".repeat(64);
    for (name, is_role) in [
        ("web_user", true),
        ("Web User", true),
        ("None", true),
        ("", false),
        ("none", false),
        ("public", false),
        ("a\0b", false),
        (&long, false),
    ] {
        assert_eq!(is_role_name(name), is_role, "{name}");
    }
    assert_eq!(quoted("web_user"), "web_user");
    assert_eq!(quoted("Web \"User\""), "\"Web \"\"User\"\"\"");
}

/// What a caller says, with few enough values that two callers often say the same.
fn any_claims() -> impl Strategy<Value = Claims> {
    let role = prop_oneof![Just("reader"), Just("Editor")].prop_map(text);
    let value = prop_oneof![
        "[a,:\"{}]{0,2}".prop_map(Claim::Text),
        (0..3_u8).prop_map(|number| Claim::Json(number.to_string())),
        proptest::collection::vec("[a,\"]{0,1}", 0..3)
            .prop_map(|texts| Claim::Json(serde_json::Value::from(texts).to_string())),
        any::<String>().prop_map(Claim::Text),
    ];
    (role, value.clone(), value.clone(), value).prop_map(|(role, a, b, secret)| {
        BTreeMap::from([("role", role), ("a", a), ("b", b), ("secret", secret)])
    })
}

/// The settings of an endpoint, and the claims in each.
type Settings = &'static [(&'static str, &'static [&'static str])];

const SETTINGS: [Settings; 5] = [
    &[],
    &[("x.y", &["a"])],
    &[("x.y", &["a", "b"])],
    &[("x.y", &["a"]), ("x.z", &["b"])],
    &[("x.y", &["a", "b"]), ("x.z", &["b"])],
];

fn any_run_as() -> impl Strategy<Value = RunAs> {
    let role_claim = prop_oneof![Just(None), Just(Some("role"))];
    (role_claim, proptest::sample::select(&SETTINGS[..]))
        .prop_map(|(role_claim, settings)| run_as(role_claim, settings))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// The converse of sharing: whatever Postgres is given of two callers is in their keys, and nothing else.
    #[test]
    fn two_callers_share_a_key_if_and_only_if_postgres_is_given_the_same(
        run_as in any_run_as(),
        one in any_claims(),
        other in any_claims(),
        year in 0..2_u8,
        other_year in 0..2_u8,
    ) {
        let key = |claims: &Claims, year: u8| {
            let values = run_as.caller_values(|name| claims.get(name)).unwrap();
            let arguments = Arguments::new(vec![Some(year.to_string().into())]);
            arguments.with_caller(values)
        };
        let is_read = |name: &str| run_as.claims().any(|read| read == name);
        let is_same = one.iter().all(|(name, claim)| !is_read(name) || other[name] == *claim);
        let (one, other) = (key(&one, year), key(&other, other_year));
        prop_assert_eq!(one == other, is_same && year == other_year);
        let given = |arguments: &Arguments| format!("{:?}", run_as.assignments(arguments.caller_values(1)));
        prop_assert_eq!(given(&one) == given(&other), is_same);
    }

    #[test]
    fn postgres_is_given_what_the_claims_say(run_as in any_run_as(), claims in any_claims()) {
        let values = run_as.caller_values(|name| claims.get(name)).unwrap();
        let assigned = run_as.assignments(values.iter().map(|value| Some(&**value)));
        let role = if run_as.role_claim.is_some() { claims["role"].as_text() } else { "reader" };
        prop_assert_eq!(assigned[0], ("role", role));
        for (setting, (name, json)) in run_as.settings.iter().zip(&assigned[1..]) {
            prop_assert_eq!(&setting.name, name);
            let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(json).unwrap();
            prop_assert!(object.keys().eq(&setting.claims));
            for (name, value) in object {
                let said = match &claims[&*name] {
                    Claim::Text(text) => serde_json::Value::from(text.as_str()),
                    Claim::Json(json) => serde_json::from_str(json).unwrap(),
                };
                prop_assert_eq!(value, said);
            }
        }
    }
}
