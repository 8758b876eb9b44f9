//! Credentials as clients present them, and the identities behind them.
//!
//! A key is looked up by its SHA-256, so that neither the configuration nor memory holds it. A slow hash, as for
//! passwords, would help nobody: keys have 128 random bits or more, and each request would pay for it.

mod address_limits; // how much callers without a credential may take
mod credential; // where a request carries its credential
pub mod key; // makes keys, and their digests

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use address_limits::AddressLimits;
pub use credential::{Credential, CredentialError};

use crate::limiter::Limits;
use crate::plan::{AccessKey, AccessSettings, KeyDigest, Requirements};

/// Somebody who has shown a credential.
#[derive(Debug)]
pub struct Identity {
    /// The declared name of the key.
    pub name: String,
    expires: Option<SystemTime>,
    scopes: Vec<String>,
    claims: BTreeMap<String, String>,
    /// What it may take.
    pub limits: Option<Limits>,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No declared key has this digest.
    #[error("the key is unknown")]
    Unknown,
    /// The credential is no longer valid.
    #[error("the key has expired")]
    Expired,
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
    keys: HashMap<KeyDigest, Arc<Identity>>,
    trusted_proxies: Vec<IpNet>,
    address_limits: Option<AddressLimits>,
}

impl Identities {
    /// Those that the configuration declares.
    pub fn new(settings: &AccessSettings) -> Self {
        let mut keys = HashMap::new();
        for key in &settings.keys {
            let identity = Arc::new(Identity::from(key));
            for digest in &key.digests {
                keys.insert(*digest, Arc::clone(&identity));
            }
        }
        Self {
            keys,
            trusted_proxies: settings.trusted_proxies.clone(),
            address_limits: settings.limit.map(AddressLimits::new),
        }
    }

    /// Whether callers without a credential have a limit.
    pub fn limits_addresses(&self) -> bool {
        self.address_limits.is_some()
    }

    /// What callers without a credential may take from an address.
    pub fn limits_of(&self, address: IpAddr) -> Option<Arc<Limits>> {
        self.address_limits
            .as_ref()
            .map(|limits| limits.of(address))
    }

    /// Whose credential this is.
    ///
    /// # Errors
    /// [`Denied::Unknown`], and [`Denied::Expired`] from the moment that the configuration names.
    pub fn identify(
        &self,
        credential: &Credential<'_>,
        now: SystemTime,
    ) -> Result<&Arc<Identity>, Denied> {
        let digest = key::digest(credential.text());
        let identity = self.keys.get(&digest).ok_or(Denied::Unknown)?;
        if identity.expires.is_some_and(|expires| expires <= now) {
            return Err(Denied::Expired);
        }
        Ok(identity)
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
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(&address))
    }
}

impl Identity {
    /// What the credential says under this name.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).map(String::as_str)
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

impl From<&AccessKey> for Identity {
    fn from(key: &AccessKey) -> Self {
        Self {
            name: key.name.clone(),
            expires: key.expires,
            scopes: key.scopes.clone(),
            claims: key.claims.clone(),
            limits: key.limit.as_ref().map(Limits::new),
        }
    }
}

#[cfg(test)]
mod tests;
