//! Keys that left the cache a short while ago and were in use until then: a client that asks for one again is
//! not asking for something new.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// A key is remembered for at least this long, and for less than twice as long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Keys remembered in that time, of all endpoints: some 600 KiB. Beyond it the time is shorter.
const KEYS_MAX: usize = 32_768;

/// What is remembered of each key is a hash.
#[derive(Debug)]
pub(super) struct Recent<S> {
    hasher: S,
    hashes: Mutex<Hashes>,
}

#[derive(Debug)]
struct Hashes {
    young: HashSet<u64>,
    old: HashSet<u64>,
    since: Instant,
}

impl<S: BuildHasher + Default> Recent<S> {
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
        self.in_time(|hashes| {
            if hashes.young.len() >= KEYS_MAX {
                hashes.turn();
            }
            hashes.young.insert(self.hasher.hash_one(key));
        });
    }

    /// Whether a key is remembered.
    pub(super) fn contains(&self, key: &impl Hash) -> bool {
        self.in_time(|hashes| {
            let hash = self.hasher.hash_one(key);
            hashes.young.contains(&hash) || hashes.old.contains(&hash)
        })
    }

    /// Does something with what is not forgotten by now.
    fn in_time<T>(&self, work: impl FnOnce(&mut Hashes) -> T) -> T {
        let mut hashes = lock(&self.hashes);
        let elapsed = hashes.since.elapsed();
        if elapsed >= REMEMBERED {
            hashes.turn();
        }
        if elapsed >= REMEMBERED * 2 {
            hashes.turn();
        }
        work(&mut hashes)
    }
}

impl Hashes {
    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent() -> Recent<std::hash::RandomState> {
        Recent::new()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_for_a_minute_and_forgotten_after_two() {
        let recent = recent();
        tokio::time::advance(REMEMBERED / 2).await;
        recent.add(&1);
        assert!(recent.contains(&1) && !recent.contains(&2));
        tokio::time::advance(REMEMBERED).await;
        assert!(recent.contains(&1));
        tokio::time::advance(REMEMBERED).await;
        assert!(!recent.contains(&1));
        recent.add(&3);
        tokio::time::advance(REMEMBERED * 2).await;
        assert!(!recent.contains(&3), "nobody looked meanwhile");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let recent = recent();
        for key in 0..KEYS_MAX * 5 {
            recent.add(&key);
        }
        let hashes = recent.hashes.lock().unwrap();
        assert!(hashes.young.len() + hashes.old.len() <= 2 * KEYS_MAX);
    }
}
