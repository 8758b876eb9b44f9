//! The recorded events, the last of them kept to find the cause of a failure, and the checks that need only events:
//! rate limits, load slots, and sums of counters.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use tokio::time::Instant;

use super::super::rate_limit::WAIT_MAX;
use super::model::KEYS;
use crate::observe::{Event, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, Plan};

/// Lines kept.
const LINES: usize = 80;

/// One thing that happened. Numbers are those of keys, or of endpoints where only these are meant.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "shown when a test fails")]
pub(super) enum Line {
    Wrote(usize),
    Invalidated(usize),
    Confirmed(usize),
    Asked(usize, &'static str),
    Left(usize),
    Told(usize, &'static str, Option<usize>, Duration),
    Began(usize),
    Ended(usize, bool),
    Refreshed(usize, Trigger, RefreshOutcome, Duration),
    Forgot(usize),
    Mood(super::model::Mood),
}

/// A token bucket. It runs dry exactly when more tokens were taken in some window than depth and rate allow.
#[derive(Debug)]
struct Bucket {
    depth: f64,
    rate: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64, depth: f64, at: Instant) -> Self {
        Self {
            depth,
            rate,
            left: depth,
            at,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = (now - self.at).as_secs_f64() * self.rate;
        self.left = (self.left + gained).min(self.depth) - 1.0;
        self.at = now;
        self.left > -1e-6
    }
}

#[derive(Debug)]
pub(super) struct Story {
    start: Instant,
    lines: VecDeque<(Instant, Line)>,
    hash: u64,
    accused: Option<String>,
    /// Of the endpoints that only clients have loaded.
    by_clients: Vec<bool>,
    resident: Vec<bool>,
    answers_by_clients: Bucket,
    /// When loads began that clients are known to have caused.
    known_starts: Vec<Instant>,
    rate: f64,
    /// The longest a scheduled load may take, waiting included.
    scheduled_at_most: Duration,
    pub(super) longest_scheduled: Duration,
    last_end: Vec<Instant>,
    /// Per endpoint: refreshes by schedule that were asked for less those that were counted.
    pub(super) uncounted: Vec<i64>,
}

impl Story {
    pub(super) fn new(endpoints: usize, plan: &Plan) -> Self {
        let now = Instant::now();
        let rate = f64::from(plan.repository().max_loads_per_second);
        let timeouts = plan.endpoints().iter().map(|endpoint| endpoint.timeout);
        let timeout = timeouts.max().unwrap_or_default();
        // An answer takes one timeout and a half at most. Requests of the same class come
        // before it, and one of the other class before each of them.
        let loads = u32::try_from(endpoints * KEYS + 2).unwrap();
        Self {
            start: now,
            lines: VecDeque::with_capacity(LINES),
            hash: 0,
            accused: None,
            by_clients: plan
                .endpoints()
                .iter()
                .map(|e| {
                    !e.is_resident()
                        && e.refresh.notify.is_none()
                        && e.refresh.probe.is_none()
                        && e.warm.is_empty()
                })
                .collect(),
            resident: plan.endpoints().iter().map(Endpoint::is_resident).collect(),
            // They may have waited for their turn, and come together then.
            answers_by_clients: Bucket::new(rate, rate * (1.0 + timeout.as_secs_f64()), now),
            known_starts: Vec::new(),
            rate,
            scheduled_at_most: timeout * 3 * loads,
            longest_scheduled: Duration::ZERO,
            last_end: vec![now; endpoints],
            uncounted: vec![0; endpoints],
        }
    }

    pub(super) fn tell(&mut self, line: Line) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        let now = Instant::now();
        self.lines.push_back((now, line));
        let millis = (now - self.start).as_millis() as u64;
        let number = match line {
            Line::Began(key) => key as u64,
            Line::Ended(key, is_answer) => 1_000 + key as u64 * 2 + u64::from(is_answer),
            Line::Told(key, _, version, _) => 5_000 + (key * 7 + version.unwrap_or(3)) as u64,
            Line::Refreshed(endpoint, ..) => 9_000 + endpoint as u64,
            Line::Wrote(_)
            | Line::Invalidated(_)
            | Line::Confirmed(_)
            | Line::Asked(..)
            | Line::Left(_)
            | Line::Forgot(_)
            | Line::Mood(_) => 0,
        };
        // A sum, for of what happens at one moment the order is nobody's business.
        let mixed = (millis << 16 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = self.hash.wrapping_add(mixed ^ (mixed >> 29));
    }

    /// A number that two equal stories have in common.
    pub(super) fn digest(&self) -> u64 {
        self.hash
    }

    /// Notes what must not have happened; the first counts.
    pub(super) fn accuse(&mut self, what: String) {
        if self.accused.is_none() {
            let mut text = what;
            for (at, line) in &self.lines {
                let at = (*at - self.start).as_secs_f64();
                write!(text, "\n  {at:10.3} {line:?}").unwrap();
            }
            self.accused = Some(text);
        }
    }

    pub(super) fn accusation(&self) -> Option<&str> {
        self.accused.as_deref()
    }

    /// An answer of the database began.
    pub(super) fn began(&mut self, endpoint: &Endpoint, key: usize) {
        if self.by_clients[endpoint.id.index()] && !self.answers_by_clients.take(Instant::now()) {
            self.accuse(format!("clients caused too many loads, last of key {key}"));
        }
    }

    /// A client's own load is known to have begun then.
    pub(super) fn client_began(&mut self, at: Instant) {
        self.known_starts.push(at);
    }

    pub(super) fn hear(&mut self, event: &Event) {
        let Event::RefreshFinished {
            endpoint,
            trigger,
            outcome,
            elapsed,
            ..
        } = event
        else {
            return;
        };
        let (endpoint, now) = (endpoint.index(), Instant::now());
        self.tell(Line::Refreshed(endpoint, *trigger, *outcome, *elapsed));
        if *trigger == Trigger::Schedule {
            self.uncounted[endpoint] -= 1;
        }
        if *outcome == RefreshOutcome::Skipped {
            return;
        }
        match trigger {
            Trigger::Stale | Trigger::Ahead => self.known_starts.push(now - *elapsed),
            Trigger::Schedule | Trigger::Warm | Trigger::Probe | Trigger::Notify => {
                self.longest_scheduled = self.longest_scheduled.max(*elapsed);
                if *elapsed > self.scheduled_at_most {
                    self.accuse(format!("endpoint {endpoint} starved for {elapsed:?}"));
                }
            }
        }
        if self.resident[endpoint] {
            if now - *elapsed < self.last_end[endpoint] {
                self.accuse(format!("two refreshes of endpoint {endpoint} at once"));
            }
            self.last_end[endpoint] = now;
        }
    }

    /// Checks what can be judged only at the end.
    pub(super) fn conclude(&mut self) {
        let mut starts = std::mem::take(&mut self.known_starts);
        starts.sort_unstable();
        // A load of a key in use may have waited before it began.
        let depth = self.rate * (1.0 + WAIT_MAX.as_secs_f64());
        let mut bucket = Bucket::new(self.rate, depth, self.start);
        if !starts.into_iter().all(|at| bucket.take(at)) {
            self.accuse("clients caused more loads in some window than allowed".to_owned());
        }
        if let Some(endpoint) = self.uncounted.iter().position(|left| *left != 0) {
            let left = self.uncounted[endpoint];
            self.accuse(format!(
                "{left} refreshes of endpoint {endpoint} were not counted"
            ));
        }
    }
}
