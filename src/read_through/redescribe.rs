//! Describes a statement again when its description may be outdated. Loads notice an outdated description
//! themselves. But a request whose argument is rejected causes no load: either the argument is wrong, or the
//! type of a column has changed since.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::concurrency::LoadClass;
use super::{ReadThrough, Source};
use crate::mutex::lock;
use crate::plan::EndpointId;

/// The shortest time between two descriptions of an endpoint that clients cause.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// When clients last caused a description of an endpoint.
#[derive(Debug, Default)]
pub(super) struct RedescribeLimit(Mutex<Option<Instant>>);

impl RedescribeLimit {
    /// Whether clients may cause another one.
    fn is_due(&self, now: Instant) -> bool {
        let at = *lock(&self.0);
        at.is_none_or(|at| now.duration_since(at) >= MIN_INTERVAL)
    }

    fn record(&self, now: Instant) {
        *lock(&self.0) = Some(now);
    }
}

impl<S: Source> ReadThrough<S> {
    /// Describes the endpoint's statement again in the background. It counts as a load that clients cause.
    pub(super) fn redescribe(&self, endpoint: EndpointId) {
        let (limit, now) = (&self.state(endpoint).redescribe_limit, Instant::now());
        let may_ask = limit.is_due(now) && self.planned.source.retry_in().is_zero();
        if !may_ask
            || self
                .engine
                .rate_limit
                .take(LoadClass::ColdKey, Duration::ZERO)
                .is_err()
        {
            return;
        }
        limit.record(now);
        let read_through = self.clone();
        tokio::spawn(async move {
            let slots = &read_through.engine.slots;
            let _permit = slots.acquire(LoadClass::ColdKey).await;
            let described = read_through
                .planned
                .source
                .describe_again(read_through.endpoint(endpoint));
            if let Err(error) = described.await {
                read_through.maintenance().report_failure(endpoint, error);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_cause_at_most_one_description_per_interval() {
        let limit = RedescribeLimit::default();
        assert!(limit.is_due(Instant::now()));
        limit.record(Instant::now());
        assert!(!limit.is_due(Instant::now()));
        tokio::time::advance(MIN_INTERVAL).await;
        assert!(limit.is_due(Instant::now()));
    }
}
