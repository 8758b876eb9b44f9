//! Notifications: Postgres says itself that something changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Changes;
use crate::observe::{Event, Fault, Observer, Trigger};
use crate::plan::schedule::NOTIFIED_EVERY;
use crate::plan::{EndpointId, Plan};
use crate::repository::{Listener, Repository, RepositoryError};

/// Waits between attempts to listen: doubled from the first to the last, each drawn from half to whole.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Listens until it is dropped, and tells the endpoints of each channel that is notified.
pub(super) async fn listen(
    plan: Arc<Plan>,
    repository: Repository,
    changes: Changes,
    observer: Observer,
) {
    let channels = plan.channels();
    let mut failures = 0;
    // Whose fault was told: what first was an outage may have become a server that never listens.
    let mut told: Option<Fault> = None;
    loop {
        let lost = match repository.listen(&channels).await {
            Ok(listener) => {
                (failures, told) = (0, None);
                observer.emit(&Event::Listening);
                // What was notified while nobody listened was missed.
                tell(&plan, &changes, |_| true);
                hear(&plan, &changes, listener).await
            }
            Err(error) => error,
        };
        if told.replace(lost.fault()) != Some(lost.fault()) {
            let cause = lost.to_string();
            observer.emit(&Event::ListeningFailed { cause });
        }
        let (first, last) = BACKOFF;
        let whole = first
            .saturating_mul(2_u32.saturating_pow(failures))
            .min(last);
        failures = failures.saturating_add(1);
        tokio::time::sleep(whole.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
    }
}

/// Passes on what is heard, until the connection is lost.
async fn hear(plan: &Plan, changes: &Changes, mut listener: Listener) -> RepositoryError {
    loop {
        let heard: BTreeSet<String> = match listener.next().await {
            Ok(heard) => heard,
            Err(error) => return error,
        };
        tell(plan, changes, |channel| heard.contains(channel));
        tokio::time::sleep(NOTIFIED_EVERY).await;
    }
}

fn tell(plan: &Plan, changes: &Changes, is_it: impl Fn(&str) -> bool) {
    let named = plan.endpoints().iter();
    let endpoints: Vec<EndpointId> = named
        .filter(|endpoint| endpoint.refresh.notify.as_deref().is_some_and(&is_it))
        .map(|endpoint| endpoint.id)
        .collect();
    changes.tell(&endpoints, Trigger::Notify);
}
