//! Which endpoints are due, and when the next one is. Pure: both clocks are arguments. Intervals run
//! on the monotonic clock, cron lines on the wall clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::plan::{CronLine, Endpoint, EndpointId};
use crate::read_through::AheadCheck;

/// Cron lines that fall on the same second are spread over a tenth of the time to their next run, and
/// over this at most: nobody who writes "every hour" minds ten seconds, and Postgres minds a burst.
const CRON_SPREAD_MAX: Duration = Duration::from_secs(10);

/// The wall clock was set if it is this far from where it was going: less is how clocks are slewed.
const CLOCK_SET: Duration = Duration::from_secs(2);

/// An endpoint whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Which.
    pub endpoint: EndpointId,
    /// Whether by a cron line, which names a moment, rather than by an interval or a retry.
    pub by_the_clock: bool,
}

/// Every schedule, with its next moment.
#[derive(Debug)]
pub struct Timetable {
    intervals: Vec<Interval>,
    crons: Vec<Cron>,
    /// Where each endpoint stands in the two lists above.
    schedules: Vec<Schedules>,
    /// When each endpoint that failed is tried again. Its schedule rests until then.
    retries: Vec<Option<Instant>>,
    /// Next moments on the monotonic clock.
    monotonic: BinaryHeap<Reverse<(Instant, Item)>>,
    /// Keys that are loaded ahead, by when they are to be looked at.
    keys: BTreeMap<(Instant, u64), AheadCheck>,
    /// Tells keys of one moment apart.
    key_number: u64,
    /// What the wall clock showed last, and when that was.
    seen: (SystemTime, Instant),
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
    /// A failed refresh is tried again, unless that has been put off or called off meanwhile.
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
            retries: vec![None; endpoints.len()],
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
                timetable.schedules[endpoint.id.index()].interval = Some(index);
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
                timetable.schedules[endpoint.id.index()].cron = Some(timetable.crons.len());
                timetable.crons.push(cron);
            }
        }
        timetable
    }

    /// The next moment on the monotonic clock. Cron lines are looked at with every heartbeat.
    pub fn next(&self) -> Option<Instant> {
        let endpoint = self.monotonic.peek().map(|Reverse((at, _))| *at);
        let key = self.keys.first_key_value().map(|((at, _), _)| *at);
        endpoint.into_iter().chain(key).min()
    }

    /// Has a key taken in its time.
    pub fn look_at(&mut self, key: AheadCheck) {
        self.key_number += 1;
        self.keys.insert((key.at, self.key_number), key);
    }

    /// Takes the keys whose moment has come.
    pub fn take_keys(&mut self, now: Instant) -> Vec<AheadCheck> {
        let later = self.keys.split_off(&(now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.keys, later)
            .into_values()
            .collect()
    }

    /// Looks whether the wall clock was set since the last look. The cron lines are followed by the
    /// time it shows now, and what was said of when they are [due](Self::due) no longer holds.
    pub fn clock_was_set(&mut self, now: Instant, wall: SystemTime) -> bool {
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

    /// Takes the endpoints that are due, each once however often it was missed.
    pub fn take_due(&mut self, now: Instant, wall: SystemTime) -> Vec<Due> {
        let mut due = BTreeMap::new();
        while let Some(Reverse((at, item))) = self.monotonic.peek().copied()
            && at <= now
        {
            self.monotonic.pop();
            match item {
                Item::Retry(endpoint) => {
                    if self.retries[endpoint.index()] == Some(at) {
                        self.retries[endpoint.index()] = None;
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
            .filter(|(endpoint, _)| self.retries[endpoint.index()].is_none())
            .map(|(endpoint, by_the_clock)| Due {
                endpoint,
                by_the_clock,
            })
            .collect()
    }

    /// Has a failed endpoint taken again at `at`, and not before; `None` when it has not failed.
    pub fn retry(&mut self, endpoint: EndpointId, at: Option<Instant>) {
        self.retries[endpoint.index()] = at;
        if let Some(at) = at {
            self.push(at, Item::Retry(endpoint));
        }
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

    /// How far runs around this moment are spread.
    fn spread(&self, named: SystemTime) -> Duration {
        let following = self.line.next_after(named);
        let gap = following
            .and_then(|next| next.duration_since(named).ok())
            .unwrap_or_default();
        (gap / 10).min(CRON_SPREAD_MAX)
    }
}

/// A number from 0 to 1 that only depends on the text.
pub(super) fn place(text: &str) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    // 53 bits are what a double holds exactly.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::plan::Plan;

    const SECOND: Duration = Duration::from_secs(1);

    /// 2026-01-01 00:00:00 UTC.
    fn new_year() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
    }

    /// One endpoint for each `refresh = …`.
    fn plan(refreshes: &[String]) -> Plan {
        let mut text = "[repository]\nurl = \"postgres://localhost/d\"\n".to_owned();
        for (n, refresh) in refreshes.iter().enumerate() {
            text.push_str(&format!(
                "[[endpoint]]\npath = \"/n{n}\"\nsql = \"SELECT 1\"\nrefresh = {refresh}\n"
            ));
        }
        let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
        Plan::compile(config).unwrap()
    }

    /// What is due in each of so many seconds.
    fn run(
        timetable: &mut Timetable,
        start: (Instant, SystemTime),
        seconds: u32,
    ) -> Vec<Vec<EndpointId>> {
        (1..=seconds)
            .map(|n| {
                let (now, wall) = (start.0 + SECOND * n, start.1 + SECOND * n);
                timetable.clock_was_set(now, wall);
                let due = timetable.take_due(now, wall);
                due.into_iter().map(|due| due.endpoint).collect()
            })
            .collect()
    }

    #[test]
    fn an_interval_comes_back_in_its_own_rhythm() {
        let plan = plan(&[r#"{ every = "5s" }"#.to_owned()]);
        let (now, wall) = (Instant::now(), new_year());
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        let due = run(&mut timetable, (now, wall), 100);
        let times: Vec<usize> = (0..100).filter(|n| !due[*n].is_empty()).collect();
        assert_eq!(times.len(), 20);
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 5),
            "{times:?}"
        );
    }

    #[test]
    fn a_thousand_schedules_of_one_second_all_run() {
        for refresh in [
            r#"{ every = "1s" }"#,
            r#"{ cron = "0 0 12 * * *" }"#,
            r#"{ cron = "* * * * * *" }"#,
        ] {
            let plan = plan(&vec![refresh.to_owned(); 1_000]);
            let (now, wall) = (Instant::now(), new_year() + SECOND * 12 * 3_600 - SECOND);
            let mut timetable = Timetable::new(plan.endpoints(), now, wall);
            let due = run(&mut timetable, (now, wall), 15);
            let mut seen: Vec<EndpointId> = due.into_iter().flatten().collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 1_000, "{refresh}");
        }
    }

    #[test]
    fn equal_schedules_are_spread_the_same_way_at_every_start() {
        let plan = plan(&vec![r#"{ every = "10s" }"#.to_owned(); 1_000]);
        let (now, wall) = (Instant::now(), new_year());
        let spread = || {
            run(
                &mut Timetable::new(plan.endpoints(), now, wall),
                (now, wall),
                10,
            )
        };
        let due = spread();
        assert!(
            due.iter().all(|now| (50..200).contains(&now.len())),
            "{:?}",
            due.iter().map(Vec::len).collect::<Vec<_>>()
        );
        assert_eq!(due, spread());
    }

    #[test]
    fn missed_runs_are_one_run() {
        let plan = plan(&[
            r#"{ every = "1s" }"#.to_owned(),
            r#"{ cron = "*/5 * * * * *" }"#.to_owned(),
        ]);
        let (now, wall) = (Instant::now(), new_year());
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        let hour = SECOND * 3_600;
        assert_eq!(timetable.take_due(now + hour, wall + hour).len(), 2);
        assert_eq!(
            timetable.take_due(now + hour, wall + hour),
            [],
            "and not again at once"
        );
        let later = run(&mut timetable, (now + hour, wall + hour), 10);
        assert_eq!(later.concat().len(), 10 + 2);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_a_schedule() {
        let plan = plan(&[r#"{ cron = "0 * * * * *" }"#.to_owned()]);
        let (now, wall) = (Instant::now(), new_year());
        let id = plan.endpoints()[0].id;
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        run(&mut timetable, (now, wall), 90);
        let (now, back) = (now + SECOND * 90, wall - SECOND * 3_600);
        assert!(timetable.clock_was_set(now, back));
        let due = timetable.due(id, now, back).unwrap() - now;
        assert!(due > SECOND * 59 && due < SECOND * 70, "{due:?}");
        assert!(!timetable.clock_was_set(now, back), "it is noticed once");
        let due = run(&mut timetable, (now, back), 90);
        assert_eq!(due.concat().len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_forward_makes_up_for_one_run_and_leaves_intervals_alone() {
        let plan = plan(&[
            r#"{ cron = "0 0 * * * *" }"#.to_owned(),
            r#"{ every = "1h" }"#.to_owned(),
        ]);
        let (now, wall) = (Instant::now(), new_year());
        let [cron, interval] = [0, 1].map(|n| plan.endpoints()[n].id);
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        let due = timetable.due(interval, now, wall);
        let (now, forward) = (now + SECOND, wall + SECOND * (86_400 + 1_800));
        assert!(timetable.clock_was_set(now, forward));
        let taken = timetable.take_due(now, forward);
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert_eq!(taken[0].endpoint, cron);
        assert_eq!(timetable.due(interval, now, forward), due);
        let later = run(&mut timetable, (now, forward), 10);
        assert_eq!(later.concat(), []);
        let due = timetable.due(cron, now, forward).unwrap() - now;
        assert!(due >= SECOND * 1_800 && due < SECOND * 1_810, "{due:?}");
    }

    #[test]
    fn a_clock_that_is_slewed_is_not_set() {
        let (now, wall) = (Instant::now(), new_year());
        for pace in [0.9, 1.1] {
            let mut timetable = Timetable::new(&[], now, wall);
            for n in 1..=100 {
                let wall = wall + SECOND.mul_f64(f64::from(n) * pace);
                assert!(!timetable.clock_was_set(now + SECOND * n, wall));
            }
        }
    }

    #[test]
    fn a_failed_endpoint_rests_until_its_retry_which_is_one_however_often_it_failed() {
        let plan = plan(&[r#"{ every = "1s" }"#.to_owned()]);
        let (now, wall) = (Instant::now(), new_year());
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        let id = plan.endpoints()[0].id;
        for seconds in [3, 7, 5] {
            timetable.retry(id, Some(now + SECOND * seconds));
        }
        let due = run(&mut timetable, (now, wall), 10);
        let times: Vec<usize> = (0..10)
            .filter(|n| !due[*n].is_empty())
            .map(|n| n + 1)
            .collect();
        assert_eq!(times, [5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_success_calls_the_retry_off() {
        let plan = plan(&[r#"{ every = "1h" }"#.to_owned()]);
        let (now, wall) = (Instant::now(), new_year());
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        let id = plan.endpoints()[0].id;
        let due = timetable.due(id, now, wall);
        timetable.retry(id, Some(now + SECOND));
        timetable.retry(id, None);
        assert_eq!(timetable.take_due(now + SECOND, wall + SECOND), []);
        assert_eq!(
            timetable.due(id, now, wall),
            due,
            "the schedule is as it was"
        );
    }

    #[test]
    fn a_cron_line_in_its_zone_follows_the_change_to_summer_time() {
        let line = r#"{ cron = "0 30 8 * * *", timezone = "Europe/Berlin" }"#;
        let plan = plan(&[line.to_owned()]);
        // 2026-03-28 00:00 UTC; the clocks go forward in the night to the 29th.
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_774_656_000);
        let now = Instant::now();
        let mut timetable = Timetable::new(plan.endpoints(), now, wall);
        let due = run(&mut timetable, (now, wall), 48 * 3_600);
        let hours: Vec<usize> = (0..due.len())
            .filter(|n| !due[*n].is_empty())
            .map(|n| (n + 1) / 1_800)
            .collect();
        // 08:30 is 07:30 UTC on the 28th and 06:30 UTC on the 29th.
        assert_eq!(hours, [15, 48 + 13]);
    }
}
