//! The engine's promises, checked on a database in whose place stands a model: one seed decides when
//! what is asked, written, invalidated, dropped and failed, on a clock that only the test moves.
//!
//! | part    | does                                                    |
//! |---------|---------------------------------------------------------|
//! | `model` | the database, and what is true in it                     |
//! | `story` | what happened, and the checks that need nothing else     |
//!
//! `LARDER_SEEDS=N` runs N seeds instead of the usual ones, `LARDER_SEED=S` the one that failed.

pub(super) mod model;
mod story;

use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::model::{KEYS, Model, Mood, World, number};
use self::story::Line;
use super::{LoadError, ReadError, ReadThrough, Served};
use crate::cache::{Answer, Cache, Entry, Freshness, Key, Validated};
#[cfg(test)]
use crate::config::Config;
use crate::observe::{CacheStatus, Observer, Trigger};
use crate::plan::{Arguments, EndpointId, OnMiss, ParameterType, Plan, Signature};

/// Steps of one seed.
const STEPS: usize = 2_000;

/// Timers are exact to this.
const TICK: Duration = Duration::from_millis(2);

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing.
    #[default]
    Nothing,
    /// Invalidations do nothing.
    Generations,
    /// Every load begins, whatever runs.
    SingleFlight,
    /// No key leaves for another of its endpoint.
    Limits,
    /// Keys in use are taken for new ones.
    Reserve,
}

/// The endpoints: their paths without the parameter, whether they have one, and what else is written.
fn endpoints(rng: &mut Rng) -> Vec<(&'static str, bool, String)> {
    let mut limits = |ages: &[&str]| {
        let age = ages[rng.usize(..ages.len())];
        let windows = ["0s", "1s", "3s", "1m"];
        let revalidate = rng.usize(..windows.len());
        let error = rng.usize(revalidate..windows.len());
        let timeout = ["500ms", "1s", "3s"][rng.usize(..3)];
        let mut text = format!(
            "timeout = \"{timeout}\"\nstale_while_revalidate = \"{}\"\nstale_if_error = \"{}\"\n",
            windows[revalidate], windows[error],
        );
        if !age.is_empty() {
            writeln!(text, "max_age = \"{age}\"").unwrap();
        }
        text
    };
    let short = ["1s", "2s", "5s"];
    let any = ["1s", "2s", "5s", "10m"];
    let every = "refresh = { every = \"2s\" }\n";
    let notify = "refresh = { notify = \"c\" }\n";
    let probe = "refresh = { probe = { sql = \"SELECT 1\", every = \"700ms\" } }\n";
    let ahead = "refresh = { ahead = true }\n";
    let refuse = "on_miss = \"refuse\"\n";
    vec![
        ("/scheduled", false, limits(&any) + every),
        ("/steady", false, limits(&[""]) + every),
        ("/told", false, limits(&any) + notify),
        ("/probed", false, limits(&any) + probe),
        // What refuses must last until its schedule brings more.
        ("/refusing", false, limits(&["2s", "5s"]) + every + refuse),
        ("/keyed", true, limits(&any)),
        ("/told-of", true, limits(&any) + notify),
        ("/probed-for", true, limits(&any) + probe),
        ("/ahead", true, limits(&short) + ahead),
        ("/few", true, limits(&short) + "max_keys = 2\n"),
        (
            "/warmed",
            true,
            limits(&any) + notify + refuse + "warm = [{ k = 0 }, { k = 1 }]\n",
        ),
    ]
}

fn plan(rng: &mut Rng) -> Plan {
    let connections = rng.usize(1..=4);
    let loads = [3, 10, 50][rng.usize(..3)];
    // Room for about six keys, or for all.
    let room = ["5KiB", "1MiB"][rng.usize(..2)];
    let mut text = format!(
        "[repository]\nurl = \"postgres://localhost/d\"\nmax_connections = {connections}\n\
         max_loads_per_second = {loads}\n[cache]\nmax_size = \"{room}\"\n\
         [defaults]\nmax_bytes = \"1KiB\"\n"
    );
    for (path, has_parameter, rest) in endpoints(rng) {
        let (path, sql) = if has_parameter {
            (format!("{path}/{{k}}"), "SELECT :k::int")
        } else {
            (path.to_owned(), "SELECT 1")
        };
        write!(
            text,
            "[[endpoint]]\npath = \"{path}\"\nsql = \"{sql}\"\n{rest}"
        )
        .unwrap();
    }
    let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
    Plan::compile(config).unwrap_or_else(|report| panic!("{report:?}"))
}

/// A request, from when it was made.
struct Asked {
    at: Instant,
    key: usize,
    cached: Option<Arc<Entry>>,
    freshness: Freshness,
    generation: u64,
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
    fn new(seed: u64, broken: Broken) -> Self {
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed ^ 0xC0FF_EE00);
        let plan = Arc::new(plan(&mut rng));
        let world = Arc::new(Mutex::new(World::new(seed, &plan)));
        let model = Model { world };
        let told = model.clone();
        let hear = move |event: &_| told.world().story.hear(event);
        let observer = Observer::new(vec![Box::new(hear)]);
        let cache = if broken == Broken::Limits {
            Cache::without_limits(&plan, observer.clone())
        } else {
            Cache::new(&plan, observer.clone())
        };
        let mut read = ReadThrough::new(Arc::clone(&plan), model.clone(), cache, observer);
        let shared = Arc::get_mut(&mut read.shared).unwrap();
        shared.broken = broken;
        shared.in_flight.never_joins = broken == Broken::SingleFlight;
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

    fn tell(&self, line: Line) {
        self.model.world().story.tell(line);
    }

    fn accuse(&self, what: String) {
        self.model.world().story.accuse(what);
    }

    /// Makes a request; it leaves when its patience is over.
    fn request(&self, index: usize, patience: Option<Duration>) {
        let (endpoint, arguments) = self.keys[index].clone();
        let key = Key::new(endpoint, arguments.clone());
        let cached = self.read.shared.cache.get(&key);
        let mut asked = Asked {
            at: Instant::now(),
            key: number(endpoint, &arguments),
            freshness: cached
                .as_ref()
                .map_or(Freshness::Expired, |entry| self.read.freshness(&key, entry)),
            cached,
            generation: self.read.version(endpoint).generation,
        };
        let word = match asked.freshness {
            Freshness::Fresh => "fresh",
            Freshness::Stale => "stale",
            Freshness::StaleIfError => "stale if error",
            Freshness::Expired => "nothing",
        };
        self.tell(Line::Asked(number(endpoint, &arguments), word));
        let read = self.read.clone();
        let mut answer = Box::pin(async move { read.get(&Key::new(endpoint, arguments)).await });
        let first = answer.as_mut().now_or_never();
        // A look at the cache may be the one that makes it put the entry out.
        let there = self.read.shared.cache.get(&key);
        let is_there = matches!((&there, &asked.cached), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
        if !is_there {
            asked.freshness = Freshness::Expired;
        }
        if let Some(answer) = first {
            self.check(endpoint, &asked, &answer);
            return;
        }
        let refuses = self.plan.endpoint(endpoint).on_miss == OnMiss::Refuse;
        if refuses || matches!(asked.freshness, Freshness::Fresh | Freshness::Stale) {
            self.accuse(format!("a request for key {} waits", asked.key));
        }
        let this = self.clone();
        tokio::spawn(async move {
            let patience = patience.unwrap_or(Duration::from_secs(3_600));
            match timeout(patience, answer).await {
                Ok(answer) => this.check(endpoint, &asked, &answer),
                Err(_) => this.tell(Line::Left(asked.key)),
            }
        });
    }

    fn check(&self, endpoint: EndpointId, asked: &Asked, answer: &Result<Served, ReadError>) {
        let now = Instant::now();
        let limit = self.plan.endpoint(endpoint).timeout + TICK;
        if now - asked.at > limit {
            self.accuse(format!("a request for key {} waited too long", asked.key));
        }
        match answer {
            Ok(served) => self.check_served(endpoint, asked, served),
            Err(error) => self.check_error(endpoint, asked, error),
        }
    }

    fn check_served(&self, endpoint: EndpointId, asked: &Asked, served: &Served) {
        let now = Instant::now();
        let Answer::Document(document) = served.entry.answer() else {
            return self.accuse("an answer from nowhere".to_owned());
        };
        let text = std::str::from_utf8(document.json().bytes()).unwrap();
        let (key, version) = text.split_once(' ').unwrap();
        let (key, version): (usize, usize) = (key.parse().unwrap(), version.parse().unwrap());
        let word = served.status.as_str();
        let line = Line::Told(asked.key, word, Some(version), served.age);
        let floor = self.floors.lock().unwrap()[endpoint.index()];
        let mut world = self.model.world();
        world.story.tell(line);
        if served.status == CacheStatus::Miss {
            world.story.client_began(asked.at);
        }
        let ended = world.ended(endpoint, version);
        let story = &mut world.story;
        if key != asked.key {
            story.accuse(format!("key {} was given the answer of {key}", asked.key));
        }
        if ended.is_some_and(|ended| ended < now - served.age) {
            story.accuse(format!("key {key}: older than it says"));
        }
        let limit = match served.status {
            CacheStatus::Hit | CacheStatus::Stale | CacheStatus::None => Duration::ZERO,
            // As old as a query may take.
            CacheStatus::Miss | CacheStatus::Coalesced => self.plan.endpoint(endpoint).timeout,
        };
        if served.age > served.entry.lifetime().limit().max(limit) {
            story.accuse(format!("key {key}: older than its limit"));
        }
        if served.status == CacheStatus::Hit && version < floor {
            story.accuse(format!("key {key}: a hit from before an invalidation"));
        }
    }

    fn check_error(&self, endpoint: EndpointId, asked: &Asked, error: &ReadError) {
        let word = match error {
            ReadError::Load { .. } => "load failed",
            ReadError::Away { .. } => "away",
            ReadError::TooSlow(_) => "too slow",
            ReadError::TooManyLoads { .. } => "too many loads",
            ReadError::NotLoaded { .. } => "not loaded",
        };
        let generation = self.read.version(endpoint).generation;
        let mut world = self.model.world();
        let line = Line::Told(asked.key, word, None, Duration::ZERO);
        world.story.tell(line);
        let is_lost =
            matches!(error, ReadError::Load { error, .. } if matches!(**error, LoadError::Lost));
        if is_lost && !world.panicked[asked.key] {
            let text = format!("a load of key {} was lost without a panic", asked.key);
            world.story.accuse(text);
        }
        // An invalidation leaves nothing of what may be fresh or not be served.
        let is_bare = |entry: &Arc<Entry>| entry.lifetime().limit() == entry.lifetime().fresh;
        let is_taken_back =
            generation != asked.generation && asked.cached.as_ref().is_some_and(is_bare);
        if asked.freshness != Freshness::Expired && !is_taken_back {
            let text = format!("key {}: an error in the place of an answer", asked.key);
            world.story.accuse(text);
        }
    }

    /// As a schedule does.
    fn refresh(&self, endpoint: EndpointId, trigger: Trigger, after: Option<Instant>) {
        let scheduled = trigger == Trigger::Schedule;
        let this = self.clone();
        tokio::spawn(async move {
            this.read.refresh(endpoint, trigger, after).await;
            let story = &mut this.model.world().story;
            story.uncounted[endpoint.index()] += i64::from(scheduled);
        });
    }

    /// As a probe and a notification do.
    fn changed(&self, endpoint: EndpointId, trigger: Trigger) {
        let version = self.model.world().version(endpoint);
        self.floors.lock().unwrap()[endpoint.index()] = version;
        self.tell(Line::Invalidated(endpoint.index()));
        self.read.invalidate(endpoint);
        if self.read.endpoint(endpoint).is_resident() {
            self.refresh(endpoint, trigger, Some(Instant::now()));
        }
    }

    /// What goes on whatever the seed says: schedules, probes, keys loaded ahead.
    fn background(&self, mut rng: Rng) {
        let (keeper, mut ahead) = mpsc::unbounded_channel();
        self.read.maintenance().send_ahead_checks_to(keeper);
        let this = self.clone();
        tokio::spawn(async move {
            while let Some(look) = ahead.recv().await {
                let read = this.read.clone();
                tokio::spawn(async move {
                    sleep_until(look.at).await;
                    read.refresh_ahead(&look);
                });
            }
        });
        for endpoint in self.plan.endpoints() {
            let id = endpoint.id;
            if let Some(every) = endpoint.refresh.every {
                let this = self.clone();
                tokio::spawn(async move {
                    loop {
                        this.read.maintenance().set_due(id, Instant::now() + every);
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
        let mut said: Option<(usize, Instant)> = None;
        loop {
            sleep(Duration::from_millis(700)).await;
            let until = Instant::now();
            sleep(Duration::from_millis(rng.u64(..300))).await;
            let version = self.model.world().version(endpoint);
            sleep(Duration::from_millis(rng.u64(..300))).await;
            let is_lost = rng.u8(..10) == 0;
            match said {
                _ if is_lost && self.model.world().mood != Mood::Well => {}
                Some((last, since)) if last == version => {
                    self.tell(Line::Confirmed(endpoint.index()));
                    self.read.revalidate(endpoint, Validated { since, until });
                }
                _ => {
                    said = Some((version, Instant::now()));
                    self.changed(endpoint, Trigger::Probe);
                    // What was written while the probe's answer was on its way is not known yet.
                    self.floors.lock().unwrap()[endpoint.index()] = version;
                }
            }
        }
    }

    /// A write, and the word of it, at once or after a while.
    fn write(&self, endpoint: EndpointId, word_after: Duration) {
        self.model.world().write(endpoint);
        if self.plan.endpoint(endpoint).refresh.notify.is_none() {
            return;
        }
        if word_after.is_zero() {
            return self.changed(endpoint, Trigger::Notify);
        }
        let this = self.clone();
        tokio::spawn(async move {
            sleep(word_after).await;
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
                    let leaves = rng.u8(..4) == 0;
                    let patience = leaves.then(|| Duration::from_millis(rng.u64(..800)));
                    self.request(index, patience);
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
                let is_named = !self.plan.endpoint(endpoint).warm.is_empty();
                if is_named && number(endpoint, &arguments) % KEYS < 2 {
                    let read = self.read.clone();
                    tokio::spawn(async move { read.warm(endpoint, arguments).await });
                }
            }
            65..68 => {
                let (endpoint, arguments) = self.keys[rng.usize(..self.keys.len())].clone();
                self.tell(Line::Forgot(number(endpoint, &arguments)));
                self.read
                    .shared
                    .cache
                    .expire(&Key::new(endpoint, arguments));
            }
            68..70 => self.read.maintenance().tidy(),
            70 => {
                let moods = [Mood::Failing, Mood::Hanging, Mood::Away];
                let mood = moods[rng.usize(..moods.len())];
                self.model.world().mood = mood;
                self.tell(Line::Mood(mood));
            }
            71..74 => {
                self.model.world().mood = Mood::Usual;
                self.tell(Line::Mood(Mood::Usual));
            }
            74..90 => sleep(Duration::from_millis(rng.u64(1..=40))).await,
            90..98 => sleep(Duration::from_millis(rng.u64(1..=500))).await,
            _ => sleep(Duration::from_millis(rng.u64(1..=4_000))).await,
        }
        self.check_keys();
    }

    /// No endpoint has more keys than it may.
    fn check_keys(&self) {
        for endpoint in self
            .plan
            .endpoints()
            .iter()
            .filter(|e| e.max_keys < KEYS as u64)
        {
            let own = self.keys.iter().filter(|(id, _)| *id == endpoint.id);
            let cached = own.filter(|(id, arguments)| {
                let key = Key::new(*id, arguments.clone());
                self.read.shared.cache.get(&key).is_some()
            });
            if cached.count() as u64 > endpoint.max_keys {
                self.accuse("more keys than allowed".to_owned());
            }
        }
    }

    /// All is well again and nothing changes any more: what was invalidated must not be the last word.
    async fn rest(&self) {
        self.model.world().mood = Mood::Well;
        self.tell(Line::Mood(Mood::Well));
        // The longest load, and all that wait for their turn.
        sleep(Duration::from_secs(60)).await;
        for endpoint in self.plan.endpoints().iter().filter(|e| e.is_resident()) {
            let key = Key::new(endpoint.id, Arguments::default());
            let failed = self.model.world().failed[number(endpoint.id, &Arguments::default())];
            let entry = self.read.shared.cache.get(&key);
            let floor = self.floors.lock().unwrap()[endpoint.id.index()];
            // Where the last load failed, the next request brings another: see below.
            if !failed && entry.is_some_and(|entry| version(&entry) < floor) {
                self.accuse(format!("{} lost an invalidation", endpoint.path.as_str()));
            }
        }
        for round in 0..4 {
            for index in 0..self.keys.len() {
                self.request(index, None);
                sleep(Duration::from_millis(500)).await;
                if round == 3 {
                    // Within what clients may cause.
                    sleep(Duration::from_secs(2)).await;
                    self.check_at_rest(index).await;
                }
            }
        }
    }

    async fn check_at_rest(&self, index: usize) {
        let (endpoint, arguments) = self.keys[index].clone();
        let declared = self.plan.endpoint(endpoint);
        let name = format!("key {}", number(endpoint, &arguments));
        let floor = self.floors.lock().unwrap()[endpoint.index()];
        let limits = &declared.freshness;
        let limit = limits.max_age.unwrap_or_default() + limits.stale_if_error;
        // A client that may not load sees it lapse, where no schedule comes in time.
        let every = declared.refresh.every;
        let may_lapse = every.is_none_or(|every| limit < every + Duration::from_secs(1));
        match self.read.get(&Key::new(endpoint, arguments)).await {
            Ok(served) if version(&served.entry) < floor => {
                self.accuse(format!("{name} lost an invalidation"));
            }
            Ok(_) => {}
            Err(ReadError::NotLoaded { .. }) if may_lapse => {}
            Err(error) => self.accuse(format!("{name} can not be loaded: {error}")),
        }
    }
}

fn version(entry: &Entry) -> usize {
    let Answer::Document(document) = entry.answer() else {
        panic!("the model answers with a body");
    };
    let text = std::str::from_utf8(document.json().bytes()).unwrap();
    text.split_once(' ').unwrap().1.parse().unwrap()
}

/// What is wrong with the story of a seed, if anything is, and its digest.
fn run(seed: u64, broken: Broken) -> (Option<String>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let simulation = Simulation::new(seed, broken);
        let mut rng = Rng::with_seed(seed);
        simulation.background(rng.fork());
        let is_accused = || simulation.model.world().story.accusation().is_some();
        for _ in 0..STEPS {
            simulation.step(&mut rng).await;
            if is_accused() {
                break;
            }
        }
        if !is_accused() {
            simulation.rest().await;
            for _ in 0..10 {
                // Whoever waits for what has just ended.
                tokio::task::yield_now().await;
            }
            simulation.model.world().story.conclude();
        }
        let world = simulation.model.world();
        let accusation = world.story.accusation().map(str::to_owned);
        (accusation, world.story.digest())
    })
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_promises_hold_whatever_happens() {
    let seeds = match number_in("LARDER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in("LARDER_SEEDS").unwrap_or(100),
    };
    for seed in seeds {
        if let (Some(accusation), _) = run(seed, Broken::Nothing) {
            panic!("LARDER_SEED={seed}: {accusation}");
        }
    }
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in 0..5 {
        assert_eq!(run(seed, Broken::Nothing).1, run(seed, Broken::Nothing).1);
    }
}

#[test]
fn an_engine_that_forgets_invalidations_is_found_out() {
    let found = (0..20).find_map(|seed| run(seed, Broken::Generations).0);
    let found = found.expect("a violation");
    assert!(found.contains("invalidation"), "{found}");
}

#[test]
fn an_engine_that_loads_a_key_twice_at_once_is_found_out() {
    let found = (0..20).find_map(|seed| run(seed, Broken::SingleFlight).0);
    let found = found.expect("a violation");
    assert!(found.contains("at once"), "{found}");
}

#[test]
fn an_engine_that_keeps_more_keys_than_allowed_is_found_out() {
    let found = (0..20).find_map(|seed| run(seed, Broken::Limits).0);
    let found = found.expect("a violation");
    assert!(found.contains("more keys"), "{found}");
}
