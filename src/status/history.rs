//! The last minutes: a sample every few seconds, of what was said then. Memory is bounded: twelve bytes
//! per endpoint and sample, and the counters of the last few.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::figures::{Figures, total};
use crate::metrics::EndpointReadings;

/// Between samples.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// Five minutes of them: about 0.9 KB for each endpoint, with its counters.
const SAMPLES: usize = 60;

/// Rates and means are of the time since the last sample but one: ten seconds or a little more, so that
/// few requests make no jumps, and a change shows within seconds.
const WINDOW_SAMPLES: usize = 2;

/// What is known of a moment beside the endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
    pub(super) evictions: u64,
}

/// The ring of samples.
#[derive(Debug)]
pub(super) struct History {
    /// The counters of the last samples, the oldest first: where the window may begin.
    counted: VecDeque<Counted>,
    samples: VecDeque<Sample>,
    taken: u64,
}

#[derive(Debug)]
struct Counted {
    at: Instant,
    evictions: u64,
    readings: Box<[EndpointReadings]>,
}

/// What was said at a moment.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) wall: SystemTime,
    pub(super) total: Figures,
    pub(super) endpoints: Box<[Point]>,
}

/// What was said of an endpoint. What there was none of is NaN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) requests_per_second: f32,
    pub(super) request_duration_seconds: f32,
    pub(super) age_seconds: f32,
}

/// The stretch of time that rates and means are of.
#[derive(Debug)]
pub(super) struct Window<'h> {
    began: &'h Counted,
    pub(super) seconds: f64,
}

impl History {
    /// Begins with these counters.
    pub(super) fn new(started: Instant, readings: Box<[EndpointReadings]>) -> Self {
        let began = Counted {
            at: started,
            evictions: 0,
            readings,
        };
        Self {
            counted: VecDeque::from([began]),
            samples: VecDeque::with_capacity(SAMPLES),
            taken: 0,
        }
    }

    /// The window that ends now.
    pub(super) fn window(&self, now: Instant) -> Window<'_> {
        let began = self
            .counted
            .front()
            .expect("there is one from the start on");
        let seconds = now.saturating_duration_since(began.at).as_secs_f64();
        Window { began, seconds }
    }

    /// Adds a sample.
    pub(super) fn push(
        &mut self,
        moment: Moment,
        readings: Box<[EndpointReadings]>,
        ages: impl Iterator<Item = Option<Duration>>,
    ) {
        let window = self.window(moment.at);
        let points = readings.iter().zip(ages).enumerate();
        let sample = Sample {
            wall: moment.wall,
            total: window.total(&readings),
            endpoints: points
                .map(|(index, (readings, age))| Point::new(&window.of(index, readings), age))
                .collect(),
        };
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        if self.counted.len() == WINDOW_SAMPLES {
            self.counted.pop_front();
        }
        self.counted.push_back(Counted {
            at: moment.at,
            evictions: moment.evictions,
            readings,
        });
        self.taken += 1;
    }

    /// The samples, the oldest first.
    pub(super) fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }

    /// How many samples were ever taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

impl Window<'_> {
    /// The figures of the endpoint at this place in the plan, which has these counters now.
    pub(super) fn of(&self, index: usize, now: &EndpointReadings) -> Figures {
        Figures::between(&self.began.readings[index], now, self.seconds)
    }

    /// The figures of all endpoints, which have these counters now.
    pub(super) fn total(&self, now: &[EndpointReadings]) -> Figures {
        Figures::between(&total(&self.began.readings), &total(now), self.seconds)
    }

    /// Entries put out to make room, of which there were so many until now.
    pub(super) fn evictions_per_second(&self, now: u64) -> f64 {
        let more = now.saturating_sub(self.began.evictions) as f64;
        if self.seconds > 0.0 {
            more / self.seconds
        } else {
            0.0
        }
    }
}

impl Point {
    fn new(figures: &Figures, age: Option<Duration>) -> Self {
        let duration = figures.request_duration_seconds;
        Self {
            requests_per_second: figures.requests_per_second as f32,
            request_duration_seconds: duration.map_or(f32::NAN, |seconds| seconds as f32),
            age_seconds: age.map_or(f32::NAN, |age| age.as_secs_f32()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(hits: u64) -> Box<[EndpointReadings]> {
        let one = EndpointReadings {
            hits,
            ..Default::default()
        };
        Box::new([one])
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_of_the_last_steps_and_what_is_kept_is_bounded() {
        let start = Instant::now();
        let mut history = History::new(start, counted(0));
        let at = |steps: u32| start + STEP * steps;
        let moment = |steps| Moment {
            at: at(steps),
            wall: SystemTime::now(),
            evictions: u64::from(steps),
        };
        history.push(moment(1), counted(50), [None].into_iter());
        assert_eq!(history.samples()[0].endpoints[0].requests_per_second, 10.0);
        assert!(history.samples()[0].endpoints[0].age_seconds.is_nan());
        let age = Some(Duration::from_secs(3));
        history.push(moment(2), counted(50), [age].into_iter());
        assert_eq!(history.samples()[1].endpoints[0].requests_per_second, 5.0);
        assert_eq!(history.samples()[1].endpoints[0].age_seconds, 3.0);
        // The busy step is out of the window now.
        let window = history.window(at(3));
        assert_eq!(window.seconds, 10.0);
        assert_eq!(window.of(0, &counted(50)[0]).requests_per_second, 0.0);
        assert_eq!(window.evictions_per_second(11), 1.0);
        for steps in 3..200 {
            history.push(moment(steps), counted(50), [None].into_iter());
        }
        assert_eq!(history.taken(), 199);
        assert_eq!(history.samples().len(), SAMPLES);
        assert_eq!(history.counted.len(), WINDOW_SAMPLES);
    }
}
