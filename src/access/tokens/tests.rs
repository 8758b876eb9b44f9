//! Good tokens, and bad ones, each of which is refused for its own reason.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::access::key;
use crate::config::Secret;
use crate::plan::{Algorithm, Claim, JwksUrl, JwtIssuer};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn issuer(algorithms: &[Algorithm], keys: JwtKeys) -> JwtIssuer {
    JwtIssuer {
        name: "idp".to_owned(),
        issuer: "https://idp.example/".to_owned(),
        audience: vec!["larder".to_owned(), "pantry".to_owned()],
        algorithms: algorithms.to_vec(),
        keys,
        leeway: Duration::from_secs(30),
        scopes: "scope".to_owned(),
        limit: None,
    }
}

fn settings(issuers: Vec<JwtIssuer>) -> AccessSettings {
    AccessSettings {
        issuers,
        ..crate::access::tests::settings()
    }
    .numbered()
}

fn tokens(algorithms: &[Algorithm], keys: JwtKeys) -> Tokens {
    Tokens::new(&settings(vec![issuer(algorithms, keys)]))
        .unwrap()
        .unwrap()
}

fn with_secret() -> Tokens {
    tokens(&[Algorithm::Hs256], JwtKeys::Secret(Secret::new(SECRET)))
}

/// An issuer whose keys are published, and have just been fetched.
fn with_keys(algorithms: &[Algorithm], keys: &[Value]) -> Tokens {
    let url = JwksUrl::parse("https://idp.example/jwks.json").unwrap();
    let tokens = tokens(algorithms, JwtKeys::Url(url));
    publish(&tokens, keys).unwrap();
    tokens
}

fn publish(tokens: &Tokens, keys: &[Value]) -> Result<(), jwk::KeySetError> {
    let set = json!({ "keys": keys }).to_string();
    let issuer = &tokens.issuers[0];
    issuer.parse(set.as_bytes()).map(|keys| {
        issuer.replace(keys);
    })
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn with_hs256(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", encoded(signature))
}

const HEADER: &str = r#"{"alg":"HS256"}"#;

fn good_claims() -> Value {
    json!({ "iss": "https://idp.example/", "aud": "larder", "exp": NOW + 600, "sub": "s" })
}

/// The claims of a good token with others, by their JSON texts; an empty text leaves one out.
fn claims(others: &[(&str, &str)]) -> String {
    let mut claims: Vec<(String, String)> = good_claims()
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.to_string()))
        .filter(|(name, _)| !others.iter().any(|(other, _)| other == name))
        .collect();
    let others = others.iter().filter(|(_, json)| !json.is_empty());
    claims.extend(others.map(|(name, json)| ((*name).to_owned(), (*json).to_owned())));
    let members = claims.iter().map(|(name, json)| format!("{name:?}:{json}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn identify_at(tokens: &Tokens, token: &str, now: SystemTime) -> Result<Arc<Identity>, Denied> {
    let identity = tokens.identify(token, &key::digest(token), now)?;
    identity.check_time(now)?;
    Ok(identity)
}

fn identify(tokens: &Tokens, token: &str) -> Result<Arc<Identity>, Denied> {
    identify_at(tokens, token, at(NOW))
}

/// Why a token is refused. It is never remembered.
fn refused(tokens: &Tokens, token: &str) -> Denied {
    let denied = identify(tokens, token).expect_err(token);
    let digest = key::digest(token);
    assert!(
        tokens.remembered.find(&digest, |_| true).is_none(),
        "{token}"
    );
    denied
}

#[test]
fn claims_become_text_and_scopes_words() {
    let tokens = with_secret();
    let token = with_hs256(
        HEADER,
        &claims(&[
            ("scope", r#""sales  larder:observe""#),
            ("tenant", r#""acm\u00e9""#),
            ("number", "12345678901234567890123.50"),
            ("flag", "true"),
            ("nothing", "null"),
            ("list", r#"[ "a", { "b" : 1 } ]"#),
        ]),
    );
    let identity = identify(&tokens, &token).unwrap();
    assert_eq!(identity.name, "idp");
    assert_eq!(identity.scopes, ["sales", "larder:observe"]);
    assert_eq!(identity.expires(), Some(at(NOW + 600)));
    for (claim, text) in [
        ("sub", Some("s")),
        ("tenant", Some("acmé")),
        ("number", Some("12345678901234567890123.50")),
        ("flag", Some("true")),
        ("nothing", None),
        ("missing", None),
        ("list", Some(r#"["a",{"b":1}]"#)),
    ] {
        assert_eq!(identity.claim(claim).map(Claim::as_text), text, "{claim}");
    }
}

#[test]
fn scopes_are_text_or_an_array() {
    let tokens = with_secret();
    let scopes = |json: &str| {
        let token = with_hs256(HEADER, &claims(&[("scope", json)]));
        identify(&tokens, &token).unwrap().scopes.clone()
    };
    assert_eq!(scopes(r#"["a","b"]"#), ["a", "b"]);
    assert_eq!(scopes(r#"["a b"]"#), ["a", "b"]);
    for none in ["", r#""""#, "[]", "1", r#"["a",1]"#, "{}", "null"] {
        assert_eq!(scopes(none), [""; 0], "{none}");
    }
}

#[test]
fn a_token_that_is_not_for_this_server_is_refused() {
    let tokens = with_secret();
    let good = with_hs256(HEADER, &claims(&[]));
    assert!(identify(&tokens, &good).is_ok());
    for (claim, json, expected) in [
        ("iss", "", TokenError::Issuer),
        ("iss", r#""https://idp.example""#, TokenError::Issuer),
        ("iss", r#""HTTPS://idp.example/""#, TokenError::Issuer),
        ("iss", r#"["https://idp.example/"]"#, TokenError::Issuer),
        ("iss", "1", TokenError::Issuer),
        ("iss", "null", TokenError::Issuer),
        ("aud", "", TokenError::Audience),
        ("aud", r#""""#, TokenError::Audience),
        ("aud", "[]", TokenError::Audience),
        ("aud", "1", TokenError::Audience),
        ("aud", "null", TokenError::Audience),
        ("aud", r#""Larder""#, TokenError::Audience),
        ("aud", r#""larder2""#, TokenError::Audience),
        ("aud", r#"["larder",1]"#, TokenError::Audience),
        ("aud", r#"[["larder"]]"#, TokenError::Audience),
        ("aud", r#"{"larder":1}"#, TokenError::Audience),
        ("exp", "", TokenError::Expiry),
        ("exp", "null", TokenError::Expiry),
        ("exp", "true", TokenError::Expiry),
        ("exp", "\"1900000000\"", TokenError::Expiry),
        ("exp", "\"inf\"", TokenError::Expiry),
        ("exp", "[1900000000]", TokenError::Expiry),
        ("exp", "1e400", TokenError::Expiry),
        ("exp", "1e300", TokenError::Expiry),
        ("nbf", "\"1700000000\"", TokenError::NotBefore),
        ("nbf", "1e400", TokenError::NotBefore),
        ("iat", "\"1700000000\"", TokenError::IssuedAt),
        ("iat", "1e400", TokenError::IssuedAt),
    ] {
        let token = with_hs256(HEADER, &claims(&[(claim, json)]));
        let expected = Denied::Token(expected);
        assert_eq!(refused(&tokens, &token), expected, "{claim} {json}");
    }
    for (claim, json) in [
        ("aud", r#""pantry""#),
        ("aud", r#"["other","larder"]"#),
        ("exp", "1800000000.5"),
        ("exp", "1.9e9"),
        ("nbf", "1799999999.25"),
        ("iat", "-1"),
    ] {
        let token = with_hs256(HEADER, &claims(&[(claim, json)]));
        assert!(identify(&tokens, &token).is_ok(), "{claim} {json}");
    }
}

#[test]
fn moments_are_judged_at_each_request_with_the_leeway() {
    let tokens = with_secret();
    let brief = [
        ("exp", "1800000100"),
        ("nbf", "1800000050"),
        ("iat", "1800000060"),
    ];
    let token = with_hs256(HEADER, &claims(&brief));
    let judged = |now| identify_at(&tokens, &token, at(now)).map(drop);
    // First before anything is remembered, then from memory, also with a clock that is set back.
    for _ in 0..2 {
        assert_eq!(judged(1_800_000_029), Err(Denied::NotYet));
        assert_eq!(judged(1_800_000_130), Err(Denied::Expired));
        assert_eq!(judged(0), Err(Denied::NotYet));
        assert_eq!(judged(1_800_000_030), Ok(()));
        assert_eq!(judged(1_800_000_129), Ok(()));
    }
    let digest = key::digest(&token);
    assert!(tokens.remembered.find(&digest, |_| true).is_some());
    for past in ["0", "-1", "-1e300", "1799999970", "1799999969.9"] {
        let token = with_hs256(HEADER, &claims(&[("exp", past)]));
        assert_eq!(refused(&tokens, &token), Denied::Expired, "{past}");
    }
}

#[test]
fn a_header_decides_nothing_but_which_key_is_tried() {
    let tokens = with_secret();
    for (header, expected) in [
        (r#"{"alg":"none"}"#, TokenError::Algorithm),
        (r#"{"alg":"None"}"#, TokenError::Algorithm),
        (r#"{"alg":"hs256"}"#, TokenError::Algorithm),
        (r#"{"alg":"HS384"}"#, TokenError::Algorithm),
        (r#"{"alg":"RS256"}"#, TokenError::Algorithm),
        (r#"{"alg":["HS256"]}"#, TokenError::Algorithm),
        (r#"{"alg":null}"#, TokenError::Algorithm),
        (r#"{}"#, TokenError::Algorithm),
        (
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            TokenError::Extension,
        ),
        (r#"{"alg":"HS256","crit":[]}"#, TokenError::Extension),
        (r#"{"alg":"HS256","crit":null}"#, TokenError::Extension),
        (
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            TokenError::Extension,
        ),
        (r#"{"alg":"HS256","typ":"logout+jwt"}"#, TokenError::Type),
        (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, TokenError::Type),
        (
            r#"{"alg":"HS256","typ":"application/secevent+jwt"}"#,
            TokenError::Type,
        ),
        (r#"{"alg":"HS256","typ":1}"#, TokenError::Malformed),
        (r#"{"alg":"HS256","kid":1}"#, TokenError::Malformed),
        (r#"{"alg":"none","alg":"HS256"}"#, TokenError::Malformed),
        (
            r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
            TokenError::Malformed,
        ),
        (r#"["HS256"]"#, TokenError::Malformed),
        ("", TokenError::Malformed),
        ("\u{feff}{}", TokenError::Malformed),
    ] {
        let token = with_hs256(header, &claims(&[]));
        assert_eq!(
            refused(&tokens, &token),
            Denied::Token(expected),
            "{header}"
        );
    }
    for header in [
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"HS256","typ":"at+JWT"}"#,
        r#"{"alg":"HS256","typ":"application/at+jwt"}"#,
        r#"{"alg":"HS256","kid":"../../etc/passwd"}"#,
        r#"{"alg":"HS256","jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/","jwk":{}}"#,
    ] {
        let token = with_hs256(header, &claims(&[]));
        assert!(identify(&tokens, &token).is_ok(), "{header}");
    }
}

#[test]
fn what_is_not_three_parts_of_base64_is_no_token() {
    let tokens = with_secret();
    let good = with_hs256(HEADER, &claims(&[]));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    for token in [
        "..".to_owned(),
        format!("{header}.{payload}"),
        format!("{good}."),
        format!("{good}.{signature}.{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature}+/"),
        format!("{header}.{payload}. {signature}"),
        with_hs256(HEADER, "[]"),
        with_hs256(HEADER, "\"\""),
        with_hs256(HEADER, ""),
        with_hs256(
            HEADER,
            r#"{"iss":"https://idp.example/","iss":"https://idp.example/"}"#,
        ),
        with_hs256(HEADER, &format!("{} {{}}", claims(&[]))),
    ] {
        assert_eq!(
            refused(&tokens, &token),
            TokenError::Malformed.into(),
            "{token}"
        );
    }
    // The last character has bits that nothing uses, and one text only for one signature.
    let last = signature.chars().last().unwrap();
    let swapped = char::from_u32(u32::from(last) ^ 1).unwrap();
    let token = format!(
        "{header}.{payload}.{}{swapped}",
        &signature[..signature.len() - 1]
    );
    assert_eq!(refused(&tokens, &token), TokenError::Malformed.into());
}

#[test]
fn a_signature_is_of_the_whole_token_and_by_the_key() {
    let tokens = with_secret();
    let good = with_hs256(HEADER, &claims(&[]));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other = encoded(claims(&[("tenant", "\"acme\"")]));
    let cut = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for token in [
        format!("{signed}."),
        format!("{header}.{other}.{signature}"),
        format!("{signed}.{}", encoded(&cut[..31])),
        format!("{signed}.{}", encoded([&cut[..], &[0]].concat())),
        format!("{signed}.{}", encoded([0; 32])),
    ] {
        assert_eq!(
            refused(&tokens, &token),
            TokenError::Signature.into(),
            "{token}"
        );
    }
    let another = tokens_with_secret("another secret of thirty-two bytes");
    assert_eq!(refused(&another, &good), TokenError::Signature.into());
}

fn tokens_with_secret(secret: &str) -> Tokens {
    tokens(&[Algorithm::Hs256], JwtKeys::Secret(Secret::new(secret)))
}

#[test]
fn long_tokens_are_refused_unread() {
    let tokens = with_secret();
    let of_length = |length: usize| {
        let filler = |count| {
            with_hs256(
                HEADER,
                &claims(&[("f", &format!("\"{}\"", "x".repeat(count)))]),
            )
        };
        let count = (0..).map(|n| length / 4 * 3 - 400 + n);
        count
            .map(filler)
            .find(|token| token.len() >= length)
            .unwrap()
    };
    assert!(identify(&tokens, &of_length(16_380)).is_ok());
    assert_eq!(
        refused(&tokens, &of_length(16_385)),
        TokenError::TooLong.into()
    );
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let token = with_hs256(HEADER, &claims(&[("deep", &deep)]));
    let identity = identify(&tokens, &token).unwrap();
    assert_eq!(identity.claim("deep"), Some(&Claim::Json(deep)));
}

/// A key pair that signs with ES256.
struct Es256(EcdsaKeyPair);

impl Es256 {
    fn generate() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        let point = &self.0.public_key().as_ref()[1..];
        json!({
            "kty": "EC", "crv": "P-256", "kid": kid,
            "x": encoded(&point[..32]), "y": encoded(&point[32..]),
        })
    }

    fn token(&self, header: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims(&[])));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", encoded(signature.unwrap()))
    }
}

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    jwk[member] = value;
    jwk
}

#[test]
fn keys_are_used_for_what_they_are_for() {
    let key = Es256::generate();
    let token = key.token(r#"{"alg":"ES256","kid":"a"}"#);
    let jwk = key.jwk("a");
    for good in [
        jwk.clone(),
        with(jwk.clone(), "use", json!("sig")),
        with(jwk.clone(), "key_ops", json!(["verify"])),
        with(jwk.clone(), "alg", json!("ES256")),
        with(jwk.clone(), "x5u", json!("http://127.0.0.1:1/")),
        with(jwk.clone(), "kid", Value::Null),
    ] {
        let tokens = with_keys(&[Algorithm::Es256], std::slice::from_ref(&good));
        assert!(identify(&tokens, &token).is_ok(), "{good}");
    }
    let url = JwksUrl::parse("https://idp.example/jwks.json").unwrap();
    let tokens = tokens(&[Algorithm::Es256], JwtKeys::Url(url));
    assert_eq!(refused(&tokens, &token), Denied::NoKeys);
    let short = encoded([1; 31]);
    for bad in [
        with(jwk.clone(), "use", json!("enc")),
        with(jwk.clone(), "key_ops", json!(["sign"])),
        with(jwk.clone(), "key_ops", json!([])),
        with(jwk.clone(), "alg", json!("ES384")),
        with(jwk.clone(), "alg", json!("ECDH-ES")),
        with(jwk.clone(), "kty", json!("RSA")),
        with(jwk.clone(), "kty", json!("AKP")),
        with(jwk.clone(), "crv", json!("P-384")),
        with(jwk.clone(), "crv", json!("secp256k1")),
        with(jwk.clone(), "x", json!(short)),
        with(jwk.clone(), "y", Value::Null),
        json!({ "kty": "oct", "kid": "a", "k": encoded(SECRET) }),
        json!("a"),
        json!({}),
    ] {
        let error = publish(&tokens, std::slice::from_ref(&bad)).expect_err(&bad.to_string());
        assert_eq!(error, jwk::KeySetError::NoneFits(1), "{bad}");
        // Next to a good one, it does no harm.
        publish(&tokens, &[bad.clone(), jwk.clone()]).unwrap();
        assert!(identify(&tokens, &token).is_ok(), "{bad}");
        tokens.issuers[0].forget();
    }
    let many: Vec<Value> = (0..101)
        .map(|number| key.jwk(&number.to_string()))
        .collect();
    assert_eq!(publish(&tokens, &many), Err(jwk::KeySetError::TooMany));
    for malformed in ["", "[]", "{}", r#"{"keys":{}}"#] {
        let error = tokens.issuers[0].parse(malformed.as_bytes()).unwrap_err();
        assert!(
            matches!(error, jwk::KeySetError::Malformed(_)),
            "{malformed}"
        );
    }
}

#[test]
fn rsa_keys_of_other_sizes_are_skipped() {
    let url = JwksUrl::parse("https://idp.example/jwks.json").unwrap();
    let tokens = tokens(&[Algorithm::Rs256], JwtKeys::Url(url));
    let modulus = |first: u8, bytes: usize| [vec![first], vec![0xff; bytes - 1]].concat();
    for (modulus, fits) in [
        (modulus(0x80, 128), false),
        (modulus(0x7f, 256), false),
        (modulus(0x80, 256), true),
        (modulus(0xff, 1024), true),
        (modulus(0x01, 1025), false),
        // A zero in front adds nothing.
        (modulus(0, 256), false),
        (modulus(0, 257), true),
    ] {
        let jwk = json!({ "kty": "RSA", "e": "AQAB", "n": encoded(&modulus) });
        let expected = fits.then_some(()).ok_or(jwk::KeySetError::NoneFits(1));
        let length = modulus.len();
        assert_eq!(publish(&tokens, &[jwk]), expected, "{length} bytes");
    }
}

#[test]
fn a_token_is_verified_with_the_key_that_it_names() {
    let (first, second) = (Es256::generate(), Es256::generate());
    let tokens = with_keys(&[Algorithm::Es256], &[first.jwk("1"), second.jwk("2")]);
    for (token, expected) in [
        (first.token(r#"{"alg":"ES256","kid":"1"}"#), Ok(())),
        (second.token(r#"{"alg":"ES256","kid":"2"}"#), Ok(())),
        (second.token(r#"{"alg":"ES256"}"#), Ok(())),
        (
            second.token(r#"{"alg":"ES256","kid":"1"}"#),
            Err(TokenError::Signature.into()),
        ),
        (
            second.token(r#"{"alg":"ES256","kid":"../2"}"#),
            Err(Denied::UnknownIssuerKey(IssuerId::new(0))),
        ),
        (
            second.token(r#"{"alg":"ES384","kid":"2"}"#),
            Err(TokenError::Algorithm.into()),
        ),
    ] {
        assert_eq!(identify(&tokens, &token).map(drop), expected, "{token}");
    }
    let many: Vec<Value> = (0..5)
        .map(|number| first.jwk(&number.to_string()))
        .collect();
    publish(&tokens, &many).unwrap();
    assert!(identify(&tokens, &first.token(r#"{"alg":"ES256","kid":"4"}"#)).is_ok());
    let nameless = first.token(r#"{"alg":"ES256"}"#);
    assert_eq!(refused(&tokens, &nameless), TokenError::ManyKeys.into());
}

#[test]
fn a_public_key_is_no_secret() {
    let key = Es256::generate();
    let jwk = key.jwk("a");
    let tokens = with_keys(&[Algorithm::Es256], std::slice::from_ref(&jwk));
    let signed = format!(
        "{}.{}",
        encoded(r#"{"alg":"HS256","kid":"a"}"#),
        encoded(claims(&[]))
    );
    let point = key.0.public_key().as_ref();
    let set = json!({ "keys": [jwk] }).to_string();
    for secret in [
        point,
        &point[1..],
        jwk.to_string().as_bytes(),
        set.as_bytes(),
        b"",
    ] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let token = format!(
            "{signed}.{}",
            encoded(hmac::sign(&secret, signed.as_bytes()))
        );
        assert_eq!(refused(&tokens, &token), TokenError::Algorithm.into());
    }
}

#[test]
fn ed25519_goes_by_both_of_its_names() {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key()) });
    let tokens = with_keys(&[Algorithm::EdDsa, Algorithm::Ed25519], &[jwk]);
    for name in ["EdDSA", "Ed25519"] {
        let header = json!({ "alg": name }).to_string();
        let signed = format!("{}.{}", encoded(header), encoded(claims(&[])));
        let token = format!("{signed}.{}", encoded(key.sign(signed.as_bytes())));
        assert!(identify(&tokens, &token).is_ok(), "{name}");
    }
}

#[test]
fn a_change_of_keys_forgets_tokens_and_the_same_keys_do_not() {
    let (first, second) = (Es256::generate(), Es256::generate());
    let tokens = with_keys(&[Algorithm::Es256], &[first.jwk("1")]);
    let token = first.token(r#"{"alg":"ES256","kid":"1"}"#);
    let remembered = identify(&tokens, &token).unwrap();
    let is_remembered = || {
        let again = identify(&tokens, &token).unwrap();
        Arc::ptr_eq(&remembered, &again)
    };
    assert!(is_remembered());
    publish(&tokens, &[first.jwk("1")]).unwrap();
    assert!(is_remembered(), "the same keys");
    publish(&tokens, &[first.jwk("1"), second.jwk("2")]).unwrap();
    assert!(!is_remembered(), "another key");
    publish(&tokens, &[second.jwk("2"), first.jwk("1")]).unwrap();
    publish(&tokens, &[second.jwk("2")]).unwrap();
    assert_eq!(
        identify(&tokens, &token).map(drop),
        Err(Denied::UnknownIssuerKey(IssuerId::new(0))),
        "its key is no longer listed"
    );
    // The same name for another key.
    publish(&tokens, &[second.jwk("1")]).unwrap();
    assert_eq!(
        identify(&tokens, &token).map(drop),
        Err(TokenError::Signature.into())
    );
    tokens.issuers[0].forget();
    assert_eq!(identify(&tokens, &token).map(drop), Err(Denied::NoKeys));
}

#[test]
fn each_issuer_has_its_own_keys() {
    let mut other = issuer(
        &[Algorithm::Hs256],
        JwtKeys::Secret(Secret::new("x".repeat(32))),
    );
    other.issuer = "https://other.example/".to_owned();
    other.name = "other".to_owned();
    let first = issuer(&[Algorithm::Hs256], JwtKeys::Secret(Secret::new(SECRET)));
    let tokens = Tokens::new(&settings(vec![other, first])).unwrap().unwrap();
    let token = with_hs256(HEADER, &claims(&[]));
    assert_eq!(identify(&tokens, &token).unwrap().name, "idp");
    let token = with_hs256(HEADER, &claims(&[("iss", "\"https://other.example/\"")]));
    assert_eq!(refused(&tokens, &token), TokenError::Signature.into());
}
