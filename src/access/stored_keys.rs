//! Keys that are kept in the repository, one in each row: read again and again in the background, so that no
//! request waits for Postgres to judge its key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use chrono::DateTime;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::SetOnce;
use tokio::time::MissedTickBehavior;

use super::Identity;
use crate::limiter::Limits;
use crate::observe::{Event, Observer};
use crate::plan::access::{EMPTY_KEY, is_key_name, parse_digest};
use crate::plan::{Claim, ClientId, KeyDigest, Mismatch, StoredKeys};
use crate::repository::{NamedTexts, Repository, RepositoryError};

/// The most keys, some 100 MB of memory.
const KEYS_MAX: u64 = 100_000;

/// The characters of a row as JSON: room for a name, several digests, scopes and claims.
const ROW_LENGTH_MAX: usize = 4_096;

/// How long Postgres may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The columns of the statement.
const REQUIRED: [&str; 2] = ["name", "sha256"];
const OPTIONAL: [&str; 3] = ["scopes", "claims", "expires"];

/// Why the keys cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoredKeysError {
    /// Postgres did not return them.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// There are more than are kept.
    #[error("there are more than {KEYS_MAX} keys")]
    TooMany,
    /// A row is not a key. The values stay out of the message.
    #[error("row {row} is not a key: {reason}")]
    Row {
        /// Its number, from 1, in the order of the statement.
        row: usize,
        /// Why.
        reason: &'static str,
    },
}

/// Checks that the statement has the columns of keys, and no others.
///
/// # Errors
/// Any [`RepositoryError`].
pub async fn check(keys: &StoredKeys, repository: &Repository) -> Result<(), RepositoryError> {
    let columns = repository.columns(keys.statement.text(), TIMEOUT).await?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    let missing = REQUIRED.iter().filter(|name| !has(name));
    let missing = missing.map(|name| format!("the keys need a column `{name}`"));
    let is_known = |column: &str| REQUIRED.iter().chain(&OPTIONAL).any(|name| *name == column);
    let unknown = columns.iter().filter(|column| !is_known(column));
    let unknown = unknown.map(|column| {
        format!(
            "a key has no `{column}`: the columns are `name`, `sha256`, `scopes`, `claims` and `expires`"
        )
    });
    let mistakes: Vec<_> = missing.chain(unknown).map(Mismatch::of_statement).collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(RepositoryError::Unusable { mistakes })
    }
}

/// The keys in the repository, as they were read last.
#[derive(Debug)]
pub(super) struct StoredIdentities {
    settings: StoredKeys,
    client: ClientId,
    /// `None` until they are read for the first time.
    current: ArcSwapOption<HashMap<KeyDigest, Arc<Identity>>>,
    /// How often `current` was replaced. It is increased afterwards: a caller that sees the new number also sees
    /// the new keys.
    changes: AtomicU64,
    /// Set when they are read for the first time.
    loaded: SetOnce<()>,
}

impl StoredIdentities {
    pub(super) fn new((client, settings): (ClientId, &StoredKeys)) -> Self {
        Self {
            settings: settings.clone(),
            client,
            current: ArcSwapOption::empty(),
            changes: AtomicU64::new(0),
            loaded: SetOnce::new(),
        }
    }

    pub(super) fn are_loaded(&self) -> bool {
        self.loaded.initialized()
    }

    /// Returns when the keys have been read for the first time.
    pub(super) async fn wait_until_loaded(&self) {
        self.loaded.wait().await;
    }

    /// How often the keys were replaced.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, digest: &KeyDigest) -> Option<Arc<Identity>> {
        self.current.load().as_ref()?.get(digest).cloned()
    }

    /// Reads the keys. A client that had one before keeps its limits.
    ///
    /// # Errors
    /// [`StoredKeysError`]. After [`StoredKeysError::Row`], the other keys are in use: one that is missing among
    /// them may have been revoked.
    pub(super) async fn load(&self, repository: &Repository) -> Result<(), StoredKeysError> {
        let sql = format!(
            "SELECT CASE WHEN length(key) <= {ROW_LENGTH_MAX} THEN key END AS key FROM (\
             SELECT to_jsonb(larder)::text AS key FROM (\n{}\n) AS larder) AS larder",
            self.settings.statement.text()
        );
        let rows = repository.texts(&sql, KEYS_MAX + 1, TIMEOUT).await?;
        if rows.len() as u64 > KEYS_MAX {
            return Err(StoredKeysError::TooMany);
        }
        let mut limits = self.limits();
        let mut identities: HashMap<_, Arc<Identity>> = HashMap::with_capacity(rows.len());
        let mut unusable = Ok(());
        for (index, row) in rows.iter().enumerate() {
            let key = match parse(row) {
                Ok(key) => key,
                Err(reason) => {
                    let row = index + 1;
                    unusable = unusable.and(Err(StoredKeysError::Row { row, reason }));
                    continue;
                }
            };
            let new = || Some(Arc::new(Limits::new(self.settings.limit.as_ref()?)));
            let limits = limits.entry(key.name.clone()).or_insert_with(new).clone();
            let digests = key.digests.clone();
            let identity = Arc::new(key.identity(self.client, limits));
            for digest in digests {
                let holder = identities.entry(digest).or_insert(Arc::clone(&identity));
                if !Arc::ptr_eq(holder, &identity) {
                    let reason = "another row has the same digest";
                    unusable = unusable.and(Err(StoredKeysError::Row {
                        row: index + 1,
                        reason,
                    }));
                }
            }
        }
        self.current.store(Some(Arc::new(identities)));
        self.changes.fetch_add(1, Ordering::Release);
        // Only the first time counts.
        let _ = self.loaded.set(());
        unusable
    }

    /// The limits of each client, by its name.
    fn limits(&self) -> HashMap<String, Option<Arc<Limits>>> {
        let current = self.current.load();
        let identities = current.iter().flat_map(|current| current.values());
        identities
            .map(|identity| (identity.name.clone(), identity.limits.clone()))
            .collect()
    }

    /// Reads the keys again and again, for ever.
    pub(super) async fn follow(&self, repository: &Repository, observer: &Observer) {
        let mut ticks = tokio::time::interval(self.settings.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing: Option<String> = None;
        loop {
            ticks.tick().await;
            match self.load(repository).await {
                Ok(()) => {
                    if failing.take().is_some() {
                        observer.emit(&Event::StoredKeysRecovered);
                    }
                    observer.emit(&Event::StoredKeysLoaded {
                        at: SystemTime::now(),
                    });
                }
                Err(error) => {
                    let cause = error.to_string();
                    if failing.as_ref() != Some(&cause) {
                        failing = Some(cause.clone());
                        observer.emit(&Event::StoredKeysFailing { cause });
                    }
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct StoredKey {
    name: String,
    digests: Vec<KeyDigest>,
    expires: Option<SystemTime>,
    scopes: Vec<String>,
    claims: BTreeMap<String, Claim>,
}

impl StoredKey {
    fn identity(self, client: ClientId, limits: Option<Arc<Limits>>) -> Identity {
        Identity {
            name: self.name,
            client,
            not_before: None,
            expires: self.expires,
            leeway: Duration::ZERO,
            scopes: self.scopes,
            claims: self.claims,
            limits,
        }
    }
}

fn parse(row: &NamedTexts) -> Result<StoredKey, &'static str> {
    let (_, text) = row.first().ok_or("it is longer than 4,096 characters")?;
    let row: Value = serde_json::from_str(text).map_err(|_| "it is no JSON")?;
    let name = row["name"].as_str().filter(|name| is_key_name(name));
    let name = name.ok_or("`name` must have up to 64 letters, digits, `-`, `_` and `.`")?;
    Ok(StoredKey {
        name: name.to_owned(),
        digests: digests(&row["sha256"]).ok_or(
            "`sha256` must be the digest of a key: 64 hexadecimal digits, a bytea, or an array of them",
        )?,
        expires: expires(&row["expires"]).ok_or("`expires` must be a timestamptz")?,
        scopes: scopes(&row["scopes"]).ok_or("`scopes` must be an array of text")?,
        claims: claims(text).ok_or("`claims` must be a JSON object")?,
    })
}

fn digests(value: &Value) -> Option<Vec<KeyDigest>> {
    let digest = |value: &Value| {
        let text = value.as_str()?;
        // Postgres writes a bytea like this.
        let digits = text.strip_prefix("\\x").unwrap_or(text);
        parse_digest(digits).filter(|digest| *digest != EMPTY_KEY)
    };
    match value.as_array() {
        Some(values) => values.iter().map(digest).collect(),
        None => Some(vec![digest(value)?]),
    }
}

fn expires(value: &Value) -> Option<Option<SystemTime>> {
    if value.is_null() {
        return Some(None);
    }
    match value.as_str()? {
        "infinity" => Some(None),
        "-infinity" => Some(Some(SystemTime::UNIX_EPOCH)),
        text => {
            let time = DateTime::parse_from_rfc3339(text).ok()?;
            Some(Some(SystemTime::from(time)))
        }
    }
}

fn scopes(value: &Value) -> Option<Vec<String>> {
    if value.is_null() {
        return Some(Vec::new());
    }
    let texts = value.as_array()?.iter().map(Value::as_str);
    texts.map(|text| text.map(str::to_owned)).collect()
}

/// Numbers keep all their digits, which a [`Value`] would round.
fn claims(row: &str) -> Option<BTreeMap<String, Claim>> {
    let row: BTreeMap<&str, &RawValue> = serde_json::from_str(row).ok()?;
    let claims = row.get("claims").map_or("null", |json| json.get());
    let claims: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(claims).ok()?;
    let claims = claims.into_iter().flatten();
    let claims = claims.filter_map(|(name, json)| Some((name, Claim::from_json(json.get())?)));
    Some(claims.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::key;

    fn parsed(row: &Value) -> Result<StoredKey, &'static str> {
        parse(&vec![("key".to_owned(), row.to_string())])
    }

    #[test]
    fn a_row_is_a_key() {
        let digest = key::digest("a");
        let text = key::hexadecimal(&digest);
        let plain = parsed(&json!({ "name": "a", "sha256": text })).unwrap();
        assert_eq!(plain.digests, [digest]);
        assert_eq!((plain.expires, plain.scopes.len()), (None, 0));
        let full = parsed(&json!({
            "name": "a",
            "sha256": [format!("\\x{text}"), text],
            "scopes": ["x", "y"],
            "claims": { "tenant": "acme", "level": 7, "on": true, "none": null, "teams": ["a"] },
            "expires": "1970-01-01T01:00:01+01:00",
        }))
        .unwrap();
        assert_eq!(full.digests, [digest, digest]);
        assert_eq!(full.scopes, ["x", "y"]);
        let claims: Vec<_> = full
            .claims
            .iter()
            .map(|(name, claim)| (name.as_str(), claim.as_text()))
            .collect();
        let expected = [
            ("level", "7"),
            ("on", "true"),
            ("teams", "[\"a\"]"),
            ("tenant", "acme"),
        ];
        assert_eq!(claims, expected);
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(full.expires, Some(second));
    }

    #[test]
    fn numbers_in_claims_keep_all_their_digits() {
        let digits = "12345678901234567890123";
        let found = claims(&format!("{{\"claims\": {{\"sub\": {digits}}}}}")).unwrap();
        assert_eq!(found["sub"], Claim::Json(digits.to_owned()));
    }

    #[test]
    fn what_is_no_key_is_refused_without_its_values() {
        let text = key::hexadecimal(&key::digest("a"));
        for (name, value) in [
            ("name", json!(null)),
            ("name", json!("a b")),
            ("sha256", json!(null)),
            ("sha256", json!("secret")),
            ("sha256", json!(key::hexadecimal(&key::digest("")))),
            ("scopes", json!("sales")),
            ("scopes", json!([1])),
            ("claims", json!([])),
            ("claims", json!("acme")),
            ("expires", json!("tomorrow")),
            ("expires", json!(2027)),
        ] {
            let mut row = json!({ "name": "a", "sha256": text });
            row[name] = value;
            let reason = parsed(&row).unwrap_err();
            assert!(
                reason.contains(name) && !reason.contains("secret"),
                "{row}: {reason}"
            );
        }
        assert!(parse(&NamedTexts::new()).is_err());
    }
}
