//! How far bringing everything up has come, for whoever waits for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::observe::{BringUpStage, Event, Observer};

/// A start that takes less says nothing of it.
const SAID_EVERY: Duration = Duration::from_secs(2);

/// Counts, and tells at most every [`SAID_EVERY`], of what has advanced since.
pub(super) struct Progress<'a> {
    observer: &'a Observer,
    stage: BringUpStage,
    done: usize,
    of: usize,
    said: Instant,
}

impl<'a> Progress<'a> {
    pub(super) fn new(observer: &'a Observer, stage: BringUpStage, of: usize) -> Self {
        Self {
            observer,
            stage,
            done: 0,
            of,
            said: Instant::now(),
        }
    }

    /// Another one is done.
    pub(super) fn advance(&mut self) {
        self.done += 1;
        if self.said.elapsed() < SAID_EVERY || self.done == self.of {
            return;
        }
        self.said = Instant::now();
        let &mut Self {
            stage, done, of, ..
        } = self;
        self.observer
            .emit(&Event::BringUpAdvanced { stage, done, of });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_takes_long_is_told_of_and_not_every_step() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let observer = Observer::new(vec![Box::new(move |event: &Event| {
            if let Event::BringUpAdvanced { done, of, .. } = event {
                heard.lock().unwrap().push((*done, *of));
            }
        })]);
        let mut progress = Progress::new(&observer, BringUpStage::Warming, 10);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(700)).await;
            progress.advance();
        }
        assert_eq!(*told.lock().unwrap(), [(3, 10), (6, 10), (9, 10)]);
    }
}
