//! One load per key at a time. A load belongs to no client: it runs in a task of its own, and every
//! request that needs its result waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{LoadError, ReadError, Start};
use crate::cache::{Entry, Key};
use crate::mutex::lock;

/// How a load ended, shared by everyone who waited for it.
pub type LoadResult = Result<Arc<Entry>, Arc<LoadError>>;

/// The loads that are running.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight {
    running: Arc<Mutex<HashMap<Key, Waiter>>>,
    /// Every caller begins a load: a defect that the simulation must detect.
    #[cfg(test)]
    pub(super) never_joins: bool,
}

impl InFlight {
    /// Joins the running load of `key`. If there is none, begins one, unless `admit` refuses or finds an
    /// entry that was stored meanwhile. Of any number of concurrent callers, one begins.
    pub(super) fn join_or_begin<T>(
        &self,
        key: &Key,
        admit: impl FnOnce() -> Result<Admission<T>, ReadError>,
        begin: impl FnOnce(LoadGuard, T),
    ) -> Result<Start, ReadError> {
        let mut running = lock(&self.running);
        #[cfg(test)]
        if self.never_joins {
            running.remove(key);
        }
        if let Some(waiter) = running.get(key) {
            return Ok(Start::Joined(waiter.clone()));
        }
        let ticket = match admit()? {
            Admission::Load(ticket) => ticket,
            Admission::Loaded(entry) => return Ok(Start::Loaded(entry)),
        };
        let (sender, receiver) = watch::channel(None);
        let waiter = Waiter { receiver };
        running.insert(key.clone(), waiter.clone());
        drop(running);
        let guard = LoadGuard {
            key: key.clone(),
            in_flight: self.clone(),
            sender,
        };
        begin(guard, ticket);
        Ok(Start::Began(waiter))
    }
}

/// Whether a load is needed.
pub(super) enum Admission<T> {
    /// Yes, with what it was admitted with.
    Load(T),
    /// No: there is an entry.
    Loaded(Arc<Entry>),
}

/// A running load, as its waiters see it.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    receiver: watch::Receiver<Option<LoadResult>>,
}

impl Waiter {
    /// Waits until the load ends.
    pub(super) async fn wait(mut self) -> LoadResult {
        match self.receiver.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("waited until there is one"),
            Err(_) => Err(Arc::new(LoadError::Lost)),
        }
    }
}

/// The duty to end a load. Its task holds this, and fulfils it even if the task panics.
#[derive(Debug)]
pub(super) struct LoadGuard {
    key: Key,
    in_flight: InFlight,
    sender: watch::Sender<Option<LoadResult>>,
}

impl LoadGuard {
    /// Notifies all waiters. A new entry must be in the cache by now, so that later callers find it.
    pub(super) fn finish(self, result: LoadResult) {
        self.remove();
        self.sender.send_replace(Some(result));
    }

    /// Whether anyone waits for the load; the map of running loads holds a receiver, too.
    pub(super) fn is_awaited(&self) -> bool {
        self.sender.receiver_count() > 1
    }

    fn remove(&self) {
        lock(&self.in_flight.running).remove(&self.key);
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        // After `finish`, another load of the key may be running already.
        if self.sender.borrow().is_none() {
            self.remove();
        }
    }
}
