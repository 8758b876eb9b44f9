//! The metrics of access control. They exist only with `[access]`.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounter, IntCounterVec, Registry};

use super::endpoints::{CODES, counters};
use super::{DECLARED, register};
use crate::plan::{AccessSettings, ClientId, CredentialKind};

/// Decisions, and requests by client.
#[derive(Debug)]
pub(super) struct AccessMetrics {
    decisions: IntCounterVec,
    clients: Box<[ClientMetrics]>,
    limited: IntCounterVec,
    /// Exists with `[access.keys]`.
    stored_keys: Option<Gauge>,
}

/// One client's requests, by status code.
#[derive(Debug)]
struct ClientMetrics {
    name: String,
    method: &'static str,
    allowed: IntCounter,
    family: IntCounterVec,
    resolved: [OnceLock<IntCounter>; CODES.len()],
}

impl AccessMetrics {
    pub(super) fn new(registry: &Registry, settings: &AccessSettings) -> Self {
        let decisions = counters(
            "larder_access_total",
            "Requests with a valid credential where one was looked at, and requests refused without one or beyond a \
             limit.",
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
        let client = |(name, kind): (&str, CredentialKind)| ClientMetrics {
            name: name.to_owned(),
            method: kind.as_str(),
            allowed: decisions.with_label_values(&[kind.as_str(), ALLOWED]),
            family: family.clone(),
            resolved: Default::default(),
        };
        Self {
            clients: settings.clients().map(client).collect(),
            decisions,
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

    /// Counts a response, and what was decided about its client.
    pub(super) fn record_response(
        &self,
        client: Option<ClientId>,
        code: u16,
        problem: Option<&'static str>,
    ) {
        let client = client.map(|client| &self.clients[client.index()]);
        if let Some(client) = client {
            client.record_request(code);
        }
        match (problem.and_then(refusal), client) {
            (None, None) => {}
            (None, Some(client)) => client.allowed.inc(),
            (Some(outcome), client) => {
                let method = client.map_or("none", |client| client.method);
                self.decisions.with_label_values(&[method, outcome]).inc();
                if outcome == LIMITED {
                    let name = client.map_or("", |client| client.name.as_str());
                    self.limited.with_label_values(&[name]).inc();
                }
            }
        }
    }
}

const ALLOWED: &str = "allowed";
const LIMITED: &str = "limited";

/// Why a client was refused, by the code of the problem.
pub const REFUSALS: [(&str, &str); 9] = [
    ("LRD-201", "no_credential"),
    ("LRD-202", "invalid_credential"),
    ("LRD-203", "insufficient_scope"),
    ("LRD-204", "address_not_allowed"),
    ("LRD-205", "unusable_claim"),
    ("LRD-206", "malformed_credential"),
    ("LRD-207", "no_keys"),
    ("LRD-405", LIMITED),
    ("LRD-406", LIMITED),
];

fn refusal(problem: &str) -> Option<&'static str> {
    let found = REFUSALS.iter().find(|(code, _)| *code == problem);
    found.map(|(_, outcome)| *outcome)
}

impl ClientMetrics {
    fn record_request(&self, code: u16) {
        let look_up = || {
            self.family
                .with_label_values(&[self.name.as_str(), &code.to_string()])
        };
        match CODES.iter().position(|it| *it == code) {
            Some(column) => self.resolved[column].get_or_init(look_up).inc(),
            None => look_up().inc(),
        }
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
