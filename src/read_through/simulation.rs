//! Checks the engine's promises against a model of the database. A seed decides all requests, writes,
//! invalidations, evictions and failures and their times, on a clock that only the test advances.
//!
//! | part            | does                                                       |
//! |-----------------|------------------------------------------------------------|
//! | `configuration` | the endpoints and limits of a seed                         |
//! | `model`         | the database, and which data are current when              |
//! | `check`         | what a request may get, and what must hold at the end      |
//! | `trace`         | what happened, and the checks that need nothing else       |
//!
//! `LARDER_SEEDS=N` runs N seeds instead of the default number, `LARDER_SEED=S` only the one that failed.

pub(super) mod model;

mod check;
mod configuration;
mod trace;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::check::Request;
use self::model::{KEYS, Mode, Model, World, number};
use self::trace::Line;
use super::ReadThrough;
use crate::cache::{Cache, Freshness, Key, Validated};
use crate::observe::{Observer, Trigger};
use crate::plan::{Arguments, EndpointId, OnMiss, ParameterType, Plan, Signature};

/// The number of steps per seed.
const STEPS: usize = 2_000;

/// The accuracy of timers.
const TICK: Duration = Duration::from_millis(2);

/// A defect of the engine that the tests must detect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Defect {
    /// No defect.
    #[default]
    None,
    /// Invalidations have no effect.
    IgnoresInvalidations,
    /// A load begins even if one of the same key is running.
    LoadsTwice,
    /// Endpoints may have more than `max_keys`.
    ExceedsMaxKeys,
    /// Cached keys have no priority over cold ones.
    NoReserve,
}

#[derive(Clone)]
struct Simulation {
    read: ReadThrough<Model>,
    model: Model,
    plan: Arc<Plan>,
    keys: Arc<[(EndpointId, Arguments)]>,
    /// Per endpoint: the version at its last invalidation.
    floors: Arc<Mutex<Vec<usize>>>,
}

impl Simulation {
    fn new(seed: u64, defect: Defect) -> Self {
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed ^ 0xC0FF_EE00);
        let plan = Arc::new(configuration::plan(&mut rng));
        let world = Arc::new(Mutex::new(World::new(seed, &plan)));
        let model = Model { world };
        let recorder = model.clone();
        let record = move |event: &_| recorder.world().trace.record_event(event);
        let observer = Observer::new(vec![Box::new(record)]);
        let cache = if defect == Defect::ExceedsMaxKeys {
            Cache::without_limits(&plan, observer.clone())
        } else {
            Cache::new(&plan, observer.clone())
        };
        let mut read = ReadThrough::new(Arc::clone(&plan), model.clone(), cache, observer);
        let engine = Arc::get_mut(&mut read.engine).unwrap();
        engine.defect = defect;
        engine.in_flight.never_joins = defect == Defect::LoadsTwice;
        let mut keys = Vec::new();
        for endpoint in plan.endpoints() {
            let types = endpoint.parameters.iter().map(|_| ParameterType::Int4);
            let signature = Signature::new(endpoint, types.collect()).unwrap();
            let count = if endpoint.is_resident() { 1 } else { KEYS };
            for k in 0..count {
                let text = k.to_string();
                let path = [("k", text.as_str().into())];
                let path = if endpoint.is_resident() {
                    &path[..0]
                } else {
                    &path
                };
                let arguments = signature.arguments(endpoint, path, &[]).unwrap();
                keys.push((endpoint.id, arguments));
            }
        }
        Self {
            read,
            model,
            keys: keys.into(),
            floors: Arc::new(Mutex::new(vec![0; plan.endpoints().len()])),
            plan,
        }
    }

    fn record(&self, line: Line) {
        self.model.world().trace.record(line);
    }

    fn report_violation(&self, what: String) {
        self.model.world().trace.report_violation(what);
    }

    /// Makes a request, which disconnects after a while if it has no answer by then.
    fn request(&self, index: usize, disconnect_after: Option<Duration>) {
        let (endpoint, arguments) = self.keys[index].clone();
        let key = Key::new(endpoint, arguments.clone());
        let cached = self.read.engine.cache.get(&key);
        let mut request = Request {
            at: Instant::now(),
            key: number(endpoint, &arguments),
            freshness: cached
                .as_ref()
                .map_or(Freshness::Expired, |entry| self.read.freshness(&key, entry)),
            cached,
            generation: self.read.version(endpoint).generation,
        };
        let state = match request.freshness {
            Freshness::Fresh => "fresh",
            Freshness::Stale => "stale",
            Freshness::StaleIfError => "stale if error",
            Freshness::Expired => "nothing",
        };
        self.record(Line::Requested(number(endpoint, &arguments), state));
        let read = self.read.clone();
        let mut answer = Box::pin(async move { read.get(&Key::new(endpoint, arguments)).await });
        let first = answer.as_mut().now_or_never();
        // This lookup may itself cause the eviction of the entry.
        let there = self.read.engine.cache.get(&key);
        let is_there = matches!((&there, &request.cached), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
        if !is_there {
            request.freshness = Freshness::Expired;
        }
        if let Some(answer) = first {
            self.check(endpoint, &request, &answer);
            return;
        }
        let refuses = self.plan.endpoint(endpoint).on_miss == OnMiss::Refuse;
        if refuses || matches!(request.freshness, Freshness::Fresh | Freshness::Stale) {
            self.report_violation(format!("a request for key {} waits", request.key));
        }
        let this = self.clone();
        tokio::spawn(async move {
            let limit = disconnect_after.unwrap_or(Duration::from_secs(3_600));
            match timeout(limit, answer).await {
                Ok(answer) => this.check(endpoint, &request, &answer),
                Err(_) => this.record(Line::Disconnected(request.key)),
            }
        });
    }

    /// Refreshes an endpoint like a schedule.
    fn refresh(&self, endpoint: EndpointId, trigger: Trigger, after: Option<Instant>) {
        let scheduled = trigger == Trigger::Schedule;
        let this = self.clone();
        tokio::spawn(async move {
            this.read.refresh(endpoint, trigger, after).await;
            let trace = &mut this.model.world().trace;
            trace.uncounted[endpoint.number()] += i64::from(scheduled);
        });
    }

    /// Invalidates an endpoint like a probe or a notification.
    fn changed(&self, endpoint: EndpointId, trigger: Trigger) {
        let version = self.model.world().version(endpoint);
        self.floors.lock().unwrap()[endpoint.number()] = version;
        self.record(Line::Invalidated(endpoint.number()));
        self.read.invalidate(endpoint);
        if self.read.endpoint(endpoint).is_resident() {
            self.refresh(endpoint, trigger, Some(Instant::now()));
        }
    }

    /// Starts what runs in every seed: schedules, probes, and keys loaded ahead of time.
    fn background(&self, mut rng: Rng) {
        let (sender, mut checks) = mpsc::unbounded_channel();
        self.read.maintenance().send_ahead_checks_to(sender);
        let this = self.clone();
        tokio::spawn(async move {
            while let Some(check) = checks.recv().await {
                let read = this.read.clone();
                tokio::spawn(async move {
                    sleep_until(check.at).await;
                    read.maintenance().refresh_ahead(&check);
                });
            }
        });
        for endpoint in self.plan.endpoints() {
            let id = endpoint.id;
            if let Some(every) = endpoint.refresh.every {
                let this = self.clone();
                tokio::spawn(async move {
                    loop {
                        this.read
                            .maintenance()
                            .set_due(id, Some(Instant::now() + every));
                        this.refresh(id, Trigger::Schedule, None);
                        sleep(every).await;
                    }
                });
            }
            if endpoint.refresh.probe.is_some() {
                tokio::spawn(self.clone().probe(id, rng.fork()));
            }
        }
    }

    async fn probe(self, endpoint: EndpointId, mut rng: Rng) {
        let mut last: Option<(usize, Instant)> = None;
        loop {
            sleep(Duration::from_millis(700)).await;
            let until = Instant::now();
            sleep(Duration::from_millis(rng.u64(..300))).await;
            let version = self.model.world().version(endpoint);
            sleep(Duration::from_millis(rng.u64(..300))).await;
            let is_lost = rng.u8(..10) == 0;
            match last {
                _ if is_lost && self.model.world().mode != Mode::Well => {}
                Some((seen, since)) if seen == version => {
                    self.record(Line::Revalidated(endpoint.number()));
                    self.read.revalidate(endpoint, Validated { since, until });
                }
                _ => {
                    last = Some((version, Instant::now()));
                    self.changed(endpoint, Trigger::Probe);
                    // The probe does not see writes that happen while its answer is in transit.
                    self.floors.lock().unwrap()[endpoint.number()] = version;
                }
            }
        }
    }

    /// A write, with a notification at once or after a while.
    fn write(&self, endpoint: EndpointId, notification_after: Duration) {
        self.model.world().write(endpoint);
        if self.plan.endpoint(endpoint).refresh.notify.is_none() {
            return;
        }
        if notification_after.is_zero() {
            return self.changed(endpoint, Trigger::Notify);
        }
        let this = self.clone();
        tokio::spawn(async move {
            sleep(notification_after).await;
            this.changed(endpoint, Trigger::Notify);
        });
    }

    async fn step(&self, rng: &mut Rng) {
        let any_endpoint =
            |rng: &mut Rng| EndpointId::new(rng.usize(..self.plan.endpoints().len()));
        match rng.u8(..100) {
            0..50 => {
                let index = rng.usize(..self.keys.len());
                for _ in 0..[1, 1, 1, 4][rng.usize(..4)] {
                    let disconnects = rng.u8(..4) == 0;
                    let disconnect_after =
                        disconnects.then(|| Duration::from_millis(rng.u64(..800)));
                    self.request(index, disconnect_after);
                }
            }
            50..58 => {
                let late = Duration::from_millis([0, 0, 20, 400][rng.usize(..4)]);
                self.write(any_endpoint(rng), late);
            }
            58..60 => self.changed(any_endpoint(rng), Trigger::Notify),
            60..63 => {
                let endpoint = any_endpoint(rng);
                if self.read.endpoint(endpoint).is_resident() {
                    let after = rng.bool().then(Instant::now);
                    self.refresh(endpoint, Trigger::Schedule, after);
                }
            }
            63..65 => {
                let (endpoint, arguments) = self.keys[rng.usize(..self.keys.len())].clone();
                let is_warmed = !self.plan.endpoint(endpoint).warm.is_empty();
                if is_warmed && number(endpoint, &arguments) % KEYS < 2 {
                    let read = self.read.clone();
                    tokio::spawn(async move { read.warm(endpoint, arguments).await });
                }
            }
            65..68 => {
                let (endpoint, arguments) = self.keys[rng.usize(..self.keys.len())].clone();
                self.record(Line::Evicted(number(endpoint, &arguments)));
                self.read
                    .engine
                    .cache
                    .expire(&Key::new(endpoint, arguments));
            }
            68..70 => self.read.engine.cache.maintain(),
            70 => {
                let modes = [Mode::Failing, Mode::Hanging, Mode::Away];
                let mode = modes[rng.usize(..modes.len())];
                self.model.world().mode = mode;
                self.record(Line::Mode(mode));
            }
            71..74 => {
                self.model.world().mode = Mode::Usual;
                self.record(Line::Mode(Mode::Usual));
            }
            74..90 => sleep(Duration::from_millis(rng.u64(1..=40))).await,
            90..98 => sleep(Duration::from_millis(rng.u64(1..=500))).await,
            _ => sleep(Duration::from_millis(rng.u64(1..=4_000))).await,
        }
        self.check_keys();
    }
}

/// The violation that a seed leads to, if any, and the digest of its trace.
fn run(seed: u64, defect: Defect) -> (Option<String>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let simulation = Simulation::new(seed, defect);
        let mut rng = Rng::with_seed(seed);
        simulation.background(rng.fork());
        let is_violated = || simulation.model.world().trace.violation().is_some();
        for _ in 0..STEPS {
            simulation.step(&mut rng).await;
            if is_violated() {
                break;
            }
        }
        if !is_violated() {
            simulation.rest().await;
            for _ in 0..10 {
                // Lets the requests finish whose loads have just ended.
                tokio::task::yield_now().await;
            }
            simulation.model.world().trace.conclude();
        }
        let world = simulation.model.world();
        let violation = world.trace.violation().map(str::to_owned);
        (violation, world.trace.digest())
    })
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_promises_hold_for_every_seed() {
    let seeds = match number_in("LARDER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in("LARDER_SEEDS").unwrap_or(100),
    };
    for seed in seeds {
        if let (Some(violation), _) = run(seed, Defect::None) {
            panic!("LARDER_SEED={seed}: {violation}");
        }
    }
}

#[test]
fn a_seed_has_the_same_trace_each_time() {
    for seed in 0..5 {
        assert_eq!(run(seed, Defect::None).1, run(seed, Defect::None).1);
    }
}

#[test]
fn an_engine_that_ignores_invalidations_is_detected() {
    let found = (0..20).find_map(|seed| run(seed, Defect::IgnoresInvalidations).0);
    let found = found.expect("a violation");
    assert!(found.contains("invalidation"), "{found}");
}

#[test]
fn an_engine_that_loads_a_key_twice_at_once_is_detected() {
    let found = (0..20).find_map(|seed| run(seed, Defect::LoadsTwice).0);
    let found = found.expect("a violation");
    assert!(found.contains("at once"), "{found}");
}

#[test]
fn an_engine_that_exceeds_max_keys_is_detected() {
    let found = (0..20).find_map(|seed| run(seed, Defect::ExceedsMaxKeys).0);
    let found = found.expect("a violation");
    assert!(found.contains("more keys"), "{found}");
}
