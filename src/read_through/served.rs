//! What a request gets.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Entry;
use crate::observe::CacheStatus;

/// An entry, and how it was found.
#[derive(Debug, Clone)]
pub struct Served {
    /// The entry to answer with.
    pub entry: Arc<Entry>,
    /// How it was found.
    pub status: CacheStatus,
    /// Its age.
    pub age: Duration,
    /// Whether it is served only because loading fails.
    pub stale_if_error: bool,
}

impl Served {
    pub(super) fn new(entry: Arc<Entry>, status: CacheStatus, age: Duration) -> Self {
        Self {
            entry,
            status,
            age,
            stale_if_error: false,
        }
    }

    /// An entry that is older than `stale_while_revalidate` allows, or was invalidated, and cannot be loaded
    /// again.
    pub(super) fn stale_if_error(entry: Arc<Entry>, age: Duration) -> Self {
        Self {
            stale_if_error: true,
            ..Self::new(entry, CacheStatus::Stale, age)
        }
    }
}
