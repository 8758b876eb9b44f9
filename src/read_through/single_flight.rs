//! One load per key at a time. A load belongs to no client: it runs in a task of its own, and whoever
//! wants its result waits for it to land.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{LoadError, ReadError, Start, UNPOISONED};
use crate::cache::{Entry, Key};

/// What a load led to; shared by everyone who waited.
pub type Landed = Result<Arc<Entry>, Arc<LoadError>>;

/// The loads that are running.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights {
    running: Arc<Mutex<HashMap<Key, Flight>>>,
    /// Nobody joins: for the test of the test that everyone does.
    #[cfg(test)]
    pub(super) nobody_joins: bool,
}

impl Flights {
    /// Joins the running load of `key`; else begins one, if `admit` neither refuses nor finds that
    /// an entry has come meanwhile. Of any number of callers at once, one begins.
    pub(super) fn join_or_begin<T>(
        &self,
        key: &Key,
        admit: impl FnOnce() -> Result<Admitted<T>, ReadError>,
        begin: impl FnOnce(Landing, T),
    ) -> Result<Start, ReadError> {
        let mut running = self.running.lock().expect(UNPOISONED);
        #[cfg(test)]
        if self.nobody_joins {
            running.remove(key);
        }
        if let Some(flight) = running.get(key) {
            return Ok(Start::Joined(flight.clone()));
        }
        let ticket = match admit()? {
            Admitted::Load(ticket) => ticket,
            Admitted::Loaded(entry) => return Ok(Start::Loaded(entry)),
        };
        let (sender, receiver) = watch::channel(None);
        let flight = Flight { receiver };
        running.insert(key.clone(), flight.clone());
        drop(running);
        let landing = Landing {
            key: key.clone(),
            flights: self.clone(),
            sender,
        };
        begin(landing, ticket);
        Ok(Start::Began(flight))
    }
}

/// Whether a load may begin.
pub(super) enum Admitted<T> {
    /// It may, with what it was given for it.
    Load(T),
    /// It need not.
    Loaded(Arc<Entry>),
}

/// A running load, seen by those who wait.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    receiver: watch::Receiver<Option<Landed>>,
}

impl Flight {
    /// Waits for its end.
    pub(super) async fn landed(mut self) -> Landed {
        match self.receiver.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().expect("waited until there is one"),
            Err(_) => Err(Arc::new(LoadError::Lost)),
        }
    }
}

/// The duty to end a load: held by its task, kept even when the task panics.
#[derive(Debug)]
pub(super) struct Landing {
    key: Key,
    flights: Flights,
    sender: watch::Sender<Option<Landed>>,
}

impl Landing {
    /// Tells everyone. By now a new entry is in the cache, so whoever comes next finds it there.
    pub(super) fn land(self, landed: Landed) {
        self.take_out();
        self.sender.send_replace(Some(landed));
    }

    /// Whether anyone waits for it, beside the map of what is running.
    pub(super) fn is_awaited(&self) -> bool {
        self.sender.receiver_count() > 1
    }

    fn take_out(&self) {
        self.flights
            .running
            .lock()
            .expect(UNPOISONED)
            .remove(&self.key);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // After `land` the key may be running again, on behalf of another landing.
        if self.sender.borrow().is_none() {
            self.take_out();
        }
    }
}
