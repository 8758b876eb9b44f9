//! Whose turn it is to load. There are as many turns as connections, so that a load waits here and
//! not in the pool: waiting counts neither as age nor against its query's timeout.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Who loads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Clients, a key that is not in the cache.
    New,
    /// Clients, a key that is.
    Known,
    /// Schedules, and the start.
    Schedules,
}

/// The turns. A class waits for its own limits first, so that none can take every turn from another.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    /// One less than all.
    schedules: Semaphore,
    /// One less than all.
    clients: Semaphore,
    /// One less again.
    new: Semaphore,
    /// Who wants a turn and has none.
    waiting: AtomicU64,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    _permits: [Option<SemaphorePermit<'t>>; 3],
}

impl Turns {
    pub(super) fn new(connections: usize) -> Self {
        let less = |by: usize| Semaphore::new(connections.saturating_sub(by).max(1));
        Self {
            all: less(0),
            schedules: less(1),
            clients: less(1),
            new: less(2),
            waiting: AtomicU64::new(0),
        }
    }

    /// How many loads wait for a turn.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a turn; within a class, first come, first served.
    pub(super) async fn take(&self, class: Class) -> Turn<'_> {
        let _waits = Waits::one_of(&self.waiting);
        let (first, second) = match class {
            Class::New => (Some(&self.new), &self.clients),
            Class::Known => (None, &self.clients),
            Class::Schedules => (None, &self.schedules),
        };
        let first = match first {
            Some(semaphore) => Some(acquire(semaphore).await),
            None => None,
        };
        let second = acquire(second).await;
        let third = acquire(&self.all).await;
        Turn {
            _permits: [first, Some(second), Some(third)],
        }
    }
}

/// Counts one who waits, until it is dropped: with a turn, or because waiting was given up.
struct Waits<'t>(&'t AtomicU64);

impl<'t> Waits<'t> {
    fn one_of(waiting: &'t AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn acquire(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    semaphore.acquire().await.expect(OPEN)
}

/// Why taking a turn can not fail.
const OPEN: &str = "the semaphores are never closed";

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// The turns one class can hold of so many.
    fn held(turns: &Turns, class: Class) -> Vec<Turn<'_>> {
        std::iter::from_fn(|| turns.take(class).now_or_never()).collect()
    }

    #[tokio::test]
    async fn no_class_can_take_every_turn() {
        for (greedy, most, other) in [
            (Class::Known, 3, Class::Schedules),
            (Class::Schedules, 3, Class::Known),
            (Class::Schedules, 3, Class::New),
            (Class::New, 2, Class::Known),
        ] {
            let turns = Turns::new(4);
            let all = held(&turns, greedy);
            assert_eq!(all.len(), most, "{greedy:?}");
            assert_eq!(held(&turns, other).len(), 1, "{greedy:?}");
        }
    }

    #[tokio::test]
    async fn who_waits_is_counted_for_as_long_as_it_waits() {
        let turns = Turns::new(1);
        let turn = turns.take(Class::New).await;
        assert_eq!(turns.waiting(), 0);
        let mut served = Box::pin(turns.take(Class::Known));
        let mut given_up = Box::pin(turns.take(Class::Schedules));
        assert!(served.as_mut().now_or_never().is_none());
        assert!(given_up.as_mut().now_or_never().is_none());
        assert_eq!(turns.waiting(), 2);
        drop(given_up);
        assert_eq!(turns.waiting(), 1);
        drop(turn);
        let _turn = served.await;
        assert_eq!(turns.waiting(), 0);
    }

    #[tokio::test]
    async fn a_single_connection_is_shared() {
        for (one, other) in [(Class::New, Class::Known), (Class::Known, Class::Schedules)] {
            let turns = Turns::new(1);
            let turn = turns.take(one).await;
            assert!(turns.take(other).now_or_never().is_none());
            drop(turn);
            assert!(turns.take(other).now_or_never().is_some());
        }
    }
}
