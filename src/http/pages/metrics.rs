//! `/metrics`, which Prometheus scrapes.

use std::sync::Arc;
use std::time::Duration;

use super::memo::Memo;
use super::rendered::{self, Rendered};
use crate::encode::pending;
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::metrics;
use crate::observe::{Event, Observer};
use crate::read_through::ReadThrough;

/// Scrapes within this time get the same text: with many endpoints it takes megabytes and tens of
/// milliseconds. One Prometheus scrapes every few seconds, several do not much more often.
const RENDER_EVERY: Duration = Duration::from_secs(1);

/// `/metrics`
#[derive(Debug)]
pub(in crate::http) struct Metrics {
    metrics: Arc<metrics::Metrics>,
    read_through: ReadThrough,
    observer: Observer,
    text: Memo<Rendered>,
}

impl Metrics {
    pub(in crate::http) fn new(
        metrics: Arc<metrics::Metrics>,
        read_through: ReadThrough,
        observer: Observer,
    ) -> Self {
        Self {
            metrics,
            read_through,
            observer,
            text: Memo::default(),
        }
    }

    pub(in crate::http) async fn response(&self, request: &RequestHead) -> Response {
        let is_current = |text: &Rendered| text.at.elapsed() < RENDER_EVERY;
        let (read_through, metrics) = (self.read_through.clone(), Arc::clone(&self.metrics));
        let observer = self.observer.clone();
        let render = move || {
            read_through.maintenance().measure();
            let bytes = pending::total();
            observer.emit(&Event::PendingMeasured { bytes });
            Some(Rendered::new(0, metrics.render()))
        };
        let text = self.text.get(is_current, render).await;
        rendered::response(request, metrics::CONTENT_TYPE, text.as_deref()).await
    }
}
