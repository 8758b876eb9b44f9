//! Credentials as clients present them, and the identities behind them.
//!
//! A key is looked up by its SHA-256, so that neither the configuration nor memory holds it. A slow hash, as for
//! passwords, would help nobody: keys have 128 random bits or more, and each request would pay for it.

mod credential; // where a request carries its credential
pub mod key; // makes keys, and their digests
mod last_credential; // of a connection
mod limits_by; // what each of many callers may take
pub mod stored_keys; // keys in the repository
mod tokens; // tokens of issuers

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

pub use credential::{Credential, CredentialError};
pub use last_credential::LastCredential;
pub use tokens::{FetchError, IssuerError, KeyFileError, TokenError};

use crate::limiter::Limits;
use crate::observe::{Observer, Task};
use crate::plan::{AccessKey, AccessSettings, Claim, ClientId, IssuerId, KeyDigest, Requirements};
use crate::repository::Repository;
use crate::supervise;
use limits_by::{LimitsBy, network};
use stored_keys::StoredIdentities;
use tokens::Tokens;

/// Somebody who has shown a credential.
#[derive(Debug)]
pub struct Identity {
    /// The declared name of the key, or of the token's issuer.
    pub name: String,
    /// The name under which its requests are counted.
    pub client: ClientId,
    not_before: Option<SystemTime>,
    expires: Option<SystemTime>,
    /// How far the clock that `not_before` and `expires` were read from may be from this machine's.
    leeway: Duration,
    scopes: Vec<String>,
    claims: BTreeMap<String, Claim>,
    /// What it may take.
    pub limits: Option<Arc<Limits>>,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No declared key has this digest.
    #[error("the key is unknown")]
    Unknown,
    /// The credential is no longer valid.
    #[error("the credential has expired")]
    Expired,
    /// The credential is not valid yet.
    #[error("the credential is not valid yet")]
    NotYet,
    /// The token is not valid.
    #[error("{}", .0.as_str())]
    Token(TokenError),
    /// The token is signed with a key that its issuer did not list when its keys were last fetched.
    #[error("{}", TokenError::Key.as_str())]
    UnknownIssuerKey(IssuerId),
    /// The keys to judge the credential by have not been loaded, or not for too long.
    #[error("the keys to judge the credential by are not loaded")]
    NoKeys,
    /// The credential lacks scopes: all that are needed are named.
    #[error("the scope is insufficient")]
    Scope(Vec<String>),
    /// The path may not be asked for from this address.
    #[error("the address is not allowed")]
    Address,
}

/// Everybody with a credential.
#[derive(Debug)]
pub struct Identities {
    settings: AccessSettings,
    keys: HashMap<KeyDigest, Arc<Identity>>,
    /// `None` without `[access.keys]`.
    stored: Option<Arc<StoredIdentities>>,
    /// `None` without an issuer.
    tokens: Option<Arc<Tokens>>,
    address_limits: Option<Arc<LimitsBy<IpAddr>>>,
    /// What [`Self::changes`] counts from: more than those of all identities before.
    changes: u64,
    /// Ends what keeps the keys up to date.
    end: CancellationToken,
}

/// The most changes between two reloads.
const CHANGES_MAX: u64 = 1 << 32;

impl Identities {
    /// Those that the configuration declares.
    ///
    /// # Errors
    /// [`IssuerError`] if a file with the keys of an issuer cannot be used.
    pub fn new(settings: &AccessSettings) -> Result<Self, IssuerError> {
        Ok(Self {
            keys: by_digest(settings, |_| None),
            stored: settings
                .stored_keys()
                .map(StoredIdentities::new)
                .map(Arc::new),
            tokens: Tokens::new(settings)?.map(Arc::new),
            address_limits: settings.limit.map(LimitsBy::new).map(Arc::new),
            changes: 0,
            end: CancellationToken::new(),
            settings: settings.clone(),
        })
    }

    /// Those of other settings, in place of these. What is declared alike keeps its keys, and what is left of its
    /// limits.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn following(&self, settings: &AccessSettings) -> Result<Self, IssuerError> {
        let limits = |key: &AccessKey| {
            let same =
                |(_, it): &(ClientId, &AccessKey)| (&it.name, it.limit) == (&key.name, key.limit);
            let (_, known) = self.settings.keys().find(same)?;
            let identity = self.keys.get(known.digests.first()?)?;
            identity.limits.clone()
        };
        let next = Self::new(&AccessSettings {
            // Not read again where nothing has changed.
            issuers: Vec::new(),
            ..settings.clone()
        })?;
        let is_stored_alike = settings.stored_keys == self.settings.stored_keys;
        Ok(Self {
            keys: by_digest(settings, limits),
            stored: if is_stored_alike {
                self.stored.clone()
            } else {
                next.stored
            },
            tokens: if settings.issuers == self.settings.issuers {
                self.tokens.clone()
            } else {
                Tokens::new(settings)?.map(Arc::new)
            },
            address_limits: if settings.limit == self.settings.limit {
                self.address_limits.clone()
            } else {
                next.address_limits
            },
            changes: self.changes + CHANGES_MAX,
            end: CancellationToken::new(),
            settings: settings.clone(),
        })
    }

    /// Keeps the keys of issuers and those in the repository up to date until `shutdown`, or until other identities
    /// do so in place of these.
    pub fn follow(
        &self,
        repository: &Repository,
        observer: &Observer,
        shutdown: &CancellationToken,
    ) {
        let (ended, end) = (self.end.clone(), shutdown.child_token());
        let shutdown = end.clone();
        tokio::spawn(async move {
            // Either of them.
            shutdown.run_until_cancelled(ended.cancelled()).await;
            shutdown.cancel();
        });
        let shutdown = &end;
        if let Some(stored) = &self.stored {
            let parts = (Arc::clone(stored), repository.clone(), observer.clone());
            supervise::spawn(observer, Task::StoredKeys, shutdown, move || {
                let (stored, repository, observer) = parts.clone();
                async move { stored.follow(&repository, &observer).await }
            });
        }
        if let Some(tokens) = &self.tokens {
            tokens.follow(observer, shutdown);
        }
    }

    /// Ends what [`Self::follow`] began.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// What they were made from.
    pub fn settings(&self) -> &AccessSettings {
        &self.settings
    }

    /// Fetches the keys that issuers publish, once. Returns those that could not be fetched.
    pub async fn load_issuer_keys(&self) -> Vec<(IssuerId, FetchError)> {
        match &self.tokens {
            Some(tokens) => tokens.load().await,
            None => Vec::new(),
        }
    }

    /// Likewise, where there are none yet.
    pub async fn load_missing_issuer_keys(&self) -> Vec<(IssuerId, FetchError)> {
        match &self.tokens {
            Some(tokens) if !tokens.have_keys() => tokens.load().await,
            Some(_) | None => Vec::new(),
        }
    }

    /// Reads the keys in the repository, once.
    ///
    /// # Errors
    /// [`StoredKeysError`](stored_keys::StoredKeysError).
    pub async fn load_stored_keys(
        &self,
        repository: &Repository,
    ) -> Result<(), stored_keys::StoredKeysError> {
        match &self.stored {
            Some(stored) => stored.load(repository).await,
            None => Ok(()),
        }
    }

    /// Whether the keys in the repository have been read, if there are any.
    pub fn has_stored_keys(&self) -> bool {
        self.stored
            .as_ref()
            .is_none_or(|stored| stored.are_loaded())
    }

    /// Returns when the keys in the repository have been read for the first time, if there are any.
    pub async fn wait_for_stored_keys(&self) {
        if let Some(stored) = &self.stored {
            stored.wait_until_loaded().await;
        }
    }

    /// How often any keys were replaced.
    pub fn changes(&self) -> u64 {
        let stored = self.stored.as_ref().map_or(0, |stored| stored.changes());
        let tokens = self.tokens.as_ref().map_or(0, |tokens| tokens.changes());
        self.changes + stored + tokens
    }

    /// Whether callers without a credential have a limit.
    pub fn limits_addresses(&self) -> bool {
        self.address_limits.is_some()
    }

    /// What callers without a credential may take from an address.
    pub fn limits_of(&self, address: IpAddr) -> Option<Arc<Limits>> {
        self.address_limits
            .as_ref()
            .map(|limits| limits.of(network(address)))
    }

    /// Whose credential this is.
    ///
    /// # Errors
    /// Why it is not accepted. After [`Denied::UnknownIssuerKey`], [`Self::identify_with_newer_keys`] may accept it.
    pub fn identify(
        &self,
        credential: &Credential<'_>,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Denied> {
        let text = credential.text();
        let digest = key::digest(text);
        let stored = || self.stored.as_ref()?.find(&digest);
        let identity = match self.keys.get(&digest).cloned().or_else(stored) {
            Some(identity) => identity,
            None => match &self.tokens {
                Some(tokens) if credential.is_token() => tokens.identify(text, &digest, now)?,
                Some(_) | None if !self.has_stored_keys() => return Err(Denied::NoKeys),
                Some(_) | None => return Err(Denied::Unknown),
            },
        };
        identity.check_time(now)?;
        Ok(identity)
    }

    /// Whose token this is, once the keys of its issuer have been fetched again. `changes` are those before it was
    /// judged: others may have fetched the keys since.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub async fn identify_with_newer_keys(
        &self,
        credential: &Credential<'_>,
        issuer: IssuerId,
        changes: u64,
    ) -> Result<Arc<Identity>, Denied> {
        let is_renewed = || async { self.tokens.as_ref()?.renew(issuer).await.then_some(()) };
        if self.changes() != changes || is_renewed().await.is_some() {
            self.identify(credential, SystemTime::now())
        } else {
            Err(Denied::UnknownIssuerKey(issuer))
        }
    }

    /// The address of the client behind `peer`. Each proxy adds the address that it saw to the right of
    /// `X-Forwarded-For`, so addresses are read from there while the network that added them is trusted.
    /// `None` if one of these is not an address, with or without a port.
    pub fn client_address<'h>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'h str>,
    ) -> Option<IpAddr> {
        let mut address = peer.to_canonical();
        for text in forwarded_for.rev() {
            if !self.is_trusted(address) {
                break;
            }
            let with_port = || text.parse().map(|address: SocketAddr| address.ip());
            address = text.parse().or_else(|_| with_port()).ok()?.to_canonical();
        }
        Some(address)
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        let trusted = &self.settings.trusted_proxies;
        trusted.iter().any(|network| network.contains(&address))
    }
}

/// The identity behind each key, with the limits that are known of it.
fn by_digest(
    settings: &AccessSettings,
    limits: impl Fn(&AccessKey) -> Option<Arc<Limits>>,
) -> HashMap<KeyDigest, Arc<Identity>> {
    let mut keys = HashMap::new();
    for (client, key) in settings.keys() {
        let identity = Arc::new(Identity::of_key(client, key, limits(key)));
        for digest in &key.digests {
            keys.insert(*digest, Arc::clone(&identity));
        }
    }
    keys
}

impl Identity {
    fn of_key(client: ClientId, key: &AccessKey, limits: Option<Arc<Limits>>) -> Self {
        let new_limits = || key.limit.as_ref().map(|limit| Arc::new(Limits::new(limit)));
        Self {
            name: key.name.clone(),
            client,
            not_before: None,
            expires: key.expires,
            leeway: Duration::ZERO,
            scopes: key.scopes.clone(),
            claims: key.claims.clone(),
            limits: limits.or_else(new_limits),
        }
    }

    /// What the credential says under this name.
    pub fn claim(&self, name: &str) -> Option<&Claim> {
        self.claims.get(name)
    }

    /// Whether the credential is valid at this time.
    ///
    /// # Errors
    /// [`Denied::Expired`] and [`Denied::NotYet`].
    pub fn check_time(&self, now: SystemTime) -> Result<(), Denied> {
        // The moments come from strangers, so nothing is added to them.
        let (earliest, latest) = (now.checked_sub(self.leeway), now.checked_add(self.leeway));
        if self
            .expires
            .is_some_and(|end| earliest.is_none_or(|now| end <= now))
        {
            return Err(Denied::Expired);
        }
        if self
            .not_before
            .is_some_and(|start| latest.is_none_or(|now| start > now))
        {
            return Err(Denied::NotYet);
        }
        Ok(())
    }

    /// Whether the time does not matter.
    pub fn is_valid_forever(&self) -> bool {
        self.expires.is_none() && self.not_before.is_none()
    }

    /// When the credential stops being valid.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Whether the credential is enough.
    ///
    /// # Errors
    /// [`Denied::Scope`].
    pub fn check_scopes(&self, requirements: &Requirements) -> Result<(), Denied> {
        let has = |scope: &String| self.scopes.contains(scope);
        if requirements.scopes.iter().all(has) {
            Ok(())
        } else {
            Err(Denied::Scope(requirements.scopes.clone()))
        }
    }
}

impl From<TokenError> for Denied {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

#[cfg(test)]
mod tests;
