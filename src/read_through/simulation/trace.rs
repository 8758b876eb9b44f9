//! What happened, of which the last lines are kept to explain a violation, and the checks that need nothing
//! else: the rate limit, fairness, and whether every refresh was counted.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use tokio::time::Instant;

use super::super::rate_limit::WAIT_MAX;
use super::model::KEYS;
use crate::observe::{Event, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, Plan};

/// The number of lines kept.
const LINES: usize = 80;

/// Something that happened. Numbers are those of keys, or of endpoints.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "printed to explain a violation")]
pub(super) enum Line {
    Wrote(usize),
    Invalidated(usize),
    Revalidated(usize),
    Requested(usize, &'static str),
    Disconnected(usize),
    Answered(usize, &'static str, Option<usize>, Duration),
    Began(usize),
    Ended(usize, bool),
    Refreshed(usize, Trigger, RefreshOutcome, Duration),
    Evicted(usize),
    Mode(super::model::Mode),
}

/// A token bucket. It runs dry exactly when more tokens were taken in some window than its depth and rate
/// allow.
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
pub(super) struct Trace {
    start: Instant,
    lines: VecDeque<(Instant, Line)>,
    hash: u64,
    violation: Option<String>,
    /// Per endpoint: whether only clients cause its loads.
    by_clients: Vec<bool>,
    resident: Vec<bool>,
    answers_by_clients: Bucket,
    /// When the loads began that clients certainly caused.
    known_starts: Vec<Instant>,
    rate: f64,
    /// The longest that a scheduled load may take, including its wait.
    scheduled_limit: Duration,
    pub(super) longest_scheduled: Duration,
    last_end: Vec<Instant>,
    /// Per endpoint: scheduled refreshes that ended, minus those that were counted.
    pub(super) uncounted: Vec<i64>,
}

impl Trace {
    pub(super) fn new(endpoints: usize, plan: &Plan) -> Self {
        let now = Instant::now();
        let rate = f64::from(plan.repository().max_loads_per_second);
        let timeouts = plan.endpoints().iter().map(|endpoint| endpoint.timeout);
        let timeout = timeouts.max().unwrap_or_default();
        // An answer takes at most one and a half timeouts. All loads of its own class may precede a load,
        // and one of another class each of them.
        let loads = u32::try_from(endpoints * KEYS + 2).unwrap();
        Self {
            start: now,
            lines: VecDeque::with_capacity(LINES),
            hash: 0,
            violation: None,
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
            // They may have waited for a slot, and begin together then.
            answers_by_clients: Bucket::new(rate, rate * (1.0 + timeout.as_secs_f64()), now),
            known_starts: Vec::new(),
            rate,
            scheduled_limit: timeout * 3 * loads,
            longest_scheduled: Duration::ZERO,
            last_end: vec![now; endpoints],
            uncounted: vec![0; endpoints],
        }
    }

    pub(super) fn record(&mut self, line: Line) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        let now = Instant::now();
        self.lines.push_back((now, line));
        let millis = (now - self.start).as_millis() as u64;
        let number = match line {
            Line::Began(key) => key as u64,
            Line::Ended(key, is_answer) => 1_000 + key as u64 * 2 + u64::from(is_answer),
            Line::Answered(key, _, version, _) => 5_000 + (key * 7 + version.unwrap_or(3)) as u64,
            Line::Refreshed(endpoint, ..) => 9_000 + endpoint as u64,
            Line::Wrote(_)
            | Line::Invalidated(_)
            | Line::Revalidated(_)
            | Line::Requested(..)
            | Line::Disconnected(_)
            | Line::Evicted(_)
            | Line::Mode(_) => 0,
        };
        // A sum, because the order of simultaneous lines does not matter.
        let mixed = (millis << 16 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = self.hash.wrapping_add(mixed ^ (mixed >> 29));
    }

    /// A hash that two equal traces have in common.
    pub(super) fn digest(&self) -> u64 {
        self.hash
    }

    /// Records a violation. The first one counts.
    pub(super) fn report_violation(&mut self, what: String) {
        if self.violation.is_none() {
            let mut text = what;
            for (at, line) in &self.lines {
                let at = (*at - self.start).as_secs_f64();
                write!(text, "\n  {at:10.3} {line:?}").unwrap();
            }
            self.violation = Some(text);
        }
    }

    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Records that an answer of the database began.
    pub(super) fn began(&mut self, endpoint: &Endpoint, key: usize) {
        if self.by_clients[endpoint.id.number()] && !self.answers_by_clients.take(Instant::now()) {
            self.report_violation(format!("clients caused too many loads, last of key {key}"));
        }
    }

    /// Records that a client's load certainly began then.
    pub(super) fn client_began(&mut self, at: Instant) {
        self.known_starts.push(at);
    }

    pub(super) fn record_event(&mut self, event: &Event) {
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
        let (endpoint, now) = (endpoint.number(), Instant::now());
        self.record(Line::Refreshed(endpoint, *trigger, *outcome, *elapsed));
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
                if *elapsed > self.scheduled_limit {
                    self.report_violation(format!("endpoint {endpoint} starved for {elapsed:?}"));
                }
            }
        }
        if self.resident[endpoint] {
            if now - *elapsed < self.last_end[endpoint] {
                self.report_violation(format!("two refreshes of endpoint {endpoint} at once"));
            }
            self.last_end[endpoint] = now;
        }
    }

    /// Checks what can only be checked at the end.
    pub(super) fn conclude(&mut self) {
        let mut starts = std::mem::take(&mut self.known_starts);
        starts.sort_unstable();
        // The load of a cached key may have waited for its token.
        let depth = self.rate * (1.0 + WAIT_MAX.as_secs_f64());
        let mut bucket = Bucket::new(self.rate, depth, self.start);
        if !starts.into_iter().all(|at| bucket.take(at)) {
            self.report_violation(
                "clients caused more loads in some window than allowed".to_owned(),
            );
        }
        if let Some(endpoint) = self.uncounted.iter().position(|left| *left != 0) {
            let left = self.uncounted[endpoint];
            self.report_violation(format!(
                "{left} refreshes of endpoint {endpoint} were not counted"
            ));
        }
    }
}
