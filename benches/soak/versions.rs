//! When each version of the data was committed.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

/// By when each version was committed.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    there: RwLock<Vec<Instant>>,
}

impl Versions {
    /// The newest that is known to be committed.
    pub(crate) fn newest(&self) -> u64 {
        let there = self.there.read().unwrap_or_else(PoisonError::into_inner);
        there.len().saturating_sub(1) as u64
    }

    /// For how long, at least, a version had no longer been the newest at a moment.
    pub(crate) fn outdated(&self, version: u64, at: Instant) -> Duration {
        let there = self.there.read().unwrap_or_else(PoisonError::into_inner);
        let next = usize::try_from(version + 1).ok();
        let since = next.and_then(|next| there.get(next));
        since.map_or(Duration::ZERO, |since| at.saturating_duration_since(*since))
    }

    pub(crate) fn committed(&self, version: u64) {
        let now = Instant::now();
        let mut there = self.there.write().unwrap_or_else(PoisonError::into_inner);
        // Versions whose acknowledgement was lost are committed as well by now.
        while (there.len() as u64) <= version {
            there.push(now);
        }
    }
}
