//! The simulated database: per endpoint a version that writes raise, answers that take their time, and
//! the ways in which they fail. Knows what was true when, and so judges what clients got.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::super::{LoadError, Source};
use super::story::{Line, Story};
use crate::cache::Answer;
use crate::encode::{Body, Document};
use crate::plan::{Arguments, Endpoint, EndpointId, Plan, Shape};
use crate::repository::Refusal;
use crate::repository::RepositoryError;

/// Keys an endpoint with parameters is asked for.
pub(super) const KEYS: usize = 5;

/// A key's number in the tables here.
pub(super) fn number(endpoint: EndpointId, arguments: &Arguments) -> usize {
    let argument = arguments.iter().next().flatten();
    let place = argument.map_or(0, |text| text.parse::<usize>().unwrap());
    endpoint.index() * KEYS + place
}

/// What the database is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Mostly quick, at times slow, at times an error.
    Usual,
    /// Every answer comes soon.
    Well,
    /// Every answer is an error.
    Failing,
    /// Every answer takes longer than anyone waits.
    Hanging,
    /// It cannot be reached, and Larder knows.
    Away,
}

/// How one answer goes.
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

/// Everything that is true.
#[derive(Debug)]
pub(super) struct World {
    pub(super) mood: Mood,
    pub(super) story: Story,
    seed: u64,
    /// Per endpoint: when each version came to be.
    versions: Vec<Vec<Instant>>,
    running: Vec<usize>,
    begun: Vec<u64>,
    running_together: usize,
    /// The most at once, by the configuration.
    connections: usize,
    /// Per key: whether its last answer was a panic.
    pub(super) panicked: Vec<bool>,
    /// Per key: whether its last answer was none.
    pub(super) failed: Vec<bool>,
    pub(super) panics: u64,
}

impl World {
    pub(super) fn new(seed: u64, plan: &Plan) -> Self {
        let endpoints = plan.endpoints().len();
        Self {
            mood: Mood::Usual,
            story: Story::new(endpoints, plan),
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
        self.versions[endpoint.index()].push(Instant::now());
        self.story.tell(Line::Wrote(endpoint.index()));
    }

    pub(super) fn version(&self, endpoint: EndpointId) -> usize {
        self.versions[endpoint.index()].len() - 1
    }

    /// When a version ceased to be true, if it did.
    pub(super) fn ended(&self, endpoint: EndpointId, version: usize) -> Option<Instant> {
        self.versions[endpoint.index()].get(version + 1).copied()
    }

    /// Drawn from the key and how often it was asked for, not from one stream for all: so that the
    /// order in which equal moments are taken changes nothing that comes later.
    fn course(&mut self, endpoint: &Endpoint, key: usize) -> Course {
        self.begun[key] += 1;
        let mixed = (self.seed << 20) ^ ((key as u64) << 50) ^ self.begun[key];
        let mut rng = Rng::with_seed(mixed);
        let timeout = u64::try_from(endpoint.timeout.as_millis()).unwrap();
        let whole = match (self.mood, rng.u8(..100)) {
            (Mood::Away, _) => 0,
            (Mood::Hanging, _) => timeout + rng.u64(0..=timeout / 2),
            (Mood::Well, _) | (_, 0..60) => rng.u64(0..=60),
            (_, 60..90) => rng.u64(0..=timeout / 2),
            (_, _) => rng.u64(0..=timeout * 3 / 2),
        };
        let end = match (self.mood, rng.u8(..100)) {
            (Mood::Away, _) => End::Unavailable,
            (Mood::Well, _) => End::Answer,
            (Mood::Hanging, 0..80) => End::TimedOut,
            (Mood::Usual | Mood::Failing, 0..4) => End::Panic,
            (Mood::Usual, 4..8) | (Mood::Failing, 4..40) => End::Refused,
            (Mood::Usual, 8..12) | (Mood::Failing, 40..70) => End::TimedOut,
            (Mood::Failing, _) => End::Unavailable,
            (Mood::Usual | Mood::Hanging, _) => End::Answer,
        };
        let snapshot = rng.u64(0..=whole);
        Course {
            until_snapshot: Duration::from_millis(snapshot),
            from_there: Duration::from_millis(whole - snapshot),
            end,
        }
    }
}

/// What a query answers with.
pub(in crate::read_through) fn document(bytes: Vec<u8>) -> Arc<Document> {
    let columns = Arc::new([]);
    Arc::new(Document::new(Shape::Value, columns, Body::new(bytes)))
}

/// The database, as the engine sees it.
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
        world.story.tell(Line::Began(key));
        if world.running[key] > 1 {
            world
                .story
                .accuse(format!("two loads of key {key} at once"));
        }
        if world.running_together > world.connections {
            world.story.accuse("more loads than connections".to_owned());
        }
        world.story.began(endpoint, key);
        let model = self.clone();
        (course, Running { model, key })
    }
}

/// An answer on its way.
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
            .story
            .tell(Line::Ended(key, course.end == End::Answer));
        world.panicked[key] = course.end == End::Panic;
        world.failed[key] = course.end != End::Answer;
        world.panics += u64::from(course.end == End::Panic);
        drop(world);
        let error = match course.end {
            End::Answer => {
                let body = format!("{key} {version}").into_bytes();
                return Ok(Answer::Document(document(body)));
            }
            // Without the hook that would print it.
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
        match self.world().mood {
            Mood::Away => Duration::from_millis(500),
            Mood::Usual | Mood::Well | Mood::Failing | Mood::Hanging => Duration::ZERO,
        }
    }
}
