//! When to look again: schedules. Decides the moment and nothing else; what a refresh is, is told in
//! `read_through`.
//!
//! | part        | does                                                             |
//! |-------------|------------------------------------------------------------------|
//! | `timetable` | pure: which endpoints are due, and when the next one is           |
//! | `heartbeat` | one beat a second, from tokio-cron-scheduler, for wall-clock times |
//! | `probe`     | a small question, asked to learn whether the large ones must be   |
//! | `notify`    | Postgres says itself that something changed                       |

pub mod timetable;

mod heartbeat;
mod notify;
mod probe;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use heartbeat::HeartbeatError;

use crate::observe::{Observer, RefreshOutcome, Trigger};
use crate::plan::{EndpointId, Plan};
use crate::read_through::{Ahead, ReadThrough};
use crate::repository::Repository;
use heartbeat::Heartbeat;
use timetable::Timetable;

/// Loads scheduled endpoints when they are due, and failed ones again.
#[derive(Debug)]
pub struct Refresher {
    timetable: Timetable,
    read_through: ReadThrough,
    heartbeat: Heartbeat,
    /// Keys that are to be looked at again.
    ahead: mpsc::UnboundedReceiver<Ahead>,
}

impl Refresher {
    /// Starts the clock of every schedule, so that what is loaded from now on knows how long it is
    /// fresh. Nothing is loaded before [`Refresher::run`].
    ///
    /// # Errors
    /// [`HeartbeatError`] when the scheduler does not start.
    pub async fn new(plan: &Arc<Plan>, read_through: ReadThrough) -> Result<Self, HeartbeatError> {
        let timetable = Timetable::new(plan.endpoints(), Instant::now(), SystemTime::now());
        let (keeper, ahead) = mpsc::unbounded_channel();
        read_through.keep_time_with(keeper);
        let refresher = Self {
            ahead,
            timetable,
            read_through,
            heartbeat: Heartbeat::start().await?,
        };
        for endpoint in plan.endpoints() {
            refresher.announce(endpoint.id);
        }
        Ok(refresher)
    }

    /// Refreshes what is due until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (ended, mut endings) = mpsc::unbounded_channel();
        loop {
            // Without a moment of its own, the heartbeat is soon enough.
            let next = self
                .timetable
                .next()
                .unwrap_or_else(|| Instant::now() + HEARTBEAT_AT_MOST);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.heartbeat.beat() => {}
                () = tokio::time::sleep_until(next) => {}
                Some(Ending { endpoint, retry_at }) = endings.recv() => {
                    self.timetable.retry(endpoint, retry_at);
                }
                Some(Ahead { key, at }) = self.ahead.recv() => self.timetable.look_at(key, at),
            }
            let now = Instant::now();
            for key in self.timetable.take_keys(now) {
                self.read_through.load_ahead(&key);
            }
            for due in self.timetable.take_due(now, SystemTime::now()) {
                self.announce(due.endpoint);
                // Who wants the data as of some moment is not served by what was read before it; who
                // wants it now and then is.
                let after = due.by_the_clock.then_some(now);
                tokio::spawn(refresh(
                    self.read_through.clone(),
                    due.endpoint,
                    after,
                    ended.clone(),
                ));
            }
        }
    }

    /// Lets entries know when they are replaced.
    fn announce(&self, endpoint: EndpointId) {
        if let Some(due) = self
            .timetable
            .due(endpoint, Instant::now(), SystemTime::now())
        {
            self.read_through.set_due(endpoint, due);
        }
    }
}

/// Follows the probes and the notifications that the plan names, until `shutdown`.
pub fn follow(
    plan: &Arc<Plan>,
    repository: &Repository,
    read_through: &ReadThrough,
    observer: &Observer,
    shutdown: &CancellationToken,
) {
    let parts = || {
        let (repository, read_through) = (repository.clone(), read_through.clone());
        (Arc::clone(plan), repository, read_through, observer.clone())
    };
    for probe in plan.probes() {
        let ((plan, repository, read_through, observer), probe) = (parts(), probe.clone());
        let watch = probe::watch(plan, probe, repository, read_through, observer);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(watch));
    }
    if !plan.channels().is_empty() {
        let (plan, repository, read_through, observer) = parts();
        let listen = notify::listen(plan, repository, read_through, observer);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(listen));
    }
}

/// The data behind these endpoints have changed. Where there is one answer it is loaded at once; where
/// there are many, each is loaded when it is asked for again.
fn changed(read_through: &ReadThrough, endpoints: &[EndpointId], trigger: Trigger) {
    for endpoint in endpoints {
        read_through.invalidate(*endpoint);
        if read_through.is_resident(*endpoint) {
            let (read_through, endpoint) = (read_through.clone(), *endpoint);
            let after = Some(Instant::now());
            tokio::spawn(async move { read_through.refresh(endpoint, trigger, after).await });
        }
    }
}

/// How long the loop sleeps if the heartbeat fails it.
const HEARTBEAT_AT_MOST: Duration = Duration::from_secs(5);

/// At least this long between an endpoint's attempts, whatever failed.
const RETRY_AT_LEAST: Duration = Duration::from_millis(100);

/// How a refresh ended: with what is to be tried again, or with nothing.
struct Ending {
    endpoint: EndpointId,
    retry_at: Option<Instant>,
}

async fn refresh(
    read_through: ReadThrough,
    endpoint: EndpointId,
    after: Option<Instant>,
    ended: mpsc::UnboundedSender<Ending>,
) {
    let outcome = read_through
        .refresh(endpoint, Trigger::Schedule, after)
        .await;
    let retry_at = match outcome {
        RefreshOutcome::Changed | RefreshOutcome::Unchanged => None,
        RefreshOutcome::Failed => {
            let wait = read_through.retry_in(endpoint).max(RETRY_AT_LEAST);
            Some(Instant::now() + wait)
        }
        RefreshOutcome::Skipped => return,
    };
    // The receiver is gone only when the server shuts down.
    let _ = ended.send(Ending { endpoint, retry_at });
}
