//! The metrics of access control. They exist only with `[access]`.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounter, IntCounterVec, Registry};

use super::endpoints::{CODES, counters};
use super::{DECLARED, register};
use crate::observe::{AccessMethod, AccessOutcome};
use crate::plan::{AccessSettings, ClientId};

/// Decisions, and requests by client.
#[derive(Debug)]
pub(super) struct AccessMetrics {
    decisions: IntCounterVec,
    /// The handles of `decisions` that were used, so that a hit finds its own by index.
    resolved: [[OnceLock<IntCounter>; AccessOutcome::ALL.len()]; AccessMethod::ALL.len()],
    clients: Box<[ClientMetrics]>,
    limited: IntCounterVec,
    /// Exists with `[access.keys]`.
    stored_keys: Option<Gauge>,
}

/// One client's requests, by status code.
#[derive(Debug)]
struct ClientMetrics {
    name: String,
    family: IntCounterVec,
    resolved: [OnceLock<IntCounter>; CODES.len()],
}

impl AccessMetrics {
    pub(super) fn new(registry: &Registry, settings: &AccessSettings) -> Self {
        let decisions = counters(
            "larder_access_total",
            "Requests that needed a credential or were limited, by how the client identified itself and by \
             outcome.",
            &["method", "outcome"],
        );
        let family = counters(
            "larder_client_requests_total",
            "Requests with a valid credential where one was looked at, by the name it is declared under.",
            &["client", "code"],
        );
        let limited = counters(
            "larder_limited_total",
            "Requests refused because a client used up its limit; without a credential, `client` is empty.",
            &["client"],
        );
        for collector in [&decisions, &family, &limited] {
            register(registry, collector);
        }
        let client = |name: &str| ClientMetrics {
            name: name.to_owned(),
            family: family.clone(),
            resolved: Default::default(),
        };
        Self {
            decisions,
            resolved: Default::default(),
            clients: settings.clients().map(client).collect(),
            limited,
            stored_keys: settings.stored_keys().map(|_| stored_keys(registry)),
        }
    }

    pub(super) fn record_stored_keys(&self, at: SystemTime) {
        if let Some(gauge) = &self.stored_keys {
            let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            gauge.set(since_epoch.as_secs_f64());
        }
    }

    pub(super) fn record_decision(&self, method: AccessMethod, outcome: AccessOutcome) {
        let look_up = || {
            self.decisions
                .with_label_values(&[method.as_str(), outcome.as_str()])
        };
        self.resolved[method as usize][outcome as usize]
            .get_or_init(look_up)
            .inc();
    }

    pub(super) fn record_request(&self, client: ClientId, code: u16) {
        let client = &self.clients[client.index()];
        let look_up = || {
            client
                .family
                .with_label_values(&[client.name.as_str(), &code.to_string()])
        };
        match CODES.iter().position(|it| *it == code) {
            Some(column) => client.resolved[column].get_or_init(look_up).inc(),
            None => look_up().inc(),
        }
    }

    pub(super) fn record_limited(&self, client: Option<ClientId>) {
        let name = client.map_or("", |client| self.clients[client.index()].name.as_str());
        self.limited.with_label_values(&[name]).inc();
    }
}

fn stored_keys(registry: &Registry) -> Gauge {
    let gauge = Gauge::new(
        "larder_stored_keys_last_success_timestamp_seconds",
        "When the keys of [access.keys] were last read.",
    )
    .expect(DECLARED);
    register(registry, &gauge);
    gauge
}
