//! When to look again: schedules. Decides the moment and nothing else; what a refresh is, is told in
//! `read_through`.
//!
//! | part        | does                                                             |
//! |-------------|------------------------------------------------------------------|
//! | `timetable` | pure: which endpoints are due, and when the next one is           |
//! | `heartbeat` | one beat a second, from tokio-cron-scheduler, for wall-clock times |

pub mod timetable;

mod heartbeat;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use heartbeat::HeartbeatError;

use crate::observe::{RefreshOutcome, Trigger};
use crate::plan::{EndpointId, Plan};
use crate::read_through::ReadThrough;
use heartbeat::Heartbeat;
use timetable::Timetable;

/// Loads scheduled endpoints when they are due, and failed ones again.
#[derive(Debug)]
pub struct Refresher {
    timetable: Timetable,
    read_through: ReadThrough,
    heartbeat: Heartbeat,
}

impl Refresher {
    /// Starts the clock of every schedule, so that what is loaded from now on knows how long it is
    /// fresh. Nothing is loaded before [`Refresher::run`].
    ///
    /// # Errors
    /// [`HeartbeatError`] when the scheduler does not start.
    pub async fn new(plan: &Arc<Plan>, read_through: ReadThrough) -> Result<Self, HeartbeatError> {
        let timetable = Timetable::new(plan.endpoints(), Instant::now(), SystemTime::now());
        let refresher = Self {
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
            }
            let now = Instant::now();
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
