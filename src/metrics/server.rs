//! The metrics of the server as a whole.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::endpoints::remove;
use super::{DECLARED, gauge, register};
use crate::observe::Task;
use crate::plan::{IssuerId, JwtKeys, Plan};

/// The metrics of the server as a whole.
#[derive(Debug)]
pub(super) struct ServerMetrics {
    pub(super) cache_entries: IntGauge,
    pub(super) cache_bytes: IntGauge,
    pub(super) cache_evictions: IntCounter,
    pub(super) connections_idle: IntGauge,
    pub(super) connections_active: IntGauge,
    pub(super) loads_waiting: IntGauge,
    pub(super) repository_up: IntGauge,
    pub(super) http_connections: IntGauge,
    pub(super) http_connections_refused: IntCounter,
    pub(super) log_lines_dropped: IntCounter,
    pub(super) http_pending_bytes: IntGauge,
    pub(super) http_slow_clients_cut: IntCounter,
    task_failures: IntCounterVec,
    /// One for each issuer of tokens; `None` for a secret.
    issuers: ArcSwap<Vec<Option<IssuerMetrics>>>,
    issuer_families: [GaugeVec; 2],
    pub(super) ready: IntGauge,
    reload_successful: IntGauge,
    reloaded_at: Gauge,
    configuration: IntGaugeVec,
}

impl ServerMetrics {
    pub(super) fn new(registry: &Registry, plan: &Plan) -> Self {
        let connections = IntGaugeVec::new(
            Opts::new(
                "larder_repository_connections",
                "Connections to Postgres, by state.",
            ),
            &["state"],
        )
        .expect(DECLARED);
        register(registry, &connections);
        register_build(registry);
        register_limits(registry, plan);
        Self {
            cache_entries: integer(registry, "larder_cache_entries", "Entries in the cache."),
            cache_bytes: integer(
                registry,
                "larder_cache_bytes",
                "Size of the entries in the cache: bodies, keys and overhead.",
            ),
            cache_evictions: counter(
                registry,
                "larder_cache_evictions_total",
                "Entries evicted from the cache to make room for others.",
            ),
            connections_idle: connections.with_label_values(&["idle"]),
            connections_active: connections.with_label_values(&["active"]),
            loads_waiting: integer(
                registry,
                "larder_repository_loads_waiting",
                "Loads that wait for a connection to Postgres.",
            ),
            repository_up: integer(
                registry,
                "larder_repository_up",
                "Whether the last attempt to reach Postgres succeeded.",
            ),
            http_connections: integer(
                registry,
                "larder_http_connections",
                "Open client connections.",
            ),
            http_connections_refused: counter(
                registry,
                "larder_http_connections_refused_total",
                "Client connections refused because the limit was reached.",
            ),
            task_failures: task_failures(registry),
            issuers: ArcSwap::default(),
            issuer_families: issuer_families(registry),
            log_lines_dropped: counter(
                registry,
                "larder_log_lines_dropped_total",
                "Log lines dropped because stderr did not accept them: it was full, or nothing read it.",
            ),
            http_pending_bytes: integer(
                registry,
                "larder_http_pending_bytes",
                "Bytes of responses that clients have not read yet and that are no longer in the cache.",
            ),
            http_slow_clients_cut: counter(
                registry,
                "larder_http_slow_clients_cut_total",
                "Responses and connections cut off because the client read too slowly or too much was buffered for it.",
            ),
            reload_successful: integer(
                registry,
                "larder_config_last_reload_successful",
                "Whether the last attempt to read the configuration succeeded.",
            ),
            reloaded_at: reloaded_at(registry),
            configuration: configuration(registry),
            ready: integer(
                registry,
                "larder_ready",
                "Whether /readyz reports ready: not while warming up or draining.",
            ),
        }
    }
}

fn reloaded_at(registry: &Registry) -> Gauge {
    let gauge = Gauge::new(
        "larder_config_last_reload_success_timestamp_seconds",
        "When the configuration in use was read.",
    )
    .expect(DECLARED);
    register(registry, &gauge);
    gauge
}

fn configuration(registry: &Registry) -> IntGaugeVec {
    let family = IntGaugeVec::new(
        Opts::new(
            "larder_config_info",
            "Always 1; the label is a hash of the configuration in use, without its secrets.",
        ),
        &["hash"],
    )
    .expect(DECLARED);
    register(registry, &family);
    family
}

impl ServerMetrics {
    pub(super) fn record_configuration(&self, at: SystemTime, hash: u64) {
        self.reload_successful.set(1);
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.reloaded_at.set(since_epoch.as_secs_f64());
        self.configuration.reset();
        self.configuration
            .with_label_values(&[format!("{hash:016x}")])
            .set(1);
    }

    pub(super) fn record_refused_configuration(&self) {
        self.reload_successful.set(0);
    }

    pub(super) fn record_task_failure(&self, task: Task) {
        self.task_failures.with_label_values(&[task.as_str()]).inc();
    }

    pub(super) fn record_issuer_keys(
        &self,
        issuer: IssuerId,
        at: SystemTime,
        usable_until: Option<SystemTime>,
    ) {
        let issuers = self.issuers.load();
        let Some(Some(metrics)) = issuers.get(issuer.index()) else {
            return;
        };
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_secs_f64()
        };
        metrics.last_success.set(seconds(at));
        metrics
            .usable_until
            .set(usable_until.map_or(f64::INFINITY, seconds));
    }
}

impl ServerMetrics {
    /// Exports the issuers of `plan`, in place of those of `previous`. They are zero until the keys have been read.
    pub(super) fn follow(&self, plan: &Plan, previous: &Plan) {
        let issuers = |plan: &'_ Plan| {
            plan.access()
                .map_or(Vec::new(), |access| access.issuers.clone())
        };
        let (declared, before) = (issuers(plan), issuers(previous));
        let [last_success, usable_until] = &self.issuer_families;
        let metrics = declared.iter().map(|issuer| match issuer.keys {
            JwtKeys::Secret(_) => None,
            JwtKeys::Url(_) | JwtKeys::File(_) => Some(IssuerMetrics {
                last_success: last_success.with_label_values(&[&issuer.name]),
                usable_until: usable_until.with_label_values(&[&issuer.name]),
            }),
        });
        self.issuers.store(Arc::new(metrics.collect()));
        let names = before.iter().map(|issuer| issuer.name.as_str());
        let is_gone = |name: &&str| declared.iter().all(|issuer| issuer.name != *name);
        let gone: Vec<&str> = names.filter(is_gone).collect();
        for family in &self.issuer_families {
            remove(family, "issuer", &gone);
        }
    }
}

fn register_build(registry: &Registry) {
    let build = IntGaugeVec::new(
        Opts::new(
            "larder_build_info",
            "Always 1; the label is the version of Larder.",
        ),
        &["version"],
    )
    .expect(DECLARED);
    register(registry, &build);
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    #[cfg(target_os = "linux")]
    registry
        .register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))
        .expect(DECLARED);
}

/// The limits that other metrics are compared with.
fn register_limits(registry: &Registry, plan: &Plan) {
    integer(
        registry,
        "larder_cache_max_bytes",
        "The limit on the part of larder_cache_bytes that belongs to endpoints with parameters.",
    )
    .set(gauge(plan.cache().max_size));
    integer(
        registry,
        "larder_http_max_connections",
        "The limit on open client connections.",
    )
    .set(gauge(plan.server().max_connections as u64));
    integer(
        registry,
        "larder_http_max_pending_bytes",
        "The limit on larder_http_pending_bytes, beyond which the slowest clients are cut off.",
    )
    .set(gauge(plan.server().max_pending));
    integer(
        registry,
        "larder_repository_max_connections",
        "The limit on connections to Postgres, not counting the one for notifications.",
    )
    .set(gauge(plan.repository().max_connections as u64));
}

fn task_failures(registry: &Registry) -> IntCounterVec {
    let task_failures = IntCounterVec::new(
        Opts::new(
            "larder_background_task_failures_total",
            "Background tasks of the server that panicked or ended, and were restarted.",
        ),
        &["task"],
    )
    .expect(DECLARED);
    register(registry, &task_failures);
    // Tasks that never failed are exported too, so that the first failure is an increase.
    for task in Task::ALL {
        task_failures.with_label_values(&[task.as_str()]);
    }
    task_failures
}

/// The handles of an issuer whose keys are read again and again.
#[derive(Debug)]
struct IssuerMetrics {
    last_success: Gauge,
    usable_until: Gauge,
}

/// Both are exported for each issuer whose keys are read again and again.
fn issuer_families(registry: &Registry) -> [GaugeVec; 2] {
    let last_success = issuer_gauge(
        registry,
        "larder_jwks_last_success_timestamp_seconds",
        "When the keys of an issuer of tokens were last read.",
    );
    let usable_until = issuer_gauge(
        registry,
        "larder_jwks_usable_until_timestamp_seconds",
        "Until when the keys of an issuer of tokens stay in use if they cannot be read again.",
    );
    [last_success, usable_until]
}

fn issuer_gauge(registry: &Registry, name: &str, help: &str) -> GaugeVec {
    let gauge = GaugeVec::new(Opts::new(name, help), &["issuer"]).expect(DECLARED);
    register(registry, &gauge);
    gauge
}

fn integer(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::new(name, help).expect(DECLARED);
    register(registry, &gauge);
    gauge
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect(DECLARED);
    register(registry, &counter);
    counter
}
