//! Memory of answers: [`Key`], [`Entry`], [`Freshness`] and the store that holds them. Knows neither
//! where entries come from nor who asks for them.
//!
//! Freshness is ours, memory is moka's: moka bounds what entries take and drops those that have
//! expired; whether an entry may be served is a pure function of the entry and the time.

pub mod entry;
pub mod freshness;
pub mod key;

mod key_quota;
mod recent;

use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;

pub use entry::{Answer, Entry, Origin};
pub use freshness::{EndpointVersion, Freshness, Validated};
pub use key::Key;

use crate::observe::{Event, Observer};
use crate::plan::Plan;
use key_quota::{KeyQuota, TrackedKey};
use recent::Recent;

/// What an entry takes beside its bytes and its key, which is there twice: moka's node, queues and
/// sketch, the tracked key, the entry's own fields, reference counts, and what the allocator adds to a dozen
/// allocations. As benches/scale measured it for a million keys (860 bytes, and 590 for ten thousand),
/// and 70 for the tracked key: it errs upward.
const OVERHEAD: usize = 920;

/// Seeded anew for each store, so that nobody can choose keys that collide.
#[cfg(not(test))]
type KeyHasher = std::hash::RandomState;
/// The same in every run: which keys make room depends on it, and a test must be able to repeat it.
#[cfg(test)]
type KeyHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// What entries are kept in.
type Store = moka::sync::Cache<Key, Arc<Entry>, KeyHasher>;

/// The entries of all endpoints, in two stores.
///
/// Endpoints without parameters have one entry each, in a store without a bound: these entries are never
/// evicted and do not expire. All others share a bounded store, in which each endpoint has at most
/// `max_keys` entries.
#[derive(Debug)]
pub struct Cache {
    resident: Store,
    keyed: Store,
    keys: Arc<Keys>,
    observer: Observer,
}

/// What is known of the keys in the stores.
#[derive(Debug)]
struct Keys {
    /// One for each endpoint.
    quotas: Box<[KeyQuota]>,
    recent: Recent<KeyHasher>,
}

impl Keys {
    fn new(quotas: impl Iterator<Item = KeyQuota>) -> Arc<Self> {
        Arc::new(Self {
            quotas: quotas.collect(),
            recent: Recent::new(),
        })
    }

    fn of(&self, key: &Key) -> &KeyQuota {
        &self.quotas[key.endpoint().index()]
    }

    /// An entry has left, and not for another of its key.
    fn left(&self, key: &Key, entry: &Arc<Entry>) {
        if entry
            .tracked_key()
            .is_some_and(|tracked| tracked.is_in_use(entry))
        {
            self.recent.add(key);
        }
        self.of(key).left(entry);
    }
}

impl Cache {
    /// An empty cache for the plan's endpoints.
    pub fn new(plan: &Plan, observer: Observer) -> Self {
        let endpoints = plan.endpoints().iter();
        let keys = Keys::new(endpoints.map(|endpoint| KeyQuota::new(endpoint.max_keys)));
        Self::with(plan, keys, observer)
    }

    /// One that lets endpoints have any number of keys: for the test of the test that finds it.
    #[cfg(test)]
    pub(crate) fn without_limits(plan: &Plan, observer: Observer) -> Self {
        let endpoints = plan.endpoints().iter();
        let keys = Keys::new(endpoints.map(|_| KeyQuota::new(u64::MAX)));
        Self::with(plan, keys, observer)
    }

    fn with(plan: &Plan, keys: Arc<Keys>, observer: Observer) -> Self {
        let evictions = observer.clone();
        let of_evicted = Arc::clone(&keys);
        let weigher =
            |key: &Key, entry: &Arc<Entry>| u32::try_from(weight(key, entry)).unwrap_or(u32::MAX);
        let keyed = moka::sync::Cache::builder()
            .max_capacity(plan.cache().max_size)
            .weigher(weigher)
            .expire_after(AtTheLimit)
            .eviction_listener(move |key: Arc<Key>, entry: Arc<Entry>, cause| {
                if cause != RemovalCause::Replaced {
                    of_evicted.left(&key, &entry);
                }
                if cause == RemovalCause::Size {
                    evictions.emit(&Event::EntryEvicted);
                }
            });
        let resident = moka::sync::Cache::builder().weigher(weigher);
        Self {
            resident: resident.build_with_hasher(KeyHasher::default()),
            keyed: keyed.build_with_hasher(KeyHasher::default()),
            keys,
            observer,
        }
    }

    fn store(&self, key: &Key) -> &Store {
        if key.is_resident() {
            &self.resident
        } else {
            &self.keyed
        }
    }

    /// The entry of a key, whatever its age.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.store(key).get(key)
    }

    /// Puts an entry in the place of an older one. One whose query began before the query of what is
    /// there already knows less, and is dropped.
    pub fn put(&self, key: &Key, entry: Arc<Entry>) {
        self.replace(key, |there| {
            let is_newer = there.is_some_and(|there| there.began() > entry.began());
            (!is_newer).then_some(entry)
        });
    }

    /// Measures an entry again that has grown, if it is still there.
    pub fn recount(&self, key: &Key, entry: &Arc<Entry>) {
        self.replace(key, |there| {
            let same = there.filter(|there| there.began() == entry.began());
            same.map(|there| Arc::new(there.again()))
        });
    }

    /// Puts what is chosen, knowing what is there. If its endpoint has too many keys then, the least used
    /// one is evicted.
    fn replace(&self, key: &Key, choose: impl FnOnce(Option<&Entry>) -> Option<Arc<Entry>>) {
        let mut leaves = None;
        let mut own = None;
        let place = self.store(key).entry_by_ref(key);
        place.and_compute_with(|there| {
            let there = there.as_ref().map(|there| &**there.value());
            let Some(entry) = choose(there) else {
                return Op::Nop;
            };
            let was_known = || self.keys.recent.contains(key);
            leaves = self.keys.of(key).admit(key, there, &entry, was_known);
            own = entry.tracked_key().cloned();
            Op::Put(entry)
        });
        if let Some(tracked) = leaves {
            self.evict(&tracked);
        }
        // Where another key's entry came at the same moment, this one may have had to leave for it
        // before it was there.
        if let Some(tracked) = own.filter(|tracked| !tracked.is_live()) {
            self.evict(&tracked);
        }
    }

    /// Drops the entry of a key that had to make room, unless it has come back meanwhile.
    fn evict(&self, tracked: &Arc<TrackedKey>) {
        let mut is_there = false;
        let place = self.store(tracked.key()).entry_by_ref(tracked.key());
        place.and_compute_with(|there| {
            let there = there.as_ref().and_then(|there| there.value().tracked_key());
            is_there = there.is_some_and(|there| Arc::ptr_eq(there, tracked));
            if is_there { Op::Remove } else { Op::Nop }
        });
        if is_there {
            self.observer.emit(&Event::EntryEvicted);
        }
    }

    /// Whether a key was in use until its entry left the cache, a minute or two ago at most.
    pub fn was_in_use(&self, key: &Key) -> bool {
        self.keys.recent.contains(key)
    }

    /// Lets an entry go as moka does when its time is up: at a moment of the test's.
    #[cfg(test)]
    pub(crate) fn forget(&self, key: &Key) {
        self.store(key).invalidate(key);
    }

    /// Does what moka leaves to its readers otherwise: drops what has expired, settles the bound.
    pub fn maintain(&self) {
        self.resident.run_pending_tasks();
        self.keyed.run_pending_tasks();
    }

    /// Shows every entry of the bounded store, in no order. Readers and writers are not held up, and it
    /// counts as no use of an entry.
    pub fn for_each_keyed(&self, mut look: impl FnMut(&Key, &Entry)) {
        for (key, entry) in &self.keyed {
            look(&key, &entry);
        }
    }

    /// Reports how much is held.
    pub fn measure(&self) {
        self.maintain();
        let stores = [&self.resident, &self.keyed];
        self.observer.emit(&Event::CacheMeasured {
            entries: stores.iter().map(|store| store.entry_count()).sum(),
            bytes: stores.iter().map(|store| store.weighted_size()).sum(),
        });
    }
}

/// The bytes an entry takes with its key: bodies, and everything around them.
pub fn weight(key: &Key, entry: &Entry) -> usize {
    2 * key.size() + entry.size() + OVERHEAD
}

/// Lets moka drop an entry some time after nothing may serve it any more.
struct AtTheLimit;

/// What has expired is there for a while longer: a client that asks again does not ask for something new, and a
/// load that finds the same says since when it is so.
const LINGERS: Duration = Duration::from_secs(10);

fn stays(entry: &Entry) -> Option<Duration> {
    Some(entry.lifetime().limit().saturating_add(LINGERS))
}

/// moka's own clock, of which nothing is asked here.
#[expect(clippy::disallowed_types, reason = "the signature is moka's")]
type Moment = std::time::Instant;

impl Expiry<Key, Arc<Entry>> for AtTheLimit {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Moment) -> Option<Duration> {
        stays(entry)
    }

    /// Must be said: moka keeps the replaced entry's deadline otherwise.
    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Moment,
        _: Option<Duration>,
    ) -> Option<Duration> {
        stays(entry)
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
        if entry.is_validated() {
            stays(entry)
        } else {
            left
        }
    }
}

#[cfg(test)]
mod tests;
