//! Notifications: `NOTIFY` in Postgres reports that something changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Invalidator;
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

/// Listens until it is dropped, and invalidates the endpoints of every channel with a notification.
pub(super) async fn listen(
    plan: Arc<Plan>,
    repository: Repository,
    invalidator: Invalidator,
    observer: Observer,
) {
    let channels = plan.channels();
    let mut failures = 0;
    // A failure is reported again when its fault differs: after an outage, the server that comes back may
    // be one that does not accept LISTEN.
    let mut reported: Option<Fault> = None;
    loop {
        let lost = match repository.listen(&channels).await {
            Ok(listener) => {
                (failures, reported) = (0, None);
                observer.emit(&Event::Listening);
                // Notifications sent while nobody listened were missed.
                invalidate(&plan, &invalidator, |_| true);
                receive(&plan, &invalidator, listener).await
            }
            Err(error) => error,
        };
        if reported.replace(lost.fault()) != Some(lost.fault()) {
            let cause = lost.to_string();
            observer.emit(&Event::ListeningFailed { cause });
        }
        tokio::time::sleep(BACKOFF.wait(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// Passes notifications on until the connection is lost.
async fn receive(
    plan: &Plan,
    invalidator: &Invalidator,
    mut listener: Listener,
) -> RepositoryError {
    loop {
        let channels: BTreeSet<String> = match listener.next().await {
            Ok(channels) => channels,
            Err(error) => return error,
        };
        invalidate(plan, invalidator, |channel| channels.contains(channel));
        tokio::time::sleep(NOTIFIED_EVERY).await;
    }
}

/// Invalidates the endpoints of the channels that `is_notified` selects.
fn invalidate(plan: &Plan, invalidator: &Invalidator, is_notified: impl Fn(&str) -> bool) {
    let endpoints = plan.endpoints().iter();
    let endpoints: Vec<EndpointId> = endpoints
        .filter(|endpoint| {
            let channel = endpoint.refresh.notify.as_deref();
            channel.is_some_and(&is_notified)
        })
        .map(|endpoint| endpoint.id)
        .collect();
    invalidator.invalidate(&endpoints, Trigger::Notify);
}
