//! Which endpoints are due, and when the next one is. No I/O: both clocks are arguments. Intervals run on
//! the monotonic clock, cron schedules on the wall clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::plan::{CronLine, Endpoint, EndpointId};
use crate::read_through::AheadCheck;

/// Cron schedules that fall on the same second are spread over a tenth of the time to their next run, but
/// over no more than this: ten seconds do not matter to an hourly schedule, and a burst would hurt Postgres.
const CRON_SPREAD_MAX: Duration = Duration::from_secs(10);

/// The wall clock was set, and not just slewed, if it is off by this much.
const CLOCK_SET: Duration = Duration::from_secs(2);

/// An endpoint that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Whether by a cron schedule, rather than by an interval or a retry.
    pub is_cron: bool,
}

/// Every schedule, with its next moment.
#[derive(Debug)]
pub struct Timetable {
    intervals: Vec<Interval>,
    crons: Vec<Cron>,
    /// Each scheduled endpoint's indices in the two lists above.
    schedules: HashMap<EndpointId, Schedules>,
    /// When each failed endpoint is retried. Its schedule is suspended until then.
    retries: HashMap<EndpointId, Instant>,
    /// The next moments on the monotonic clock.
    monotonic: BinaryHeap<Reverse<(Instant, Item)>>,
    /// Keys that are loaded ahead of time, by when to check them.
    keys: BTreeMap<(Instant, u64), AheadCheck>,
    /// Distinguishes keys with the same moment.
    key_number: u64,
    /// The last wall-clock time seen, and when that was.
    seen: (SystemTime, Instant),
}

#[derive(Debug, Clone, Copy, Default)]
struct Schedules {
    interval: Option<usize>,
    cron: Option<usize>,
}

/// What is due at a moment of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// The interval with this index.
    Interval(usize),
    /// The retry of a failed endpoint, unless it has been postponed or cancelled meanwhile.
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
    /// Its place in the spread: 0 to 1, the same at every start.
    place: f64,
    /// The moment that the line names, and that moment plus its place in the spread.
    next: Option<(SystemTime, SystemTime)>,
}

impl Timetable {
    /// The schedules of `endpoints`, starting now. Each interval starts with an offset of its own, the same
    /// at every start, so that equal intervals do not coincide.
    pub fn new<'p>(
        endpoints: impl IntoIterator<Item = &'p Endpoint>,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        let mut timetable = Self {
            intervals: Vec::new(),
            crons: Vec::new(),
            schedules: HashMap::new(),
            retries: HashMap::new(),
            monotonic: BinaryHeap::new(),
            keys: BTreeMap::new(),
            key_number: 0,
            seen: (wall, now),
        };
        for endpoint in endpoints {
            let place = place(endpoint.path.as_str());
            if let Some(every) = endpoint.refresh.every {
                let next = now + every.mul_f64(place);
                let index = timetable.intervals.len();
                timetable.schedule(endpoint.id).interval = Some(index);
                timetable.push(next, Item::Interval(index));
                timetable.intervals.push(Interval {
                    endpoint: endpoint.id,
                    every,
                    next,
                });
            }
            if let Some(line) = endpoint.refresh.cron.clone() {
                let mut cron = Cron {
                    endpoint: endpoint.id,
                    line,
                    place,
                    next: None,
                };
                cron.advance(wall);
                timetable.schedule(endpoint.id).cron = Some(timetable.crons.len());
                timetable.crons.push(cron);
            }
        }
        timetable
    }

    /// The next moment on the monotonic clock. Cron schedules are checked with every heartbeat.
    pub fn next(&self) -> Option<Instant> {
        let endpoint = self.monotonic.peek().map(|Reverse((at, _))| *at);
        let key = self.keys.first_key_value().map(|((at, _), _)| *at);
        endpoint.into_iter().chain(key).min()
    }

    /// Adds a key to check at its time.
    pub fn add_key(&mut self, key: AheadCheck) {
        self.key_number += 1;
        self.keys.insert((key.at, self.key_number), key);
    }

    /// Takes the keys to check now.
    pub fn take_keys(&mut self, now: Instant) -> Vec<AheadCheck> {
        let later = self.keys.split_off(&(now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.keys, later)
            .into_values()
            .collect()
    }

    /// Records both clocks, and returns whether the wall clock was set since the last call. If so, the cron
    /// schedules continue from the new time, and [due](Self::due) times given out before no longer hold.
    pub fn record_clocks(&mut self, now: Instant, wall: SystemTime) -> bool {
        let (seen, then) = std::mem::replace(&mut self.seen, (wall, now));
        let expected = seen + now.saturating_duration_since(then);
        let set_back = wall + CLOCK_SET < expected;
        if set_back {
            for cron in &mut self.crons {
                cron.next = None;
                cron.advance(wall);
            }
        }
        set_back || expected + CLOCK_SET < wall
    }

    /// Takes the endpoints that are due, each once no matter how many runs were missed.
    pub fn take_due(&mut self, now: Instant, wall: SystemTime) -> Vec<Due> {
        let mut due = BTreeMap::new();
        while let Some(Reverse((at, item))) = self.monotonic.peek().copied()
            && at <= now
        {
            self.monotonic.pop();
            match item {
                Item::Retry(endpoint) => {
                    if self.retries.get(&endpoint) == Some(&at) {
                        self.retries.remove(&endpoint);
                        due.insert(endpoint, false);
                    }
                }
                Item::Interval(index) => {
                    let interval = &mut self.intervals[index];
                    interval.advance(now);
                    due.entry(interval.endpoint).or_insert(false);
                    let next = interval.next;
                    self.push(next, item);
                }
            }
        }
        for cron in &mut self.crons {
            if cron.next.is_some_and(|(_, at)| at <= wall) {
                cron.advance(wall);
                due.insert(cron.endpoint, true);
            }
        }
        due.into_iter()
            .filter(|(endpoint, _)| !self.retries.contains_key(endpoint))
            .map(|(endpoint, is_cron)| Due { endpoint, is_cron })
            .collect()
    }

    /// Sets when a failed endpoint is retried, and not taken before; `None` if it has not failed.
    pub fn retry(&mut self, endpoint: EndpointId, at: Option<Instant>) {
        match at {
            Some(at) => {
                self.retries.insert(endpoint, at);
                self.push(at, Item::Retry(endpoint));
            }
            None => drop(self.retries.remove(&endpoint)),
        }
    }

    /// When the endpoint's schedule falls due next.
    pub fn due(&self, endpoint: EndpointId, now: Instant, wall: SystemTime) -> Option<Instant> {
        let schedules = self.schedules.get(&endpoint)?;
        let interval = schedules.interval.map(|index| self.intervals[index].next);
        let cron = schedules.cron.and_then(|index| {
            let (_, at) = self.crons[index].next?;
            Some(now + at.duration_since(wall).unwrap_or_default())
        });
        interval.into_iter().chain(cron).min()
    }

    /// The timetable of `endpoints` in place of this one. An endpoint with the same number and schedule keeps its
    /// moments, one with the same number its retry.
    #[must_use]
    pub fn following(mut self, endpoints: &[Endpoint], now: Instant, wall: SystemTime) -> Self {
        let mut next = Self::new(endpoints, now, wall);
        (next.keys, next.key_number) = (std::mem::take(&mut self.keys), self.key_number);
        next.seen = self.seen;
        let numbers = next.schedules.clone();
        for (endpoint, schedules) in numbers {
            let before = self.schedules.get(&endpoint).copied().unwrap_or_default();
            if let (Some(index), Some(before)) = (schedules.interval, before.interval) {
                let (interval, before) = (&mut next.intervals[index], &self.intervals[before]);
                if interval.every == before.every {
                    interval.next = before.next;
                }
            }
            if let (Some(index), Some(before)) = (schedules.cron, before.cron) {
                let (cron, before) = (&mut next.crons[index], &self.crons[before]);
                if cron.line == before.line {
                    cron.next = before.next;
                }
            }
        }
        let intervals = next.intervals.iter().enumerate();
        let moments = intervals.map(|(index, it)| Reverse((it.next, Item::Interval(index))));
        next.monotonic = moments.collect();
        for endpoint in endpoints {
            if let Some(at) = self.retries.remove(&endpoint.id) {
                next.retry(endpoint.id, Some(at));
            }
        }
        next
    }

    fn schedule(&mut self, endpoint: EndpointId) -> &mut Schedules {
        self.schedules.entry(endpoint).or_default()
    }

    fn push(&mut self, at: Instant, item: Item) {
        self.monotonic.push(Reverse((at, item)));
    }
}

impl Interval {
    /// Moves on to its first moment after now. The moments in between were missed, and count as one run.
    fn advance(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.next).as_nanos();
        let missed = late / self.every.as_nanos().max(1);
        let steps = u32::try_from(missed + 1).unwrap_or(u32::MAX);
        self.next += self.every.saturating_mul(steps);
    }
}

impl Cron {
    /// Moves on to its first moment after now. The moments in between were missed, and count as one run.
    fn advance(&mut self, wall: SystemTime) {
        // A moment that the line named a while ago may still lie ahead, because of its place in the spread.
        let mut after = match self.next {
            Some((named, _)) => named.max(wall - CRON_SPREAD_MAX),
            None => wall,
        };
        self.next = loop {
            let Some(named) = self.line.next_after(after) else {
                break None;
            };
            let at = named + self.spread(named).mul_f64(self.place);
            if at > wall {
                break Some((named, at));
            }
            after = named;
        };
    }

    /// Over how long the runs of this moment are spread.
    fn spread(&self, named: SystemTime) -> Duration {
        let following = self.line.next_after(named);
        let gap = following
            .and_then(|next| next.duration_since(named).ok())
            .unwrap_or_default();
        (gap / 10).min(CRON_SPREAD_MAX)
    }
}

/// A number from 0 to 1 that depends on the text only.
pub(super) fn place(text: &str) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    // A double holds 53 bits exactly.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
