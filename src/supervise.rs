//! Background tasks that run as long as the server. A task that panics, or ends by itself, is a bug: it is
//! reported and restarted after a wait, so that nothing that keeps answers fresh or clients connected stops
//! silently.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, Jitter};
use crate::observe::{Event, Observer, Task, TaskEnd};

/// Waits before a task is restarted.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    jitter: Jitter::None,
};

/// A task that has run for this long is restarted without regard to earlier failures.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Spawns a task that [`keep_running`] restarts.
pub fn spawn<Run>(
    observer: &Observer,
    task: Task,
    shutdown: &CancellationToken,
    start: impl FnMut() -> Run + Send + 'static,
) where
    Run: Future<Output = ()> + Send + 'static,
{
    let (observer, shutdown) = (observer.clone(), shutdown.clone());
    tokio::spawn(async move { keep_running(&observer, task, &shutdown, start).await });
}

/// Runs the future that `start` makes until `shutdown`, and a new one whenever it ends.
pub async fn keep_running<Run: Future<Output = ()>>(
    observer: &Observer,
    task: Task,
    shutdown: &CancellationToken,
    mut start: impl FnMut() -> Run,
) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        // A restarted task has to cope with what a panic left half done.
        let run = AssertUnwindSafe(async { start().await }).catch_unwind();
        let end = match shutdown.run_until_cancelled(run).await {
            None => return,
            Some(Ok(())) if shutdown.is_cancelled() => return,
            Some(Ok(())) => TaskEnd::Ended,
            Some(Err(_)) => TaskEnd::Panicked,
        };
        // The observer itself may panic.
        let event = Event::TaskFailed { task, end };
        drop(catch_unwind(AssertUnwindSafe(|| observer.emit(&event))));
        if began.elapsed() >= STABLE_AFTER {
            failures = 0;
        }
        let wait = BACKOFF.wait(failures);
        failures = failures.saturating_add(1);
        let waited = shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
        if waited.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_or_ends_is_reported_and_restarted_until_the_end() {
        let ends = std::sync::Arc::new(Mutex::new(Vec::new()));
        let sink = std::sync::Arc::clone(&ends);
        let observer = Observer::new(vec![Box::new(move |event| {
            let Event::TaskFailed { task, end } = event else {
                unreachable!()
            };
            assert_eq!(*task, Task::Probe);
            sink.lock().unwrap().push((*end, Instant::now()));
            assert_ne!(*end, TaskEnd::Ended, "an observer with a defect");
        })]);
        let shutdown = CancellationToken::new();
        let (runs, began) = (AtomicU32::new(0), Instant::now());
        let start = || {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            let shutdown = shutdown.clone();
            assert_ne!(run, 1, "a defect before the first step");
            async move {
                tokio::task::yield_now().await;
                assert_ne!(run, 0, "a defect");
                if run == 9 {
                    shutdown.cancel();
                    std::future::pending::<()>().await;
                }
            }
        };
        keep_running(&observer, Task::Probe, &shutdown, start).await;
        let ends = ends.lock().unwrap();
        let (how, when): (Vec<TaskEnd>, Vec<Instant>) = ends.iter().copied().unzip();
        let expected = [&[TaskEnd::Panicked; 2][..], &[TaskEnd::Ended; 7]].concat();
        assert_eq!(how, expected);
        let waits: Vec<u128> = when.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(when[0], began);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_run_for_long_is_restarted_soon() {
        let observer = Observer::new(Vec::new());
        let shutdown = CancellationToken::new();
        let began = Instant::now();
        let mut runs = 0;
        let start = || {
            runs += 1;
            let (is_last, shutdown) = (runs == 20, shutdown.clone());
            async move {
                if is_last {
                    return shutdown.cancel();
                }
                tokio::time::sleep(STABLE_AFTER).await;
            }
        };
        keep_running(&observer, Task::Probe, &shutdown, start).await;
        assert_eq!(began.elapsed(), 19 * (STABLE_AFTER + BACKOFF.first));
    }
}
