//! Notifications: `NOTIFY` in Postgres reports that something changed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Invalidator, WatcherParts};
use crate::backoff::{Backoff, Jitter};
use crate::observe::{Event, Fault, Trigger};
use crate::plan::schedule::NOTIFIED_EVERY;
use crate::repository::{Listener, RepositoryError};

/// Waits between attempts to listen.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    jitter: Jitter::Half,
};

/// Listens until it is dropped, and invalidates the endpoints of every channel with a notification.
pub(super) async fn listen(channels: Vec<String>, parts: WatcherParts) {
    let WatcherParts {
        repository,
        invalidator,
        observer,
        ..
    } = parts;
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
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
                invalidate(&invalidator, |_| true);
                receive(&invalidator, listener).await
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
async fn receive(invalidator: &Invalidator, mut listener: Listener) -> RepositoryError {
    loop {
        let channels: BTreeSet<String> = match listener.next().await {
            Ok(channels) => channels,
            Err(error) => return error,
        };
        invalidate(invalidator, |channel| channels.contains(channel));
        tokio::time::sleep(NOTIFIED_EVERY).await;
    }
}

/// Invalidates the endpoints of the channels that `is_notified` selects.
fn invalidate(invalidator: &Invalidator, is_notified: impl Fn(&str) -> bool) {
    invalidator.invalidate(Trigger::Notify, |endpoint| {
        let channel = endpoint.refresh.notify.as_deref();
        channel.is_some_and(&is_notified)
    });
}
