//! Notifications: Postgres says itself that something changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Changes;
use crate::backoff::{Backoff, Jitter};
use crate::observe::{Event, Fault, Observer, Trigger};
use crate::plan::schedule::NOTIFIED_EVERY;
use crate::plan::{EndpointId, Plan};
use crate::repository::{Listener, Repository, RepositoryError};

/// Waits between attempts to listen.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    jitter: Jitter::Half,
};

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
        tokio::time::sleep(BACKOFF.wait(failures)).await;
        failures = failures.saturating_add(1);
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
