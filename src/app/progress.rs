//! The progress of a start that takes a while.

use std::time::Duration;

use tokio::time::Instant;

use crate::observe::{Event, Observer, StartupStage};

/// The shortest time between two reports, so that a short start makes none.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Counts finished steps, and reports them at most every [`REPORT_EVERY`].
pub(super) struct Progress<'a> {
    observer: &'a Observer,
    stage: StartupStage,
    done: usize,
    of: usize,
    reported_at: Instant,
}

impl<'a> Progress<'a> {
    pub(super) fn new(observer: &'a Observer, stage: StartupStage, of: usize) -> Self {
        Self {
            observer,
            stage,
            done: 0,
            of,
            reported_at: Instant::now(),
        }
    }

    /// Counts one more finished step.
    pub(super) fn advance(&mut self) {
        self.done += 1;
        if self.reported_at.elapsed() < REPORT_EVERY || self.done == self.of {
            return;
        }
        self.reported_at = Instant::now();
        self.observer.emit(&Event::StartupAdvanced {
            stage: self.stage,
            done: self.done,
            of: self.of,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_start_is_reported_now_and_then() {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&reports);
        let observer = Observer::new(vec![Box::new(move |event: &Event| {
            if let Event::StartupAdvanced { done, of, .. } = event {
                sink.lock().unwrap().push((*done, *of));
            }
        })]);
        let mut progress = Progress::new(&observer, StartupStage::Warming, 10);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(700)).await;
            progress.advance();
        }
        assert_eq!(*reports.lock().unwrap(), [(3, 10), (6, 10), (9, 10)]);
    }
}
