//! Memory of answers: [`Key`], [`Entry`], [`Freshness`] and the store that holds them. Knows neither
//! where entries come from nor who asks for them.
//!
//! Freshness is ours, memory is moka's: moka bounds what entries take and drops those that have
//! expired; whether an entry may be served is a pure function of the entry and the time.

pub mod entry;
pub mod freshness;
pub mod key;
pub mod slots;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::Expiry;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;

pub use entry::{Answer, Entry, Origin};
pub use freshness::{Freshness, Standing, Unchanged};
pub use key::Key;
pub use slots::{Slot, Slots};

use crate::observe::{Event, Observer};
use crate::plan::Plan;

/// What an entry takes beside its bytes and its key: moka's node, queues and sketch, the entry's own
/// fields, reference counts, and what the allocator adds to a dozen allocations. As benches/scale
/// measured it for a million keys (860 bytes, and 590 for ten thousand): it errs upward.
const OVERHEAD: usize = 850;

/// Seeded anew for each store, so that nobody can choose keys that collide.
#[cfg(not(test))]
type KeyHasher = std::hash::RandomState;
/// The same in every run: which keys make room depends on it, and a test must be able to repeat it.
#[cfg(test)]
type KeyHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// The store.
///
/// Endpoints without parameters have one entry each, in a place of its own: read without a lock, and
/// never put out to make room. All others share moka's bounded space.
#[derive(Debug)]
pub struct Cache {
    resident: Box<[ArcSwapOption<Entry>]>,
    keyed: moka::sync::Cache<Key, Arc<Entry>, KeyHasher>,
    observer: Observer,
}

impl Cache {
    /// An empty store for the plan's endpoints.
    pub fn new(plan: &Plan, observer: Observer) -> Self {
        let told = observer.clone();
        let keyed = moka::sync::Cache::builder()
            .max_capacity(plan.cache().max_size)
            .weigher(|key: &Key, entry: &Arc<Entry>| {
                u32::try_from(weight(key, entry)).unwrap_or(u32::MAX)
            })
            .expire_after(AtTheLimit)
            .eviction_listener(move |_, entry: Arc<Entry>, cause| {
                entry.leave_slot();
                if cause == RemovalCause::Size {
                    told.emit(&Event::EntryEvicted);
                }
            })
            .build_with_hasher(KeyHasher::default());
        Self {
            resident: plan
                .endpoints()
                .iter()
                .map(|_| ArcSwapOption::empty())
                .collect(),
            keyed,
            observer,
        }
    }

    /// The entry of a key, whatever its age.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        if key.is_resident() {
            self.resident[key.endpoint().index()].load_full()
        } else {
            self.keyed.get(key)
        }
    }

    /// Puts an entry in the place of an older one. One whose query began before the query of what is
    /// there already knows less, and is dropped.
    pub fn put(&self, key: &Key, entry: Arc<Entry>) {
        if key.is_resident() {
            let place = &self.resident[key.endpoint().index()];
            let newer = |there: Arc<Entry>| there.began() > entry.began();
            if !place.load_full().is_some_and(newer) {
                place.store(Some(entry));
            }
            return;
        }
        self.keyed.entry_by_ref(key).and_compute_with(|there| {
            match there.map(|there| there.value().began()) {
                Some(began) if began > entry.began() => Op::Nop,
                Some(_) | None => Op::Put(entry),
            }
        });
    }

    /// Counts an entry anew that has grown, if it is still there.
    pub fn recount(&self, key: &Key, entry: &Arc<Entry>) {
        if key.is_resident() {
            return;
        }
        self.keyed
            .entry_by_ref(key)
            .and_compute_with(|there| match there {
                Some(there) if there.value().began() == entry.began() => {
                    Op::Put(Arc::new(there.value().again()))
                }
                Some(_) | None => Op::Nop,
            });
    }

    /// Lets an entry go as moka does when it makes room or time is up: at a moment of the test's.
    #[cfg(test)]
    pub(crate) fn forget(&self, key: &Key) {
        self.keyed.invalidate(key);
    }

    /// Does what moka leaves to its readers otherwise: drops what has expired, settles the bound.
    pub fn maintain(&self) {
        self.keyed.run_pending_tasks();
    }

    /// Shows every entry that makes room for others, in no order. Readers and writers are not held up,
    /// and it counts as no use of an entry.
    pub fn for_each_keyed(&self, mut look: impl FnMut(&Key, &Entry)) {
        for (key, entry) in &self.keyed {
            look(&key, &entry);
        }
    }

    /// Tells the observers how much is held.
    pub fn measure(&self) {
        self.maintain();
        let (mut entries, mut bytes) = (self.keyed.entry_count(), self.keyed.weighted_size());
        for entry in self.resident.iter().filter_map(ArcSwapOption::load_full) {
            entries += 1;
            bytes += (entry.size() + OVERHEAD) as u64;
        }
        self.observer.emit(&Event::CacheMeasured { entries, bytes });
    }
}

/// The bytes an entry takes with its key: bodies, and everything around them.
pub fn weight(key: &Key, entry: &Entry) -> usize {
    key.size() + entry.size() + OVERHEAD
}

/// Lets moka drop an entry once nothing may serve it any more.
struct AtTheLimit;

/// moka's own clock, of which nothing is asked here.
#[expect(clippy::disallowed_types, reason = "the signature is moka's")]
type Moment = std::time::Instant;

impl Expiry<Key, Arc<Entry>> for AtTheLimit {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Moment) -> Option<Duration> {
        Some(entry.lifetime().limit())
    }

    /// Must be said: moka keeps the replaced entry's deadline otherwise.
    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Moment,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime().limit())
    }

    /// What is found to be unchanged goes on being served: beyond the limit counted from its query.
    fn expire_after_read(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Moment,
        left: Option<Duration>,
        _: Moment,
    ) -> Option<Duration> {
        if entry.is_confirmed() {
            Some(entry.lifetime().limit())
        } else {
            left
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::plan::FreshnessPolicy;

    #[tokio::test(start_paused = true)]
    async fn what_was_confirmed_stays_for_as_long_as_it_is_read() {
        let lifetime = FreshnessPolicy {
            max_age: Some(Duration::from_secs(10)),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::from_secs(50),
        }
        .lifetime(None, Duration::ZERO);
        let began = Instant::now();
        let origin = Origin {
            began,
            generation: 0,
            slot: None,
        };
        let entry = Entry::new(Answer::NoRow, origin, Duration::ZERO, lifetime, None);
        let (entry, key) = (
            Arc::new(entry),
            Key::new(crate::plan::EndpointId::new(0), Default::default()),
        );
        let left = Some(Duration::from_secs(1));
        let moment = Moment::now();
        let after_read = || AtTheLimit.expire_after_read(&key, &entry, moment, left, moment);
        assert_eq!(after_read(), left);
        let unchanged = Some(Unchanged {
            since: began,
            until: began + Duration::from_secs(59),
        });
        let standing = Standing {
            generation: 0,
            unchanged,
        };
        entry.as_of(&standing);
        assert_eq!(after_read(), Some(Duration::from_secs(60)));
    }
}
