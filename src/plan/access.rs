//! Who may ask what: credentials, and what an endpoint requires of them.

mod jwt; // issuers of tokens

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

pub use jwt::{Algorithm, IssuerId, JwksUrl, JwtIssuer, JwtKeys};

/// `[access]`
#[derive(Debug, Clone)]
pub struct AccessSettings {
    /// What holds for paths that say nothing themselves.
    pub default: DefaultAccess,
    /// The declared keys.
    pub keys: Vec<AccessKey>,
    /// The issuers whose tokens are accepted.
    pub issuers: Vec<JwtIssuer>,
    /// The networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How much a caller without a credential may take, by its address.
    pub limit: Option<Limit>,
}

/// What holds for paths that say nothing about access themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAccess {
    /// A credential is needed, also to learn that there is nothing at a path.
    Deny,
    /// Anybody may ask.
    Public,
}

/// SHA-256 of a key.
pub type KeyDigest = [u8; 32];

/// `[[access.key]]`
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// Its name in metrics and logs.
    pub name: String,
    /// The digests of all keys that are valid under this name.
    pub digests: Vec<KeyDigest>,
    /// From when on it is refused.
    pub expires: Option<SystemTime>,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// Its claims, by their names.
    pub claims: BTreeMap<String, String>,
    /// How much it may take.
    pub limit: Option<Limit>,
}

/// `limit`: how much one caller may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Of requests.
    pub requests: Option<Quota>,
    /// Of loads that its requests cause.
    pub loads: Option<Quota>,
}

/// An amount in a span of time, such as `"600/1m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub amount: NonZeroU32,
    /// In how many seconds.
    pub window: Duration,
}

/// What a path requires of its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// A credential with these scopes, from one of these networks.
    Credential(Requirements),
}

/// What a caller must have besides a valid credential.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// All of these scopes.
    pub scopes: Vec<String>,
    /// An address in one of these networks; any address if there are none.
    pub allow_from: Vec<IpNet>,
}

impl AccessSettings {
    /// Whether some callers have a limit.
    pub fn limits_callers(&self) -> bool {
        self.limit.is_some() || self.keys.iter().any(|key| key.limit.is_some())
    }
}

impl Access {
    /// Whether a caller needs a credential.
    pub fn needs_credential(&self) -> bool {
        matches!(self, Self::Credential(_))
    }
}

/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Whether a key may have this name, which metrics and logs print.
pub fn is_key_name(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_name)
}
