//! A finished answer with its times.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::slots::Slot;
use super::{Freshness, Standing};
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
}

/// What is noted when an entry is asked for, each in a bit.
mod used {
    /// Since it was loaded.
    pub(super) const SINCE_LOAD: u8 = 1;
    /// Since it was last looked at to make room.
    pub(super) const LATELY: u8 = 2;
    /// Since its key came into the cache, whatever was loaded meanwhile.
    pub(super) const EVER: u8 = 4;
    pub(super) const ALL: u8 = SINCE_LOAD | LATELY | EVER;
}

/// The finished bytes of a key. Immutable, but for what is noted of it: a refresh makes a new one.
#[derive(Debug)]
pub struct Entry {
    answer: Answer,
    origin: Origin,
    last_modified: SystemTime,
    lifetime: Lifetime,
    query_time: Duration,
    /// The bits of [`used`].
    used: AtomicU8,
    /// How long after its query began it was last known to be true, in nanoseconds. Kept here, for an
    /// endpoint's standing tells of the current generation alone: what was confirmed for hours is not
    /// hours old the moment it changes.
    confirmed: AtomicU64,
    /// Its key's place among those of its endpoint, once it is put into the cache.
    slot: OnceLock<Arc<Slot>>,
}

impl Entry {
    /// The entry of a query that ended `query_time` after it began. Where `previous` answered the
    /// same, the content has not changed since, and its bytes are kept instead of the new ones.
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
            confirmed: AtomicU64::new(0),
            slot: OnceLock::new(),
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
            used: AtomicU8::new(self.used.load(Ordering::Relaxed)),
            confirmed: copy(&self.confirmed),
            slot: OnceLock::new(),
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

    /// Its key's place among those of its endpoint.
    pub(super) fn slot(&self) -> Option<&Arc<Slot>> {
        self.slot.get()
    }

    /// Notes its key's place, before it is put into the cache.
    pub(super) fn has_slot(&self, slot: Arc<Slot>) {
        // It is put there once.
        let _ = self.slot.set(slot);
    }

    /// The time since its query began, or since it was last found to be unchanged.
    pub fn age(&self, now: Instant, standing: &Standing) -> Duration {
        now.saturating_duration_since(self.as_of(standing))
    }

    /// The last moment as of which it is known to be true.
    pub fn as_of(&self, standing: &Standing) -> Instant {
        let Origin { began, generation } = self.origin;
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
        if self.used.load(Ordering::Relaxed) == used::ALL {
            return false;
        }
        self.used.fetch_or(used::ALL, Ordering::Relaxed) & used::SINCE_LOAD == 0
    }

    /// Whether it was asked for since it was loaded.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) & used::SINCE_LOAD != 0
    }

    /// Whether it was asked for since this was last asked.
    pub(super) fn was_used_lately(&self) -> bool {
        self.used.fetch_and(!used::LATELY, Ordering::Relaxed) & used::LATELY != 0
    }

    /// Whether its key was asked for since that came into the cache.
    pub(super) fn was_used_ever(&self) -> bool {
        self.used.load(Ordering::Relaxed) & used::EVER != 0
    }

    /// Takes over what is known of its key's use from the entry whose place it takes.
    pub(super) fn is_used_like(&self, previous: &Self) {
        let of_key = previous.used.load(Ordering::Relaxed) & (used::LATELY | used::EVER);
        self.used.fetch_or(of_key, Ordering::Relaxed);
    }

    /// The bytes of its representations.
    pub(super) fn size(&self) -> usize {
        match &self.answer {
            Answer::Document(document) => document.size(),
            Answer::NoRow => 0,
        }
    }
}
