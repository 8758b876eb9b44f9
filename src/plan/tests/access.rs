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
    let defaults = "[defaults]\ncache_control = 'public'\ncdn_cache_control = 'public'";
    let lines = format!("{params}\n{defaults}");
    for (default, expected) in [
        ("deny", (CacheControl::Private, None)),
        ("public", (CacheControl::Public, Some(CacheControl::Public))),
    ] {
        let endpoint = endpoint_of(default, &lines);
        let stored = (endpoint.cache_control, endpoint.cdn_cache_control);
        assert_eq!(stored, expected, "{default}");
    }
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

#[test]
fn what_is_misspelled_is_not_missing_too() {
    let endpoint = "[[endpoint]]\npath = '/a'\nsql = 'select 1'";
    let key = key();
    let check = |access: &str, expected: &str| {
        let text =
            format!("repository.url = 'x'\n{access}\n{endpoint}\naccess = {{ scopes = ['a'] }}");
        assert_eq!(messages(&text), [expected], "{access}");
    };
    for name in ["keyz", "kye", "keyss", "jwtt"] {
        let unknown = format!("unknown key `{name}` in [access]");
        check(
            &format!("[access]\ndefault = 'deny'\n[[access.{name}]]\n{key}"),
            &unknown,
        );
    }
    check(
        &format!("[access]\ndefault = 'deny'\n[[access.keys]]\n{key}"),
        "`keys` must be a table",
    );
    check(
        &format!("[access]\ndefalt = 'deny'\n[[access.key]]\n{key}"),
        "unknown key `defalt` in [access]",
    );
    check(
        &format!("[acces]\ndefault = 'deny'\n[[acces.key]]\n{key}"),
        "unknown key `acces`",
    );
    check("access = 'deny'", "`access` must be a table");
    let misspelled = |wrong: &str, right: &str| {
        let key = key.replace(right, wrong);
        let unknown = format!("unknown key `{wrong}` in [[access.key]]");
        check(
            &format!("[access]\ndefault = 'deny'\n[[access.key]]\n{key}"),
            &unknown,
        );
    };
    misspelled("nme", "name");
    misspelled("sha265", "sha256");
    for (table, lines) in [
        (
            "[[access.jwt]]",
            &[
                "issuer = 'i'",
                "audience = ['a']",
                "algorithms = ['RS256']",
                "keys = { url = 'https://idp.example/' }",
            ][..],
        ),
        // In mistakes, it has the name of its key.
        ("[access.keys]", &["sql = 'select 1'", "every = '1m'"]),
    ] {
        for line in lines {
            let lines = lines.join("\n").replace(line, &format!("x{line}"));
            let name = line.split(' ').next().unwrap_or_default();
            let place = table.replace("[access.keys]", "`keys`");
            check(
                &format!("[access]\ndefault = 'deny'\n{table}\n{lines}"),
                &format!("unknown key `x{name}` in {place}"),
            );
        }
    }
}

/// A configuration with an issuer of these lines and no key.
fn with_issuer(issuer: &str) -> String {
    format!(
        "repository.url = 'x'\n[access]\ndefault = 'deny'\n[[access.jwt]]\n{issuer}\n\
         [[endpoint]]\npath = '/a'\nsql = 'select 1'"
    )
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn an_issuer_is_a_credential_and_has_defaults() {
    let issuer = |lines: &str| {
        let plan = compile(&with_issuer(lines));
        plan.access().unwrap().issuers[0].clone()
    };
    let least = "issuer = 'https://idp.example/realms/a b/'\naudience = ['larder']\nalgorithms = ['RS256']\n";
    let url = "keys = { url = 'https://idp.example/jwks.json' }";
    let read = issuer(&format!("{least}{url}"));
    assert_eq!(read.name, "idp.example-realms-a-b");
    assert_eq!(read.issuer, "https://idp.example/realms/a b/");
    assert_eq!(read.leeway, Duration::from_secs(30));
    assert_eq!(read.scopes, "scope");
    assert!(matches!(&read.keys, JwtKeys::Url(url) if url.host() == "idp.example"));
    let all = "name = 'idp'\nleeway = '0s'\nscopes = 'scp'\nkeys = { file = 'jwks.json' }";
    let read = issuer(&format!("{least}{all}"));
    assert_eq!((read.name.as_str(), read.scopes.as_str()), ("idp", "scp"));
    assert_eq!(read.leeway, Duration::ZERO);
    assert!(matches!(&read.keys, JwtKeys::File(file) if file.value.ends_with("jwks.json")));
    let secret = format!(
        "issuer = 'a'\naudience = ['b']\nalgorithms = ['HS256']\nkeys = {{ secret = '{SECRET}' }}"
    );
    let read = issuer(&secret);
    assert!(!format!("{read:?}").contains(SECRET));
}

#[test]
fn issuers_are_checked() {
    let url = "keys = { url = 'https://idp.example/' }";
    let check = |others: &[&str], expected: &[&str]| {
        let usual = [
            "issuer = 'i'",
            "audience = ['a']",
            "algorithms = ['RS256']",
            url,
        ];
        let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let is_replaced = |line: &&&str| !others.iter().any(|other| key(other) == key(line));
        let lines: Vec<&str> = usual
            .iter()
            .filter(is_replaced)
            .chain(others)
            .copied()
            .collect();
        let lines = lines.join("\n");
        assert_eq!(messages(&with_issuer(&lines)), expected, "{lines}");
    };
    check(&[], &[]);
    assert_eq!(
        messages(&with_issuer("")),
        [
            "this issuer has no `issuer`",
            "this issuer has no `audience`",
            "this issuer has no `algorithms`",
            "this issuer has no `keys`",
        ]
    );
    check(&["issuer = ''"], &["`issuer` is empty"]);
    check(&["audience = []"], &["`audience` is empty"]);
    check(&["audience = ['a', '']"], &["`audience` is empty"]);
    check(&["audience = 'a'"], &["`audience` must be an array"]);
    check(&["algorithms = []"], &["`algorithms` is empty"]);
    check(&["algorithms = ['none']"], &["`none` is not an algorithm"]);
    check(
        &["algorithms = ['NONE', 'RS256']"],
        &["`none` is not an algorithm"],
    );
    check(&["algorithms = ['ES512']"], &["`ES512` is not supported"]);
    check(&["algorithms = ['rs256']"], &["this algorithm is unknown"]);
    check(
        &["algorithms = ['HS256', 'RS256']"],
        &["algorithms with a secret next to algorithms with a private key"],
    );
    check(
        &["algorithms = ['HS256']"],
        &["public keys for algorithms with a secret"],
    );
    check(
        &["algorithms = ['HS256']", "keys = { file = 'f' }"],
        &["public keys for algorithms with a secret"],
    );
    let secret = format!("keys = {{ secret = '{SECRET}' }}");
    check(&[&secret], &["a secret for algorithms with a private key"]);
    check(&["algorithms = ['HS256']", &secret], &[]);
    for (algorithms, length, is_enough) in [
        ("'HS256'", 32, true),
        ("'HS256'", 31, false),
        ("'HS384'", 47, false),
        ("'HS512'", 64, true),
        ("'HS256', 'HS512'", 63, false),
    ] {
        let keys = format!("keys = {{ secret = '{}' }}", "x".repeat(length));
        let short = "the secret is shorter than the hash it is used with";
        let expected = if is_enough { vec![] } else { vec![short] };
        check(&[&format!("algorithms = [{algorithms}]"), &keys], &expected);
    }
    check(
        &["algorithms = ['HS256']", "keys = { secret = '' }"],
        &["the secret is empty"],
    );
    let one = "`keys` must have one of `url`, `file` and `secret`";
    check(&["keys = {}"], &[one]);
    check(&["keys = { url = 'https://a/', file = 'f' }"], &[one]);
    check(&["keys = 'https://a/'"], &["`keys` must be a table"]);
    check(
        &["keys = { ulr = 'https://a/' }"],
        &["unknown key `ulr` in `keys`"],
    );
    check(
        &["keys = { url = 'http://idp.example/' }"],
        &["the keys cannot be fetched from this `url`"],
    );
    check(&["keys = { url = 'http://localhost:1/' }"], &[]);
    check(&["leeway = '11m'"], &["`leeway` is too long"]);
    check(&["leeway = 'x'"], &["`leeway` must be a duration"]);
    check(&["scopes = ''"], &["`scopes` is empty"]);
    check(
        &["name = 'a b'"],
        &["this is not a valid name of an issuer"],
    );
    check(
        &["issuer = '?'"],
        &["this is not a valid name of an issuer"],
    );
    let again =
        format!("[[access.jwt]]\nissuer = 'i'\naudience = ['a']\nalgorithms = ['RS256']\n{url}");
    check(
        &[&again],
        &[
            "this issuer is declared twice",
            "two credentials have the name `i`",
        ],
    );
    let key = format!("[[access.key]]\nname = 'i'\nsha256 = ['{DIGEST}']");
    check(&[&key], &["two credentials have the name `i`"]);
}
