//! A key in the cache, from when it is admitted until its entry is removed.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Entry;
use crate::cache::Key;
use crate::mutex::lock;

/// A key without requests is kept for at least this long and at most that long; in between, for as long as
/// it has been in the cache.
const GRACE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// A key that has been in the cache for this long, and was requested again, is in use.
const IN_USE_AFTER: Duration = Duration::from_secs(1);

/// What all entries of a key share while it is in the cache.
#[derive(Debug)]
pub(in crate::cache) struct TrackedKey {
    key: Key,
    since: Instant,
    /// Whether it was in use when it was last removed, a short while before.
    was_in_use: bool,
    /// The entry in the cache; none once it is removed. Changed only under the lock of the key's quota.
    entry: Mutex<Weak<Entry>>,
}

impl TrackedKey {
    pub(in crate::cache) fn new(key: Key, since: Instant, was_in_use: bool) -> Arc<Self> {
        Arc::new(Self {
            key,
            since,
            was_in_use,
            entry: Mutex::default(),
        })
    }

    pub(in crate::cache) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the key is in the cache.
    pub(in crate::cache) fn is_live(&self) -> bool {
        lock(&self.entry).strong_count() > 0
    }

    /// Whether clients use the key. A key that was requested only once is not worth remembering.
    pub(in crate::cache) fn is_in_use(&self, entry: &Entry) -> bool {
        self.was_in_use || entry.was_used_ever() && self.since.elapsed() >= IN_USE_AFTER
    }

    /// Whether this is the entry in the cache.
    pub(in crate::cache) fn is_current(&self, entry: &Arc<Entry>) -> bool {
        lock(&self.entry).as_ptr() == Arc::as_ptr(entry)
    }

    /// Makes this the entry in the cache.
    pub(in crate::cache) fn set_entry(self: &Arc<Self>, entry: &Arc<Entry>) {
        entry.set_tracked_key(Arc::clone(self));
        *lock(&self.entry) = Arc::downgrade(entry);
    }

    /// The key's entry is removed.
    pub(in crate::cache) fn remove(&self) {
        *lock(&self.entry) = Weak::new();
    }

    /// Whether the key was requested since this was last called.
    pub(in crate::cache) fn take_recent_use(&self) -> bool {
        let entry = lock(&self.entry).upgrade();
        entry.is_some_and(|entry| entry.take_recent_use())
    }

    /// How long the key is kept without requests.
    pub(in crate::cache) fn grace(&self, now: Instant) -> Duration {
        let (least, most) = GRACE;
        now.saturating_duration_since(self.since).clamp(least, most)
    }
}
