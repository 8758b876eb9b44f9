//! The metrics of access control. They exist only with `[access]`.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounter, IntCounterVec, Registry};

use super::endpoints::{CODES, counters, remove};
use super::{DECLARED, register};
use crate::plan::{AccessSettings, ClientId, CredentialKind};

/// The metric families of access control.
#[derive(Debug, Clone)]
pub(super) struct AccessFamilies {
    decisions: IntCounterVec,
    requests: IntCounterVec,
    limited: IntCounterVec,
}

/// Decisions, and requests by client.
#[derive(Debug)]
pub(super) struct AccessMetrics {
    families: AccessFamilies,
    /// By their numbers.
    clients: Vec<Option<Arc<ClientMetrics>>>,
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

impl AccessFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        let families = Self {
            decisions: counters(
                "larder_access_total",
                "Requests with a valid credential where one was looked at, and requests refused without one or beyond a \
                 limit.",
                &["method", "outcome"],
            ),
            requests: counters(
                "larder_client_requests_total",
                "Requests with a valid credential where one was looked at, by the name it is declared under.",
                &["client", "code"],
            ),
            limited: counters(
                "larder_limited_total",
                "Requests refused because a client used up its limit; without a credential, `client` is empty.",
                &["client"],
            ),
        };
        for collector in [&families.decisions, &families.requests, &families.limited] {
            register(registry, collector);
        }
        families
    }

    fn client(&self, name: &str, kind: CredentialKind) -> ClientMetrics {
        let method = kind.as_str();
        ClientMetrics {
            name: name.to_owned(),
            method,
            allowed: self.decisions.with_label_values(&[method, ALLOWED]),
            family: self.requests.clone(),
            resolved: Default::default(),
        }
    }
}

impl AccessMetrics {
    /// The metrics of the clients that `settings` name. What `previous` counted goes on, and clients that are gone are
    /// not exported any more.
    pub(super) fn new(
        families: &AccessFamilies,
        stored_keys: Option<Gauge>,
        settings: &AccessSettings,
        previous: Option<&Self>,
    ) -> Self {
        let known = |id: ClientId| previous?.clients.get(id.number())?.clone();
        let mut clients = Vec::new();
        for (id, name, kind) in settings.numbered_clients() {
            if clients.len() <= id.number() {
                clients.resize(id.number() + 1, None);
            }
            let new = || Arc::new(families.client(name, kind));
            clients[id.number()] = Some(known(id).unwrap_or_else(new));
        }
        let before = previous.map_or(&[][..], |previous| &previous.clients);
        let is_gone = |name: &str| settings.clients().all(|(other, _)| other != name);
        let names = before.iter().flatten().map(|client| client.name.as_str());
        let gone: Vec<&str> = names.filter(|name| is_gone(name)).collect();
        remove(&families.requests, "client", &gone);
        remove(&families.limited, "client", &gone);
        Self {
            families: families.clone(),
            clients,
            stored_keys,
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
        // One that is gone may still have had a request running.
        let client = client.and_then(|client| self.clients.get(client.number())?.as_deref());
        if let Some(client) = client {
            client.record_request(code);
        }
        match (problem.and_then(refusal), client) {
            (None, None) => {}
            (None, Some(client)) => client.allowed.inc(),
            (Some(outcome), client) => {
                let method = client.map_or("none", |client| client.method);
                self.families
                    .decisions
                    .with_label_values(&[method, outcome])
                    .inc();
                if outcome == LIMITED {
                    let name = client.map_or("", |client| client.name.as_str());
                    self.families.limited.with_label_values(&[name]).inc();
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

pub(super) fn stored_keys(registry: &Registry) -> Gauge {
    let gauge = Gauge::new(
        "larder_stored_keys_last_success_timestamp_seconds",
        "When the keys of [access.keys] were last read.",
    )
    .expect(DECLARED);
    register(registry, &gauge);
    gauge
}
