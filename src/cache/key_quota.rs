//! The keys that an endpoint has in the cache, and which of them goes when there are more than it may
//! have: the least used, found in constant time.
//!
//! A key that has just come waits in line, and goes when its turn comes. One that was asked for again
//! by then is kept for as long as it goes on being asked for, and the longer it has been in use, the
//! longer it may pause. So clients that invent arguments displace one another's keys, and no key that
//! is in use. After S3-FIFO (Yang et al., SOSP 2023), with time in the place of counts: however fast
//! new keys come, a key that is asked for once a second is in use.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::{Entry, Key};

/// For at least this long and at most that long a key is kept that is not asked for any more; between
/// them, for as long as it has been there.
const KEPT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Kept keys that are looked at when there may be one more: a bound on the work, and a sample large
/// enough to meet one that is not in use.
const SAMPLE: usize = 32;

/// Keys in use that are moved out of the line at once: when many came before there were too many.
const MOVED_MAX: usize = 1_000;

/// A key that has been there for this long, and was asked for again, is one that clients use.
const IN_USE_AFTER: Duration = Duration::from_secs(1);

/// Why these locks are never poisoned.
const UNPOISONED: &str = "nothing panics while it holds the lock";

/// The keys of an endpoint that are in the cache.
#[derive(Debug)]
pub(super) struct KeyQuota {
    max: usize,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// Keys that came last, in the order in which they came.
    line: VecDeque<Arc<TrackedKey>>,
    /// Keys that were asked for again, those at the front not looked at for the longest time.
    kept: VecDeque<Kept>,
    /// How many of both are in the cache: one that moka drops stays listed until it is come across.
    live: usize,
}

#[derive(Debug)]
struct Kept {
    tracked: Arc<TrackedKey>,
    until: Instant,
}

/// A key's place, from when it comes into the cache until it leaves: that of all its entries.
#[derive(Debug)]
pub(super) struct TrackedKey {
    key: Key,
    since: Instant,
    /// Whether it was in use when it left the cache, a short while before.
    was_known: bool,
    /// The entry that is in the cache; none once that has left. Changed under the lock on the lists.
    entry: Mutex<Weak<Entry>>,
}

impl KeyQuota {
    pub(super) fn new(max: u64) -> Self {
        Self {
            max: usize::try_from(max).unwrap_or(usize::MAX),
            lists: Mutex::default(),
        }
    }

    /// Gives an entry that is about to be put into the cache its key's place: that of the entry which is
    /// there, or another. The key that has to leave for it, if any: perhaps this one.
    pub(super) fn admit(
        &self,
        key: &Key,
        there: Option<&Entry>,
        entry: &Arc<Entry>,
        was_known: impl FnOnce() -> bool,
    ) -> Option<Arc<TrackedKey>> {
        let now = Instant::now();
        let mut lists = self.lists.lock().expect(UNPOISONED);
        if let Some(there) = there {
            entry.inherit_use(there);
        }
        let own = there
            .and_then(Entry::tracked_key)
            .filter(|tracked| tracked.is_live());
        if let Some(tracked) = own {
            tracked.holds(entry);
            return None;
        }
        let tracked = Arc::new(TrackedKey {
            key: key.clone(),
            since: now,
            was_known: was_known(),
            entry: Mutex::default(),
        });
        tracked.holds(entry);
        lists.line.push_back(tracked);
        lists.live += 1;
        lists.tidy();
        if lists.live <= self.max {
            return None;
        }
        let leaves = lists.make_room(self.max, now)?;
        leaves.leave();
        lists.live -= 1;
        Some(leaves)
    }

    /// How many keys there are.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.lists.lock().expect(UNPOISONED).live
    }

    /// Notes that an entry has left the cache, and not for another of its key.
    pub(super) fn left(&self, entry: &Arc<Entry>) {
        let Some(tracked) = entry.tracked_key() else {
            return;
        };
        let mut lists = self.lists.lock().expect(UNPOISONED);
        // Another may have come meanwhile, or the key was made to leave.
        if tracked.is_of(entry) {
            tracked.leave();
            lists.live -= 1;
            lists.tidy();
        }
    }
}

impl Lists {
    /// The key that is used least, taken off its list.
    fn make_room(&mut self, max: usize, now: Instant) -> Option<Arc<TrackedKey>> {
        // New keys always have a place to be asked for again from.
        let most_kept = max - max.div_ceil(10);
        let mut moved = 0;
        while let Some(tracked) = self.line.pop_front() {
            if !tracked.is_live() {
                continue;
            }
            if !tracked.take_recent_use() {
                return Some(tracked);
            }
            if let Some(leaves) = self.keep(tracked, most_kept, now) {
                return Some(leaves);
            }
            moved += 1;
            if moved == MOVED_MAX {
                // The one that has just come: nobody has asked for it again.
                return self.line.pop_back();
            }
        }
        None
    }

    /// Keeps a key that was asked for again. The one that leaves instead: one that is not asked for any
    /// more, or this one, where all that are looked at are in use.
    fn keep(
        &mut self,
        tracked: Arc<TrackedKey>,
        most: usize,
        now: Instant,
    ) -> Option<Arc<TrackedKey>> {
        let kept = Kept {
            until: now + tracked.patience(now),
            tracked,
        };
        for _ in 0..SAMPLE {
            if self.kept.len() < most {
                break;
            }
            let Some(mut next) = self.kept.pop_front() else {
                break;
            };
            if !next.tracked.is_live() {
                continue;
            }
            if next.tracked.take_recent_use() {
                next.until = now + next.tracked.patience(now);
            }
            if next.until <= now {
                self.kept.push_back(kept);
                return Some(next.tracked);
            }
            self.kept.push_back(next);
        }
        if self.kept.len() < most {
            self.kept.push_back(kept);
            return None;
        }
        Some(kept.tracked)
    }

    /// Drops those that have left, once they are the most.
    fn tidy(&mut self) {
        const FEW: usize = 16;
        if self.line.len() + self.kept.len() > 2 * self.live + FEW {
            self.line.retain(|tracked| tracked.is_live());
            self.kept.retain(|kept| kept.tracked.is_live());
        }
    }
}

impl TrackedKey {
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether its key is in the cache.
    pub(super) fn is_live(&self) -> bool {
        self.entry.lock().expect(UNPOISONED).strong_count() > 0
    }

    /// Whether clients use its key: what they ask for once is not worth remembering.
    pub(super) fn is_in_use(&self, entry: &Entry) -> bool {
        self.was_known || entry.was_used_ever() && self.since.elapsed() >= IN_USE_AFTER
    }

    fn is_of(&self, entry: &Arc<Entry>) -> bool {
        self.entry.lock().expect(UNPOISONED).as_ptr() == Arc::as_ptr(entry)
    }

    fn holds(self: &Arc<Self>, entry: &Arc<Entry>) {
        entry.set_tracked_key(Arc::clone(self));
        *self.entry.lock().expect(UNPOISONED) = Arc::downgrade(entry);
    }

    fn leave(&self) {
        *self.entry.lock().expect(UNPOISONED) = Weak::new();
    }

    /// Whether it was asked for since it was last looked at.
    fn take_recent_use(&self) -> bool {
        let entry = self.entry.lock().expect(UNPOISONED).upgrade();
        entry.is_some_and(|entry| entry.take_recent_use())
    }

    /// How long it is kept without being asked for.
    fn patience(&self, now: Instant) -> Duration {
        let (least, most) = KEPT;
        now.saturating_duration_since(self.since).clamp(least, most)
    }
}
