//! How many keys an endpoint may have at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The places of an endpoint's keys.
#[derive(Debug)]
pub struct Slots {
    taken: Arc<AtomicU64>,
    max: u64,
}

/// A key's place: held by its entry while that is in the cache, and by the load that
/// makes it; free when both have left it.
#[derive(Debug)]
pub struct Slot {
    taken: Arc<AtomicU64>,
}

impl Slots {
    /// So many places.
    pub fn new(max: u64) -> Self {
        Self {
            taken: Arc::default(),
            max,
        }
    }

    /// A place, if there is one left.
    pub fn take(&self) -> Option<Arc<Slot>> {
        // Counted first, so that of any number at once no more come through than there are places.
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let taken = Arc::clone(&self.taken);
        Some(Arc::new(Slot { taken }))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_free_with_their_last_holder() {
        let slots = Slots::new(2);
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        assert!(slots.take().is_none());
        let again = Arc::clone(&first);
        drop(first);
        assert!(slots.take().is_none());
        drop(again);
        assert!(slots.take().is_some());
        drop(second);
    }
}
