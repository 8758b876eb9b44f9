//! Credentials, identities and addresses.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

fn read<'t>(
    authorization: &[&'t str],
    api_key: &[&'t str],
) -> Result<Option<&'t str>, CredentialError> {
    let bytes = |texts: &[&'t str]| texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>();
    let (authorization, api_key) = (bytes(authorization), bytes(api_key));
    let credential = Credential::read(authorization.into_iter(), api_key.into_iter())?;
    Ok(credential.map(|credential| credential.text()))
}

#[test]
fn a_credential_is_read_from_one_field_and_no_other_scheme() {
    use CredentialError::{Malformed, Several};
    for (authorization, api_key, expected) in [
        (&[][..], &[][..], Ok(None)),
        (&["Bearer a.b-c_d~e+f/g="], &[], Ok(Some("a.b-c_d~e+f/g="))),
        (&["bEARER  abc "], &[], Ok(Some("abc"))),
        (&[], &["abc"], Ok(Some("abc"))),
        (&["Bearer abc"], &["abc"], Err(Several)),
        (&["Bearer abc", "Bearer abc"], &[], Err(Several)),
        (&[], &["abc", "abc"], Err(Several)),
        (&["Basic YTpi", "Bearer abc"], &[], Err(Several)),
        (&["Basic YTpi"], &[], Err(Malformed)),
        (&["Bearer"], &[], Err(Malformed)),
        (&["Bearer "], &[], Err(Malformed)),
        (&["Bearerabc"], &[], Err(Malformed)),
        (&["Bearer a b"], &[], Err(Malformed)),
        (&["Bearer ä"], &[], Err(Malformed)),
        (&[], &[""], Err(Malformed)),
        (&[], &["a,b"], Err(Malformed)),
    ] {
        assert_eq!(
            read(authorization, api_key),
            expected,
            "{authorization:?} {api_key:?}"
        );
    }
}

fn key(name: &str, text: &str, expires: Option<SystemTime>, scopes: &[&str]) -> AccessKey {
    AccessKey {
        name: name.to_owned(),
        digests: vec![key::digest(text)],
        expires,
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        claims: BTreeMap::new(),
        limit: None,
    }
}

/// `[access]` without credentials.
pub(super) fn settings() -> AccessSettings {
    AccessSettings {
        default: crate::plan::DefaultAccess::Deny,
        keys: Vec::new(),
        issuers: Vec::new(),
        trusted_proxies: Vec::new(),
        limit: None,
        stored_keys: None,
        numbers: Vec::new(),
    }
}

fn identities(keys: Vec<AccessKey>, trusted_proxies: &[&str]) -> Identities {
    let settings = AccessSettings {
        keys,
        trusted_proxies: trusted_proxies
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        ..settings()
    };
    Identities::new(&settings.numbered()).unwrap()
}

/// A client with a key of this name.
pub(super) fn identity(name: &str) -> Arc<Identity> {
    of_key(key(name, "text", None, &[]))
}

fn of_key(key: AccessKey) -> Arc<Identity> {
    let identities = identities(vec![key], &[]);
    Arc::clone(&identities.keys[&key::digest("text")])
}

#[test]
fn a_key_is_valid_until_it_expires() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let keys = vec![
        key("brief", "b", Some(at(100)), &[]),
        key("lasting", "l", None, &[]),
    ];
    let identities = identities(keys, &[]);
    let name = |text: &str, now| {
        let texts = [text.as_bytes()];
        let credential = Credential::read(std::iter::empty(), texts.into_iter());
        let identity = identities.identify(&credential.unwrap().unwrap(), now);
        identity.map(|identity| identity.name.clone())
    };
    assert_eq!(name("b", at(99)).as_deref(), Ok("brief"));
    assert_eq!(name("b", at(100)), Err(Denied::Expired));
    assert_eq!(name("l", at(100)).as_deref(), Ok("lasting"));
    assert_eq!(name("L", at(100)), Err(Denied::Unknown));
    assert_eq!(name("lasting", at(100)), Err(Denied::Unknown));
}

#[test]
fn all_scopes_are_needed() {
    let identity = of_key(key("k", "text", None, &["a", "b"]));
    let check = |scopes: &[&str]| {
        identity.check_scopes(&Requirements {
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            allow_from: Vec::new(),
        })
    };
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&["b", "a"]), Ok(()));
    let missing = vec!["a".to_owned(), "c".to_owned()];
    assert_eq!(check(&["a", "c"]), Err(Denied::Scope(missing)));
}

#[test]
fn forwarded_addresses_are_read_from_the_right_through_trusted_proxies() {
    let identities = identities(Vec::new(), &["10.0.0.0/8", "fd00::/8"]);
    for (peer, forwarded_for, expected) in [
        ("198.51.100.1", "192.0.2.7", Some("198.51.100.1")),
        ("10.0.0.1", "", None),
        ("10.0.0.1", "192.0.2.7", Some("192.0.2.7")),
        ("::ffff:10.0.0.1", "::ffff:192.0.2.7", Some("192.0.2.7")),
        ("10.0.0.1", "192.0.2.7,198.51.100.1", Some("198.51.100.1")),
        ("10.0.0.1", "192.0.2.7,10.9.9.9,fd00::1", Some("192.0.2.7")),
        ("10.0.0.1", "10.0.0.2", Some("10.0.0.2")),
        ("fd00::1", "[2001:db8::1]:80", Some("2001:db8::1")),
        ("10.0.0.1", "unknown", None),
        ("10.0.0.1", "unknown,192.0.2.7", Some("192.0.2.7")),
        ("10.0.0.1", "192.0.2.7,unknown", None),
    ] {
        let peer: IpAddr = peer.parse().unwrap();
        let address = identities.client_address(peer, forwarded_for.split(','));
        let expected = expected.map(|text| text.parse().unwrap());
        assert_eq!(address, expected, "{peer} {forwarded_for}");
    }
    let peer: IpAddr = "10.0.0.1".parse().unwrap();
    assert_eq!(
        identities.client_address(peer, std::iter::empty()),
        Some(peer)
    );
}

#[test]
fn generated_keys_are_credentials_and_differ() {
    let (first, second) = (key::generate().unwrap(), key::generate().unwrap());
    assert_ne!(first, second);
    assert_eq!(read(&[], &[&first]), Ok(Some(first.as_str())));
    // FIPS 180-2, appendix B.1.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(key::hexadecimal(&key::digest("abc")), digest);
}

proptest! {
    #[test]
    fn only_the_declared_text_is_a_key(text in "[a-z]{1,3}") {
        let identities = identities(vec![key("k", "abc", None, &[])], &[]);
        let texts = [text.as_bytes()];
        let credential = Credential::read(std::iter::empty(), texts.into_iter()).unwrap().unwrap();
        let identity = identities.identify(&credential, UNIX_EPOCH);
        prop_assert_eq!(identity.is_ok(), text == "abc");
    }
}
