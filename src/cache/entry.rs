//! A finished answer with its times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Freshness, Slot, Standing};
use crate::encode::Document;
use crate::plan::Lifetime;

/// What a statement answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A document in the endpoint's shape.
    Document(Arc<Document>),
    /// No row where the shape is one row. An answer like any other, and as fresh.
    NoRow,
}

/// What is known of a load from before its query.
#[derive(Debug, Clone)]
pub struct Origin {
    /// When its query began.
    pub began: Instant,
    /// The endpoint's generation then: see [`Standing`].
    pub generation: u64,
    /// Its key's place among those its endpoint may have; none where there is only one key.
    pub slot: Option<Arc<Slot>>,
}

/// Why the lock on a slot is never poisoned.
const UNPOISONED: &str = "nothing panics while it holds the lock";

/// The finished bytes of a key. Immutable, but for what is noted of it and the place it leaves: a
/// refresh makes a new one.
#[derive(Debug)]
pub struct Entry {
    answer: Answer,
    origin: Origin,
    last_modified: SystemTime,
    lifetime: Lifetime,
    query_time: Duration,
    used: AtomicBool,
    /// How long after its query began it was last known to be true, in nanoseconds. Kept here, for an
    /// endpoint's standing tells of the current generation alone: what was confirmed for hours is not
    /// hours old the moment it changes.
    confirmed: AtomicU64,
    slot: Mutex<Option<Arc<Slot>>>,
}

impl Entry {
    /// The entry of a query that ended `query_time` after it began. Where `previous` answered the
    /// same, the content has not changed since, and its bytes are kept instead of the new ones.
    pub fn new(
        answer: Answer,
        mut origin: Origin,
        query_time: Duration,
        lifetime: Lifetime,
        previous: Option<&Self>,
    ) -> Self {
        let same = previous.filter(|previous| previous.answer == answer);
        let last_modified = same.map_or_else(SystemTime::now, |same| same.last_modified);
        let slot = Mutex::new(origin.slot.take());
        Self {
            answer: same.map_or(answer, |same| same.answer.clone()),
            origin,
            last_modified,
            lifetime,
            query_time,
            used: AtomicBool::new(false),
            confirmed: AtomicU64::new(0),
            slot,
        }
    }

    /// The same again, for its place in the cache to be measured anew.
    pub(super) fn again(&self) -> Self {
        let copy = |number: &AtomicU64| AtomicU64::new(number.load(Ordering::Relaxed));
        Self {
            answer: self.answer.clone(),
            origin: self.origin.clone(),
            last_modified: self.last_modified,
            lifetime: self.lifetime,
            query_time: self.query_time,
            used: AtomicBool::new(self.is_used()),
            confirmed: copy(&self.confirmed),
            slot: Mutex::new(self.slot()),
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

    /// Its key's place among those its endpoint may have, while it is in the cache.
    pub fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.lock().expect(UNPOISONED).clone()
    }

    /// Leaves its key's place to others: it is out of the cache. moka drops what it has put out some
    /// time later, and whoever is served by it may hold it for long.
    pub(super) fn leave_slot(&self) {
        self.slot.lock().expect(UNPOISONED).take();
    }

    /// The time since its query began, or since it was last found to be unchanged.
    pub fn age(&self, now: Instant, standing: &Standing) -> Duration {
        now.saturating_duration_since(self.as_of(standing))
    }

    /// The last moment as of which it is known to be true.
    pub fn as_of(&self, standing: &Standing) -> Instant {
        let Origin {
            began, generation, ..
        } = self.origin;
        let told = standing.as_of(began, generation) - began;
        let told = u64::try_from(told.as_nanos()).unwrap_or(u64::MAX);
        // A plain look first, as in `mark_used`.
        let known = self.confirmed.load(Ordering::Relaxed);
        if told > known {
            self.confirmed.fetch_max(told, Ordering::Relaxed);
        }
        began + Duration::from_nanos(told.max(known))
    }

    /// Whether it was found to be unchanged since its query began.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed) > 0
    }

    /// When the content last changed for those who ask: when this answer took the place of another.
    pub fn last_modified(&self) -> SystemTime {
        self.last_modified
    }

    /// Its limits.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// How long its query took, with all its rows.
    pub fn query_time(&self) -> Duration {
        self.query_time
    }

    /// Whether it may be served at this age.
    pub fn freshness(&self, age: Duration, standing: &Standing) -> Freshness {
        let is_current = self.origin.generation == standing.generation;
        Freshness::of(age, &self.lifetime, is_current)
    }

    /// Notes that it was asked for; says whether that is for the first time.
    pub fn mark_used(&self) -> bool {
        // A plain look first: pollers of one entry would otherwise pass its cache line around.
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    /// Whether it was asked for since it was loaded.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// The bytes of its representations.
    pub(super) fn size(&self) -> usize {
        match &self.answer {
            Answer::Document(document) => document.size(),
            Answer::NoRow => 0,
        }
    }
}
