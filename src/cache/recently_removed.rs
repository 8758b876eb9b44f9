//! Keys that were removed from the cache a short while ago and were in use until then. A client that requests
//! such a key does not request something new.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::mutex::lock;

/// A key is remembered for at least this long, and for less than twice as long.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Keys of all endpoints that are remembered in that time: some 600 KiB. With more, the time is shorter.
const KEYS_MAX: usize = 32_768;

/// Remembers a hash of each key.
#[derive(Debug)]
pub(super) struct RecentlyRemoved<S> {
    hasher: S,
    hashes: Mutex<Hashes>,
}

#[derive(Debug)]
struct Hashes {
    young: HashSet<u64>,
    old: HashSet<u64>,
    since: Instant,
}

impl<S: BuildHasher + Default> RecentlyRemoved<S> {
    pub(super) fn new() -> Self {
        Self {
            hasher: S::default(),
            hashes: Mutex::new(Hashes {
                young: HashSet::new(),
                old: HashSet::new(),
                since: Instant::now(),
            }),
        }
    }

    /// Remembers a key.
    pub(super) fn add(&self, key: &impl Hash) {
        self.with_current(|hashes| {
            if hashes.young.len() >= KEYS_MAX {
                hashes.rotate();
            }
            hashes.young.insert(self.hasher.hash_one(key));
        });
    }

    /// Whether a key is remembered.
    pub(super) fn contains(&self, key: &impl Hash) -> bool {
        self.with_current(|hashes| {
            let hash = self.hasher.hash_one(key);
            hashes.young.contains(&hash) || hashes.old.contains(&hash)
        })
    }

    /// Forgets old hashes, and gives access to the others.
    fn with_current<T>(&self, work: impl FnOnce(&mut Hashes) -> T) -> T {
        let mut hashes = lock(&self.hashes);
        let elapsed = hashes.since.elapsed();
        if elapsed >= REMEMBERED_FOR {
            hashes.rotate();
        }
        if elapsed >= REMEMBERED_FOR * 2 {
            hashes.rotate();
        }
        work(&mut hashes)
    }
}

impl Hashes {
    fn rotate(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed() -> RecentlyRemoved<std::hash::RandomState> {
        RecentlyRemoved::new()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_for_a_minute_and_forgotten_after_two() {
        let removed = removed();
        tokio::time::advance(REMEMBERED_FOR / 2).await;
        removed.add(&1);
        assert!(removed.contains(&1) && !removed.contains(&2));
        tokio::time::advance(REMEMBERED_FOR).await;
        assert!(removed.contains(&1));
        tokio::time::advance(REMEMBERED_FOR).await;
        assert!(!removed.contains(&1));
        removed.add(&3);
        tokio::time::advance(REMEMBERED_FOR * 2).await;
        assert!(
            !removed.contains(&3),
            "although nothing was looked up meanwhile"
        );
    }

    #[test]
    fn the_number_of_remembered_keys_is_bounded() {
        let removed = removed();
        for key in 0..KEYS_MAX * 5 {
            removed.add(&key);
        }
        let hashes = lock(&removed.hashes);
        assert!(hashes.young.len() + hashes.old.len() <= 2 * KEYS_MAX);
    }
}
