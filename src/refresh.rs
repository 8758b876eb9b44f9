//! When to refresh: schedules, probes, notifications and keys in use. This module decides the moment only;
//! `read_through` does the rest.
//!
//! | part        | does                                                                  |
//! |-------------|-----------------------------------------------------------------------|
//! | `timetable` | which endpoints are due, and when the next one is; no clocks, no I/O  |
//! | `heartbeat` | one beat per second from tokio-cron-scheduler, for wall-clock times   |
//! | `probe`     | runs a cheap query to learn whether the expensive ones must be run    |
//! | `notify`    | listens for notifications that something changed                      |
//! | `watchers`  | which probes run, and which channels are listened on                  |
//! | `sleep`     | how long the machine has slept                                        |

pub mod timetable;

mod heartbeat;
mod notify;
mod probe;
mod sleep;
mod watchers;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use heartbeat::HeartbeatError;

use crate::cache::Validated;
use crate::observe::{Observer, RefreshOutcome, Task, Trigger};
use crate::plan::{Endpoint, EndpointId, Plan};
use crate::read_through::{AheadCheck, Clock, ReadThrough};
use crate::repository::Repository;
use crate::supervise;
use heartbeat::Heartbeat;
use sleep::Sleep;
use timetable::Timetable;
use watchers::Watchers;

/// What is refreshed: the endpoints of a plan, by the engine for it.
#[derive(Debug, Clone)]
struct Refreshed {
    plan: Arc<Plan>,
    read_through: ReadThrough,
}

/// Refreshes scheduled endpoints when they are due, and retries failed ones.
#[derive(Debug)]
pub struct Refresher {
    refreshed: Arc<ArcSwap<Refreshed>>,
    timetable: Timetable,
    watchers: Watchers,
    repository: Repository,
    sleep: Sleep,
    heartbeat: Heartbeat,
    /// Keys to check again at some moment.
    ahead_checks: mpsc::UnboundedReceiver<AheadCheck>,
    /// Refreshes that have ended.
    ended: mpsc::UnboundedReceiver<Ended>,
    /// What is to be refreshed instead, and whom to tell when it is.
    successors: mpsc::UnboundedReceiver<(Refreshed, oneshot::Sender<()>)>,
    invalidator: Invalidator,
}

/// Has a [`Refresher`] refresh the endpoints of another plan.
#[derive(Debug, Clone)]
pub struct Succession(mpsc::UnboundedSender<(Refreshed, oneshot::Sender<()>)>);

impl Succession {
    /// Refreshes the endpoints of `plan` from now on, by the engine for it. What has the same schedule keeps its
    /// moments.
    pub async fn follow(&self, plan: Arc<Plan>, read_through: ReadThrough) {
        let (done, is_done) = oneshot::channel();
        // The receiver is gone only when the server shuts down.
        let _ = self.0.send((Refreshed { plan, read_through }, done));
        let _ = is_done.await;
    }
}

/// What a task uses that watches for changes of data.
#[derive(Debug, Clone)]
struct WatcherParts {
    repository: Repository,
    invalidator: Invalidator,
    observer: Observer,
    shutdown: CancellationToken,
}

/// Invalidates the endpoints whose data have changed, and refreshes their resident entries.
#[derive(Debug, Clone)]
struct Invalidator {
    refreshed: Arc<ArcSwap<Refreshed>>,
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
        observer: &Observer,
        shutdown: &CancellationToken,
    ) -> Result<(Self, Succession), HeartbeatError> {
        let timetable = Timetable::new(
            plan.endpoints(),
            read_through.clock().now(),
            SystemTime::now(),
        );
        let (checks, ahead_checks) = mpsc::unbounded_channel();
        let (sender, ended) = mpsc::unbounded_channel();
        let (succession, successors) = mpsc::unbounded_channel();
        read_through.maintenance().send_ahead_checks_to(checks);
        let refreshed = Refreshed {
            plan: Arc::clone(plan),
            read_through,
        };
        let refreshed = Arc::new(ArcSwap::from_pointee(refreshed));
        let invalidator = Invalidator {
            refreshed: Arc::clone(&refreshed),
            ended: sender,
        };
        let refresher = Self {
            ahead_checks,
            ended,
            successors,
            watchers: Watchers::new(WatcherParts {
                repository: repository.clone(),
                invalidator: invalidator.clone(),
                observer: observer.clone(),
                shutdown: shutdown.clone(),
            }),
            invalidator,
            refreshed,
            timetable,
            repository,
            sleep: Sleep::start(),
            heartbeat: Heartbeat::start().await?,
        };
        refresher.set_all_due();
        Ok((refresher, Succession(succession)))
    }

    /// A handle to schedule retries of failed endpoints.
    pub fn retries(&self) -> Retries {
        Retries(self.invalidator.ended.clone())
    }

    /// Runs the plan's probes and listens for its notifications, until the shutdown.
    pub fn watch(&mut self) {
        let refreshed = self.refreshed.load();
        self.watchers.follow(&refreshed.plan);
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
        let refreshed = self.refreshed.load();
        let (now, wall) = (refreshed.read_through.clock().now(), SystemTime::now());
        self.timetable = Timetable::new(refreshed.plan.endpoints(), now, wall);
        self.set_all_due();
    }

    fn follow(&mut self, successor: Refreshed) {
        let (now, wall) = (successor.read_through.clock().now(), SystemTime::now());
        let empty = Timetable::new(&[], now, wall);
        let timetable = std::mem::replace(&mut self.timetable, empty);
        self.timetable = timetable.following(successor.plan.endpoints(), now, wall);
        self.refreshed.store(Arc::new(successor));
        self.set_all_due();
        self.watch();
    }

    async fn run(&mut self) {
        let clock = self.refreshed.load().read_through.clock().clone();
        loop {
            let next = self.timetable.next();
            let wait = next.map_or(BEAT_TIMEOUT, |next| next - clock.now());
            tokio::select! {
                () = self.heartbeat.beat() => {}
                () = tokio::time::sleep(wait.min(BEAT_TIMEOUT)) => {}
                Some(Ended { endpoint, retry_at }) = self.ended.recv() => {
                    self.timetable.retry(endpoint, retry_at);
                }
                Some(key) = self.ahead_checks.recv() => self.timetable.add_key(key),
                Some((successor, done)) = self.successors.recv() => {
                    self.follow(successor);
                    // The caller may be gone.
                    let _ = done.send(());
                }
            }
            if clock.record_sleep(self.sleep.total()) {
                self.repository.suspect_sessions();
            }
            self.refresh_due(clock.now());
        }
    }

    fn refresh_due(&mut self, now: Instant) {
        let refreshed = self.refreshed.load_full();
        for key in self.timetable.take_keys(now) {
            refreshed.read_through.maintenance().refresh_ahead(&key);
        }
        let wall = SystemTime::now();
        if self.timetable.record_clocks(now, wall) {
            self.set_all_due();
        }
        for due in self.timetable.take_due(now, wall) {
            self.set_due(&refreshed.read_through, due.endpoint);
            // A cron line names a moment, so a load that began before it does not count. For an interval, any
            // running load will do.
            let after = due.is_cron.then_some(now);
            let invalidator = self.invalidator.clone();
            tokio::spawn(invalidator.refresh(due.endpoint, Trigger::Schedule, after));
        }
    }

    fn set_all_due(&self) {
        let refreshed = self.refreshed.load();
        for endpoint in refreshed.plan.endpoints() {
            self.set_due(&refreshed.read_through, endpoint.id);
        }
    }

    /// Passes on when the endpoint's schedule loads it next, which decides how long its entries are fresh.
    fn set_due(&self, read_through: &ReadThrough, endpoint: EndpointId) {
        let now = read_through.clock().now();
        let due = self.timetable.due(endpoint, now, SystemTime::now());
        read_through.maintenance().set_due(endpoint, due);
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
    /// Invalidates the endpoints that `is_meant` selects. One without parameters is loaded at once; a key of any
    /// other is loaded when it is requested again.
    fn invalidate(&self, trigger: Trigger, is_meant: impl Fn(&Endpoint) -> bool) {
        let refreshed = self.refreshed.load();
        let endpoints = refreshed.plan.endpoints().iter();
        for endpoint in endpoints.filter(|endpoint| is_meant(endpoint)) {
            refreshed.read_through.invalidate(endpoint.id);
            if endpoint.is_resident() {
                let after = Some(refreshed.read_through.clock().now());
                tokio::spawn(self.clone().refresh(endpoint.id, trigger, after));
            }
        }
    }

    /// Revalidates the endpoints that `is_meant` selects.
    fn revalidate(&self, validated: Validated, is_meant: impl Fn(&Endpoint) -> bool) {
        let refreshed = self.refreshed.load();
        let endpoints = refreshed.plan.endpoints().iter();
        for endpoint in endpoints.filter(|endpoint| is_meant(endpoint)) {
            refreshed.read_through.revalidate(endpoint.id, validated);
        }
    }

    fn clock(&self) -> Clock {
        self.refreshed.load().read_through.clock().clone()
    }

    /// Refreshes an endpoint, unless it was removed, and schedules a retry if that fails.
    async fn refresh(self, endpoint: EndpointId, trigger: Trigger, after: Option<Instant>) {
        let refreshed = self.refreshed.load_full();
        if refreshed.plan.find(endpoint).is_none() {
            return;
        }
        let read_through = &refreshed.read_through;
        let refresh = read_through.refresh(endpoint, trigger, after);
        // After a panic, too: an endpoint whose refresh never ends would not be retried.
        let outcome = AssertUnwindSafe(refresh).catch_unwind().await;
        let outcome = outcome.unwrap_or(RefreshOutcome::Failed);
        let retry_at = match outcome {
            RefreshOutcome::Changed | RefreshOutcome::Unchanged => None,
            RefreshOutcome::Failed => {
                let wait = read_through.inspect().retry_in(endpoint);
                Some(read_through.clock().now() + wait.max(MIN_RETRY_WAIT))
            }
            RefreshOutcome::Skipped => return,
        };
        // The receiver is gone only when the server shuts down.
        let _ = self.ended.send(Ended { endpoint, retry_at });
    }
}
