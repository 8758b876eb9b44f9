//! How many loads run at once. There are as many slots as connections, so that a load waits here and
//! not in the pool: the wait counts neither as age nor against the query's timeout.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Whom a load is for. It decides which limits the load is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadClass {
    /// A client, for a key that is not in the cache.
    ColdKey,
    /// A client, for a key that is in the cache.
    CachedKey,
    /// A schedule, a probe, a notification or the start.
    Background,
}

/// The slots. A class is limited on its own first, so that none can occupy every slot.
#[derive(Debug)]
pub(super) struct LoadSlots {
    all: Semaphore,
    /// One fewer than all.
    background: Semaphore,
    /// One fewer than all.
    clients: Semaphore,
    /// Two fewer than all.
    cold_keys: Semaphore,
    waiting: AtomicU64,
}

/// A slot, held until this is dropped.
#[derive(Debug)]
pub(super) struct LoadPermit<'s> {
    _permits: [Option<SemaphorePermit<'s>>; 3],
}

impl LoadSlots {
    pub(super) fn new(connections: usize) -> Self {
        let all_but = |n: usize| Semaphore::new(connections.saturating_sub(n).max(1));
        Self {
            all: all_but(0),
            background: all_but(1),
            clients: all_but(1),
            cold_keys: all_but(2),
            waiting: AtomicU64::new(0),
        }
    }

    /// The number of loads that wait for a slot.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a slot. Within a class, loads get theirs in the order in which they asked.
    pub(super) async fn acquire(&self, class: LoadClass) -> LoadPermit<'_> {
        let _waiting = WaitingGuard::new(&self.waiting);
        let (first, second) = match class {
            LoadClass::ColdKey => (Some(&self.cold_keys), &self.clients),
            LoadClass::CachedKey => (None, &self.clients),
            LoadClass::Background => (None, &self.background),
        };
        let first = match first {
            Some(semaphore) => Some(permit(semaphore).await),
            None => None,
        };
        let second = permit(second).await;
        let third = permit(&self.all).await;
        LoadPermit {
            _permits: [first, Some(second), Some(third)],
        }
    }
}

/// Counts a waiting load until it has its slot, or gives up.
struct WaitingGuard<'s>(&'s AtomicU64);

impl<'s> WaitingGuard<'s> {
    fn new(waiting: &'s AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn permit(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    semaphore
        .acquire()
        .await
        .expect("the semaphores are never closed")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Every slot that a class can get.
    fn acquire_all(slots: &LoadSlots, class: LoadClass) -> Vec<LoadPermit<'_>> {
        std::iter::from_fn(|| slots.acquire(class).now_or_never()).collect()
    }

    #[tokio::test]
    async fn no_class_can_occupy_every_slot() {
        for (greedy, most, other) in [
            (LoadClass::CachedKey, 3, LoadClass::Background),
            (LoadClass::Background, 3, LoadClass::CachedKey),
            (LoadClass::Background, 3, LoadClass::ColdKey),
            (LoadClass::ColdKey, 2, LoadClass::CachedKey),
        ] {
            let slots = LoadSlots::new(4);
            let held = acquire_all(&slots, greedy);
            assert_eq!(held.len(), most, "{greedy:?}");
            assert_eq!(acquire_all(&slots, other).len(), 1, "{greedy:?}");
        }
    }

    #[tokio::test]
    async fn a_load_is_counted_for_as_long_as_it_waits() {
        let slots = LoadSlots::new(1);
        let held = slots.acquire(LoadClass::ColdKey).await;
        assert_eq!(slots.waiting(), 0);
        let mut served = Box::pin(slots.acquire(LoadClass::CachedKey));
        let mut abandoned = Box::pin(slots.acquire(LoadClass::Background));
        assert!(served.as_mut().now_or_never().is_none());
        assert!(abandoned.as_mut().now_or_never().is_none());
        assert_eq!(slots.waiting(), 2);
        drop(abandoned);
        assert_eq!(slots.waiting(), 1);
        drop(held);
        let _held = served.await;
        assert_eq!(slots.waiting(), 0);
    }

    #[tokio::test]
    async fn all_classes_share_a_single_connection() {
        for (one, other) in [
            (LoadClass::ColdKey, LoadClass::CachedKey),
            (LoadClass::CachedKey, LoadClass::Background),
        ] {
            let slots = LoadSlots::new(1);
            let held = slots.acquire(one).await;
            assert!(slots.acquire(other).now_or_never().is_none());
            drop(held);
            assert!(slots.acquire(other).now_or_never().is_some());
        }
    }
}
