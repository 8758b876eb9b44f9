//! The state of a running Larder, now and in the last minutes, as JSON for the status page. It costs
//! requests nothing: it reads what the metrics count anyway and what `read_through` knows of its endpoints,
//! every few seconds and whenever somebody looks.
//!
//! | part        | does                                                              |
//! |-------------|-------------------------------------------------------------------|
//! | `document`  | the current state as JSON                                         |
//! | `history`   | samples of the last minutes, in bounded memory, and as JSON       |
//! | `incidents` | what only events report: reachability, readiness, open incidents  |
//! | `rates`     | counters at two moments as rates, ratios and means                |
//! | `state`     | an endpoint's state in one word                                   |
//! | `json`      | how values are written                                            |

mod document;
mod history;
mod incidents;
mod json;
mod rates;
mod state;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::time::Instant;

pub use document::Explanation;
pub use incidents::Incidents;

use crate::metrics::{EndpointReadings, Metrics};
use crate::mutex::lock;
use crate::plan::{PerEndpoint, Plan};
use crate::read_through::{KeyStats, LoadError, ReadThrough};
use history::{History, Moment, STEP};

/// All entries are surveyed again after a hundred times as long as the last survey took, so that surveys
/// take at most one per cent of a core, and only while somebody looks.
const SURVEY_PAUSE: u32 = 100;

/// Everything that the status page shows of a running Larder.
#[derive(Debug)]
pub struct Status {
    current: ArcSwap<Current>,
    metrics: Arc<Metrics>,
    incidents: Arc<Incidents>,
    started: Instant,
    history: Mutex<History>,
    /// A copy of the history's count, because the history is locked while it is serialized.
    samples: AtomicU64,
    survey: Mutex<Option<Survey>>,
}

/// What is served now. It changes only while the history is locked, because the history is by places in the plan.
#[derive(Debug)]
struct Current {
    plan: Arc<Plan>,
    read_through: ReadThrough,
}

/// What was found in the cache, when, and how long that took.
#[derive(Debug)]
struct Survey {
    found: Arc<PerEndpoint<KeyStats>>,
    ended: Instant,
    took: Duration,
}

impl Status {
    /// The status of a Larder that starts now. `incidents` records its events.
    pub fn new(
        plan: Arc<Plan>,
        metrics: Arc<Metrics>,
        read_through: ReadThrough,
        incidents: Arc<Incidents>,
    ) -> Self {
        let started = Instant::now();
        let zero = vec![EndpointReadings::default(); plan.endpoints().len()];
        Self {
            history: Mutex::new(History::new(started, zero.into())),
            samples: AtomicU64::new(0),
            survey: Mutex::default(),
            current: ArcSwap::from_pointee(Current { plan, read_through }),
            metrics,
            incidents,
            started,
        }
    }

    /// Shows the endpoints of `plan` from now on. The history of a path goes on.
    pub fn follow(&self, plan: Arc<Plan>, read_through: ReadThrough) {
        let mut history = self.lock_history();
        let before = self.current.load();
        let places = before.plan.endpoints().iter().enumerate();
        let places: HashMap<&str, usize> = places
            .map(|(place, endpoint)| (endpoint.path.as_str(), place))
            .collect();
        let before = plan.endpoints().iter();
        let before: Vec<Option<usize>> = before
            .map(|endpoint| places.get(endpoint.path.as_str()).copied())
            .collect();
        history.rearrange(&before);
        self.incidents.follow(&plan, &self.current.load().plan);
        self.current.store(Arc::new(Current { plan, read_through }));
        *lock(&self.survey) = None;
    }

    /// Takes a sample for the history every few seconds, off the threads that answer requests, until the
    /// future is dropped.
    pub async fn keep_history(self: Arc<Self>) {
        let mut steps = tokio::time::interval_at(Instant::now() + STEP, STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            steps.tick().await;
            let this = Arc::clone(&self);
            let sampled = tokio::task::spawn_blocking(move || this.sample()).await;
            // A panic loses this sample, and reaches the supervisor of this task.
            if let Some(panic) = sampled.err().and_then(|error| error.try_into_panic().ok()) {
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn sample(&self) {
        let mut history = self.lock_history();
        let current = self.current.load();
        let readings = self.readings(&current.plan);
        let ages = current.plan.endpoints().iter();
        let ages = ages.map(|endpoint| current.read_through.inspect().age(endpoint.id));
        let moment = Moment {
            at: Instant::now(),
            wall: SystemTime::now(),
            evictions: self.metrics.server_readings().cache_evictions,
        };
        history.push(moment, readings, ages);
        self.samples.store(history.taken(), Ordering::Release);
    }

    /// The current state as JSON. `explain` puts the reason for a failed load into words that may be
    /// public. Takes time in proportion to the number of endpoints and keys: not for threads that answer
    /// requests.
    pub fn document(&self, explain: impl Fn(&LoadError) -> Explanation) -> Vec<u8> {
        let read_through = self.current.load().read_through.clone();
        read_through.maintenance().measure();
        let keyed = self.survey(&read_through);
        document::now(self, &keyed, &explain)
    }

    /// The last minutes as JSON: for each sample, what [`Status::document`] reported then. Takes time in
    /// proportion to the number of endpoints.
    pub fn history_document(&self) -> Vec<u8> {
        let history = self.lock_history();
        history::document(&history, &self.current.load().plan)
    }

    /// The number of samples taken: [`Status::history_document`] changes with each.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Acquire)
    }

    /// The number of events so far that [`Status::document`] should show at once.
    pub fn revision(&self) -> u64 {
        self.incidents.revision()
    }

    fn readings(&self, plan: &Plan) -> Box<[EndpointReadings]> {
        let endpoints = plan.endpoints().iter();
        endpoints
            .map(|endpoint| self.metrics.endpoint_readings(endpoint.id))
            .collect()
    }

    fn survey(&self, read_through: &ReadThrough) -> Arc<PerEndpoint<KeyStats>> {
        let mut survey = lock(&self.survey);
        if let Some(last) = &*survey
            && last.ended.elapsed() < last.took * SURVEY_PAUSE
        {
            return Arc::clone(&last.found);
        }
        let began = Instant::now();
        let found = Arc::new(read_through.inspect().key_stats());
        *survey = Some(Survey {
            found: Arc::clone(&found),
            ended: Instant::now(),
            took: began.elapsed(),
        });
        found
    }

    fn lock_history(&self) -> std::sync::MutexGuard<'_, History> {
        lock(&self.history)
    }
}

#[cfg(test)]
mod tests;
