//! Issuers of tokens: JSON Web Tokens (RFC 7519), signed as in RFC 7515.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;

use super::Limit;
use crate::config::{At, Secret};

/// `[[access.jwt]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtIssuer {
    /// Its name in metrics and logs.
    pub name: String,
    /// The `iss` of its tokens, compared as text.
    pub issuer: String,
    /// A token must be for one of these: `aud`.
    pub audience: Vec<String>,
    /// The algorithms that it signs with, all with a secret or all with a private key.
    pub algorithms: Vec<Algorithm>,
    /// What its signatures are verified with.
    pub keys: JwtKeys,
    /// How far its clock may be from this machine's.
    pub leeway: Duration,
    /// The claim that holds the scopes.
    pub scopes: String,
    /// How much each subject may take.
    pub limit: Option<Limit>,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone)]
pub enum JwtKeys {
    /// A JWK set that the issuer publishes.
    Url(JwksUrl),
    /// A file with a JWK set.
    File(At<PathBuf>),
    /// The secret that tokens are signed with.
    Secret(Secret),
}

/// Wherever it is written.
impl PartialEq for JwtKeys {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(url), Self::Url(other)) => url == other,
            (Self::File(file), Self::File(other)) => file.value == other.value,
            (Self::Secret(secret), Self::Secret(other)) => secret == other,
            (Self::Url(_) | Self::File(_) | Self::Secret(_), _) => false,
        }
    }
}

impl Eq for JwtKeys {}

/// An issuer's place in [`AccessSettings::issuers`](super::AccessSettings::issuers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerId(usize);

impl IssuerId {
    /// The issuer at this index.
    pub fn new(index: usize) -> Self {
        Self(index)
    }

    /// The index into tables that hold one element per issuer.
    pub fn index(self) -> usize {
        self.0
    }
}

/// How a token may be signed: RFC 7518, 3.1; RFC 8037, 3.1; RFC 9864, 2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// EdDSA; only with Ed25519.
    EdDsa,
    /// EdDSA with Ed25519, by its later name.
    Ed25519,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// Its name in `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The algorithm of this name; names are case-sensitive.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }

    /// The fewest bytes of a secret, which are those of the hash: RFC 7518, 3.2. `None` if it needs no secret.
    pub fn secret_bytes_min(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            Self::Rs256
            | Self::Rs384
            | Self::Rs512
            | Self::Ps256
            | Self::Ps384
            | Self::Ps512
            | Self::Es256
            | Self::Es384
            | Self::EdDsa
            | Self::Ed25519 => None,
        }
    }
}

/// Where a JWK set is published: `https`, or `http` on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

impl JwksUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("a fragment is not sent");
        }
        let uri: Uri = text.parse().map_err(|_| "this is not a URL")?;
        let host = uri.host().filter(|host| !host.is_empty());
        let (Some(scheme), Some(host)) = (uri.scheme(), host) else {
            return Err("this is not a URL");
        };
        let authority = uri.authority();
        if authority.is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("a user in the URL is not sent");
        }
        let port = authority.and_then(|authority| authority.as_str().rsplit_once(':'));
        // The parser accepts any digits, and none.
        if port.is_some_and(|(_, port)| !port.ends_with(']'))
            && uri.port_u16().is_none_or(|p| p == 0)
        {
            return Err("this is not a port");
        }
        if *scheme == Scheme::HTTPS {
            Ok(Self(uri))
        } else if *scheme != Scheme::HTTP {
            Err("the scheme must be https")
        } else if is_loopback(host) {
            Ok(Self(uri))
        } else {
            Err("http lets anybody on the way replace the keys")
        }
    }

    /// The whole URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it needs TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        without_brackets(self.0.host().unwrap_or_default())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.0.port_u16().unwrap_or(default)
    }
}

fn without_brackets(host: &str) -> &str {
    let inside = host.strip_prefix('[');
    inside
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn is_loopback(host: &str) -> bool {
    let address = without_brackets(host).parse();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for (text, host, port) in [
            ("https://idp.example/jwks.json", "idp.example", 443),
            ("https://idp.example:8443", "idp.example", 8443),
            ("https://[2001:db8::1]/a?b=c", "2001:db8::1", 443),
            ("HTTPS://idp.example/", "idp.example", 443),
            ("http://localhost/jwks", "localhost", 80),
            ("http://127.9.9.9:3000/jwks", "127.9.9.9", 3000),
            ("http://[::1]:3000/jwks", "::1", 3000),
        ] {
            let url = JwksUrl::parse(text).expect(text);
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
        }
        for text in [
            "",
            "idp.example",
            "/jwks.json",
            "https://",
            "https:///jwks",
            "https://u:p@idp.example/",
            "https://idp.example/#keys",
            "https://idp.example:/",
            "https://idp.example:0/",
            "https://idp.example:65536/",
            "https://idp example/",
            "http://idp.example/",
            "http://localhost.example/",
            "http://128.0.0.1/",
            "ftp://localhost/",
        ] {
            assert!(JwksUrl::parse(text).is_err(), "{text}");
        }
    }
}
