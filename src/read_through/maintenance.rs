//! What background tasks do with the engine besides its verbs: schedules, upkeep and reports.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{AheadCheck, PostgresSource, ReadThrough, Source, statement_key};
use crate::mutex::lock;
use crate::observe::Event;
use crate::plan::EndpointId;
use crate::repository::{Description, RepositoryError};

/// Upkeep by background tasks.
#[derive(Debug)]
pub struct Maintenance<'r, S>(pub(super) &'r ReadThrough<S>);

impl<S: Source> ReadThrough<S> {
    /// Upkeep by background tasks.
    pub fn maintenance(&self) -> Maintenance<'_, S> {
        Maintenance(self)
    }
}

impl<S: Source> Maintenance<'_, S> {
    /// Sets when the endpoint's schedule loads it next, if it has one. Entries loaded before then are fresh until that
    /// load must have ended.
    pub fn set_due(&self, endpoint: EndpointId, due: Option<Instant>) {
        *lock(&self.0.state(endpoint).due) = due;
    }

    /// From now on sends the keys to check, each of which the receiver passes to [`Self::refresh_ahead`] at
    /// its time.
    pub fn send_ahead_checks_to(&self, sender: mpsc::UnboundedSender<AheadCheck>) {
        // Only a mistake in the composition sets a second one; the first stays.
        let _ = self.0.engine.ahead_checks.set(sender);
    }

    /// Refreshes a key before it goes stale, if it was requested since it was loaded, and if the plan still asks for
    /// that.
    pub fn refresh_ahead(&self, check: &AheadCheck) {
        let endpoint = self.0.planned.plan.find(check.key.endpoint());
        if endpoint.is_some_and(|endpoint| endpoint.refresh.ahead) {
            self.0.refresh_ahead(check);
        }
    }

    /// Removes everything of these endpoints, which no plan has any more. Visits every entry.
    pub fn remove(&self, endpoints: &HashSet<EndpointId>) {
        if !endpoints.is_empty() {
            self.0.engine.cache.remove(endpoints);
        }
    }

    /// Records an endpoint's failure that is not a load's, such as that of `warm_sql`.
    pub fn report_failure(&self, endpoint: EndpointId, error: RepositoryError) {
        let key = statement_key(endpoint);
        self.0.record_failure(&key, &Arc::new(error.into()));
    }
}

impl Maintenance<'_, PostgresSource> {
    /// Emits the measurements that are not events by themselves: the cache's size, the connections, and the
    /// loads that wait.
    pub fn measure(&self) {
        let engine = &self.0.engine;
        engine.cache.measure();
        let waiting = engine.slots.waiting();
        engine.observer.emit(&Event::WaitingMeasured { waiting });
        self.0.planned.source.measure();
    }

    /// Reports that a request was refused because of this description, without a load.
    pub fn question_description(&self, endpoint: EndpointId, description: &Arc<Description>) {
        if self.0.planned.source.is_described_by(endpoint, description) {
            self.0.redescribe(endpoint);
        }
    }
}
