//! What is so right now, and was in the last minutes, as one document for people's eyes. Requests know
//! nothing of it: it reads what the metrics count anyway and what the engine knows of its endpoints,
//! every few seconds, and when somebody looks.
//!
//! | part       | does                                                          |
//! |------------|---------------------------------------------------------------|
//! | `watch`    | what only events tell: the repository, readiness, troubles    |
//! | `figures`  | counters at two moments as rates, ratios and means            |
//! | `history`  | the last minutes, in bounded memory                           |
//! | `state`    | pure: an endpoint's state in one word                         |
//! | `document` | what is so now, as JSON                                       |
//! | `past`     | what was so in the last minutes, as JSON                      |

mod document;
mod figures;
mod history;
mod past;
mod state;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use document::Explained;
pub use watch::Watch;

use crate::lock::lock;
use crate::metrics::{EndpointReadings, Metrics};
use crate::plan::Plan;
use crate::read_through::{KeyStats, LoadError, ReadThrough};
use history::{History, Moment, STEP};

/// A survey of all entries is made again after a hundred times as long as it took, so that it takes
/// one per cent of one core at most, while somebody looks.
const SURVEY_PAUSE: u32 = 100;

/// Everything that is shown of a running Larder.
#[derive(Debug)]
pub struct Status {
    plan: Arc<Plan>,
    metrics: Arc<Metrics>,
    read_through: ReadThrough,
    watch: Arc<Watch>,
    started: Instant,
    history: Mutex<History>,
    /// As the history has it, which is held while a document is made of it.
    samples: AtomicU64,
    survey: Mutex<Option<Survey>>,
}

/// What was found in the cache, and when.
#[derive(Debug)]
struct Survey {
    found: Arc<[KeyStats]>,
    ended: Instant,
    took: Duration,
}

impl Status {
    /// Of a Larder that starts now. `watch` hears its events.
    pub fn new(
        plan: Arc<Plan>,
        metrics: Arc<Metrics>,
        read_through: ReadThrough,
        watch: Arc<Watch>,
    ) -> Self {
        let started = Instant::now();
        let zero = vec![EndpointReadings::default(); plan.endpoints().len()];
        Self {
            history: Mutex::new(History::new(started, zero.into())),
            samples: AtomicU64::new(0),
            survey: Mutex::default(),
            plan,
            metrics,
            read_through,
            watch,
            started,
        }
    }

    /// Takes a sample for the history every few seconds, off the threads that answer requests; ends
    /// when it is dropped.
    pub async fn keep_history(self: Arc<Self>) {
        let mut steps = tokio::time::interval_at(Instant::now() + STEP, STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            steps.tick().await;
            let this = Arc::clone(&self);
            let sampled = tokio::task::spawn_blocking(move || this.sample()).await;
            // A panic costs this sample, and is seen by whoever keeps this up.
            if let Some(panic) = sampled.err().and_then(|error| error.try_into_panic().ok()) {
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn sample(&self) {
        let readings = self.readings();
        let ages = self.plan.endpoints().iter();
        let ages = ages.map(|endpoint| self.read_through.age(endpoint.id));
        let moment = Moment {
            at: Instant::now(),
            wall: SystemTime::now(),
            evictions: self.metrics.server_readings().cache_evictions,
        };
        let mut history = self.history();
        history.push(moment, readings, ages);
        self.samples.store(history.taken(), Ordering::Release);
    }

    /// Says what is so right now, as JSON. `explain` puts the reason why a load failed into words that
    /// anybody may read. As long as the configuration: not for a thread that answers requests.
    pub fn document(&self, explain: impl Fn(&LoadError) -> Explained) -> Vec<u8> {
        self.read_through.measure();
        let keyed = self.survey();
        document::now(self, &keyed, &explain)
    }

    /// Says what was so in the last minutes, as JSON: at each sample what [`Status::document`] said
    /// then. As long as the configuration.
    pub fn past(&self) -> Vec<u8> {
        past::document(&self.history(), &self.plan)
    }

    /// How many samples were taken: [`Status::past`] says something else after each.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Acquire)
    }

    /// How often something happened that is to be seen at once.
    pub fn news(&self) -> u64 {
        self.watch.news()
    }

    fn readings(&self) -> Box<[EndpointReadings]> {
        let endpoints = self.plan.endpoints().iter();
        endpoints
            .map(|endpoint| self.metrics.endpoint_readings(endpoint.id))
            .collect()
    }

    fn survey(&self) -> Arc<[KeyStats]> {
        let mut survey = lock(&self.survey);
        if let Some(last) = &*survey
            && last.ended.elapsed() < last.took * SURVEY_PAUSE
        {
            return Arc::clone(&last.found);
        }
        let began = Instant::now();
        let found: Arc<[KeyStats]> = self.read_through.key_stats().into();
        *survey = Some(Survey {
            found: Arc::clone(&found),
            ended: Instant::now(),
            took: began.elapsed(),
        });
        found
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        lock(&self.history)
    }
}

#[cfg(test)]
mod tests;
