//! What a request gets: an entry, or the reason why there is none.

use std::sync::Arc;
use std::time::Duration;

use super::LoadError;
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

/// Why there is nothing to serve.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The load failed, now or a moment ago.
    #[error("{error}")]
    Load {
        /// The cause.
        error: Arc<LoadError>,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// Postgres is unreachable, and the next attempt to connect is not due yet.
    #[error("the repository is unreachable")]
    Away {
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The load took longer than the endpoint's `timeout`.
    #[error("the load took longer than {0:?}")]
    TooSlow(Duration),
    /// Clients cause more loads than `max_loads_per_second` allows.
    #[error("too many loads")]
    TooManyLoads {
        /// How long until a load may begin.
        retry_after: Duration,
    },
    /// The endpoint has `on_miss = "refuse"`, and the key is not loaded.
    #[error("not loaded")]
    NotLoaded {
        /// How long until it is loaded next; zero where that is unknown.
        retry_in: Duration,
    },
}
