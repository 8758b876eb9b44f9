//! The simulated database: a version per endpoint, which writes increment, answers with a duration, and the
//! ways in which they fail. It knows which version was current when, which is what answers are checked by.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::super::{LoadError, Source};
use super::trace::{Line, Trace};
use crate::cache::Answer;
use crate::encode::{Body, Document};
use crate::plan::{Arguments, Endpoint, EndpointId, Plan, Shape};
use crate::repository::Refusal;
use crate::repository::RepositoryError;

/// The number of keys that are requested of an endpoint with parameters.
pub(super) const KEYS: usize = 5;

/// A key's index in the tables of the model.
pub(super) fn number(endpoint: EndpointId, arguments: &Arguments) -> usize {
    let argument = arguments.iter().next().flatten();
    let place = argument.map_or(0, |text| text.parse::<usize>().unwrap());
    endpoint.number() * KEYS + place
}

/// How the database behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Mostly fast, sometimes slow, sometimes an error.
    Usual,
    /// Every answer is fast.
    Well,
    /// Every answer is an error.
    Failing,
    /// Every answer takes longer than the timeout.
    Hanging,
    /// It is unreachable, and that is known.
    Away,
}

/// The course of one answer.
#[derive(Debug, Clone, Copy)]
struct Course {
    until_snapshot: Duration,
    from_there: Duration,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Answer,
    Unavailable,
    TimedOut,
    Refused,
    Panic,
}

/// The state of the database, and what happened.
#[derive(Debug)]
pub(super) struct World {
    pub(super) mode: Mode,
    pub(super) trace: Trace,
    seed: u64,
    /// Per endpoint: when each version was written.
    versions: Vec<Vec<Instant>>,
    running: Vec<usize>,
    begun: Vec<u64>,
    running_together: usize,
    /// The limit on concurrent answers, from the configuration.
    connections: usize,
    /// Per key: whether its last answer panicked.
    pub(super) panicked: Vec<bool>,
    /// Per key: whether its last answer failed.
    pub(super) failed: Vec<bool>,
    pub(super) panics: u64,
}

impl World {
    pub(super) fn new(seed: u64, plan: &Plan) -> Self {
        let endpoints = plan.endpoints().len();
        Self {
            mode: Mode::Usual,
            trace: Trace::new(endpoints, plan),
            seed,
            versions: vec![vec![Instant::now()]; endpoints],
            running: vec![0; endpoints * KEYS],
            begun: vec![0; endpoints * KEYS],
            running_together: 0,
            connections: plan.repository().max_connections,
            panicked: vec![false; endpoints * KEYS],
            failed: vec![false; endpoints * KEYS],
            panics: 0,
        }
    }

    pub(super) fn write(&mut self, endpoint: EndpointId) {
        self.versions[endpoint.number()].push(Instant::now());
        self.trace.record(Line::Wrote(endpoint.number()));
    }

    pub(super) fn version(&self, endpoint: EndpointId) -> usize {
        self.versions[endpoint.number()].len() - 1
    }

    /// When a version was replaced, if it was.
    pub(super) fn ended(&self, endpoint: EndpointId, version: usize) -> Option<Instant> {
        self.versions[endpoint.number()].get(version + 1).copied()
    }

    /// Drawn from the key and the number of its answers, not from one stream for all, so that the order of
    /// simultaneous answers does not influence later ones.
    fn course(&mut self, endpoint: &Endpoint, key: usize) -> Course {
        self.begun[key] += 1;
        let mixed = (self.seed << 20) ^ ((key as u64) << 50) ^ self.begun[key];
        let mut rng = Rng::with_seed(mixed);
        let timeout = u64::try_from(endpoint.timeout.as_millis()).unwrap();
        let whole = match (self.mode, rng.u8(..100)) {
            (Mode::Away, _) => 0,
            (Mode::Hanging, _) => timeout + rng.u64(0..=timeout / 2),
            (Mode::Well, _) | (_, 0..60) => rng.u64(0..=60),
            (_, 60..90) => rng.u64(0..=timeout / 2),
            (_, _) => rng.u64(0..=timeout * 3 / 2),
        };
        let end = match (self.mode, rng.u8(..100)) {
            (Mode::Away, _) => End::Unavailable,
            (Mode::Well, _) => End::Answer,
            (Mode::Hanging, 0..80) => End::TimedOut,
            (Mode::Usual | Mode::Failing, 0..4) => End::Panic,
            (Mode::Usual, 4..8) | (Mode::Failing, 4..40) => End::Refused,
            (Mode::Usual, 8..12) | (Mode::Failing, 40..70) => End::TimedOut,
            (Mode::Failing, _) => End::Unavailable,
            (Mode::Usual | Mode::Hanging, _) => End::Answer,
        };
        let snapshot = rng.u64(0..=whole);
        Course {
            until_snapshot: Duration::from_millis(snapshot),
            from_there: Duration::from_millis(whole - snapshot),
            end,
        }
    }
}

/// A document with these bytes.
pub(in crate::read_through) fn document(bytes: Vec<u8>) -> Arc<Document> {
    let columns = Arc::new([]);
    Arc::new(Document::new(Shape::Value, columns, Body::new(bytes)))
}

/// The database as a source for the engine.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) world: Arc<Mutex<World>>,
}

impl Model {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn begin(&self, endpoint: &Endpoint, key: usize) -> (Course, Running) {
        let mut world = self.world();
        let course = world.course(endpoint, key);
        world.running[key] += 1;
        world.running_together += 1;
        world.trace.record(Line::Began(key));
        if world.running[key] > 1 {
            world
                .trace
                .report_violation(format!("two loads of key {key} at once"));
        }
        if world.running_together > world.connections {
            world
                .trace
                .report_violation("more loads than connections".to_owned());
        }
        world.trace.began(endpoint, key);
        let model = self.clone();
        (course, Running { model, key })
    }
}

/// A running answer.
struct Running {
    model: Model,
    key: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut world = self.model.world();
        world.running[self.key] -= 1;
        world.running_together -= 1;
    }
}

impl Source for Model {
    async fn answer(
        &self,
        endpoint: &Endpoint,
        arguments: &Arguments,
    ) -> Result<Answer, LoadError> {
        let key = number(endpoint.id, arguments);
        let (course, _running) = self.begin(endpoint, key);
        sleep(course.until_snapshot).await;
        let version = self.world().version(endpoint.id);
        sleep(course.from_there).await;
        let mut world = self.world();
        world
            .trace
            .record(Line::Ended(key, course.end == End::Answer));
        world.panicked[key] = course.end == End::Panic;
        world.failed[key] = course.end != End::Answer;
        world.panics += u64::from(course.end == End::Panic);
        drop(world);
        let error = match course.end {
            End::Answer => {
                let body = format!("{key} {version}").into_bytes();
                return Ok(Answer::Document(document(body)));
            }
            // Skips the panic hook, which would print it.
            End::Panic => std::panic::resume_unwind(Box::new("by design")),
            End::Unavailable => RepositoryError::Unavailable {
                cause: "an outage".to_owned(),
            },
            End::TimedOut => RepositoryError::TimedOut {
                after: endpoint.timeout,
            },
            End::Refused => RepositoryError::Refused {
                refusal: Refusal {
                    code: "22012".to_owned(),
                    message: "division by zero".to_owned(),
                    detail: None,
                    routine: None,
                    position: None,
                },
            },
        };
        Err(error.into())
    }

    fn retry_in(&self) -> Duration {
        match self.world().mode {
            Mode::Away => Duration::from_millis(500),
            Mode::Usual | Mode::Well | Mode::Failing | Mode::Hanging => Duration::ZERO,
        }
    }
}
