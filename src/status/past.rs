//! What was so in the last minutes as JSON: lists of what [`super::document`] said at each sample.

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::document::{timestamp, written};
use super::figures::rounded;
use super::history::{History, Point, Sample};
use crate::plan::Plan;

#[derive(Serialize)]
struct Past<'p> {
    samples: u64,
    /// When each sample was taken, the oldest first; every list below has one value for each.
    timestamp_seconds: Vec<f64>,
    total: TotalPast,
    endpoints: Vec<EndpointPast<'p>>,
}

#[derive(Serialize)]
struct TotalPast {
    requests_per_second: Vec<f64>,
    errors_per_second: Vec<f64>,
    hit_ratio: Vec<Option<f64>>,
    request_duration_seconds: Vec<Option<f64>>,
    queries_per_second: Vec<f64>,
    repository_seconds_saved_per_second: Vec<f64>,
}

#[derive(Serialize)]
struct EndpointPast<'p> {
    endpoint: &'p str,
    requests_per_second: Series<'p>,
    request_duration_seconds: Series<'p>,
    age_seconds: Series<'p>,
}

/// One value of an endpoint in each sample. Written without being gathered first: there may be ten
/// thousand endpoints.
struct Series<'p> {
    history: &'p History,
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

/// What was so.
pub(super) fn document(history: &History, plan: &Plan) -> Vec<u8> {
    fn each<T>(history: &History, of: impl Fn(&Sample) -> T) -> Vec<T> {
        history.samples().iter().map(of).collect()
    }
    let endpoints = plan.endpoints().iter().map(|endpoint| {
        let series = |of| Series {
            history,
            index: endpoint.id.index(),
            of,
        };
        EndpointPast {
            endpoint: endpoint.path.as_str(),
            requests_per_second: series(|point| point.requests_per_second),
            request_duration_seconds: series(|point| point.request_duration_seconds),
            age_seconds: series(|point| point.age_seconds),
        }
    });
    let past = Past {
        samples: history.taken(),
        timestamp_seconds: each(history, |sample| timestamp(sample.wall)),
        total: TotalPast {
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
    written(&past)
}
