//! Which endpoints are due, and when the next one is. Pure: both clocks are arguments. Intervals run
//! on the monotonic clock, cron lines on the wall clock.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::plan::{CronLine, Endpoint, EndpointId};

/// Cron lines that fall on the same second are spread over a tenth of the time to their next run, and
/// over this at most: nobody who writes "every hour" minds ten seconds, and Postgres minds a burst.
const CRON_SPREAD_MAX: Duration = Duration::from_secs(10);

/// The wall clock was set back if it is this far behind what it showed before.
const SET_BACK: Duration = Duration::from_secs(2);

/// Every schedule, with its next moment.
#[derive(Debug)]
pub struct Timetable {
    intervals: Vec<Interval>,
    crons: Vec<Cron>,
    /// Where each endpoint stands in the two lists above.
    schedules: Vec<Schedules>,
    /// Next moments on the monotonic clock.
    monotonic: BinaryHeap<Reverse<(Instant, Item)>>,
    /// What the wall clock showed last.
    seen: SystemTime,
}

#[derive(Debug, Clone, Copy, Default)]
struct Schedules {
    interval: Option<usize>,
    cron: Option<usize>,
}

/// What happens at a moment of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// The interval at this index is over.
    Interval(usize),
    /// A failed refresh is tried again.
    Retry(EndpointId),
}

#[derive(Debug)]
struct Interval {
    endpoint: EndpointId,
    every: Duration,
    next: Instant,
}

#[derive(Debug)]
struct Cron {
    endpoint: EndpointId,
    line: CronLine,
    /// Where in the spread it stands: 0 to 1, the same at every start.
    place: f64,
    /// The moment the line names, and that moment with its place in the spread.
    next: Option<(SystemTime, SystemTime)>,
}

impl Timetable {
    /// The schedules of `endpoints`, beginning now. Intervals begin at a place of their own within
    /// the first, the same at every start, so that equal intervals do not fall together.
    pub fn new(endpoints: &[Endpoint], now: Instant, wall: SystemTime) -> Self {
        let mut timetable = Self {
            intervals: Vec::new(),
            crons: Vec::new(),
            schedules: vec![Schedules::default(); endpoints.len()],
            monotonic: BinaryHeap::new(),
            seen: wall,
        };
        for endpoint in endpoints {
            let place = place(endpoint.path.as_str());
            if let Some(every) = endpoint.refresh.every {
                let next = now + every.mul_f64(place);
                let index = timetable.intervals.len();
                timetable.schedules[endpoint.id.index()].interval = Some(index);
                timetable.push(next, Item::Interval(index));
                timetable.intervals.push(Interval { endpoint: endpoint.id, every, next });
            }
            if let Some(line) = endpoint.refresh.cron.clone() {
                let mut cron = Cron { endpoint: endpoint.id, line, place, next: None };
                cron.advance(wall);
                timetable.schedules[endpoint.id.index()].cron = Some(timetable.crons.len());
                timetable.crons.push(cron);
            }
        }
        timetable
    }

    /// The next moment on the monotonic clock. Cron lines are looked at with every heartbeat.
    pub fn next(&self) -> Option<Instant> {
        self.monotonic.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the endpoints that are due, each once however often it was missed.
    pub fn take_due(&mut self, now: Instant, wall: SystemTime) -> Vec<EndpointId> {
        let mut due = BTreeSet::new();
        while let Some(Reverse((at, item))) = self.monotonic.peek().copied()
            && at <= now
        {
            self.monotonic.pop();
            match item {
                Item::Retry(endpoint) => drop(due.insert(endpoint)),
                Item::Interval(index) => {
                    let interval = &mut self.intervals[index];
                    interval.advance(now);
                    due.insert(interval.endpoint);
                    let next = interval.next;
                    self.push(next, item);
                }
            }
        }
        let set_back = wall + SET_BACK < self.seen;
        self.seen = wall;
        for cron in &mut self.crons {
            if set_back {
                cron.next = None;
                cron.advance(wall);
            }
            if cron.next.is_some_and(|(_, at)| at <= wall) {
                cron.advance(wall);
                due.insert(cron.endpoint);
            }
        }
        due.into_iter().collect()
    }

    /// Has a failed endpoint taken again at `at`, beside its schedule.
    pub fn retry(&mut self, endpoint: EndpointId, at: Instant) {
        self.push(at, Item::Retry(endpoint));
    }

    /// When the endpoint's schedule has it next.
    pub fn due(&self, endpoint: EndpointId, now: Instant, wall: SystemTime) -> Option<Instant> {
        let schedules = self.schedules[endpoint.index()];
        let interval = schedules.interval.map(|index| self.intervals[index].next);
        let cron = schedules.cron.and_then(|index| {
            let (_, at) = self.crons[index].next?;
            Some(now + at.duration_since(wall).unwrap_or_default())
        });
        interval.into_iter().chain(cron).min()
    }

    fn push(&mut self, at: Instant, item: Item) {
        self.monotonic.push(Reverse((at, item)));
    }
}

impl Interval {
    /// To the first of its moments after now: those in between were missed, and are one run.
    fn advance(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.next).as_nanos();
        let missed = late / self.every.as_nanos().max(1);
        let steps = u32::try_from(missed + 1).unwrap_or(u32::MAX);
        self.next += self.every.saturating_mul(steps);
    }
}

impl Cron {
    /// To the first of its moments after now: those in between were missed, and are one run.
    fn advance(&mut self, wall: SystemTime) {
        // A moment the line named a while ago may still lie ahead, by its place in the spread.
        let mut after = match self.next {
            Some((named, _)) => named.max(wall - CRON_SPREAD_MAX),
            None => wall,
        };
        self.next = loop {
            let Some(named) = self.line.next_after(after) else { break None };
            let at = named + self.spread(named).mul_f64(self.place);
            if at > wall {
                break Some((named, at));
            }
            after = named;
        };
    }

    /// How far runs around this moment are spread.
    fn spread(&self, named: SystemTime) -> Duration {
        let following = self.line.next_after(named);
        let gap = following.and_then(|next| next.duration_since(named).ok()).unwrap_or_default();
        (gap / 10).min(CRON_SPREAD_MAX)
    }
}

/// A number from 0 to 1 that only depends on the text.
fn place(text: &str) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    // 53 bits are what a double holds exactly.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
