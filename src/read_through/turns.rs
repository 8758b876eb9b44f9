//! Whose turn it is to load. There are as many turns as connections, so that a load waits here and
//! not in the pool: waiting counts neither as age nor against its query's timeout.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Who loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Loads that clients cause.
    Clients,
    /// Loads that schedules cause, and the start.
    Schedules,
}

/// The turns.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    /// One less than all, so that neither class can take every turn from the other.
    clients: Semaphore,
    schedules: Semaphore,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    _of_class: SemaphorePermit<'t>,
    _of_all: SemaphorePermit<'t>,
}

impl Turns {
    pub(super) fn new(connections: usize) -> Self {
        let most = connections.saturating_sub(1).max(1);
        Self {
            all: Semaphore::new(connections),
            clients: Semaphore::new(most),
            schedules: Semaphore::new(most),
        }
    }

    /// Waits for a turn; within a class, first come, first served.
    pub(super) async fn take(&self, class: Class) -> Turn<'_> {
        let of_class = match class {
            Class::Clients => &self.clients,
            Class::Schedules => &self.schedules,
        };
        Turn {
            _of_class: of_class.acquire().await.expect(OPEN),
            _of_all: self.all.acquire().await.expect(OPEN),
        }
    }
}

/// Why taking a turn can not fail.
const OPEN: &str = "the semaphores are never closed";

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn neither_class_can_take_every_turn() {
        for (greedy, other) in [
            (Class::Clients, Class::Schedules),
            (Class::Schedules, Class::Clients),
        ] {
            let turns = Turns::new(4);
            let mut held = Vec::new();
            while let Some(turn) = turns.take(greedy).now_or_never() {
                held.push(turn);
            }
            assert_eq!(held.len(), 3);
            let last = turns.take(other).now_or_never();
            assert!(last.is_some());
            assert!(turns.take(other).now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn a_single_connection_is_shared() {
        let turns = Turns::new(1);
        let turn = turns.take(Class::Clients).await;
        assert!(turns.take(Class::Schedules).now_or_never().is_none());
        drop(turn);
        assert!(turns.take(Class::Schedules).now_or_never().is_some());
    }
}
