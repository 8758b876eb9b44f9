//! When to look again: schedules, probes, notifications, keys in use. Decides the moment and nothing
//! else; what a refresh is, is told in `read_through`.
//!
//! | part        | does                                                             |
//! |-------------|------------------------------------------------------------------|
//! | `timetable` | pure: which endpoints are due, and when the next one is           |
//! | `heartbeat` | one beat a second, from tokio-cron-scheduler, for wall-clock times |
//! | `probe`     | a small question, asked to learn whether the large ones must be   |
//! | `notify`    | Postgres says itself that something changed                       |
//! | `sleep`     | how long the machine has slept                                    |

pub mod timetable;

mod heartbeat;
mod notify;
mod probe;
mod sleep;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use heartbeat::HeartbeatError;

use crate::observe::{Observer, RefreshOutcome, Task, Trigger};
use crate::plan::{EndpointId, Plan};
use crate::read_through::{AheadCheck, ReadThrough};
use crate::repository::Repository;
use crate::supervise;
use heartbeat::Heartbeat;
use sleep::Sleep;
use timetable::Timetable;

/// Loads scheduled endpoints when they are due, and failed ones again.
#[derive(Debug)]
pub struct Refresher {
    plan: Arc<Plan>,
    timetable: Timetable,
    read_through: ReadThrough,
    repository: Repository,
    sleep: Sleep,
    heartbeat: Heartbeat,
    /// Keys that are to be looked at again.
    ahead: mpsc::UnboundedReceiver<AheadCheck>,
    /// Refreshes that have ended.
    endings: mpsc::UnboundedReceiver<Ended>,
    invalidator: Invalidator,
}

/// Passes on that data have changed.
#[derive(Debug, Clone)]
struct Invalidator {
    read_through: ReadThrough,
    ended: mpsc::UnboundedSender<Ended>,
}

/// Has endpoints that failed loaded again, by the clock of a [`Refresher`].
#[derive(Debug, Clone)]
pub struct Retries(mpsc::UnboundedSender<Ended>);

impl Retries {
    /// Has the endpoint loaded at `at`, and then until that succeeds.
    pub fn retry(&self, endpoint: EndpointId, at: Instant) {
        let retry_at = Some(at);
        // The receiver is gone only when the server shuts down.
        let _ = self.0.send(Ended { endpoint, retry_at });
    }
}

impl Refresher {
    /// Starts the clock of every schedule, so that what is loaded from now on knows how long it is
    /// fresh. Nothing is loaded before [`Refresher::start`].
    ///
    /// # Errors
    /// [`HeartbeatError`] when the scheduler does not start.
    pub async fn new(
        plan: &Arc<Plan>,
        repository: Repository,
        read_through: ReadThrough,
    ) -> Result<Self, HeartbeatError> {
        let timetable = Timetable::new(plan.endpoints(), read_through.now(), SystemTime::now());
        let (keeper, ahead) = mpsc::unbounded_channel();
        let (ended, endings) = mpsc::unbounded_channel();
        read_through.send_ahead_checks_to(keeper);
        let refresher = Self {
            ahead,
            endings,
            invalidator: Invalidator {
                read_through: read_through.clone(),
                ended,
            },
            plan: Arc::clone(plan),
            timetable,
            read_through,
            repository,
            sleep: Sleep::watch(),
            heartbeat: Heartbeat::start().await?,
        };
        refresher.announce_all();
        Ok(refresher)
    }

    /// Has endpoints that failed loaded again.
    pub fn retries(&self) -> Retries {
        Retries(self.invalidator.ended.clone())
    }

    /// Follows the probes and the notifications that the plan names, until `shutdown`.
    pub fn follow(&self, observer: &Observer, shutdown: &CancellationToken) {
        let plan = &self.plan;
        let parts = || {
            let (repository, invalidator) = (self.repository.clone(), self.invalidator.clone());
            (Arc::clone(plan), repository, invalidator, observer.clone())
        };
        for probe in plan.probes() {
            let (parts, probe) = (parts(), probe.clone());
            supervise::spawn(observer, Task::Probe, shutdown, move || {
                let (plan, repository, invalidator, observer) = parts.clone();
                probe::watch(plan, probe.clone(), repository, invalidator, observer)
            });
        }
        if !plan.channels().is_empty() {
            let parts = parts();
            supervise::spawn(observer, Task::Notify, shutdown, move || {
                let (plan, repository, invalidator, observer) = parts.clone();
                notify::listen(plan, repository, invalidator, observer)
            });
        }
    }

    /// Refreshes what is due, until `shutdown`.
    pub fn start(self, observer: &Observer, shutdown: &CancellationToken) {
        let refresher = Arc::new(tokio::sync::Mutex::new(self));
        let mut is_again = false;
        supervise::spawn(observer, Task::Refresh, shutdown, move || {
            let is_again = std::mem::replace(&mut is_again, true);
            let refresher = Arc::clone(&refresher);
            async move {
                let mut refresher = refresher.lock().await;
                if is_again {
                    refresher.begin_again();
                }
                refresher.run().await;
            }
        });
    }

    /// After a panic nobody knows what of the timetable was taken and not done.
    fn begin_again(&mut self) {
        let (now, wall) = (self.read_through.now(), SystemTime::now());
        self.timetable = Timetable::new(self.plan.endpoints(), now, wall);
        self.announce_all();
    }

    async fn run(&mut self) {
        loop {
            let next = self.timetable.next();
            let wait = next.map_or(BEAT_AT_MOST, |next| next - self.read_through.now());
            tokio::select! {
                () = self.heartbeat.beat() => {}
                () = tokio::time::sleep(wait.min(BEAT_AT_MOST)) => {}
                Some(Ended { endpoint, retry_at }) = self.endings.recv() => {
                    self.timetable.retry(endpoint, retry_at);
                }
                Some(key) = self.ahead.recv() => self.timetable.look_at(key),
            }
            if self.read_through.record_sleep(self.sleep.total()) {
                self.repository.suspect_sessions();
            }
            let now = self.read_through.now();
            for key in self.timetable.take_keys(now) {
                self.read_through.refresh_ahead(&key);
            }
            let wall = SystemTime::now();
            if self.timetable.clock_was_set(now, wall) {
                self.announce_all();
            }
            for due in self.timetable.take_due(now, wall) {
                self.announce(due.endpoint);
                // Who wants the data as of some moment is not served by what was read before it; who
                // wants it now and then is.
                let after = due.by_the_clock.then_some(now);
                let invalidator = self.invalidator.clone();
                tokio::spawn(invalidator.refresh(due.endpoint, Trigger::Schedule, after));
            }
        }
    }

    fn announce_all(&self) {
        for endpoint in self.plan.endpoints() {
            self.announce(endpoint.id);
        }
    }

    /// Lets entries know when they are replaced.
    fn announce(&self, endpoint: EndpointId) {
        if let Some(due) = self
            .timetable
            .due(endpoint, self.read_through.now(), SystemTime::now())
        {
            self.read_through.set_due(endpoint, due);
        }
    }
}

/// How long the loop waits for a heartbeat: cron lines are followed while it stands still, too.
const BEAT_AT_MOST: Duration = Duration::from_secs(1);

/// At least this long between an endpoint's attempts, whatever failed.
const RETRY_AT_LEAST: Duration = Duration::from_millis(100);

/// How a refresh ended: with what is to be tried again, or with nothing.
#[derive(Debug)]
struct Ended {
    endpoint: EndpointId,
    retry_at: Option<Instant>,
}

impl Invalidator {
    /// The data behind these endpoints have changed. Where there is one answer it is loaded at once;
    /// where there are many, each is loaded when it is asked for again.
    fn invalidate(&self, endpoints: &[EndpointId], trigger: Trigger) {
        for endpoint in endpoints {
            self.read_through.invalidate(*endpoint);
            if self.read_through.is_resident(*endpoint) {
                let after = Some(self.read_through.now());
                tokio::spawn(self.clone().refresh(*endpoint, trigger, after));
            }
        }
    }

    /// Refreshes an endpoint, and says when to try again if that fails.
    async fn refresh(self, endpoint: EndpointId, trigger: Trigger, after: Option<Instant>) {
        let refresh = self.read_through.refresh(endpoint, trigger, after);
        // What is never said to have ended would never be tried again.
        let outcome = AssertUnwindSafe(refresh).catch_unwind().await;
        let outcome = outcome.unwrap_or(RefreshOutcome::Failed);
        let retry_at = match outcome {
            RefreshOutcome::Changed | RefreshOutcome::Unchanged => None,
            RefreshOutcome::Failed => {
                let wait = self.read_through.retry_in(endpoint).max(RETRY_AT_LEAST);
                Some(self.read_through.now() + wait)
            }
            RefreshOutcome::Skipped => return,
        };
        // The receiver is gone only when the server shuts down.
        let _ = self.ended.send(Ended { endpoint, retry_at });
    }
}
