//! What a request may get, and what must hold once everything has settled.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::model::{KEYS, Mode, number};
use super::trace::Line;
use super::{Simulation, TICK};
use crate::cache::{Answer, Entry, Freshness, Key};
use crate::observe::CacheStatus;
use crate::plan::{Arguments, EndpointId};
use crate::read_through::{LoadError, ReadError, Served};

/// A request, and the state when it was made.
pub(super) struct Request {
    pub(super) at: Instant,
    pub(super) key: usize,
    pub(super) cached: Option<Arc<Entry>>,
    pub(super) freshness: Freshness,
    pub(super) generation: u64,
}

impl Simulation {
    pub(super) fn check(
        &self,
        endpoint: EndpointId,
        request: &Request,
        answer: &Result<Served, ReadError>,
    ) {
        let now = Instant::now();
        let limit = self.plan.endpoint(endpoint).timeout + TICK;
        if now - request.at > limit {
            self.report_violation(format!("a request for key {} waited too long", request.key));
        }
        match answer {
            Ok(served) => self.check_served(endpoint, request, served),
            Err(error) => self.check_error(endpoint, request, error),
        }
    }

    fn check_served(&self, endpoint: EndpointId, request: &Request, served: &Served) {
        let now = Instant::now();
        let Answer::Document(document) = served.entry.answer() else {
            return self.report_violation("an answer that is not of the model".to_owned());
        };
        let text = std::str::from_utf8(document.json().bytes()).unwrap();
        let (key, version) = text.split_once(' ').unwrap();
        let (key, version): (usize, usize) = (key.parse().unwrap(), version.parse().unwrap());
        let status = served.status.as_str();
        let line = Line::Answered(request.key, status, Some(version), served.age);
        let floor = self.floors.lock().unwrap()[endpoint.number()];
        let mut world = self.model.world();
        world.trace.record(line);
        if served.status == CacheStatus::Miss {
            world.trace.client_began(request.at);
        }
        let ended = world.ended(endpoint, version);
        let trace = &mut world.trace;
        if key != request.key {
            trace.report_violation(format!("key {} got the answer of {key}", request.key));
        }
        if ended.is_some_and(|ended| ended < now - served.age) {
            trace.report_violation(format!("key {key}: older than its age"));
        }
        let limit = match served.status {
            CacheStatus::Hit | CacheStatus::Stale | CacheStatus::None => Duration::ZERO,
            // The age of a load is the time its query took.
            CacheStatus::Miss | CacheStatus::Coalesced => self.plan.endpoint(endpoint).timeout,
        };
        if served.age > served.entry.lifetime().limit().max(limit) {
            trace.report_violation(format!("key {key}: older than its limit"));
        }
        if served.status == CacheStatus::Hit && version < floor {
            trace.report_violation(format!("key {key}: a hit from before an invalidation"));
        }
    }

    fn check_error(&self, endpoint: EndpointId, request: &Request, error: &ReadError) {
        let reason = match error {
            ReadError::Load { .. } => "load failed",
            ReadError::Away { .. } => "away",
            ReadError::TooSlow(_) => "too slow",
            ReadError::TooManyLoads { .. } | ReadError::CallerLimit(_) => "too many loads",
            ReadError::NotLoaded { .. } => "not loaded",
        };
        let generation = self.read.version(endpoint).generation;
        let mut world = self.model.world();
        let line = Line::Answered(request.key, reason, None, Duration::ZERO);
        world.trace.record(line);
        let is_lost =
            matches!(error, ReadError::Load { error, .. } if matches!(**error, LoadError::Lost));
        if is_lost && !world.panicked[request.key] {
            let text = format!("a load of key {} was lost without a panic", request.key);
            world.trace.report_violation(text);
        }
        // An entry that may not be served stale expires with an invalidation.
        let is_never_stale =
            |entry: &Arc<Entry>| entry.lifetime().limit() == entry.lifetime().fresh;
        let has_expired =
            generation != request.generation && request.cached.as_ref().is_some_and(is_never_stale);
        if request.freshness != Freshness::Expired && !has_expired {
            let text = format!("key {}: an error instead of an answer", request.key);
            world.trace.report_violation(text);
        }
    }

    /// Checks that no endpoint has more keys than allowed.
    pub(super) fn check_keys(&self) {
        for endpoint in self
            .plan
            .endpoints()
            .iter()
            .filter(|e| e.max_keys < KEYS as u64)
        {
            let own = self.keys.iter().filter(|(id, _)| *id == endpoint.id);
            let cached = own.filter(|(id, arguments)| {
                let key = Key::new(*id, arguments.clone());
                self.read.engine.cache.get(&key).is_some()
            });
            if cached.count() as u64 > endpoint.max_keys {
                self.report_violation("more keys than allowed".to_owned());
            }
        }
    }

    /// The database works again and its data no longer change: no invalidated entry may remain.
    pub(super) async fn rest(&self) {
        self.model.world().mode = Mode::Well;
        self.record(Line::Mode(Mode::Well));
        // Enough for the longest load, and all that wait for a slot.
        sleep(Duration::from_secs(60)).await;
        for endpoint in self.plan.endpoints().iter().filter(|e| e.is_resident()) {
            let key = Key::new(endpoint.id, Arguments::default());
            let failed = self.model.world().failed[number(endpoint.id, &Arguments::default())];
            let entry = self.read.engine.cache.get(&key);
            let floor = self.floors.lock().unwrap()[endpoint.id.number()];
            // If the last load failed, the next request causes another: see below.
            if !failed && entry.is_some_and(|entry| version(&entry) < floor) {
                self.report_violation(format!("{} lost an invalidation", endpoint.path.as_str()));
            }
        }
        for round in 0..4 {
            for index in 0..self.keys.len() {
                self.request(index, None);
                sleep(Duration::from_millis(500)).await;
                if round == 3 {
                    // So that the rate limit refuses nothing.
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
        let floor = self.floors.lock().unwrap()[endpoint.number()];
        let limits = &declared.freshness;
        let limit = limits.max_age.unwrap_or_default() + limits.stale_if_error;
        // If clients cannot cause a load, the entry may expire before its schedule is due.
        let every = declared.refresh.every;
        let may_expire = every.is_none_or(|every| limit < every + Duration::from_secs(1));
        match self.read.get(&Key::new(endpoint, arguments)).await {
            Ok(served) if version(&served.entry) < floor => {
                self.report_violation(format!("{name} lost an invalidation"));
            }
            Ok(_) => {}
            Err(ReadError::NotLoaded { .. }) if may_expire => {}
            Err(error) => self.report_violation(format!("{name} cannot be loaded: {error}")),
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
