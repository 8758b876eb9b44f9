//! Who may ask what: credentials, and what an endpoint requires of them.

mod jwt; // issuers of tokens

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::{Claim, Statement};
use crate::config::At;
pub use jwt::{Algorithm, IssuerId, JwksUrl, JwtIssuer, JwtKeys};

/// `[access]`
#[derive(Debug, Clone, PartialEq)]
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
    /// The keys in the repository.
    pub stored_keys: Option<StoredKeys>,
    /// The number of each of [`Self::clients`], in their order.
    pub(crate) numbers: Vec<ClientId>,
}

/// A name under which requests are counted: small and `Copy`. In all plans of a process, it stands for the same name.
/// The number is one more, so that an optional one is as small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(NonZeroU32);

impl ClientId {
    /// The number.
    pub fn number(self) -> usize {
        self.0.get() as usize - 1
    }

    pub(crate) fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("a configuration holds fewer than 2^32 - 1 keys"))
    }
}

/// What a client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A key.
    Key,
    /// A token of an issuer.
    Token,
}

impl CredentialKind {
    /// The value of the label `method`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
        }
    }
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub claims: BTreeMap<String, Claim>,
    /// How much it may take.
    pub limit: Option<Limit>,
}

/// `[access.keys]`: keys in the repository.
#[derive(Debug, Clone)]
pub struct StoredKeys {
    /// Returns a row for each.
    pub statement: Statement,
    /// How often they are read.
    pub every: Duration,
    /// How much each may take.
    pub limit: Option<Limit>,
    /// The statement as it is written.
    pub(super) sql: At<String>,
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
    /// The names under which requests are counted, and what their credentials are. No declared name has
    /// parentheses.
    pub fn clients(&self) -> impl Iterator<Item = (&str, CredentialKind)> {
        let keys = self.keys.iter().map(|key| key.name.as_str());
        let issuers = self.issuers.iter().map(|issuer| issuer.name.as_str());
        keys.map(|name| (name, CredentialKind::Key))
            .chain(issuers.map(|name| (name, CredentialKind::Token)))
            .chain([("(repository)", CredentialKind::Key)])
    }

    /// The same, with their numbers.
    pub fn numbered_clients(&self) -> impl Iterator<Item = (ClientId, &str, CredentialKind)> {
        let numbers = self.numbers.iter().copied();
        let clients = numbers.zip(self.clients());
        clients.map(|(client, (name, kind))| (client, name, kind))
    }

    /// The name of a client.
    pub fn client_name(&self, client: ClientId) -> Option<&str> {
        let mut clients = self.numbered_clients();
        clients.find_map(|(id, name, _)| (id == client).then_some(name))
    }

    /// Every issuer, with the number of its client.
    pub fn issuers(&self) -> impl Iterator<Item = (IssuerId, ClientId, &JwtIssuer)> {
        let numbers = self.numbers.iter().skip(self.keys.len());
        let issuers = self.issuers.iter().enumerate().zip(numbers);
        issuers.map(|((index, issuer), client)| (IssuerId::new(index), *client, issuer))
    }

    /// The keys in the repository, with the number of their client.
    pub fn stored_keys(&self) -> Option<(ClientId, &StoredKeys)> {
        let keys = self.stored_keys.as_ref()?;
        Some((*self.numbers.last()?, keys))
    }

    /// Every key, with the number of its client.
    pub fn keys(&self) -> impl Iterator<Item = (ClientId, &AccessKey)> {
        self.numbers.iter().copied().zip(&self.keys)
    }

    /// Numbers the clients of a first plan.
    pub(crate) fn numbered(mut self) -> Self {
        self.numbers = (0..self.clients().count()).map(ClientId::new).collect();
        self
    }

    /// Numbers the clients as `previous` did, and others with numbers that it did not use.
    pub(super) fn follow(&mut self, previous: &Self) {
        let mut unused = previous
            .numbers
            .iter()
            .map(|id| id.number() + 1)
            .max()
            .unwrap_or(0);
        let known: HashMap<_, _> = previous
            .numbered_clients()
            .map(|(id, name, kind)| ((name, kind.as_str()), id))
            .collect();
        let numbers = self.clients().map(|(name, kind)| {
            let known = known.get(&(name, kind.as_str()));
            known.copied().unwrap_or_else(|| {
                unused += 1;
                ClientId::new(unused - 1)
            })
        });
        self.numbers = numbers.collect();
    }

    /// Whether some callers have a limit.
    pub fn limits_callers(&self) -> bool {
        let stored = self.stored_keys.as_ref().and_then(|keys| keys.limit);
        let keys = self.keys.iter().map(|key| key.limit);
        let issuers = self.issuers.iter().map(|issuer| issuer.limit);
        let mut limits = keys.chain(issuers).chain([self.limit, stored]);
        limits.any(|limit| limit.is_some())
    }
}

/// Wherever it is written.
impl PartialEq for StoredKeys {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            statement,
            every,
            limit,
            sql: _,
        } = self;
        statement.text() == other.statement.text() && (every, limit) == (&other.every, &other.limit)
    }
}

impl Access {
    /// Whether a caller needs a credential.
    pub fn needs_credential(&self) -> bool {
        matches!(self, Self::Credential(_))
    }
}

/// SHA-256 of no bytes, which anybody has.
pub const EMPTY_KEY: KeyDigest = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The digest that 64 hexadecimal digits write.
pub fn parse_digest(text: &str) -> Option<KeyDigest> {
    let mut digest = KeyDigest::default();
    if text.len() != 2 * digest.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Whether a key may have this name, which metrics and logs print.
pub fn is_key_name(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_name)
}
