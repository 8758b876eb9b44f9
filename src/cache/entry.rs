//! A finished answer with its times.

mod tracked_key; // a key in the cache

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::freshness::{EndpointVersion, Freshness};
use crate::encode::Document;
use crate::plan::Lifetime;
pub(super) use tracked_key::TrackedKey;

/// The result of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A document in the endpoint's shape.
    Document(Arc<Document>),
    /// No row, where the shape is one row. An answer like any other, and as fresh.
    NoRow,
}

/// The state before a load's query.
#[derive(Debug, Clone)]
pub struct Origin {
    /// When its query began.
    pub began: Instant,
    /// The endpoint's generation at that time: see [`EndpointVersion`].
    pub generation: u64,
}

/// What is recorded when an entry is requested, each in a bit.
mod used {
    /// Since it was loaded.
    pub(super) const SINCE_LOAD: u8 = 1;
    /// Since it was last considered for eviction.
    pub(super) const RECENTLY: u8 = 2;
    /// Since its key was admitted to the cache, whatever was loaded meanwhile.
    pub(super) const EVER: u8 = 4;
    pub(super) const ALL: u8 = SINCE_LOAD | RECENTLY | EVER;
}

/// The answer for a key. Immutable except for statistics: a refresh makes a new entry.
#[derive(Debug)]
pub struct Entry {
    answer: Answer,
    origin: Origin,
    last_modified: SystemTime,
    lifetime: Lifetime,
    query_time: Duration,
    /// The bits of [`used`].
    used: AtomicU8,
    /// How long after its query began its content was last known to be current, in nanoseconds. Kept
    /// here because an endpoint's version covers the current generation only: an entry that was validated
    /// for hours is not hours old the moment the data change.
    validated: AtomicU64,
    /// Its key, once it is put into the cache.
    tracked_key: OnceLock<Arc<TrackedKey>>,
}

impl Entry {
    /// The entry of a query that ended `query_time` after it began. If the answer equals that of `previous`,
    /// the content has not changed since, and the bytes of `previous` are shared.
    pub fn new(
        answer: Answer,
        origin: Origin,
        query_time: Duration,
        lifetime: Lifetime,
        previous: Option<&Self>,
    ) -> Self {
        let same = previous.filter(|previous| previous.answer == answer);
        let last_modified = same.map_or_else(SystemTime::now, |same| same.last_modified);
        Self {
            answer: same.map_or(answer, |same| same.answer.clone()),
            origin,
            last_modified,
            lifetime,
            query_time,
            used: AtomicU8::new(0),
            validated: AtomicU64::new(0),
            tracked_key: OnceLock::new(),
        }
    }

    /// A copy that shares the answer: moka weighs an entry when it is put.
    pub(super) fn copy(&self) -> Self {
        self.with_lifetime(self.lifetime)
    }

    /// A copy with other limits, that shares the answer.
    pub(super) fn with_lifetime(&self, lifetime: Lifetime) -> Self {
        let copy = |number: &AtomicU64| AtomicU64::new(number.load(Ordering::Relaxed));
        Self {
            answer: self.answer.clone(),
            origin: self.origin.clone(),
            last_modified: self.last_modified,
            lifetime,
            query_time: self.query_time,
            used: AtomicU8::new(self.used.load(Ordering::Relaxed)),
            validated: copy(&self.validated),
            tracked_key: OnceLock::new(),
        }
    }

    /// The answer.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// When its query began.
    pub fn began(&self) -> Instant {
        self.origin.began
    }

    /// The endpoint's generation before its query began.
    pub fn generation(&self) -> u64 {
        self.origin.generation
    }

    /// Its key, once it is put into the cache.
    pub(super) fn tracked_key(&self) -> Option<&Arc<TrackedKey>> {
        self.tracked_key.get()
    }

    fn set_tracked_key(&self, tracked: Arc<TrackedKey>) {
        // An entry is put only once.
        let _ = self.tracked_key.set(tracked);
    }

    /// Records the last validation that applies to it, and returns the moment as of which its content is
    /// known to be current.
    pub fn record_validation(&self, version: &EndpointVersion) -> Instant {
        let Origin { began, generation } = self.origin;
        let latest = version.as_of(began, generation) - began;
        let latest = u64::try_from(latest.as_nanos()).unwrap_or(u64::MAX);
        // A plain load first, as in `mark_used`.
        let recorded = self.validated.load(Ordering::Relaxed);
        if latest > recorded {
            self.validated.fetch_max(latest, Ordering::Relaxed);
        }
        began + Duration::from_nanos(latest.max(recorded))
    }

    /// Whether it was validated since its query began.
    pub fn is_validated(&self) -> bool {
        self.validated.load(Ordering::Relaxed) > 0
    }

    /// When the content last changed for clients: when this answer replaced a different one.
    pub fn last_modified(&self) -> SystemTime {
        self.last_modified
    }

    /// Its limits.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// How long its query took, including all rows.
    pub fn query_time(&self) -> Duration {
        self.query_time
    }

    /// Whether it may be served at this age.
    pub fn freshness(&self, age: Duration, version: &EndpointVersion) -> Freshness {
        let is_current = self.origin.generation == version.generation;
        Freshness::of(age, &self.lifetime, is_current)
    }

    /// Records a request, and returns whether it is the first.
    pub fn mark_used(&self) -> bool {
        // A plain load first: otherwise the entry's cache line would move between the cores of its clients.
        if self.used.load(Ordering::Relaxed) == used::ALL {
            return false;
        }
        self.used.fetch_or(used::ALL, Ordering::Relaxed) & used::SINCE_LOAD == 0
    }

    /// Whether it was requested since it was loaded.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) & used::SINCE_LOAD != 0
    }

    /// Whether it was requested since this was last called.
    fn take_recent_use(&self) -> bool {
        self.used.fetch_and(!used::RECENTLY, Ordering::Relaxed) & used::RECENTLY != 0
    }

    /// Whether its key was requested since it was admitted to the cache.
    fn was_used_ever(&self) -> bool {
        self.used.load(Ordering::Relaxed) & used::EVER != 0
    }

    /// Takes over the use of its key from the entry that it replaces.
    pub(super) fn inherit_use(&self, previous: &Self) {
        let of_key = previous.used.load(Ordering::Relaxed) & (used::RECENTLY | used::EVER);
        self.used.fetch_or(of_key, Ordering::Relaxed);
    }

    /// The size of its representations in bytes.
    pub(super) fn size(&self) -> usize {
        match &self.answer {
            Answer::Document(document) => document.size(),
            Answer::NoRow => 0,
        }
    }
}
