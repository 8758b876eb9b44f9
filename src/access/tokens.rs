//! Tokens of issuers: JSON Web Tokens.
//!
//! A token is parsed, its issuer's keys verify it, and its claims become an [`Identity`]. That happens once per
//! token: later requests find it by its SHA-256. Whether it is valid *now* is judged at each request, and a
//! change of the issuer's keys makes all its tokens be verified again.
//!
//! The crate jsonwebtoken is not used. Without its own cryptography, which would be a second provider next to
//! ring, it parses a header and compares claims; it does not look at `crit`, `typ` and `iat`, nor at a key's
//! `use`, `alg` and `crv`, and panics if no provider was installed. With those checks made here, little is left
//! of it.

mod claims; // what a token says
mod error; // why a token is refused
mod fetch; // JWK sets over HTTP
mod follow; // keys that stay up to date
mod issuer; // an issuer and its keys
mod json; // objects by their members
mod jwk; // keys, and signatures
mod jws; // a token as it arrives
mod remembered; // tokens that have been verified

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

pub use error::TokenError;
pub use fetch::FetchError;
pub use issuer::KeyFileError;

use super::{Denied, Identity};
use crate::observe::{Observer, Task};
use crate::plan::{AccessSettings, IssuerId, JwtKeys, KeyDigest};
use crate::supervise;
use claims::Claims;
use issuer::Issuer;
use jws::Jws;
use remembered::{Remembered, RememberedTokens};

/// The issuers, and the tokens of theirs that have been verified.
#[derive(Debug)]
pub(super) struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    by_text: HashMap<String, usize>,
    remembered: RememberedTokens,
}

/// An issuer whose file of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keys of this issuer cannot be used: {error}")]
pub struct IssuerError {
    /// The issuer.
    pub issuer: IssuerId,
    /// What is wrong with its file.
    pub error: KeyFileError,
}

impl Tokens {
    /// Reads the files that the issuers name. `None` without an issuer.
    pub(super) fn new(settings: &AccessSettings) -> Result<Option<Self>, IssuerError> {
        let declared = &settings.issuers;
        if declared.is_empty() {
            return Ok(None);
        }
        let issuers = settings.issuers().map(|(issuer, client, settings)| {
            let made = Issuer::new(issuer, client, settings);
            made.map(Arc::new)
                .map_err(|error| IssuerError { issuer, error })
        });
        let by_text = declared.iter().enumerate();
        Ok(Some(Self {
            issuers: issuers.collect::<Result<_, _>>()?,
            by_text: by_text
                .map(|(index, settings)| (settings.issuer.clone(), index))
                .collect(),
            remembered: RememberedTokens::new(),
        }))
    }

    /// Whose token this is. That it is valid now is still to be checked.
    pub(super) fn identify(
        &self,
        token: &str,
        digest: &KeyDigest,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Denied> {
        let is_current = |token: &Remembered| {
            let issuer = self.issuers.get(token.issuer.index());
            issuer.is_some_and(|issuer| issuer.is_current(token.generation))
        };
        match self.remembered.find(digest, is_current) {
            Some(identity) => Ok(identity),
            None => self.verify(token, digest, now),
        }
    }

    fn verify(
        &self,
        token: &str,
        digest: &KeyDigest,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Denied> {
        let token = Jws::parse(token)?;
        let claims = Claims::parse(&token.payload)?;
        let issuer = claims.issuer().and_then(|text| self.by_text.get(&text));
        let issuer = issuer.and_then(|index| self.issuers.get(*index));
        let issuer = issuer.ok_or(TokenError::Issuer)?;
        if !issuer.settings.algorithms.contains(&token.algorithm) {
            return Err(TokenError::Algorithm.into());
        }
        let current = issuer.current().ok_or(Denied::NoKeys)?;
        match current.keys.verify(&token) {
            Err(TokenError::Key) => return Err(Denied::UnknownIssuerKey(issuer.id)),
            verified => verified?,
        }
        let identity = Arc::new(claims.identity(issuer)?);
        identity.check_time(now)?;
        self.remembered.insert(Remembered {
            digest: *digest,
            identity: Arc::clone(&identity),
            issuer: issuer.id,
            generation: current.generation,
        });
        Ok(identity)
    }

    /// How often keys of issuers were replaced.
    pub(super) fn changes(&self) -> u64 {
        self.issuers.iter().map(|issuer| issuer.changes()).sum()
    }

    /// Waits for newer keys of an issuer. Returns whether there may be some.
    pub(super) async fn renew(&self, issuer: IssuerId) -> bool {
        match self.issuers.get(issuer.index()) {
            Some(issuer) => issuer.renew().await,
            None => false,
        }
    }

    /// Whether there are keys of every issuer.
    pub(super) fn have_keys(&self) -> bool {
        self.issuers.iter().all(|issuer| issuer.current().is_some())
    }

    /// Fetches the keys that are published, once.
    pub(super) async fn load(&self) -> Vec<(IssuerId, FetchError)> {
        let mut failed = Vec::new();
        for issuer in &self.issuers {
            if let JwtKeys::Url(url) = &issuer.settings.keys
                && let Err(error) = follow::load(issuer, url).await
            {
                failed.push((issuer.id, error));
            }
        }
        failed
    }

    /// Keeps the keys up to date until `shutdown`.
    pub(super) fn follow(&self, observer: &Observer, shutdown: &CancellationToken) {
        for issuer in &self.issuers {
            let (issuer, reports) = (Arc::clone(issuer), observer.clone());
            supervise::spawn(observer, Task::IssuerKeys, shutdown, move || {
                follow::follow(Arc::clone(&issuer), reports.clone())
            });
        }
    }
}

#[cfg(test)]
mod tests;
