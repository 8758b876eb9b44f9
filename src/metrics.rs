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

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use prometheus::core::Collector;
use prometheus::{Encoder, Gauge, IntCounterVec, Registry, TextEncoder};

pub use access::REFUSALS;
pub use readings::{EndpointReadings, ServerReadings};

use crate::observe::{Event, Readiness};
use crate::plan::{EndpointId, PerEndpoint, Plan};
use access::{AccessFamilies, AccessMetrics};
use endpoints::{EndpointMetrics, Families, RequestCounters};
use server::ServerMetrics;

/// The content type of [`Metrics::render`]: Prometheus text format 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The registry and every handle.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    planned: ArcSwap<Planned>,
    unmatched: RequestCounters,
    problems: IntCounterVec,
    access_families: OnceLock<AccessFamilies>,
    stored_keys: OnceLock<Gauge>,
    server: ServerMetrics,
}

impl Metrics {
    /// Metrics for every endpoint of `plan`, labelled by its declared path.
    pub fn new(plan: &Plan) -> Self {
        let registry = Registry::new();
        let families = Families::new(&registry);
        let metrics = Self {
            planned: ArcSwap::from_pointee(Planned {
                current: Arc::new(plan.per_endpoint(|it| Arc::new(families.endpoint(it)))),
                others: HashMap::new(),
                access: None,
            }),
            access_families: OnceLock::new(),
            stored_keys: OnceLock::new(),
            unmatched: families.unmatched(),
            problems: families.problems(),
            families,
            server: ServerMetrics::new(&registry, plan),
            registry,
        };
        metrics.follow(plan, plan);
        metrics
            .server
            .record_configuration(SystemTime::now(), plan.hash());
        metrics
    }

    /// Counts an event.
    pub fn record(&self, event: &Event) {
        match event {
            Event::RequestServed { .. } => self.record_request(event),
            Event::QueryFinished {
                endpoint,
                outcome,
                elapsed,
            } => {
                self.with(*endpoint, |it| it.record_query(*outcome, *elapsed));
            }
            Event::RefreshFinished {
                endpoint,
                trigger,
                outcome,
                elapsed,
                at,
                lifetime,
            } => {
                self.with(*endpoint, |endpoint| {
                    endpoint.record_refresh(*trigger, *outcome, *elapsed, *at);
                    if let Some(lifetime) = lifetime {
                        endpoint.record_limits(lifetime);
                    }
                });
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
                if let Some(access) = &self.planned.load().access {
                    access.record_stored_keys(*at);
                }
            }
            Event::IssuerKeysLoaded {
                issuer,
                at,
                usable_until,
                ..
            } => self.server.record_issuer_keys(*issuer, *at, *usable_until),
            Event::ConfigurationLoaded { at, hash, .. } => {
                self.server.record_configuration(*at, *hash);
            }
            Event::ConfigurationRefused { .. } => self.server.record_refused_configuration(),
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
        let planned = self.planned.load();
        if let Some(access) = &planned.access {
            access.record_response(*client, *code, *problem);
        }
        let count_problem = |endpoint: &str| {
            if let Some(problem) = problem {
                self.problems.with_label_values(&[endpoint, *problem]).inc();
            }
        };
        let Some(endpoint) = endpoint else {
            count_problem("");
            return self.unmatched.count(*cache, *code);
        };
        let Some(endpoint) = planned.endpoint(*endpoint) else {
            return;
        };
        count_problem(endpoint.name());
        endpoint.requests.count(*cache, *code);
        endpoint.request_seconds.observe(elapsed.as_secs_f64());
        if let Some(age) = age {
            endpoint.response_age.observe(age.as_secs_f64());
        }
        if *stale_if_error {
            endpoint.stale_if_error.inc();
        }
    }

    /// Counts the endpoints of `plan` from now on, in place of those of `previous`. The series of a path go on, and
    /// those of a path that is gone are not exported any more.
    pub fn follow(&self, plan: &Plan, previous: &Plan) {
        let before = self.planned.load();
        let known = before.by_path();
        let current = plan.per_endpoint(|endpoint| {
            let known = known.get(endpoint.path.as_str()).copied().cloned();
            let metrics = known.unwrap_or_else(|| Arc::new(self.families.endpoint(endpoint)));
            metrics.record_declared_limits(endpoint);
            metrics
        });
        let paths = plan.endpoints().iter().map(|it| it.path.as_str());
        let paths: HashSet<&str> = paths.collect();
        let earlier = previous.endpoints().iter().filter_map(|endpoint| {
            let path = paths.get(endpoint.path.as_str())?;
            Some((endpoint.id, Arc::clone(known.get(path)?)))
        });
        let access = plan.access().map(|settings| {
            let families = || AccessFamilies::new(&self.registry);
            let gauge = || access::stored_keys(&self.registry);
            let stored_keys = settings
                .stored_keys()
                .map(|_| self.stored_keys.get_or_init(gauge));
            Arc::new(AccessMetrics::new(
                self.access_families.get_or_init(families),
                stored_keys.cloned(),
                settings,
                before.access.as_deref(),
            ))
        });
        self.server.follow(plan, previous);
        self.planned.store(Arc::new(Planned {
            current: Arc::new(current),
            others: earlier.collect(),
            access,
        }));
        let gone = known.into_keys().filter(|path| !paths.contains(path));
        self.families.remove(&gone.collect::<Vec<_>>());
    }

    /// Counts the endpoints of a plan, too, that may be [followed](Self::follow) later.
    pub fn prepare(&self, plan: &Plan) {
        let before = self.planned.load();
        let known = before.by_path();
        let new = plan.endpoints().iter();
        let new = new.filter(|endpoint| before.current.get(endpoint.id).is_none());
        let new = new.map(|endpoint| {
            let known = known.get(endpoint.path.as_str()).copied().cloned();
            let metrics = known.unwrap_or_else(|| Arc::new(self.families.endpoint(endpoint)));
            (endpoint.id, metrics)
        });
        self.planned.store(Arc::new(Planned {
            others: before.others.clone().into_iter().chain(new).collect(),
            current: Arc::clone(&before.current),
            access: before.access.clone(),
        }));
    }

    /// All metrics in Prometheus's text format: see [`CONTENT_TYPE`].
    pub fn render(&self) -> Vec<u8> {
        for endpoint in self.planned.load().current.iter() {
            endpoint.record_saved(None);
        }
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and no family is empty");
        text
    }

    /// Does something with the metrics of an endpoint, unless its path is gone.
    fn with<T>(&self, id: EndpointId, record: impl FnOnce(&EndpointMetrics) -> T) -> Option<T> {
        self.planned.load().endpoint(id).map(record)
    }
}

/// The handles of what the plan names.
#[derive(Debug)]
struct Planned {
    current: Arc<PerEndpoint<Arc<EndpointMetrics>>>,
    /// Those of the plan before, as far as their paths are still there: requests and loads of it may still end. And
    /// those of a plan that is prepared.
    others: HashMap<EndpointId, Arc<EndpointMetrics>>,
    access: Option<Arc<AccessMetrics>>,
}

impl Planned {
    fn endpoint(&self, id: EndpointId) -> Option<&EndpointMetrics> {
        let current = self.current.get(id);
        current.or_else(|| self.others.get(&id)).map(|it| &**it)
    }

    fn by_path(&self) -> HashMap<&str, &Arc<EndpointMetrics>> {
        let all = self.current.iter().chain(self.others.values());
        all.map(|metrics| (metrics.name(), metrics)).collect()
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
