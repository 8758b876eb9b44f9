//! `[access]`, `access` of an endpoint, and claims.

use super::*;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A configuration with these lines of `[access]`, a key and an endpoint, each with more lines.
fn text(access: &str, key: &str, endpoint: &str) -> String {
    format!(
        "repository.url = 'x'\n[access]\n{access}\n[[access.key]]\n{key}\n\
         [[endpoint]]\npath = '/a'\nsql = 'select :p::int'\n{endpoint}"
    )
}

fn key() -> String {
    format!("name = 'k'\nsha256 = ['{DIGEST}']")
}

fn messages(text: &str) -> Vec<String> {
    match try_compile(text) {
        Ok(_) => Vec::new(),
        Err(report) => report
            .mistakes()
            .iter()
            .map(|m| m.message().to_owned())
            .collect(),
    }
}

fn endpoint_of(default: &str, endpoint: &str) -> Endpoint {
    let text = text(&format!("default = '{default}'"), &key(), endpoint);
    compile(&text).endpoints.remove(0)
}

#[test]
fn without_a_word_of_their_own_endpoints_follow_the_default() {
    let params = "params.p = {}";
    let requirements = |scopes: &[&str]| Requirements {
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        allow_from: Vec::new(),
    };
    let access = |default, lines: &str| endpoint_of(default, &format!("{lines}\n{params}")).access;
    assert_eq!(access("deny", ""), Access::Credential(requirements(&[])));
    assert_eq!(access("public", ""), Access::Public);
    assert_eq!(access("deny", "access = 'public'"), Access::Public);
    let scoped = "access = { scopes = ['a', 'b'] }";
    assert_eq!(
        access("public", scoped),
        Access::Credential(requirements(&["a", "b"]))
    );
    let plan = compile("repository.url = 'x'\n[[endpoint]]\npath = '/a'\nsql = 'select 1'");
    assert_eq!(plan.endpoints()[0].access, Access::Public);
    assert!(plan.access().is_none());
}

#[test]
fn answers_that_need_a_credential_are_private() {
    let params = "params.p = {}";
    let stored = |default, lines: &str| {
        let endpoint = endpoint_of(default, &format!("{lines}\n{params}"));
        (endpoint.cache_control, endpoint.cdn_cache_control)
    };
    assert_eq!(stored("deny", ""), (CacheControl::Private, None));
    assert_eq!(stored("public", ""), (CacheControl::Public, None));
    let never = "cache_control = 'no-store'\ncdn_cache_control = 'private'";
    let expected = (CacheControl::NoStore, Some(CacheControl::Private));
    assert_eq!(stored("deny", never), expected);
    for key in ["cache_control", "cdn_cache_control"] {
        let lines = format!("{key} = 'public'\n{params}");
        let found = messages(&text("default = 'deny'", &self::key(), &lines));
        assert_eq!(
            found,
            [format!(
                "`{key}` is public on an endpoint that needs a credential"
            )]
        );
    }
}

#[test]
fn claims_come_from_the_credential_alone() {
    let claim = "params.p = { claim = 'tenant' }";
    let endpoint = endpoint_of("deny", claim);
    assert_eq!(
        endpoint.parameters[0].place,
        Place::Claim("tenant".to_owned())
    );
    assert_eq!(endpoint.claims().collect::<Vec<_>>(), ["tenant"]);
    let check = |access: &str, endpoint: &str, expected: &[&str]| {
        assert_eq!(
            messages(&text(access, &key(), endpoint)),
            expected,
            "{endpoint}"
        );
    };
    check(
        "default = 'public'",
        claim,
        &["a claim on an endpoint that anybody may ask"],
    );
    check(
        "default = 'deny'",
        "params.p = { claim = 'tenant', optional = true, default = 1 }",
        &[
            "`optional` on a parameter that is a claim",
            "`default` on a parameter that is a claim",
        ],
    );
    check(
        "default = 'deny'",
        "params.p = { claim = '' }",
        &["`claim` is empty"],
    );
    let in_path = text("default = 'deny'", &key(), claim).replace("'/a'", "'/a/{p}'");
    assert_eq!(
        messages(&in_path),
        ["parameter `p` is in the path and in the credential"]
    );
    let without =
        format!("repository.url = 'x'\n[[endpoint]]\npath = '/a'\nsql = 'select :p::int'\n{claim}");
    assert_eq!(
        messages(&without),
        ["a claim on an endpoint that anybody may ask"]
    );
}

#[test]
fn keys_are_checked() {
    let check = |key: &str, expected: &[&str]| {
        let found = messages(&text("default = 'deny'", key, "params.p = {}"));
        assert_eq!(found, expected, "{key}");
    };
    let digest = format!("sha256 = ['{DIGEST}']");
    check("", &["this key has no `name`", "this key has no `sha256`"]);
    check(
        &format!("name = 'a b'\n{digest}"),
        &["this is not a valid name of a key"],
    );
    check("name = 'k'\nsha256 = []", &["`sha256` is empty"]);
    check(
        "name = 'k'\nsha256 = ['abc']",
        &["this is not a SHA-256 digest"],
    );
    let not_hexadecimal = "+".repeat(64);
    check(
        &format!("name = 'k'\nsha256 = ['{not_hexadecimal}']"),
        &["this is not a SHA-256 digest"],
    );
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    check(
        &format!("name = 'k'\nsha256 = ['{empty}']"),
        &["this is the digest of an empty key"],
    );
    check(
        &format!("{}\nexpires = 2027-03-31", key()),
        &["`expires` must be a date and time with an offset"],
    );
    check(&format!("{}\nexpires = 2027-03-31T00:00:00Z", key()), &[]);
    check(
        &format!("{}\nscopes = ['a b']", key()),
        &["this is not a valid scope"],
    );
    check(
        &format!("{}\nclaims = 'x'", key()),
        &["`claims` must be a table"],
    );
    let again = format!("{}\n[[access.key]]\n{}", key(), key());
    check(
        &again,
        &["two keys have the same name", "this digest is listed twice"],
    );
}

#[test]
fn access_needs_a_default_and_a_credential() {
    let check = |access: &str, expected: &[&str]| {
        let text = format!(
            "repository.url = 'x'\n[access]\n{access}\n[[endpoint]]\npath = '/a'\nsql = 'select 1'"
        );
        assert_eq!(messages(&text), expected, "{access}");
    };
    check(
        "",
        &[
            "`default` of [access] is missing",
            "[access] declares no credential",
        ],
    );
    let key = format!("[[access.key]]\n{}", key());
    check(&key, &["`default` of [access] is missing"]);
    check(
        &format!("default = 'open'\n{key}"),
        &["`default` must be one of `deny`, `public`"],
    );
    check(
        &format!("default = 'deny'\ntrusted_proxies = ['10.0.0.0/33', 'x']\n{key}"),
        &["this is not a network", "this is not a network"],
    );
    check(
        &format!("default = 'deny'\ntrusted_proxies = []\n{key}"),
        &["`trusted_proxies` is empty"],
    );
    super::check(
        "access = { scopes = ['a'] }",
        &["`access` without [access]"],
    );
    super::check(
        "access = 'private'",
        &["`access` must be \"public\" or a table"],
    );
    super::check("access = 3", &["`access` must be a word or a table"]);
}

#[test]
fn a_limit_must_limit_something() {
    let limit = |limit: &str| {
        let key = format!("{}\nlimit = {limit}", key());
        messages(&text("default = 'deny'", &key, "params.p = {}"))
    };
    assert!(limit("{ requests = '600/1m' }").is_empty());
    assert!(limit("{ requests = '600/1m', loads = '5/1s' }").is_empty());
    assert_eq!(limit("{}"), ["`limit` limits nothing"]);
    let mistake = "`loads` must be a number, `/` and a span of time";
    assert_eq!(limit("{ loads = '5' }"), [mistake]);
    assert_eq!(
        limit("{ load = '5/1s' }").len(),
        1,
        "one mistake, one report"
    );
}
