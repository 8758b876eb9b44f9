//! Limits how many keys an endpoint has in the cache, and chooses which one is evicted: the least used,
//! found in constant time.
//!
//! A new key is on probation, and is evicted when its turn comes. A key that was requested again by then is
//! protected for as long as requests go on, and the longer it has been in use, the longer it may pause. So
//! clients that invent arguments displace each other's keys, but no key that is in use. This is S3-FIFO
//! (Yang et al., SOSP 2023) with time in place of counts: however fast new keys arrive, a key that is
//! requested once a second is in use.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::Key;
use super::entry::{Entry, TrackedKey};
use crate::mutex::lock;

/// Protected keys that are looked at when there may be one more: a bound on the work, and a sample large
/// enough to find one that is not in use.
const SAMPLE: usize = 32;

/// Keys in use that leave probation at once, when many arrived before the limit was reached.
const PROMOTED_MAX: usize = 1_000;

/// The keys of an endpoint that are in the cache.
#[derive(Debug, Default)]
pub(super) struct KeyQuota {
    max: AtomicUsize,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// The latest keys, in the order of their arrival.
    probation: VecDeque<Arc<TrackedKey>>,
    /// Keys that were requested again; those at the front were not looked at for the longest time.
    protected: VecDeque<Protected>,
    /// How many of both are in the cache. A key that moka removes stays listed for a while.
    live: usize,
}

#[derive(Debug)]
struct Protected {
    tracked: Arc<TrackedKey>,
    until: Instant,
}

impl KeyQuota {
    /// Changes how many there may be. If there are more, each new one displaces one until the others have expired.
    pub(super) fn set_max(&self, max: u64) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        self.max.store(max, Ordering::Relaxed);
    }

    /// Tracks the key of an entry that is about to be put into the cache, where `previous` is its entry so
    /// far. Returns the key to evict for it, if any: perhaps this one.
    pub(super) fn admit(
        &self,
        key: &Key,
        previous: Option<&Entry>,
        entry: &Arc<Entry>,
        was_in_use: impl FnOnce() -> bool,
    ) -> Option<Arc<TrackedKey>> {
        let now = Instant::now();
        let mut lists = lock(&self.lists);
        if let Some(previous) = previous {
            entry.inherit_use(previous);
        }
        let tracked = previous
            .and_then(Entry::tracked_key)
            .filter(|tracked| tracked.is_live());
        if let Some(tracked) = tracked {
            tracked.set_entry(entry);
            return None;
        }
        let tracked = TrackedKey::new(key.clone(), now, was_in_use());
        tracked.set_entry(entry);
        lists.probation.push_back(tracked);
        lists.live += 1;
        lists.tidy();
        let max = self.max.load(Ordering::Relaxed);
        if lists.live <= max {
            return None;
        }
        let evicted = lists.make_room(max, now)?;
        evicted.remove();
        lists.live -= 1;
        Some(evicted)
    }

    /// How many keys there are.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        lock(&self.lists).live
    }

    /// An entry was removed from the cache, and not replaced.
    pub(super) fn removed(&self, entry: &Arc<Entry>) {
        let Some(tracked) = entry.tracked_key() else {
            return;
        };
        let mut lists = lock(&self.lists);
        // Another entry may have arrived meanwhile, or the key was evicted.
        if tracked.is_current(entry) {
            tracked.remove();
            lists.live -= 1;
            lists.tidy();
        }
    }
}

impl Lists {
    /// Takes the least used key off its list.
    fn make_room(&mut self, max: usize, now: Instant) -> Option<Arc<TrackedKey>> {
        // New keys always have time on probation to be requested again.
        let protected_max = max - max.div_ceil(10);
        let mut promoted = 0;
        while let Some(tracked) = self.probation.pop_front() {
            if !tracked.is_live() {
                continue;
            }
            if !tracked.take_recent_use() {
                return Some(tracked);
            }
            if let Some(evicted) = self.protect(tracked, protected_max, now) {
                return Some(evicted);
            }
            promoted += 1;
            if promoted == PROMOTED_MAX {
                // The latest: it has not been requested again.
                return self.probation.pop_back();
            }
        }
        None
    }

    /// Protects a key that was requested again. Returns the key to evict instead, if any: one that is not
    /// requested any more, or this one if all keys in the sample are in use.
    fn protect(
        &mut self,
        tracked: Arc<TrackedKey>,
        max: usize,
        now: Instant,
    ) -> Option<Arc<TrackedKey>> {
        let new = Protected {
            until: now + tracked.grace(now),
            tracked,
        };
        for _ in 0..SAMPLE {
            if self.protected.len() < max {
                break;
            }
            let Some(mut oldest) = self.protected.pop_front() else {
                break;
            };
            if !oldest.tracked.is_live() {
                continue;
            }
            if oldest.tracked.take_recent_use() {
                oldest.until = now + oldest.tracked.grace(now);
            }
            if oldest.until <= now {
                self.protected.push_back(new);
                return Some(oldest.tracked);
            }
            self.protected.push_back(oldest);
        }
        if self.protected.len() < max {
            self.protected.push_back(new);
            return None;
        }
        Some(new.tracked)
    }

    /// Drops keys that are not in the cache any more, once they are the majority.
    fn tidy(&mut self) {
        const FEW: usize = 16;
        if self.probation.len() + self.protected.len() > 2 * self.live + FEW {
            self.probation.retain(|tracked| tracked.is_live());
            self.protected
                .retain(|protected| protected.tracked.is_live());
        }
    }
}
