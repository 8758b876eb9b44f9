//! What Postgres said of a statement, learned again where there is reason to doubt it. Loads notice by
//! themselves that a statement is no longer what was described. But a request whose argument is refused
//! causes no load: the argument may be wrong, or a column has another type since.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::concurrency::LoadClass;
use super::{PostgresSource, ReadThrough, Source};
use crate::lock::lock;
use crate::plan::EndpointId;
use crate::repository::Description;

/// At least this long between descriptions of an endpoint that clients bring about.
const EVERY: Duration = Duration::from_secs(1);

/// When an endpoint was doubted last.
#[derive(Debug, Default)]
pub(super) struct RedescribeLimit(Mutex<Option<Instant>>);

impl RedescribeLimit {
    /// Whether it is time to look again.
    fn is_due(&self, now: Instant) -> bool {
        let at = *lock(&self.0);
        at.is_none_or(|at| now.duration_since(at) >= EVERY)
    }

    fn note(&self, now: Instant) {
        *lock(&self.0) = Some(now);
    }
}

impl<S: Source> ReadThrough<S> {
    /// Has the endpoint's statement described again in the background, as one of the loads that clients may
    /// cause.
    pub(super) fn redescribe(&self, endpoint: EndpointId) {
        let (doubted, now) = (&self.state(endpoint).doubted, Instant::now());
        let may_ask = doubted.is_due(now) && self.shared.source.retry_in().is_zero();
        if !may_ask
            || self
                .shared
                .rate_limit
                .take(LoadClass::ColdKey, Duration::ZERO)
                .is_err()
        {
            return;
        }
        doubted.note(now);
        let read_through = self.clone();
        tokio::spawn(async move {
            let shared = &read_through.shared;
            let _permit = shared.slots.acquire(LoadClass::ColdKey).await;
            let described = shared
                .source
                .describe_again(read_through.endpoint(endpoint));
            if let Err(error) = described.await {
                read_through.report_failure(endpoint, error);
            }
        });
    }
}

impl ReadThrough<PostgresSource> {
    /// Says that a request was refused by this description, without a load.
    pub fn question_description(&self, endpoint: EndpointId, description: &Arc<Description>) {
        if self.shared.source.is_described_by(endpoint, description) {
            self.redescribe(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_have_a_statement_described_once_in_a_while() {
        let doubted = RedescribeLimit::default();
        assert!(doubted.is_due(Instant::now()));
        doubted.note(Instant::now());
        assert!(!doubted.is_due(Instant::now()));
        tokio::time::advance(EVERY).await;
        assert!(doubted.is_due(Instant::now()));
    }
}
