//! An issuer of tokens and the keys that it has now.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::jwk::{KeySet, KeySetError};
use crate::access::limits_by::LimitsBy;
use crate::limiter::Limits;
use crate::plan::{ClientId, IssuerId, JwtIssuer, JwtKeys};

/// The largest JWK set that is read.
pub(super) const JWKS_BYTES_MAX: usize = 256 * 1024;

/// How long a request waits for newer keys, and how long fetching them may take.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Tokens with made-up key names cause at most one fetch in this time.
const DEMAND_EVERY: Duration = Duration::from_secs(30);

/// An issuer of tokens.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) id: IssuerId,
    /// The name under which requests with its tokens are counted.
    pub(super) client: ClientId,
    pub(super) settings: JwtIssuer,
    /// What the subject of a token may take.
    limits: Option<LimitsBy<String>>,
    /// `None` until they are loaded, and when they are too old.
    current: ArcSwapOption<Current>,
    generations: AtomicU64,
    /// How often `current` was replaced. It is increased afterwards: a caller that sees the new number also sees
    /// the new keys.
    changes: AtomicU64,
    fetching: watch::Sender<Fetching>,
    /// Wakes what fetches the keys.
    demand: Notify,
}

/// The keys of an issuer.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) keys: KeySet,
    /// Differs from that of all earlier keys of the issuer.
    pub(super) generation: u64,
}

/// What is known of attempts to fetch the keys.
#[derive(Debug, Default)]
struct Fetching {
    stage: Stage,
    /// How many have ended.
    ended: u64,
    /// When a request last demanded one.
    demanded: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// A request has demanded an attempt, which has not begun.
    Demanded,
    Running,
}

/// Why a file has no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unread(String),
    /// It is too large.
    #[error("it has more than 256 KiB")]
    TooLarge,
    /// It has no usable keys.
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// Whether keys differ from those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Changed,
    Unchanged,
}

impl Issuer {
    /// Keys in a file and secrets are there from the start.
    pub(super) fn new(
        id: IssuerId,
        client: ClientId,
        settings: &JwtIssuer,
    ) -> Result<Self, KeyFileError> {
        let issuer = Self {
            id,
            client,
            limits: settings.limit.map(LimitsBy::new),
            settings: settings.clone(),
            current: ArcSwapOption::empty(),
            generations: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            fetching: watch::Sender::default(),
            demand: Notify::new(),
        };
        match &settings.keys {
            JwtKeys::Url(_) => {}
            JwtKeys::File(path) => {
                issuer.replace(issuer.read(&path.value)?);
            }
            JwtKeys::Secret(secret) => {
                let secret = secret.expose().as_bytes();
                issuer.replace(KeySet::of_secret(secret, &settings.algorithms));
            }
        }
        Ok(issuer)
    }

    /// What the subject of a token may take, whichever of its tokens it shows.
    pub(super) fn limits_of(&self, subject: Option<String>) -> Option<Arc<Limits>> {
        let limits = self.limits.as_ref()?;
        Some(limits.of(subject.unwrap_or_default()))
    }

    /// How often the keys were replaced.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The keys of now.
    pub(super) fn current(&self) -> Option<Arc<Current>> {
        self.current.load_full()
    }

    /// Whether keys are those of now.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        let current = self.current.load();
        current
            .as_ref()
            .is_some_and(|current| current.generation == generation)
    }

    /// Reads a JWK set.
    pub(super) fn parse(&self, json: &[u8]) -> Result<KeySet, KeySetError> {
        KeySet::parse(json, &self.settings.algorithms)
    }

    /// Reads the file.
    pub(super) fn read(&self, path: &Path) -> Result<KeySet, KeyFileError> {
        let unread = |error: std::io::Error| KeyFileError::Unread(error.to_string());
        let file = fs::File::open(path).map_err(unread)?;
        if !file.metadata().map_err(unread)?.is_file() {
            return Err(KeyFileError::Unread("it is not a regular file".to_owned()));
        }
        let mut json = Vec::new();
        let mut file = file.take(JWKS_BYTES_MAX as u64 + 1);
        file.read_to_end(&mut json).map_err(unread)?;
        if json.len() > JWKS_BYTES_MAX {
            return Err(KeyFileError::TooLarge);
        }
        Ok(self.parse(&json)?)
    }

    /// Uses these keys from now on. Tokens that were verified with others are verified again.
    pub(super) fn replace(&self, keys: KeySet) -> Change {
        let current = self.current.load();
        if current
            .as_ref()
            .is_some_and(|current| current.keys.is_same(&keys))
        {
            return Change::Unchanged;
        }
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        self.current
            .store(Some(Arc::new(Current { keys, generation })));
        self.changes.fetch_add(1, Ordering::Release);
        Change::Changed
    }

    /// Uses no keys until there are new ones.
    pub(super) fn forget(&self) {
        self.current.store(None);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Demands newer keys, because a token names a key that is not known, and waits until an attempt to fetch
    /// them has ended. Returns whether one has.
    pub(super) async fn renew(&self) -> bool {
        if !matches!(self.settings.keys, JwtKeys::Url(_)) {
            return false;
        }
        let mut waiter = self.fetching.subscribe();
        let mut awaited = None;
        self.fetching.send_if_modified(|fetching| {
            let now = Instant::now();
            let is_due = fetching
                .demanded
                .is_none_or(|last| now >= last + DEMAND_EVERY);
            if fetching.stage == Stage::Idle && is_due {
                fetching.stage = Stage::Demanded;
                fetching.demanded = Some(now);
                self.demand.notify_one();
            }
            if fetching.stage != Stage::Idle {
                awaited = Some(fetching.ended);
            }
            // Nobody waits for a demand.
            false
        });
        let Some(ended) = awaited else {
            return false;
        };
        let fetched = waiter.wait_for(|fetching| fetching.ended > ended);
        matches!(timeout(FETCH_TIMEOUT, fetched).await, Ok(Ok(_)))
    }

    /// Waits until a request demands newer keys.
    pub(super) async fn demanded(&self) {
        self.demand.notified().await;
    }

    /// Runs an attempt to fetch the keys, for which requests wait.
    pub(super) async fn attempt<T>(&self, attempt: impl Future<Output = T>) -> T {
        self.fetching
            .send_modify(|fetching| fetching.stage = Stage::Running);
        let _ended = Ended(self);
        attempt.await
    }
}

/// Ends an attempt, also one that panics.
struct Ended<'i>(&'i Issuer);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetching.send_modify(|fetching| {
            fetching.stage = Stage::Idle;
            fetching.ended += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::tokens::tests;
    use crate::plan::{Algorithm, JwksUrl};

    #[test]
    fn a_file_of_more_than_256_kib_is_not_read() {
        let url = JwksUrl::parse("https://idp.example/").unwrap();
        let settings = tests::issuer(&[Algorithm::Es256], JwtKeys::Url(url));
        let issuer = Issuer::new(IssuerId::new(0), ClientId::new(0), &settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let number = "A".repeat(43);
        let key = json!({ "kty": "EC", "crv": "P-256", "x": number, "y": number });
        let set = json!({ "keys": [key] }).to_string();
        for (length, expected) in [
            (JWKS_BYTES_MAX, Ok(())),
            (JWKS_BYTES_MAX + 1, Err(KeyFileError::TooLarge)),
            (2 * JWKS_BYTES_MAX, Err(KeyFileError::TooLarge)),
        ] {
            let padding = " ".repeat(length - set.len());
            fs::write(&file, format!("{set}{padding}")).unwrap();
            assert_eq!(issuer.read(&file).map(drop), expected, "{length} bytes");
        }
    }
}
