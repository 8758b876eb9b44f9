//! Tasks that run for as long as the server does. One that panics, or ends by itself, is a defect: it is
//! reported and started again after a wait, so that nothing that keeps answers fresh or clients connected
//! stops without a word.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, Jitter};
use crate::observe::{Event, Observer, Task, TaskEnd};

/// Waits before a task is started again.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    jitter: Jitter::None,
};

/// A task that has run for this long is started again as if it had never failed.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// Spawns a task that [`keep_up`] runs.
pub fn spawn<Run>(
    observer: &Observer,
    task: Task,
    shutdown: &CancellationToken,
    begin: impl FnMut() -> Run + Send + 'static,
) where
    Run: Future<Output = ()> + Send + 'static,
{
    let (observer, shutdown) = (observer.clone(), shutdown.clone());
    tokio::spawn(async move { keep_up(&observer, task, &shutdown, begin).await });
}

/// Runs what `begin` makes until `shutdown`, and something else that it makes whenever that has ended.
pub async fn keep_up<Run: Future<Output = ()>>(
    observer: &Observer,
    task: Task,
    shutdown: &CancellationToken,
    mut begin: impl FnMut() -> Run,
) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        // What a panic leaves half done is for the task to clear up when it begins again.
        let run = AssertUnwindSafe(async { begin().await }).catch_unwind();
        let end = match shutdown.run_until_cancelled(run).await {
            None => return,
            Some(Ok(())) if shutdown.is_cancelled() => return,
            Some(Ok(())) => TaskEnd::Ended,
            Some(Err(_)) => TaskEnd::Panicked,
        };
        // An observer may be what panics.
        let event = Event::TaskFailed { task, end };
        drop(catch_unwind(AssertUnwindSafe(|| observer.emit(&event))));
        if began.elapsed() >= SOUND_AFTER {
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
    async fn a_task_that_panics_or_ends_is_reported_and_started_again_until_the_end() {
        let ends = std::sync::Arc::new(Mutex::new(Vec::new()));
        let heard = std::sync::Arc::clone(&ends);
        let observer = Observer::new(vec![Box::new(move |event| {
            let Event::TaskFailed { task, end } = event else {
                unreachable!()
            };
            assert_eq!(*task, Task::Probe);
            heard.lock().unwrap().push((*end, Instant::now()));
            assert_ne!(*end, TaskEnd::Ended, "an observer with a defect");
        })]);
        let shutdown = CancellationToken::new();
        let (runs, began) = (AtomicU32::new(0), Instant::now());
        let begin = || {
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
        keep_up(&observer, Task::Probe, &shutdown, begin).await;
        let ends = ends.lock().unwrap();
        let (how, when): (Vec<TaskEnd>, Vec<Instant>) = ends.iter().copied().unzip();
        let expected = [&[TaskEnd::Panicked; 2][..], &[TaskEnd::Ended; 7]].concat();
        assert_eq!(how, expected);
        let waits: Vec<u128> = when.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(when[0], began);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_run_for_long_is_started_again_soon() {
        let observer = Observer::new(Vec::new());
        let shutdown = CancellationToken::new();
        let began = Instant::now();
        let mut runs = 0;
        let begin = || {
            runs += 1;
            let (is_last, shutdown) = (runs == 20, shutdown.clone());
            async move {
                if is_last {
                    return shutdown.cancel();
                }
                tokio::time::sleep(SOUND_AFTER).await;
            }
        };
        keep_up(&observer, Task::Probe, &shutdown, begin).await;
        assert_eq!(began.elapsed(), 19 * (SOUND_AFTER + BACKOFF.first));
    }
}
