//! The last minutes: a sample every few seconds of what [`super::document`] reports, and all of them as
//! JSON. Memory is bounded: twelve bytes per endpoint and sample, and the counters of the last few samples.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use tokio::time::Instant;

use super::json::{rounded, timestamp, to_json};
use super::rates::{Rates, total};
use crate::metrics::EndpointReadings;
use crate::plan::Plan;

/// The interval between samples.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// The number of samples kept, which cover five minutes: about 0.9 KB per endpoint, with its counters.
const SAMPLES: usize = 60;

/// Rates and means cover the time since the last sample but one. Ten seconds or a little more smooth out
/// sparse requests, and still show a change within seconds.
const WINDOW_SAMPLES: usize = 2;

/// When a sample is taken, and what is sampled besides the endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
    pub(super) evictions: u64,
}

/// The ring of samples.
#[derive(Debug)]
pub(super) struct History {
    /// The counters of the last samples, oldest first. The window begins at the first.
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

/// What was reported at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) wall: SystemTime,
    pub(super) total: Rates,
    pub(super) endpoints: Box<[Point]>,
}

/// What was reported of an endpoint. NaN stands for no value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) requests_per_second: f32,
    pub(super) request_duration_seconds: f32,
    pub(super) age_seconds: f32,
}

/// The window of time that rates and means cover.
#[derive(Debug)]
pub(super) struct Window<'h> {
    began: &'h Counted,
    pub(super) seconds: f64,
}

impl History {
    /// Starts from these counters.
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
        let began = self.counted.front().expect("there is one from the start");
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

    /// Puts the endpoints into the order of another plan, where `before` is the place of each so far.
    pub(super) fn rearrange(&mut self, before: &[Option<usize>]) {
        fn rearranged<T: Copy>(values: &[T], before: &[Option<usize>], none: T) -> Box<[T]> {
            let value = |place: &Option<usize>| place.map_or(none, |place| values[place]);
            before.iter().map(value).collect()
        }
        for counted in &mut self.counted {
            let none = EndpointReadings::default();
            counted.readings = rearranged(&counted.readings, before, none);
        }
        for sample in &mut self.samples {
            sample.endpoints = rearranged(&sample.endpoints, before, Point::NONE);
        }
    }

    /// The samples, oldest first.
    pub(super) fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }

    /// The number of samples taken since the start.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

impl Window<'_> {
    /// The rates of the endpoint with this index in the plan, whose counters are these now.
    pub(super) fn of(&self, index: usize, now: &EndpointReadings) -> Rates {
        Rates::between(&self.began.readings[index], now, self.seconds)
    }

    /// The rates of all endpoints together, whose counters are these now.
    pub(super) fn total(&self, now: &[EndpointReadings]) -> Rates {
        Rates::between(&total(&self.began.readings), &total(now), self.seconds)
    }

    /// Evictions per second, where there were `now` since the start.
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
    /// An endpoint that was not there has no values.
    const NONE: Self = Self {
        requests_per_second: f32::NAN,
        request_duration_seconds: f32::NAN,
        age_seconds: f32::NAN,
    };

    fn new(rates: &Rates, age: Option<Duration>) -> Self {
        let duration = rates.request_duration_seconds;
        Self {
            requests_per_second: rates.requests_per_second as f32,
            request_duration_seconds: duration.map_or(f32::NAN, |seconds| seconds as f32),
            age_seconds: age.map_or(f32::NAN, |age| age.as_secs_f32()),
        }
    }
}

#[derive(Serialize)]
struct HistoryDocument<'p> {
    samples: u64,
    /// When each sample was taken, oldest first. Every list below has one value per sample.
    timestamp_seconds: Vec<f64>,
    total: TotalSeries,
    endpoints: Vec<EndpointSeries<'p>>,
}

#[derive(Serialize)]
struct TotalSeries {
    requests_per_second: Vec<f64>,
    errors_per_second: Vec<f64>,
    hit_ratio: Vec<Option<f64>>,
    request_duration_seconds: Vec<Option<f64>>,
    queries_per_second: Vec<f64>,
    repository_seconds_saved_per_second: Vec<f64>,
}

#[derive(Serialize)]
struct EndpointSeries<'p> {
    endpoint: &'p str,
    requests_per_second: Series<'p>,
    request_duration_seconds: Series<'p>,
    age_seconds: Series<'p>,
}

/// One value of an endpoint per sample. Serialized without collecting them first: there may be ten
/// thousand endpoints.
struct Series<'p> {
    history: &'p History,
    /// The endpoint's place in the plan.
    index: usize,
    of: fn(&Point) -> f32,
}

impl Serialize for Series<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let samples = self.history.samples();
        let mut values = serializer.serialize_seq(Some(samples.len()))?;
        for sample in samples {
            let value = f64::from((self.of)(&sample.endpoints[self.index]));
            values.serialize_element(&(!value.is_nan()).then(|| rounded(value)))?;
        }
        values.end()
    }
}

/// The history as JSON.
pub(super) fn document(history: &History, plan: &Plan) -> Vec<u8> {
    fn each<T>(history: &History, of: impl Fn(&Sample) -> T) -> Vec<T> {
        history.samples().iter().map(of).collect()
    }
    let endpoints = plan.endpoints().iter().enumerate();
    let endpoints = endpoints.map(|(index, endpoint)| {
        let series = |of| Series { history, index, of };
        EndpointSeries {
            endpoint: endpoint.path.as_str(),
            requests_per_second: series(|point| point.requests_per_second),
            request_duration_seconds: series(|point| point.request_duration_seconds),
            age_seconds: series(|point| point.age_seconds),
        }
    });
    let document = HistoryDocument {
        samples: history.taken(),
        timestamp_seconds: each(history, |sample| timestamp(sample.wall)),
        total: TotalSeries {
            requests_per_second: each(history, |s| s.total.requests_per_second),
            errors_per_second: each(history, |s| s.total.errors_per_second),
            hit_ratio: each(history, |s| s.total.hit_ratio),
            request_duration_seconds: each(history, |s| s.total.request_duration_seconds),
            queries_per_second: each(history, |s| s.total.queries_per_second),
            repository_seconds_saved_per_second: each(history, |s| {
                s.total.repository_seconds_saved_per_second
            }),
        },
        endpoints: endpoints.collect(),
    };
    to_json(&document)
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
    async fn rates_cover_the_last_samples_and_memory_is_bounded() {
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
        // The busy interval is before the window.
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
