//! A finished answer with its times.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Freshness;
use crate::encode::Body;
use crate::plan::Lifetime;

/// What a statement answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The finished body.
    Body(Body),
    /// No row where the shape is one row. An answer like any other, and as fresh.
    NoRow,
}

/// The finished bytes of a key. Immutable: a refresh makes a new one.
#[derive(Debug)]
pub struct Entry {
    answer: Answer,
    began: Instant,
    last_modified: SystemTime,
    lifetime: Lifetime,
    query_time: Duration,
}

impl Entry {
    /// The entry of a query that began at `began` (`began_at` by the wall clock) and ended
    /// `query_time` later. Where `previous` answered the same, the content has not changed since.
    pub fn new(
        answer: Answer,
        (began, began_at): (Instant, SystemTime),
        query_time: Duration,
        lifetime: Lifetime,
        previous: Option<&Self>,
    ) -> Self {
        let last_modified = previous
            .filter(|previous| previous.answer == answer)
            .map_or(began_at, |previous| previous.last_modified);
        Self {
            answer,
            began,
            last_modified,
            lifetime,
            query_time,
        }
    }

    /// The answer.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// When its query began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The time since its query began.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// When the content last changed, as far as Larder saw.
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

    /// Whether it may be served now.
    pub fn freshness(&self, now: Instant) -> Freshness {
        Freshness::of(self.age(now), &self.lifetime)
    }

    /// The bytes of the body.
    pub(super) fn size(&self) -> usize {
        match &self.answer {
            Answer::Body(body) => body.bytes.len(),
            Answer::NoRow => 0,
        }
    }
}
