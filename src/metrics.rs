//! Events as Prometheus metrics. Each metric is declared once, here, under its public name. Handles are
//! looked up per endpoint in advance, so that a hit costs a few atomic additions.
//!
//! | part        | has                                                         |
//! |-------------|-------------------------------------------------------------|
//! | `access`    | the metrics of access control                               |
//! | `endpoints` | the metrics that exist per endpoint                         |
//! | `server`    | the metrics of the server as a whole                        |
//! | `readings`  | the current values of counters and gauges, for the status page |

mod access;
mod endpoints;
mod readings;
mod server;

use prometheus::core::Collector;
use prometheus::{Encoder, IntCounterVec, Registry, TextEncoder};

pub use access::REFUSALS;
pub use readings::{EndpointReadings, ServerReadings};

use crate::observe::{Event, Readiness};
use crate::plan::{EndpointId, Plan};
use access::AccessMetrics;
use endpoints::{EndpointMetrics, Families, RequestCounters};
use server::ServerMetrics;

/// The content type of [`Metrics::render`]: Prometheus text format 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The registry and every handle.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    endpoints: Box<[EndpointMetrics]>,
    unmatched: RequestCounters,
    problems: IntCounterVec,
    access: Option<AccessMetrics>,
    server: ServerMetrics,
}

impl Metrics {
    /// Metrics for every endpoint of `plan`, labelled by its declared path.
    pub fn new(plan: &Plan) -> Self {
        let registry = Registry::new();
        let families = Families::new(&registry);
        Self {
            endpoints: plan
                .endpoints()
                .iter()
                .map(|e| families.endpoint(e))
                .collect(),
            unmatched: families.unmatched(),
            problems: families.problems(),
            access: plan
                .access()
                .map(|settings| AccessMetrics::new(&registry, settings)),
            server: ServerMetrics::new(&registry, plan),
            registry,
        }
    }

    /// Counts an event.
    pub fn record(&self, event: &Event) {
        match event {
            Event::RequestServed { .. } => self.record_request(event),
            Event::QueryFinished {
                endpoint,
                outcome,
                elapsed,
            } => self.endpoint(*endpoint).record_query(*outcome, *elapsed),
            Event::RefreshFinished {
                endpoint,
                trigger,
                outcome,
                elapsed,
                at,
                lifetime,
            } => {
                let endpoint = self.endpoint(*endpoint);
                endpoint.record_refresh(*trigger, *outcome, *elapsed, *at);
                if let Some(lifetime) = lifetime {
                    endpoint.record_limits(lifetime);
                }
            }
            Event::RepositoryReached => self.server.repository_up.set(1),
            Event::RepositoryLost { .. } => self.server.repository_up.set(0),
            Event::ConnectionOpened => self.server.http_connections.inc(),
            Event::ConnectionClosed => self.server.http_connections.dec(),
            Event::ConnectionRefused => self.server.http_connections_refused.inc(),
            Event::SlowClientCut => self.server.http_slow_clients_cut.inc(),
            Event::PendingMeasured { bytes } => self.server.http_pending_bytes.set(gauge(*bytes)),
            Event::ReadinessChanged { readiness } => {
                self.server
                    .ready
                    .set(i64::from(*readiness == Readiness::Ready));
            }
            Event::CacheMeasured { entries, bytes } => {
                self.server.cache_entries.set(gauge(*entries));
                self.server.cache_bytes.set(gauge(*bytes));
            }
            Event::EntryEvicted => self.server.cache_evictions.inc(),
            Event::WaitingMeasured { waiting } => self.server.loads_waiting.set(gauge(*waiting)),
            Event::ConnectionsMeasured { idle, active } => {
                self.server.connections_idle.set(gauge(*idle));
                self.server.connections_active.set(gauge(*active));
            }
            Event::TaskFailed { task, .. } => self.server.record_task_failure(*task),
            Event::LogLinesDropped { lines } => self.server.log_lines_dropped.inc_by(*lines),
            Event::StoredKeysLoaded { at } => {
                if let Some(access) = &self.access {
                    access.record_stored_keys(*at);
                }
            }
            Event::IssuerKeysLoaded {
                issuer,
                at,
                usable_until,
                ..
            } => self.server.record_issuer_keys(*issuer, *at, *usable_until),
            // Only logged.
            Event::LoadsFailing { .. }
            | Event::LoadsRecovered { .. }
            | Event::StatementRedescribed { .. }
            | Event::ProbeFailing { .. }
            | Event::ProbeRecovered { .. }
            | Event::Listening
            | Event::ListeningFailed { .. }
            | Event::AheadTooSlow { .. }
            | Event::StartupAdvanced { .. }
            | Event::RepresentationFailed { .. }
            | Event::CertificateRenewed
            | Event::CertificateRefused { .. }
            | Event::CertificateRestored
            | Event::CertificateOutOfDate { .. }
            | Event::StoredKeysFailing { .. }
            | Event::StoredKeysRecovered
            | Event::IssuerKeysFailing { .. }
            | Event::IssuerKeysRecovered { .. }
            | Event::AcceptFailing { .. }
            | Event::AcceptRecovered
            | Event::HandlerPanicked => {}
        }
    }

    fn record_request(&self, event: &Event) {
        let Event::RequestServed {
            endpoint,
            client,
            cache,
            code,
            problem,
            elapsed,
            age,
            stale_if_error,
        } = event
        else {
            return;
        };
        if let Some(access) = &self.access {
            access.record_response(*client, *code, *problem);
        }
        if let Some(problem) = problem {
            let endpoint = endpoint.map_or("", |id| self.endpoint(id).name());
            self.problems.with_label_values(&[endpoint, *problem]).inc();
        }
        let Some(endpoint) = endpoint else {
            return self.unmatched.count(*cache, *code);
        };
        let endpoint = self.endpoint(*endpoint);
        endpoint.requests.count(*cache, *code);
        endpoint.request_seconds.observe(elapsed.as_secs_f64());
        if let Some(age) = age {
            endpoint.response_age.observe(age.as_secs_f64());
        }
        if *stale_if_error {
            endpoint.stale_if_error.inc();
        }
    }

    /// All metrics in Prometheus's text format: see [`CONTENT_TYPE`].
    pub fn render(&self) -> Vec<u8> {
        for endpoint in &self.endpoints {
            endpoint.record_saved(None);
        }
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and no family is empty");
        text
    }

    fn endpoint(&self, id: EndpointId) -> &EndpointMetrics {
        &self.endpoints[id.index()]
    }
}

/// Why declaring a metric cannot fail.
const DECLARED: &str = "names and labels are literals that Prometheus allows, each declared once";

fn register(registry: &Registry, collector: &(impl Collector + Clone + 'static)) {
    registry
        .register(Box::new(collector.clone()))
        .expect(DECLARED);
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
