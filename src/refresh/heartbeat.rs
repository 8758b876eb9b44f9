//! One beat per second from tokio-cron-scheduler, which has no other job. A job per schedule would keep the
//! UTC offset that its time zone had at the start, would lose runs when many are due at once, and could
//! overlap with itself; a lost beat costs a second. Beats follow the wall clock: when that is set back, none
//! comes until the old time is reached again. Therefore wait for a beat with a timeout only.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// The scheduler did not start.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler did not start: {0}")]
pub struct HeartbeatError(#[from] JobSchedulerError);

/// The running scheduler.
pub(super) struct Heartbeat {
    beats: Arc<Notify>,
    /// Runs until it is dropped.
    _scheduler: JobScheduler,
}

impl Heartbeat {
    pub(super) async fn start() -> Result<Self, HeartbeatError> {
        let beats = Arc::new(Notify::new());
        let beat = Arc::clone(&beats);
        let job = Job::new_async("* * * * * *", move |_, _| {
            let beat = Arc::clone(&beat);
            // Beats that nobody waited for count as one.
            Box::pin(async move { beat.notify_one() })
        })?;
        let scheduler = JobScheduler::new().await?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        Ok(Self {
            beats,
            _scheduler: scheduler,
        })
    }

    /// Waits for the next beat.
    pub(super) async fn beat(&self) {
        self.beats.notified().await;
    }
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Heartbeat")
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let mut scheduler = self._scheduler.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(scheduler.shutdown().await) });
        }
    }
}
