//! The cache: [`Key`], [`Entry`], [`Freshness`] and the stores. Knows neither where entries come from nor who
//! requests them.
//!
//! moka bounds the memory and removes expired entries. Whether an entry may be served is Larder's own, a
//! pure function of the entry and the time.

pub mod entry; // a finished answer with its times
pub mod freshness; // whether an entry may be served
pub mod key; // everything that a result depends on

mod key_quota; // how many keys an endpoint may have
mod recently_removed; // keys that were in use until a short while ago

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;

pub use entry::{Answer, Entry, Origin};
pub use freshness::{EndpointVersion, Freshness, Validated};
pub use key::Key;

use crate::observe::{Event, Observer};
use crate::plan::{EndpointId, Lifetime, Plan};
use entry::TrackedKey;
use key_quota::KeyQuota;
use recently_removed::RecentlyRemoved;

/// What an entry takes besides its bytes and its key, which is stored twice: moka's node, queues and sketch,
/// the tracked key, the entry's own fields, reference counts, and the allocator's share of a dozen
/// allocations. benches/scale measured 860 bytes per key with a million keys, and 590 with ten thousand;
/// a tracked key takes 70 of them. Rather too much than too little.
const OVERHEAD: usize = 920;

/// Seeded differently for each store, so that clients cannot choose keys that collide.
#[cfg(not(test))]
type KeyHasher = std::hash::RandomState;
/// The same in every run: which keys are evicted depends on it, and a test must be repeatable.
#[cfg(test)]
type KeyHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

type Store = moka::sync::Cache<Key, Arc<Entry>, KeyHasher>;

/// The entries of all endpoints, in two stores.
///
/// A cheap handle: clones share everything. Endpoints without parameters have one entry each, in a store without a bound: these entries are never
/// evicted and do not expire. All others share a bounded store, in which each endpoint has at most
/// `max_keys` entries.
#[derive(Debug, Clone)]
pub struct Cache {
    resident: Store,
    keyed: Store,
    keys: Arc<Keys>,
    observer: Observer,
}

/// The keys in the stores, and those that were in them.
#[derive(Debug)]
struct Keys {
    /// One for each endpoint. An endpoint without one has no entries, and gets none.
    quotas: RwLock<HashMap<EndpointId, Arc<KeyQuota>>>,
    recently_removed: RecentlyRemoved<KeyHasher>,
}

impl Keys {
    fn new(quotas: impl Iterator<Item = (EndpointId, u64)>) -> Arc<Self> {
        let keys = Self {
            quotas: RwLock::default(),
            recently_removed: RecentlyRemoved::new(),
        };
        quotas.for_each(|(endpoint, max)| keys.add(endpoint, max));
        Arc::new(keys)
    }

    /// Adds an endpoint, unless it is there.
    fn add(&self, endpoint: EndpointId, max: u64) {
        let mut quotas = self.quotas.write().unwrap_or_else(PoisonError::into_inner);
        quotas.entry(endpoint).or_insert_with(|| {
            let quota = KeyQuota::default();
            quota.set_max(max);
            Arc::new(quota)
        });
    }

    fn set_max(&self, endpoint: EndpointId, max: u64) {
        if let Some(quota) = self.quota_of(endpoint) {
            quota.set_max(max);
        }
    }

    fn remove(&self, endpoints: &HashSet<EndpointId>) {
        let mut quotas = self.quotas.write().unwrap_or_else(PoisonError::into_inner);
        quotas.retain(|endpoint, _| !endpoints.contains(endpoint));
    }

    fn quota(&self, key: &Key) -> Option<Arc<KeyQuota>> {
        self.quota_of(key.endpoint())
    }

    fn quota_of(&self, endpoint: EndpointId) -> Option<Arc<KeyQuota>> {
        let quotas = self.quotas.read().unwrap_or_else(PoisonError::into_inner);
        quotas.get(&endpoint).cloned()
    }

    /// An entry was removed, and not replaced.
    fn removed(&self, key: &Key, entry: &Arc<Entry>) {
        if entry
            .tracked_key()
            .is_some_and(|tracked| tracked.is_in_use(entry))
        {
            self.recently_removed.add(key);
        }
        if let Some(quota) = self.quota(key) {
            quota.removed(entry);
        }
    }
}

impl Cache {
    /// An empty cache for the plan's endpoints.
    pub fn new(plan: &Plan, observer: Observer) -> Self {
        let endpoints = plan.endpoints().iter();
        let keys = Keys::new(endpoints.map(|endpoint| (endpoint.id, endpoint.max_keys)));
        Self::with(plan, keys, observer)
    }

    /// A cache without `max_keys`: for the test that the simulation finds that.
    #[cfg(test)]
    pub(crate) fn without_limits(plan: &Plan, observer: Observer) -> Self {
        let endpoints = plan.endpoints().iter();
        let keys = Keys::new(endpoints.map(|endpoint| (endpoint.id, u64::MAX)));
        Self::with(plan, keys, observer)
    }

    fn with(plan: &Plan, keys: Arc<Keys>, observer: Observer) -> Self {
        let evictions = observer.clone();
        let removals = Arc::clone(&keys);
        let weigher =
            |key: &Key, entry: &Arc<Entry>| u32::try_from(weight(key, entry)).unwrap_or(u32::MAX);
        let keyed = moka::sync::Cache::builder()
            .max_capacity(plan.cache().max_size)
            .weigher(weigher)
            .expire_after(AfterLimit)
            .eviction_listener(move |key: Arc<Key>, entry: Arc<Entry>, cause| {
                if cause != RemovalCause::Replaced {
                    removals.removed(&key, &entry);
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

    /// Takes entries of these endpoints as well.
    pub fn prepare(&self, plan: &Plan) {
        for endpoint in plan.endpoints() {
            self.keys.add(endpoint.id, endpoint.max_keys);
        }
    }

    /// Limits the endpoints to the numbers of keys that the plan declares.
    pub fn follow(&self, plan: &Plan) {
        for endpoint in plan.endpoints() {
            self.keys.set_max(endpoint.id, endpoint.max_keys);
        }
    }

    /// Removes everything of these endpoints. Visits every entry.
    pub fn remove(&self, endpoints: &HashSet<EndpointId>) {
        self.keys.remove(endpoints);
        for store in [&self.resident, &self.keyed] {
            for (key, _) in store {
                if endpoints.contains(&key.endpoint()) {
                    store.invalidate(&*key);
                }
            }
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

    /// Puts an entry, unless the query of the one in the cache began later.
    pub fn put(&self, key: &Key, entry: Arc<Entry>) {
        self.replace(key, |previous| {
            let is_older = previous.is_some_and(|previous| previous.began() > entry.began());
            (!is_older).then_some(entry)
        });
    }

    /// Weighs an entry again that has grown, if it is still in the cache.
    pub fn reweigh(&self, key: &Key, entry: &Arc<Entry>) {
        self.replace(key, |previous| {
            let same = previous.filter(|previous| previous.began() == entry.began());
            same.map(|same| Arc::new(same.copy()))
        });
    }

    /// Gives an entry other limits, if it is still in the cache.
    pub fn set_lifetime(&self, key: &Key, entry: &Entry, lifetime: Lifetime) {
        self.replace(key, |previous| {
            let same = previous.filter(|previous| previous.began() == entry.began());
            same.map(|same| Arc::new(same.with_lifetime(lifetime)))
        });
    }

    /// Puts the entry that `choose` returns for the one in the cache. If the endpoint then has too many
    /// keys, the least used one is evicted.
    fn replace(&self, key: &Key, choose: impl FnOnce(Option<&Entry>) -> Option<Arc<Entry>>) {
        let mut evicted = None;
        let mut own = None;
        let place = self.store(key).entry_by_ref(key);
        place.and_compute_with(|previous| {
            let previous = previous.as_ref().map(|previous| &**previous.value());
            let Some(entry) = choose(previous) else {
                return Op::Nop;
            };
            let was_in_use = || self.keys.recently_removed.contains(key);
            // The endpoint may have been removed while the entry was loaded.
            let Some(quota) = self.keys.quota(key) else {
                return Op::Nop;
            };
            evicted = quota.admit(key, previous, &entry, was_in_use);
            own = entry.tracked_key().cloned();
            Op::Put(entry)
        });
        if let Some(tracked) = evicted {
            self.evict(&tracked);
        }
        // If another key was admitted at the same moment, this one may have been evicted for it before its
        // entry was in the store.
        if let Some(tracked) = own.filter(|tracked| !tracked.is_live()) {
            self.evict(&tracked);
        }
    }

    /// Removes the entry of an evicted key, unless the key was admitted again meanwhile.
    fn evict(&self, tracked: &Arc<TrackedKey>) {
        let mut is_found = false;
        let place = self.store(tracked.key()).entry_by_ref(tracked.key());
        place.and_compute_with(|found| {
            let found = found.as_ref().and_then(|found| found.value().tracked_key());
            is_found = found.is_some_and(|found| Arc::ptr_eq(found, tracked));
            if is_found { Op::Remove } else { Op::Nop }
        });
        if is_found {
            self.observer.emit(&Event::EntryEvicted);
        }
    }

    /// Whether a key was in use until its entry was removed, a minute or two ago at most.
    pub fn was_in_use(&self, key: &Key) -> bool {
        self.keys.recently_removed.contains(key)
    }

    /// Removes an entry as moka does when it has expired, at a moment that a test chooses.
    #[cfg(test)]
    pub(crate) fn expire(&self, key: &Key) {
        self.store(key).invalidate(key);
    }

    /// Does the work that moka otherwise leaves to readers: removes expired entries, and enforces the bound.
    pub fn maintain(&self) {
        self.resident.run_pending_tasks();
        self.keyed.run_pending_tasks();
    }

    /// Calls `visit` for every entry of the bounded store, in no order. It blocks neither readers nor
    /// writers, and is not a use of the entries.
    pub fn for_each_keyed(&self, mut visit: impl FnMut(&Key, &Entry)) {
        for (key, entry) in &self.keyed {
            visit(&key, &entry);
        }
    }

    /// Reports the number of entries and their size.
    pub fn measure(&self) {
        self.maintain();
        let stores = [&self.resident, &self.keyed];
        self.observer.emit(&Event::CacheMeasured {
            entries: stores.iter().map(|store| store.entry_count()).sum(),
            bytes: stores.iter().map(|store| store.weighted_size()).sum(),
        });
    }
}

/// The memory in bytes that an entry takes with its key: bodies, and everything around them.
pub fn weight(key: &Key, entry: &Entry) -> usize {
    2 * key.size() + entry.size() + OVERHEAD
}

/// Has moka remove an entry some time after its last limit.
struct AfterLimit;

/// How long an expired entry is kept: a client that requests it again does not request something new, and a
/// load that finds the same answer keeps its `Last-Modified`.
const KEPT_EXPIRED: Duration = Duration::from_secs(10);

fn time_to_live(entry: &Entry) -> Option<Duration> {
    Some(entry.lifetime().limit().saturating_add(KEPT_EXPIRED))
}

/// A moment of moka's own clock, which is not used here.
#[expect(clippy::disallowed_types, reason = "the signature is moka's")]
type Moment = std::time::Instant;

impl Expiry<Key, Arc<Entry>> for AfterLimit {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Moment) -> Option<Duration> {
        time_to_live(entry)
    }

    /// Without this, moka keeps the deadline of the replaced entry.
    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Moment,
        _: Option<Duration>,
    ) -> Option<Duration> {
        time_to_live(entry)
    }

    /// A validated entry is served for longer than its limit counted from its query.
    fn expire_after_read(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Moment,
        left: Option<Duration>,
        _: Moment,
    ) -> Option<Duration> {
        if entry.is_validated() {
            time_to_live(entry)
        } else {
            left
        }
    }
}

#[cfg(test)]
mod tests;
