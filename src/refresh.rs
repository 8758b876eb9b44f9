//! When to refresh: schedules, probes, notifications and keys in use. This module decides the moment only;
//! `read_through` does the rest.
//!
//! | part        | does                                                                  |
//! |-------------|-----------------------------------------------------------------------|
//! | `timetable` | which endpoints are due, and when the next one is; no clocks, no I/O  |
//! | `heartbeat` | one beat per second from tokio-cron-scheduler, for wall-clock times   |
//! | `probe`     | runs a cheap query to learn whether the expensive ones must be run    |
//! | `notify`    | listens for notifications that something changed                      |
//! | `sleep`     | how long the machine has slept                                        |

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

/// Refreshes scheduled endpoints when they are due, and retries failed ones.
#[derive(Debug)]
pub struct Refresher {
    plan: Arc<Plan>,
    timetable: Timetable,
    read_through: ReadThrough,
    repository: Repository,
    sleep: Sleep,
    heartbeat: Heartbeat,
    /// Keys to check again at some moment.
    ahead_checks: mpsc::UnboundedReceiver<AheadCheck>,
    /// Refreshes that have ended.
    ended: mpsc::UnboundedReceiver<Ended>,
    invalidator: Invalidator,
}

/// Invalidates the endpoints whose data have changed, and refreshes their resident entries.
#[derive(Debug, Clone)]
struct Invalidator {
    plan: Arc<Plan>,
    read_through: ReadThrough,
    ended: mpsc::UnboundedSender<Ended>,
}

/// Schedules retries of failed endpoints with a [`Refresher`].
#[derive(Debug, Clone)]
pub struct Retries(mpsc::UnboundedSender<Ended>);

impl Retries {
    /// Loads the endpoint at `at`, and again until that succeeds.
    pub fn retry(&self, endpoint: EndpointId, at: Instant) {
        let retry_at = Some(at);
        // The receiver is gone only when the server shuts down.
        let _ = self.0.send(Ended { endpoint, retry_at });
    }
}

impl Refresher {
    /// Starts every schedule, so that entries loaded from now on know how long they are fresh. Nothing is
    /// refreshed before [`Refresher::start`].
    ///
    /// # Errors
    /// [`HeartbeatError`] if the scheduler does not start.
    pub async fn new(
        plan: &Arc<Plan>,
        repository: Repository,
        read_through: ReadThrough,
    ) -> Result<Self, HeartbeatError> {
        let timetable = Timetable::new(
            plan.endpoints(),
            read_through.clock().now(),
            SystemTime::now(),
        );
        let (checks, ahead_checks) = mpsc::unbounded_channel();
        let (sender, ended) = mpsc::unbounded_channel();
        read_through.maintenance().send_ahead_checks_to(checks);
        let refresher = Self {
            ahead_checks,
            ended,
            invalidator: Invalidator {
                plan: Arc::clone(plan),
                read_through: read_through.clone(),
                ended: sender,
            },
            plan: Arc::clone(plan),
            timetable,
            read_through,
            repository,
            sleep: Sleep::start(),
            heartbeat: Heartbeat::start().await?,
        };
        refresher.set_all_due();
        Ok(refresher)
    }

    /// A handle to schedule retries of failed endpoints.
    pub fn retries(&self) -> Retries {
        Retries(self.invalidator.ended.clone())
    }

    /// Runs the plan's probes and listens for its notifications, until `shutdown`.
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
        let mut has_run = false;
        supervise::spawn(observer, Task::Refresh, shutdown, move || {
            let is_restart = std::mem::replace(&mut has_run, true);
            let refresher = Arc::clone(&refresher);
            async move {
                let mut refresher = refresher.lock().await;
                if is_restart {
                    refresher.restart_schedules();
                }
                refresher.run().await;
            }
        });
    }

    /// Restarts every schedule, because a panic may have lost refreshes that were taken off the timetable.
    fn restart_schedules(&mut self) {
        let (now, wall) = (self.read_through.clock().now(), SystemTime::now());
        self.timetable = Timetable::new(self.plan.endpoints(), now, wall);
        self.set_all_due();
    }

    async fn run(&mut self) {
        loop {
            let next = self.timetable.next();
            let wait = next.map_or(BEAT_TIMEOUT, |next| next - self.read_through.clock().now());
            tokio::select! {
                () = self.heartbeat.beat() => {}
                () = tokio::time::sleep(wait.min(BEAT_TIMEOUT)) => {}
                Some(Ended { endpoint, retry_at }) = self.ended.recv() => {
                    self.timetable.retry(endpoint, retry_at);
                }
                Some(key) = self.ahead_checks.recv() => self.timetable.add_key(key),
            }
            if self.read_through.clock().record_sleep(self.sleep.total()) {
                self.repository.suspect_sessions();
            }
            let now = self.read_through.clock().now();
            for key in self.timetable.take_keys(now) {
                self.read_through.maintenance().refresh_ahead(&key);
            }
            let wall = SystemTime::now();
            if self.timetable.record_clocks(now, wall) {
                self.set_all_due();
            }
            for due in self.timetable.take_due(now, wall) {
                self.set_due(due.endpoint);
                // A cron line names a moment, so a load that began before it does not count. For an
                // interval, any running load will do.
                let after = due.is_cron.then_some(now);
                let invalidator = self.invalidator.clone();
                tokio::spawn(invalidator.refresh(due.endpoint, Trigger::Schedule, after));
            }
        }
    }

    fn set_all_due(&self) {
        for endpoint in self.plan.endpoints() {
            self.set_due(endpoint.id);
        }
    }

    /// Passes on when the endpoint's schedule loads it next, which decides how long its entries are fresh.
    fn set_due(&self, endpoint: EndpointId) {
        if let Some(due) =
            self.timetable
                .due(endpoint, self.read_through.clock().now(), SystemTime::now())
        {
            self.read_through.maintenance().set_due(endpoint, due);
        }
    }
}

/// The longest wait for a heartbeat: cron schedules are followed even while none comes.
const BEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest wait between two attempts of an endpoint, whatever failed.
const MIN_RETRY_WAIT: Duration = Duration::from_millis(100);

/// The end of a refresh, with a retry if it failed.
#[derive(Debug)]
struct Ended {
    endpoint: EndpointId,
    retry_at: Option<Instant>,
}

impl Invalidator {
    /// Invalidates these endpoints. One without parameters is loaded at once; a key of any other is loaded
    /// when it is requested again.
    fn invalidate(&self, endpoints: &[EndpointId], trigger: Trigger) {
        for endpoint in endpoints {
            self.read_through.invalidate(*endpoint);
            if self.plan.endpoint(*endpoint).is_resident() {
                let after = Some(self.read_through.clock().now());
                tokio::spawn(self.clone().refresh(*endpoint, trigger, after));
            }
        }
    }

    /// Refreshes an endpoint, and schedules a retry if that fails.
    async fn refresh(self, endpoint: EndpointId, trigger: Trigger, after: Option<Instant>) {
        let refresh = self.read_through.refresh(endpoint, trigger, after);
        // After a panic, too: an endpoint whose refresh never ends would not be retried.
        let outcome = AssertUnwindSafe(refresh).catch_unwind().await;
        let outcome = outcome.unwrap_or(RefreshOutcome::Failed);
        let retry_at = match outcome {
            RefreshOutcome::Changed | RefreshOutcome::Unchanged => None,
            RefreshOutcome::Failed => {
                let wait = self
                    .read_through
                    .inspect()
                    .retry_in(endpoint)
                    .max(MIN_RETRY_WAIT);
                Some(self.read_through.clock().now() + wait)
            }
            RefreshOutcome::Skipped => return,
        };
        // The receiver is gone only when the server shuts down.
        let _ = self.ended.send(Ended { endpoint, retry_at });
    }
}
